"""Measure how well repeated visits to the built-in street stay in one scene frame: `python -m benchmarks.visits`.

The whole flow runs on each visit as a person would run it: photos of the first day; of another day, from other places,
in other light and with another shop; of a stretch further along, a third of which the first day shows; and of another
street. The first visit's camera path is rendered for each. As the truth is known, so is where everything must be:

- poses: how far the cameras of each dataset are from the truth, by what brings the FIRST dataset's to it;
- pictures: how far the details of each video are from where the true street shows them along that path, and how far
  they move from the first visit's video to a later one's, where nothing has changed and the visit's own photos show it.

Prints a table, which is kept in visits.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from jobs import camera_path, facade
from jobs.camera_path import CameraPath
from jobs.demo.raster import Camera
from jobs.demo.street import Visit
from jobs.geometry import Floats, Similarity
from jobs.video.h264 import Picture
from tests.true_poses import PoseErrors, compare_poses, compare_poses_in_frame_of

SCENE = "street"
_HALF = 16  # of a detail's side, px
_REACH = 12  # how far a detail is looked for, px
_FOUND = 0.8  # least correlation of a detail with what is found; at 0.6, some are found in mere noise
_SAME = 0.9  # least correlation of a detail of two visits that has not changed
_LEAST_PHOTOS = 3  # of a visit that show a detail, for its model to have it
_SAME_DEPTH = 0.03  # share of a depth by which a photo may see another surface than the detail's


@dataclass(frozen=True)
class Seen:
    """The result of one visit.

    Args:
        visit: its name.
        registered: "48/48".
        reference: of which dataset it has the frame; "new" for one of its own.
        residual: of the fit, in terms of the scene's size; None in a new frame.
        poses: of the cameras, in the first visit's frame; None in a new frame.
        off: (m, 2) px from where the truth shows a detail to where the video has it, over all frames: of details that
            have not changed, and that the visit's photos show. NaN where it is not found: the picture is too blurred
            there, or shows something else.
        moved: (m, 2) px from where the first visit's video has the detail to where this one's has it; NaN likewise.
        path: which camera path was rendered.
    """

    visit: str
    registered: str
    reference: str
    residual: float | None
    poses: PoseErrors | None
    off: Floats
    moved: Floats
    path: str


def run_flow(home: Path, photos: Path, options: Sequence[str]) -> None:
    """Run `nerf/scene` on a visit's photos.

    Raises:
        SystemExit: the run failed; the text is its output.
    """
    run = subprocess.run(
        [sys.executable, "-m", "flows.nerf", "--scene", SCENE, "--images", str(photos), "--profile", "preview",
         *options],
        env={**os.environ, "REBEL_NERF_HOME": str(home)}, capture_output=True, text=True,
    )  # fmt: skip
    if run.returncode:
        sys.exit(run.stdout + run.stderr)


def process(home: Path, photos: Path, path: Path | None, options: list[str]) -> dict[str, Path]:
    """Run `nerf/scene` on a visit's photos; the folders of what it made, by kind."""
    run_flow(home, photos, [*options, "--render.camera-path", str(path) if path else "tour"])
    names = {"dataset": f"{SCENE}-images-to-nerf-dataset", "model": f"{SCENE}-nerf", "video": f"{SCENE}-video"}
    newest = {}
    for kind, name in names.items():
        newest[kind] = max((home / "assets" / name).glob("[!.]*"), key=lambda folder: folder.stat().st_mtime)
    return newest


def look(visit: Visit, truth: Path, made: dict[str, Path], first: Seen | None, known: First) -> Seen:
    """Compare what a visit came to with the truth."""
    about = json.loads((made["dataset"] / "dataset.json").read_text())
    frame, images = about["frame"], about["images"]
    video = json.loads((made["video"] / "video.json").read_text())
    registered = f"{sum(image['registered'] for image in images)}/{len(images)}"
    nothing = np.empty((0, 2))
    if first is not None and frame["reference"] == "new":
        path = video["camera_path"]
        return Seen(visit, registered, "new", None, None, nothing, nothing, path)
    photos = photos_of(made["dataset"])
    poses = compare_poses_in_frame_of(known.poses, truth, made["dataset"] / "transforms.json", photos)
    off, moved = known.displacements(visit, made["video"])
    return Seen(visit, registered, frame["reference"], frame.get("residual"), poses, off, moved, video["camera_path"])


def photos_of(dataset: Path) -> dict[str, str]:
    """Return the photo from which each picture of a dataset was made."""
    images = json.loads((dataset / "dataset.json").read_text())["images"]
    return {Path(image["file"]).name: image["source"] for image in images}


