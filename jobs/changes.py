"""Find what changed between two visits of a scene: `python -m jobs.changes --then DIR --older DIR --now DIR …`.

`--then` and `--now` are the datasets of both visits, `--older` and `--newer` their models, all in one scene frame.

Writes `changes.json` (see `jobs.visits.record`), `changes.ply` (the compared surfaces as grey points, changes coloured
by kind), and photos of now with the changes marked. New is green, gone is red, what was moved is blue, and a surface
that looks different is orange.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic_settings import CliApp

from jobs import manifest, report
from jobs.errors import GateRefused
from jobs.metric.scene import Area, Scale
from jobs.options import ChangesOptions
from jobs.path import reading
from jobs.scale import read_scene
from jobs.visits import find, masks
from jobs.visits.depths import render_depths
from jobs.visits.find import Patch, Settings, SurfacePair
from jobs.visits.leaves import without_leaves
from jobs.visits.moved import Move, find_moves, kind_of
from jobs.visits.named import name_at
from jobs.visits.record import Change, Changes, Kind, Origin, ToModel
from jobs.visits.views import Array, View, photograph, pinholes

_REACH = 4.0  # the greatest distance of a surface, in typical depths, as exports have it
_MOST_PICTURES, _PICTURE = 6, 960  # photos with marks, and their longest side in px
_GOOD_FIT = 0.85  # of the shapes of what was moved, for high confidence
_MUCH = 2.0  # times what is needed to be reported, for high confidence


class Job(ChangesOptions):
    """The command line of this job."""

    then: Path
    older: Path
    now: Path
    newer: Path
    changes: Path
    metres: Path | None = None


class Visit(NamedTuple):
    """The folders of a visit's dataset and of its model."""

    dataset: Path
    model: Path


def changes(
    options: ChangesOptions,
    then: Visit,
    now: Visit,
    output: Path,
    metres: Path | None = None,
) -> Changes:
    """Write the folder `output`, and return what changed.

    Args:
        options: how many photos are compared, and at which size.
        then, now: both visits, in one scene frame.
        output: a folder, created if missing.
        metres: a folder that `jobs.scale` wrote for this scene frame.

    Raises:
        InvalidInput: a dataset or model cannot be used.
        GateRefused: the two visits do not show the same place.
    """
    timer = manifest.Timer()
    settings = Settings()
    with timer.step("views"):
        before, views = look(options, then, "then"), look(options, now, "now")
    with timer.step("compare"):
        surfaces = find.examine(before, views, settings)
        if not len(surfaces.now.score):
            raise GateRefused(
                f"Photos of {then.dataset} and of {now.dataset} show no surface in common, so nothing can be compared. "
                "Take photos of the second visit from places near those of the first."
            )
        patches, leaves = without_leaves(find.find_patches(*surfaces, settings), *surfaces)
        moves = find_moves(patches, *surfaces)
    scene = read_scene(metres / "scene.json") if metres else None
    output.mkdir(parents=True, exist_ok=True)
    found = describe(
        patches, moves, surfaces, views, settings, scene.scale if scene else None, leaves, scene.areas if scene else ()
    )
    with timer.step("pictures"):
        kinds = kinds_of(patches, moves)
        masks.write_points(output / "changes.ply", *surfaces, patches, kinds, listed(patches, moves))
        pictures = _write_pictures(now.dataset, views, surfaces, patches, kinds, options, output)
    to_model = ToModel.of(reading.model_to_dataset(*now).inverse())
    found = found.model_copy(update={"pictures": pictures, "to_model": to_model})
    (output / "changes.json").write_text(found.model_dump_json(indent=2) + "\n")
    manifest.write(output / "manifest.json", options, timer, {"voxel": surfaces.now.size})
    report.emit(report.Figures("changes", figures(found)))
    return found


def look(options: ChangesOptions, visit: Visit, name: str) -> list[View]:
    """Return the views of a visit, with the depths of its model."""
    photos = reading.read_photos(*visit)
    reach = _REACH * photos.depth * reading.model_to_dataset(*visit).scale
    cameras = pinholes(visit.dataset, options.photos, options.image_size)
    depths = render_depths(*visit, [pinhole for _, pinhole in cameras], reach, f"changes:{name}")
    return [
        View(camera.file, pinhole, photograph(visit.dataset, camera, pinhole), depth)
        for (camera, pinhole), depth in zip(cameras, depths, strict=True)
    ]


def listed(patches: Sequence[Patch], moves: Sequence[Move]) -> list[int]:
    """Return the place of each patch in the list of changes. What was moved is two patches, but one change."""
    origins = {move.gone: move.new for move in moves}
    own = [index for index in range(len(patches)) if index not in origins]
    return [own.index(origins.get(index, index)) for index in range(len(patches))]


