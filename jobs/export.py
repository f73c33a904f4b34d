"""Export a model for other programs: `python -m jobs.export --dataset DIR --model DIR --export DIR [options]`.

A NeRF becomes `pointcloud.ply`, `mesh.ply` and `mesh.glb`. Gaussians become `splat.ply` and `splat.spz`. `index.html`
shows the export in a browser, without a network. `export.json` is the manifest.

PLY files are in the scene frame, that of the dataset's `transforms.json`, with +Z up. GLB and SPZ files are rotated to
+Y up, which their formats prescribe.

With `--metres DIR`, a folder that `jobs.scale` wrote, the folder `metres/` of the export has files in local metres (see
`jobs.splats.in_metres`).
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic_settings import CliApp

from jobs import manifest, report
from jobs.errors import GateRefused, InvalidInput
from jobs.geometry import Y_UP, Floats, Similarity
from jobs.metric.ground import Ground
from jobs.options import ExportOptions
from jobs.path import reading
from jobs.path.photos import PosedPhotos, unit
from jobs.path.tour import tour
from jobs.scale import read_scene
from jobs.splats import spz
from jobs.splats.gaussians import Array, Gaussians
from jobs.splats.in_metres import InMetres
from jobs.web import view3d
from jobs.web.view3d import Numbers, View

if TYPE_CHECKING:
    from nerfstudio.pipelines.base_pipeline import Pipeline

_MOST_CAMERAS = 200  # that the page knows
_BALL = 0.35  # size of a point on the page, relative to its distance from its neighbours
_ON_THE_MAP = 100  # positions of the camera path on a map


def export(
    options: ExportOptions,
    dataset: Path,
    model: Path,
    output: Path,
    scene: str = "scene",
    metres: Path | None = None,
) -> None:
    """Write the folder `output`.

    Args:
        options: the forms to write, and their resolution.
        dataset: the dataset that the model was trained on.
        model: a folder that `jobs.train` wrote.
        output: a folder, created if missing.
        scene: the title of the page.
        metres: what is known of the scene frame's scale; a folder that `jobs.scale` wrote.

    Raises:
        InvalidInput: the dataset or model cannot be used, or the method does not have a requested form.
        GateRefused: the model contains nothing to export.
    """
    from jobs.model import load, read_manifest

    timer = manifest.Timer()
    content = read_manifest(model, dataset)
    options = options.with_profile("full").for_method(content["options"]["method"])
    assert options.forms
    output.mkdir(parents=True, exist_ok=True)
    to_scene = reading.model_to_dataset(dataset, model)
    photos = reading.read_photos(dataset, model)
    ground = Ground.of(read_scene(metres / "scene.json")) if metres else None
    in_metres = InMetres(output / "metres", ground) if ground else None
    if "splat" in options.forms:
        with timer.step("splat"):
            shown = Gaussians.of_checkpoint(model / content["checkpoint"]["file"]).moved(to_scene)
            if not len(shown):
                raise GateRefused("The model has no visible Gaussians, so there is nothing to export. Train it longer.")
            shown.write_ply(output / "splat.ply")
            (output / "splat.spz").write_bytes(spz.pack(shown.moved(Y_UP)))
            if in_metres:
                in_metres.write_splats(shown)
        figures = {"gaussians": len(shown)}
    else:
        with timer.step("load"):
            pipeline = load(model, dataset)
        shown, figures = _export_surface(options, pipeline, photos, to_scene, output, timer, in_metres)
    if in_metres:
        in_metres.write_cameras(dataset, _path(photos, to_scene))
    with timer.step("page"):
        view = view_of(photos, to_scene, shown, "splats" if "splat" in options.forms else "points")
        (output / "index.html").write_text(page(scene, shown, view))
    files = {str(file.relative_to(output)): file for file in sorted(output.rglob("*")) if file.is_file()}
    files.pop("export.json", None)
    sizes = {name: file.stat().st_size for name, file in files.items()}
    manifest.write(
        output / "export.json",
        options,
        timer,
        {**figures, "bytes": sizes, "checksums": {name: manifest.checksum(file) for name, file in files.items()}},
    )
    report.emit(
        report.Figures(
            "export", {"forms": ", ".join(options.forms), **figures, "megabytes": round(sum(sizes.values()) / 1e6, 1)}
        )
    )


def page(scene: str, gaussians: Gaussians, view: View) -> str:
    """Return an HTML page that shows Gaussians of the scene frame. It contains them as SPZ, and needs no other file."""
    content = base64.b64encode(spz.pack(gaussians.plain().moved(Y_UP))).decode()
    return view3d.render(scene, view3d.Scene3D(view, content))


def view_of(photos: PosedPhotos, to_scene: Similarity, gaussians: Gaussians, kind: Literal["points", "splats"]) -> View:
    """Return how the page opens: from the middle of the tour, with all that a photo from there would show.

    Args:
        photos: the photos, in the model frame.
        to_scene: from the model frame to the scene frame.
        gaussians: in the scene frame.
        kind: what the page calls them.
    """
    try:
        [pose] = tour(photos, np.array([0.5]))
        eye, direction = pose[:3, 3], -pose[:3, 2]
    except InvalidInput:  # the photos are too far apart for a tour
        middle = np.linalg.norm(photos.centres - np.median(photos.centres, axis=0), axis=1).argmin()
        eye, direction = photos.centres[middle], photos.directions[middle]
    eye, target = Y_UP.points(to_scene.points([eye, eye + photos.depth * direction]))
    cameras = Y_UP.points(to_scene.points(photos.centres[:: 1 + len(photos.centres) // _MOST_CAMERAS]))
    low, high = np.quantile(Y_UP.points(gaussians.means), [0.01, 0.99], axis=0)
    return View(
        eye=_numbers(eye),
        target=_numbers(target),
        half_field=photos.half_field,
        seen_from=[_numbers(each) for each in unit(cameras - target)],
        low=_numbers(np.minimum(low, target)),
        high=_numbers(np.maximum(high, target)),
        kind=kind,
    )


def _path(photos: PosedPhotos, to_scene: Similarity) -> Floats | None:
    """Return positions (n, 3) along the tour, in the scene frame; None if the photos are too far apart for one."""
    try:
        return to_scene.points(tour(photos, np.linspace(0, 1, _ON_THE_MAP))[:, :3, 3])
    except InvalidInput:
        return None


def _numbers(point: Floats) -> Numbers:
    x, y, z = np.round(point, 4).tolist()
    return x, y, z


def _export_surface(
    options: ExportOptions,
    pipeline: Pipeline,
    photos: PosedPhotos,
    to_scene: Similarity,
    output: Path,
    timer: manifest.Timer,
    in_metres: InMetres | None,
) -> tuple[Gaussians, dict[str, int]]:
    """Write the point cloud and mesh of a NeRF. Return the Gaussians for the page, and the sizes."""
    import trimesh

    from jobs.splats import surface

    assert options.forms and options.points and options.image_size and options.resolution
    figures = {}
    with timer.step("views"):
        views = surface.render_views(pipeline, options.image_size, options.reach * photos.depth)
    with timer.step("pointcloud"):
        found = surface.sample(views, options.points)
    if not len(found.points):
        raise GateRefused(
            "The photos' cameras see nothing solid in the model, so there is nothing to export. Check its PSNR and its "
            f"video. If they are good, try a reach of more than {options.reach:g}."
        )
    points = to_scene.points(found.points).astype(np.float32)
    in_scene = found._replace(points=points, spacing=to_scene.scale * found.spacing)
    if "pointcloud" in options.forms:
        cloud = trimesh.PointCloud(in_scene.points, colors=_bytes(found.colours))
        cloud.export(output / "pointcloud.ply")
        if in_metres:
            in_metres.write_points(in_scene.points, found.colours)
        figures["points"] = len(found.points)
    if "mesh" in options.forms:
        with timer.step("mesh"):
            low, high = np.quantile(found.points, [0.002, 0.998], axis=0).astype(np.float32)
            mesh = surface.fuse(views, low, high, options.resolution)
        if not len(mesh.faces):
            raise GateRefused(
                "The photos' cameras do not agree on any surface in the model, so there is no mesh. Train longer, or "
                "export only the point cloud."
            )
        vertices = to_scene.points(mesh.vertices).astype(np.float32)
        for name, shown in (("mesh.ply", vertices), ("mesh.glb", Y_UP.points(vertices))):
            colours = _bytes(mesh.colours)
            trimesh.Trimesh(shown, mesh.faces, vertex_colors=colours, process=False).export(output / name)
        if in_metres:
            in_metres.write_mesh(trimesh.Trimesh(vertices, mesh.faces, vertex_colors=colours, process=False))
        figures["faces"] = len(mesh.faces)
    return Gaussians.of_points(in_scene.points, found.colours, _BALL * in_scene.spacing), figures


def _bytes(colours: Array) -> NDArray[np.uint8]:
    return (colours * 255).round().astype(np.uint8)


class Job(ExportOptions):
    """The command line of this job."""

    dataset: Path
    model: Path
    export: Path
    scene: str = "scene"
    metres: Path | None = None


def main() -> None:
    """Run the job of this command line."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    export(ExportOptions.of(job), job.dataset, job.model, job.export, job.scene, job.metres)


if __name__ == "__main__":
    report.run("export", main)