class Street:
    """The true street at a visit, and the photos that were taken of it.

    Args:
        visit: its name.
        photos, width: how many there are, and their width in px.
    """

    def __init__(self, visit: Visit, photos: int, width: int) -> None:
        self._scene = facade.street(width, visit)
        self._photos = facade.cameras(photos, width, width * 9 // 16, visit)

    @cached_property
    def _near(self) -> list[Floats]:
        """Return 1 / depth of each pixel of each photo."""
        return [self._scene.geometry.rasterize(camera)[0] for camera in self._photos]

    def photograph(self, camera: Camera) -> Picture:
        """Return what a camera sees."""
        return self._scene.photograph(camera)

    def photos_of(self, camera: Camera, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many photos (n,) show what a camera sees at pixels (n, 2), given as column and row."""
        nearness = self._scene.geometry.rasterize(camera)[0][places[:, 1], places[:, 0]]
        rays = np.column_stack([places, np.ones(len(places))]) @ camera.rays().T
        count = np.zeros(len(places), np.int64)
        with np.errstate(divide="ignore", invalid="ignore"):  # the sky has no position
            points = camera.center + rays / nearness[:, None]
            for photo, near in zip(self._photos, self._near, strict=True):
                x, y, depth = photo.project(points)
                inside = (depth > 0) & (x >= 0) & (x < photo.width) & (y >= 0) & (y < photo.height)
                seen = near[y[inside].astype(int), x[inside].astype(int)]
                count[inside] += np.abs(seen * depth[inside] - 1) < _SAME_DEPTH
        return count


class First:
    """The first visit's dataset and video, with which later ones are compared.

    Args:
        truth: of the first visit.
        made: what the flow made of it.
        photos, width: of each visit.
    """

    def __init__(self, truth: Path, made: dict[str, Path], photos: int, width: int) -> None:
        self.poses = compare_poses(truth, made["dataset"] / "transforms.json", photos_of(made["dataset"]))
        self._size = photos, width
        self._cameras = cameras(camera_path.read(made["video"] / "camera_path.json"), self.poses.similarity)
        self._street = Street("1", *self._size)
        self._true = [self._street.photograph(camera) for camera in self._cameras]
        self._video = frames_of(made["video"] / "video.mp4")

    def displacements(self, visit: Visit, video: Path) -> tuple[Floats, Floats]:
        """Return `off` and `moved` of `Seen` for a visit's video along the same path."""
        street = self._street if visit == "1" else Street(visit, *self._size)
        off, moved = [], []
        for camera, known, there, shown in zip(
            self._cameras, self._true, self._video, frames_of(video / "video.mp4"), strict=True
        ):
            own, places = street.photograph(camera), details(known)
            for at in places[street.photos_of(camera, places) >= _LEAST_PHOTOS]:
                patch = _patch(own, at)
                if _correlation(_patch(known, at), patch) < _SAME:  # the detail has changed
                    continue
                here = find(patch, shown, at)
                off.append(here)
                moved.append(here - find(_patch(known, at), there, at))
        return np.array(off).reshape(-1, 2), np.array(moved).reshape(-1, 2)


def cameras(path: CameraPath, similarity: Similarity) -> list[Camera]:
    """Return the true street's cameras of a path. `similarity` maps the scene frame to metres."""
    found = []
    width, height = path.even_size
    for frame in path.camera_path:
        pose = similarity.poses(np.array(frame.camera_to_world).reshape(4, 4))
        focal = height / 2 / math.tan(math.radians(frame.fov) / 2)
        found.append(Camera(pose[:3, 3], pose[:3, :3] * [1, -1, -1], focal, width, height))
    return found


def frames_of(video: Path) -> list[Picture]:
    """Yield the frames of a video, (height, width, 3) each, 0 to 255."""
    with av.open(str(video)) as container:
        return [np.asarray(frame.to_image()) for frame in container.decode(video=0)]


def details(picture: Picture) -> NDArray[np.int64]:
    """Return the columns and rows (n, 2) of details to track (Shi and Tomasi 1994, "Good features to track")."""
    margin = _HALF + _REACH
    inner = _grey(picture)[margin:-margin, margin:-margin]
    found = cv2.goodFeaturesToTrack(inner, maxCorners=100, qualityLevel=0.05, minDistance=_HALF)
    return (np.empty((0, 2)) if found is None else found.reshape(-1, 2)).astype(np.int64) + margin


def find(patch: Picture, picture: Picture, at: NDArray[np.int64]) -> Floats:
    """(2,) px, right and down, by which a patch is elsewhere in a picture; NaN if it is not there."""
    column, row = at
    span = _HALF + _REACH
    window = _grey(picture)[row - span : row + span, column - span : column + span]
    scores = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
    y, x = np.unravel_index(scores.argmax(), scores.shape)
    if scores[y, x] < _FOUND or not (0 < x < scores.shape[1] - 1 and 0 < y < scores.shape[0] - 1):
        return np.full(2, np.nan)
    peak = (float(x) + _peak(scores[y, x - 1 : x + 2]), float(y) + _peak(scores[y - 1 : y + 2, x]))
    return np.array(peak, np.float64) - _REACH


def _peak(three: Floats) -> float:
    """Return where the parabola through three values at -1, 0 and 1 is highest."""
    low, middle, high = map(float, three)
    bend = low - 2 * middle + high
    return 0.5 * (low - high) / bend if bend else 0.0


def _patch(picture: Picture, at: NDArray[np.int64]) -> Picture:
    column, row = at
    return _grey(picture)[row - _HALF : row + _HALF, column - _HALF : column + _HALF]


def _correlation(one: Picture, other: Picture) -> float:
    return float(cv2.matchTemplate(one, other, cv2.TM_CCOEFF_NORMED)[0, 0])


def _grey(picture: Picture) -> Picture:
    """Return a picture as blurred as those of a small model."""
    blurred: Picture = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), 1.5)
    return blurred


