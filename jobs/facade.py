"""Render the built-in capture `facade`: photos of a street front, with the true camera poses.

`python -m jobs.facade --output DIR` writes `DIR/photos/*.jpg` and `DIR/truth.json`, a dataset that nerfstudio can train
on. It is for demonstrations and for tests, which compare reconstructions with the truth. `--visit 2` is the same street
on another day, from other positions and with another shop. `--visit 3` is a stretch further along, a third of which
visit 1 shows, too. `--visit elsewhere` is another street. All true poses are in one coordinate frame.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from pydantic import Field
from pydantic_settings import CliApp

from jobs import report
from jobs.base_options import Options
from jobs.demo.raster import Camera, Scene
from jobs.demo.street import Visit, light, surfaces

_FOCAL_MM = 26.0  # on film of 36 x 24 mm, as in a phone's main camera

_scene: Scene | None = None


class Job(Options):
    """The command line of this job."""

    STAGE = "facade"

    output: Path = Field(description="folder to write photos/ and truth.json into")
    photos: int = Field(48, ge=1, le=500, description="number of photos")
    width: int = Field(640, ge=16, le=4096, description="px")
    height: int = Field(360, ge=16, le=4096, description="px")
    visit: Visit = Field("1", description="another day in the same street (2, 3), or elsewhere")


Walk = tuple[int, float, float]
"""The seed of the shake; the shift of the walk in x and y, in metres."""

_WALKS: dict[Visit, Walk] = {
    "1": (11, 0.0, 0.0),
    "2": (12, 0.7, 0.9),
    "3": (13, 12.0, 0.0),
    "elsewhere": (14, 0.0, 0.0),
}


def cameras(photos: int, width: int, height: int, visit: Visit = "1", walk: Walk | None = None) -> list[Camera]:
    """Return the cameras of a person who walks past the houses up to three times, with shaky hands.

    Small captures have one walk, so that neighbouring photos overlap enough for structure from motion.
    """
    # In metres: x at the end of the walk, which begins at -x; y and z; the target's x, relative to the camera's; its z.
    walks = [
        (7.2, -9.4, 1.65, 0.55, 3.1),
        (-7.8, -11.6, 1.75, 0.50, 3.7),  # back on the other side of the street
        (6.8, -8.6, 3.4, 0.60, 3.4),
    ][: 1 if photos < 16 else 2 if photos < 30 else 3]
    seed, along, nearer = walk or _WALKS[visit]
    rng = np.random.default_rng(seed)
    result = []
    shares = np.array_split(np.arange(photos), len(walks))
    for (end, y, z, inward, target_z), share in zip(walks, shares, strict=True):
        for x in np.linspace(-end, end, len(share)) if len(share) > 1 else [0.0]:
            weave = np.array([0, 0.6 * np.sin(1.1 * x), 0.25 * np.cos(0.8 * x)])  # nobody walks straight
            center = np.array([x + along, y + nearer, z]) + weave + rng.normal(0, [0.12, 0.2, 0.06])
            target = np.array([inward * x + along, 0, target_z]) + rng.normal(0, [0.35, 0, 0.15])
            focal = _FOCAL_MM / 36 * width
            result.append(Camera.looking_at(center, target, focal, width, height, rng.normal(0, 0.02)))
    return result


def street(width: int, visit: Visit = "1") -> Scene:
    """Build the street at a visit, with textures as fine as photos of this width (px) can show."""
    texels = float(np.clip(110 * width / 640, 30, 220))
    return light(surfaces(texels, visit=visit), visit=visit)


def render_capture(
    output: Path,
    photos: int = 48,
    width: int = 640,
    height: int = 360,
    processes: int | None = None,
    visit: Visit = "1",
) -> Path:
    """Render the capture into `output`. The same arguments give the same files.

    Args:
        output: a folder, created if missing, which gets `photos/*.jpg` and `truth.json`.
        photos: the number of photos.
        width, height: in px.
        processes: the number of processes; by default 2 for more than a few photos, if there are two cores.
        visit: see `Visit`.

    Returns:
        The path of `truth.json`, in the format of nerfstudio's transforms.json: camera-to-world poses in metres, OpenGL
        axes, +Z up, in the same coordinate frame for all visits.
    """
    report.emit(report.Progress("facade:street", 0, 1))
    return photograph(street(width, visit), cameras(photos, width, height, visit), output, processes)


def photograph(scene: Scene, views: list[Camera], output: Path, processes: int | None = None) -> Path:
    """Photograph a scene, and write `photos/*.jpg` and `truth.json`; see `render_capture`."""
    folder = output / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"facade_{i + 1:03d}.jpg" for i in range(len(views))]
    if processes is None:
        pixels = sum(view.width * view.height for view in views)
        processes = min(2, os.cpu_count() or 1) if pixels > 2_000_000 else 1
    meter = report.Meter("facade:photos", len(views))
    jobs = [(view, folder / name) for view, name in zip(views, names, strict=True)]
    for done, _ in enumerate(_photograph_all(scene, jobs, processes), 1):
        meter.update(done)
    truth = output / "truth.json"
    truth.write_text(json.dumps(_transforms(views, names), indent=2) + "\n")
    return truth


def _photograph_all(scene: Scene, jobs: list[tuple[Camera, Path]], processes: int) -> Iterator[None]:
    if processes == 1:
        _start(scene)
        yield from map(_photograph, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_start, initargs=(scene,)) as pool:
        yield from pool.map(_photograph, jobs)


def _start(scene: Scene) -> None:
    global _scene
    _scene = scene


def _photograph(job: tuple[Camera, Path]) -> None:
    camera, file = job
    assert _scene is not None
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "rebel-nerf"
    exif[ExifTags.Base.Model] = "facade"
    exif[ExifTags.Base.Orientation] = 1
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.FocalLength] = _FOCAL_MM
    details[ExifTags.Base.FocalLengthIn35mmFilm] = round(_FOCAL_MM)
    Image.fromarray(_scene.photograph(camera)).save(file, quality=92, exif=exif)


def _transforms(views: list[Camera], names: list[str]) -> dict[str, object]:
    camera = views[0]
    frames = []
    for view, name in zip(views, names, strict=True):
        pose = np.eye(4)
        pose[:3, :3] = view.rotation * [1, -1, -1]  # OpenCV's axes to OpenGL's: y up, z backward
        pose[:3, 3] = view.center
        frames.append({"file_path": f"photos/{name}", "transform_matrix": pose.tolist()})
    return {
        "camera_model": "OPENCV",
        "fl_x": camera.focal,
        "fl_y": camera.focal,
        "cx": camera.width / 2,
        "cy": camera.height / 2,
        "w": camera.width,
        "h": camera.height,
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "frames": frames,
    }


def main() -> None:
    """Run the job of this command line."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    render_capture(job.output, job.photos, job.width, job.height, visit=job.visit)


if __name__ == "__main__":
    report.run("facade", main)