def describe(
    patches: Sequence[Patch],
    moves: Sequence[Move],
    surfaces: SurfacePair,
    views: Sequence[View],
    settings: Settings,
    scale: Scale | None,
    leaves: float = 0.0,
    areas: Sequence[Area] = (),
) -> Changes:
    """Return the record of what was found, in metres and square metres if the scene has a scale."""
    metres = scale.metres if scale else 1.0
    now = surfaces.now
    kinds = kinds_of(patches, moves)
    before = {move.new: move for move in moves}
    left_out = {move.gone for move in moves}

    def describe_one(index: int, patch: Patch) -> Change:
        move = before.get(index)
        parts = [patch, *([patches[move.gone]] if move else [])]
        sure = min(part.score for part in parts) >= _MUCH * settings.certain and (not move or move.fit >= _GOOD_FIT)
        return Change(
            kind=kinds[index],
            centre=_point(patch.centre),
            low=_point(patch.low),
            high=_point(patch.high),
            area=float(f"{patch.area * metres**2:.3g}"),
            times_noise=round(patch.score, 1),
            photos=patch.photos,
            confidence="high" if sure else "fair",
            origin=_origin(patches[move.gone], patch, move, metres) if move else None,
            name=name_at(patch.centre.astype(float), areas),
        )

    return Changes(
        unit="m²" if scale else "square units",
        area_error=2 * scale.error if scale else 0.0,
        changes=tuple(describe_one(index, patch) for index, patch in enumerate(patches) if index not in left_out),
        compared=round(find.compared_share(views, now), 3),
        least=float(f"{settings.least_voxels * (now.size * metres) ** 2:.2g}"),
        needed=settings.certain,
        voxel=now.size,
        leaves=float(f"{leaves * metres**2:.3g}"),
    )


def _origin(before: Patch, after: Patch, move: Move, metres: float) -> Origin:
    distance = float(np.linalg.norm(after.centre - before.centre)) * metres
    return Origin(
        centre=_point(before.centre),
        low=_point(before.low),
        high=_point(before.high),
        distance=float(f"{distance:.3g}"),
        fit=round(move.fit, 2),
    )


def kinds_of(patches: Sequence[Patch], moves: Sequence[Move]) -> list[Kind]:
    """Return what happened to each patch."""
    moved = {index for move in moves for index in (move.gone, move.new)}
    return ["moved" if index in moved else kind_of(patch) for index, patch in enumerate(patches)]


def figures(found: Changes) -> dict[str, str | int | float]:
    """Return the figures that become tags of the asset."""
    kinds = [f"{sum(each.kind == kind for each in found.changes)} {kind}" for kind in masks.COLOURS]
    return {
        "changed": found.words,
        "changes": len(found.changes),
        **({"kinds": ", ".join(kinds)} if found.changes else {}),
        "least": f"{found.least:g} {found.unit}",
        "compared": f"{100 * found.compared:.0f} %",
    }


def _point(at: Array) -> tuple[float, float, float]:
    x, y, z = (round(float(each), 4) for each in at)
    return x, y, z


def _write_pictures(
    dataset: Path,
    views: Sequence[View],
    surfaces: SurfacePair,
    patches: Sequence[Patch],
    kinds: Sequence[Kind],
    options: ChangesOptions,
    output: Path,
) -> tuple[str, ...]:
    """Mark the changes on the photos that show most of each; return the files' names. The first is the poster, too."""
    shown = [masks.label(view, *surfaces, patches) for view in views]
    pixels = np.array([np.bincount(labels.ravel(), minlength=len(patches) + 1) for labels in shown])
    chosen = dict.fromkeys(pixels[:, 1:].argmax(axis=0).tolist())  # in the order of the changes, the largest first
    large = {camera.file: (camera, pinhole) for camera, pinhole in pinholes(dataset, options.photos, _PICTURE)}
    names: list[str] = []
    for index in list(chosen or [len(views) // 2])[:_MOST_PICTURES]:
        light = photograph(dataset, *large[views[index].name])
        names.append(f"change-{len(names) + 1}.jpg")
        masks.draw(light, shown[index], kinds, output / names[-1])
    shutil.copyfile(output / names[0], output / "poster.jpg")
    return tuple(names)


def main() -> None:
    """Run the job of this command line."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    changes(ChangesOptions.of(job), Visit(job.then, job.older), Visit(job.now, job.newer), job.changes, job.metres)


if __name__ == "__main__":
    report.run("changes", main)