def visit_all(folder: Path, photos: int, width: int, video_width: int, options: list[str]) -> list[Seen]:
    """Run the flow on every visit, and compare each with the truth."""
    size = ["--render.width", str(video_width), "--render.height", str(video_width * 9 // 16)]
    seen: list[Seen] = []
    known, path = None, None
    for visit in get_args(Visit):
        truth = facade.render_capture(folder / visit, photos=photos, width=width, height=width * 9 // 16, visit=visit)
        made = process(folder / "home", folder / visit / "photos", path, [*options, *size])
        if known is None:
            known = First(truth, made, photos, width)
            path = made["video"] / "camera_path.json"
        seen.append(look(visit, truth, made, seen[0] if seen else None, known))
    return seen


def table(seen: list[Seen]) -> str:
    """Return the rows as Markdown."""
    rows = [
        "| visit | photos placed | frame | residual of the fit | positions off, worst (mean) | turned, worst | path "
        "| details off the truth, median (95 %) | moved from visit 1, median (95 %) | found, of all | within 2 px |",
        "|---" * 11 + "|",
    ]
    for each in seen:
        residual = "" if each.residual is None else f"{100 * each.residual:.2f} %"
        positions = turned = found = within = ""
        if each.poses:
            positions = f"{100 * each.poses.positions.max():.2f} % ({100 * each.poses.positions.mean():.2f} %)"
            turned = f"{each.poses.rotations.max():.2f}°"
            found = f"{100 * np.isfinite(each.moved[:, 0]).mean():.0f} % of {len(each.moved)}"
            within = f"{100 * share_within(each.moved, 2):.1f} %"
        rows.append(
            f"| {each.visit} | {each.registered} | {each.reference} | {residual} | {positions} | {turned} "
            f"| {each.path} | {_spread(each.off)} | {_spread(each.moved)} | {found} | {within} |"
        )
    return "\n".join(rows)


def share_within(displacements: Floats, most: float) -> float:
    """Return the share of displacements (n, 2) that are at most so many pixels long."""
    lengths = np.linalg.norm(displacements, axis=1)
    return float((lengths[np.isfinite(lengths)] <= most).mean())


def _spread(displacements: Floats) -> str:
    if not len(displacements):
        return ""
    lengths = np.linalg.norm(displacements, axis=1)
    lengths = lengths[np.isfinite(lengths)]
    return f"{np.median(lengths):.2f} px ({np.quantile(lengths, 0.95):.2f} px)"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=48, help="of each visit")
    parser.add_argument("--width", type=int, default=640, help="of the photos, px")
    parser.add_argument("--video-width", type=int, default=640, help="px")
    parser.add_argument("--keep", type=Path, help="folder for all that is made; else it is deleted at the end")
    parser.add_argument("options", nargs="*", help="further ones of flows.nerf, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        made_in = given.keep or Path(temporary)
        print(f"{given.photos} photos of {given.width} px a visit, videos of {given.video_width} px.\n")
        print(table(visit_all(made_in, given.photos, given.width, given.video_width, given.options)))
