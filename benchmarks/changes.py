"""Compare the changes that are found between two visits with the truth: `python -m benchmarks.changes`.

The whole flow runs on three visits to the built-in street: the first; one under another sun and from other places,
where nothing has changed; and one under the same other sun with four changes: a bakery in place of the bookshop,
repainted shutters, a new cabinet, and a planter that was moved along the pavement. In each photo of a later visit, the
truth is where it shows a surface that only one of the two visits has.

Prints a table, which is kept in changes.md. `--keep` keeps everything, and goes on from what is there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.visits import SCENE, run_flow
from jobs import changes, facade
from jobs.demo.houses import Houses
from jobs.demo.raster import Camera, Geometry, Patch
from jobs.demo.street import light, surfaces
from jobs.geometry import fit_similarity
from jobs.metric.cameras import Cameras
from jobs.options import ChangesOptions
from jobs.visits import find, masks
from jobs.visits.leaves import without_leaves
from jobs.visits.moved import find_moves
from jobs.visits.views import Bools, View

_SMALL = ("--render.seconds", "0.2", "--render.fps", "12", "--render.width", "160", "--render.height", "90")
_TEXELS = 110.0  # per metre, as `jobs.facade` has it for photos of 640 px
_PLANTER, _MOVED = -3.0, 3.4  # where its left side was, and how far it was moved along the street, in metres


@dataclass(frozen=True)
class Score:
    """How the changes of one pair of visits compare with the truth, in pixels of all photos of the later visit.

    Args:
        right: pixels marked that have changed.
        false: pixels marked that have not.
        missed: pixels that have changed and are not marked.
        unchanged: pixels that have not changed.
        kinds: what was found.
        moves: how far things were moved, in metres of the truth.
        compared: the share of the pixels that both visits show well enough.
        seconds: for rendering both models' depths and finding the changes.
    """

    right: int
    false: int
    missed: int
    unchanged: int
    kinds: Sequence[str]
    moves: Sequence[float]
    compared: float
    seconds: float

    @property
    def row(self) -> str:
        """The figures as cells of the table."""
        changed = self.right + self.missed
        iou = f"{self.right / (changed + self.false):.2f}" if changed else ""
        f1 = f"{2 * self.right / (2 * self.right + self.false + self.missed):.2f}" if changed else ""
        false = f"{100 * self.false / self.unchanged:.2f} %"
        found = ", ".join(f"{self.kinds.count(kind)} {kind}" for kind in masks.COLOURS if kind in self.kinds) or "none"
        moves = ", ".join(f"{move:.2f} m" for move in self.moves)
        return f"{found} | {moves} | {iou} | {f1} | {false} | {100 * self.compared:.0f} % | {self.seconds:.0f} s"


def first_street(texels: float = _TEXELS) -> list[Patch]:
    """Return the street with a planter on the pavement."""
    return surfaces(texels, visit="1") + planter(texels, _PLANTER)


def planter(texels: float, left: float) -> list[Patch]:
    """Return a wooden planter, 0.9 m wide and 1.1 m high."""
    shapes = Houses(texels, 98)
    shapes.box((left, -2.5, 0.0), (left + 0.9, -1.8, 1.1), shapes.planks((0.20, 0.42, 0.50)), "flrt")
    return shapes.patches


def changed_street(texels: float = _TEXELS) -> list[Patch]:
    """Return the street with a bakery, repainted shutters, a cabinet, and the planter elsewhere."""
    low, high = np.array([4.2, -0.6, 3.8]), np.array([6.6, 0.25, 5.7])
    more = Houses(texels, 99)
    found = []
    for patch in surfaces(texels, visit="2"):
        corners = [patch.origin + a * patch.right + b * patch.down for a in (0, 1) for b in (0, 1)]
        if patch.two_sided and all(((low < each) & (each < high)).all() for each in corners):
            size = float(np.linalg.norm(patch.right)), float(np.linalg.norm(patch.down))
            patch = replace(patch, color=more.shutter((0.25, 0.40, 0.52))(*size))
        found.append(patch)
    more.box((8.9, -0.35, 0.0), (9.9, 0.2, 1.35), more.planks((0.85, 0.62, 0.12)), "flrt")
    return found + more.patches + planter(texels, _PLANTER + _MOVED)


def made(home: Path, visit: int) -> tuple[Path, Path]:
    """Return the dataset and the model of a visit."""
    dataset, model = (
        next((home / "assets" / name).glob(f"{visit}-*"))
        for name in (f"{SCENE}-images-to-nerf-dataset", f"{SCENE}-nerf")
    )
    return dataset, model


def truth(views: Sequence[View], dataset: Path, photos: int, width: int, now: Sequence[Patch]) -> list[Bools]:
    """Return where each view of visit 2's walk shows what only one of the two visits has."""
    cameras = true_cameras(dataset, photos, width)
    streets = [first_street(), now]
    known = [np.array([*map(_identity, patches), 0]) for patches in streets]
    shapes = [Geometry(patches) for patches in streets]
    found = []
    for view in views:
        full = cameras[view.name]
        size = view.camera.width, view.camera.height
        camera = Camera(full.center, full.rotation, full.focal * size[0] / full.width, *size)
        then, later = (each[shape.rasterize(camera)[1]] for each, shape in zip(known, shapes, strict=True))
        found.append(then != later)
    return found


def true_cameras(dataset: Path, photos: int, width: int) -> dict[str, Camera]:
    """Return the true camera of each photo of visit 2's walk, by its file in the dataset."""
    cameras = facade.cameras(photos, width, width * 9 // 16, "2")
    return {each.file: cameras[int(Path(each.name).stem.rpartition("_")[2]) - 1] for each in Cameras(dataset).all}


def metres_per_unit(dataset: Path, photos: int, width: int) -> float:
    """Return the true scale of a dataset."""
    true, found = true_cameras(dataset, photos, width), Cameras(dataset).all
    return fit_similarity([each.position for each in found], [true[each.file].center for each in found]).scale


def _identity(patch: Patch) -> int:
    place = np.round(np.concatenate([patch.origin, patch.right, patch.down]), 4)
    return hash((*place.tolist(), round(float(patch.color.mean()), 4)))


def compare(home: Path, visit: int, photos: int, width: int, now: Sequence[Patch]) -> Score:
    """Find the changes since visit 1, and compare them with the truth."""
    options, settings = ChangesOptions(), find.Settings()
    start = time.monotonic()
    then, later = (
        changes.look(options, changes.Visit(*made(home, number)), name)
        for number, name in ((1, "then"), (visit, "now"))
    )
    both = find.examine(then, later, settings)
    patches, _ = without_leaves(find.find_patches(*both, settings), *both)
    seconds = time.monotonic() - start
    right = false = missed = unchanged = 0
    for view, true in zip(later, truth(later, made(home, visit)[0], photos, width, now), strict=True):
        marked = masks.label(view, *both, patches) > 0
        right, false = right + int((marked & true).sum()), false + int((marked & ~true).sum())
        missed, unchanged = missed + int((~marked & true).sum()), unchanged + int((~true).sum())
    moves = find_moves(patches, *both)
    scale = metres_per_unit(made(home, visit)[0], photos, width)
    far = [scale * float(np.linalg.norm(patches[move.new].centre - patches[move.gone].centre)) for move in moves]
    twice = {move.gone for move in moves}
    kinds = [kind for index, kind in enumerate(changes.kinds_of(patches, moves)) if index not in twice]
    return Score(right, false, missed, unchanged, kinds, far, find.compared_share(later, both.now), seconds)


def main(folder: Path, photos: int, width: int, options: Sequence[str]) -> None:
    """Run everything, and print the table."""
    streets = {
        "then": first_street(),
        "unchanged": first_street(),
        "changed": changed_street(),
    }
    home = folder / "home"
    for number, (name, patches) in enumerate(streets.items(), 1):
        walk = facade.cameras(photos, width, width * 9 // 16, "1" if name == "then" else "2")
        if not (folder / name / "truth.json").exists():
            facade.photograph(light(patches, visit="1" if name == "then" else "2"), walk, folder / name)
        if not list((home / "assets" / f"{SCENE}-nerf").glob(f"{number}-*")):
            run_flow(home, folder / name / "photos", [*_SMALL, *options])
    print("| visit | found | moved by | IoU | F1 | falsely changed | compared | time |\n" + 8 * "|---" + "|")
    for number, name in ((2, "unchanged"), (3, "changed")):
        print(f"| {name} | {compare(home, number, photos, width, streets[name]).row} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=30, help="of each visit")
    parser.add_argument("--width", type=int, default=640, help="of the photos, px")
    parser.add_argument("--keep", type=Path, help="folder for all that is made; else it is deleted at the end")
    parser.add_argument("options", nargs="*", help="further ones of flows.nerf, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        main(given.keep or Path(temporary), given.photos, given.width, given.options)
