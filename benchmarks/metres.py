"""How exact are the metres of a scene? `python -m benchmarks.metres`, on the built-in street, where the truth is known.

Structure from motion runs once a visit. Then points on the houses are picked in photos many times, each 0.5 px off
their true place:

- scale: by one length of about 10 m or several. The error of metres per scene unit, and how often the true value lies
  in the stated 95 % interval;
- distances: one of 1 to 10 m in each frame that was so scaled;
- a later visit: the scale that it inherits, compared with the truth; and what the visit adds to the first one's error,
  by the same places in both.

The same is done with the true poses, where the picks' noise is the only error. Prints a table, which is kept in
metres.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jobs import facade
from jobs import prepare as prepare_job
from jobs.demo.raster import Camera
from jobs.demo.street import Visit
from jobs.geometry import Floats, fit_similarity
from jobs.metric.accuracy import TIMES
from jobs.metric.cameras import Cameras
from jobs.metric.given import Given, Length, Pick
from jobs.metric.measure import measure
from jobs.metric.observations import distance_between, triangulated
from jobs.metric.scene import Scale, SceneInMetres, Up
from jobs.metric.triangulation import Point, triangulate
from jobs.options import PrepareOptions

NOISE = 0.5  # px
_MARGIN = 8  # px from a photo's edge: nobody picks there
_MOST_SUGGESTED = 4
_LEAST_SHARED = 8  # photos of the first visit that show a place of a later one, to compare both visits there
_SAME_DEPTH = 0.01  # share of a depth by which a photo may see another surface than the picked point's


class Photos(NamedTuple):
    """The number of photos in which a point is picked.

    Those after the second are suggested by the page, or all are spread evenly along the walks.
    """

    number: int
    suggested: bool = False


@dataclass(frozen=True)
class Place:
    """A point on the houses: where it truly is, and the photos that show it.

    Args:
        position: in metres.
        pixels: by photo.
        suggested: its photos: one at either end of the walks, and then, as the page suggests them, the one that makes
            the point most exact.
    """

    position: Floats
    pixels: dict[str, Floats]
    suggested: tuple[str, ...]

    def picks(self, most: Photos, rng: np.random.Generator) -> tuple[Pick, ...]:
        """Pick it in so many photos, 0.5 px off."""
        names = sorted(self.pixels)
        evenly = [names[k] for k in np.unique(np.linspace(0, len(names) - 1, most.number).round().astype(int))]
        chosen = self.suggested[: most.number] if most.suggested else evenly
        picks = []
        for name in chosen:
            x, y = (self.pixels[name] + rng.normal(0, NOISE, 2)).tolist()
            picks.append(Pick(photo=name, x=x, y=y))
        return tuple(picks)


class Street:
    """The true street at a visit.

    Args:
        visit: its name.
        photos, width: how many photos there are, and their width in px.
        walk: another walk than the visit's own.
    """

    def __init__(self, visit: Visit, photos: int, width: int, walk: facade.Walk | None = None) -> None:
        self._cameras = facade.cameras(photos, width, width * 9 // 16, visit, walk)
        self._named = {f"facade_{number:03d}.jpg": camera for number, camera in enumerate(self._cameras, 1)}
        geometry = facade.street(width, visit).geometry
        self._near = [geometry.rasterize(camera)[0] for camera in self._cameras]  # 1 / depth

    def places(self, number: int, least_photos: int, seed: int) -> list[Place]:
        """Return points on the houses that at least so many photos show."""
        rng = np.random.default_rng(seed)
        found: list[Place] = []
        while len(found) < number:
            index = int(rng.integers(len(self._cameras)))
            camera, near = self._cameras[index], self._near[index]
            column, row = (int(rng.integers(_MARGIN, side - _MARGIN)) for side in (camera.width, camera.height))
            if near[row, column] < 1 / 40:
                continue
            position = camera.center + camera.rays() @ [column, row, 1] / near[row, column]
            if place := self.place(position, least_photos):
                found.append(place)
        return found

    def place(self, position: Floats, least_photos: int) -> Place | None:
        """Return a place by its position in metres; None if fewer photos show it."""
        pixels = {
            name: np.array(camera.project(position)[:2], float)
            for (name, camera), near in zip(self._named.items(), self._near, strict=True)
            if _sees(camera, near, position)
        }
        if len(pixels) < least_photos:
            return None
        return Place(position, pixels, self._suggested(position, sorted(pixels)))

    def _suggested(self, position: Floats, names: Sequence[str]) -> tuple[str, ...]:
        slopes = {
            name: np.array(
                [np.subtract(project(position + d)[:2], project(position - d)[:2]) for d in 1e-3 * np.eye(3)]
            )
            for name in names
            for project in [self._named[name].project]
        }
        chosen = [names[0], names[-1]]
        while len(chosen) < _MOST_SUGGESTED:
            known = sum(slopes[name] @ slopes[name].T for name in chosen)
            left = [name for name in names if name not in chosen]
            chosen.append(min(left, key=lambda name: np.trace(np.linalg.inv(known + slopes[name] @ slopes[name].T))))
        return tuple(chosen)


def _sees(camera: Camera, near: Floats, position: Floats) -> bool:
    x, y, depth = camera.project(position)
    if depth <= 0 or not (_MARGIN < x < camera.width - _MARGIN and _MARGIN < y < camera.height - _MARGIN):
        return False
    return bool(abs(near[int(y), int(x)] * depth - 1) < _SAME_DEPTH)


@dataclass(frozen=True)
class Trials:
    """The errors in many trials, and the standard errors that were stated.

    Args:
        scales, scales_stated: of metres per scene unit, relative.
        distances, distances_stated: of a distance of 1 to 10 m that the scale gave, in metres.
    """

    scales: Floats
    scales_stated: Floats
    distances: Floats
    distances_stated: Floats


def covered(errors: Floats, stated: Floats) -> float:
    """Measure how often the truth lies in the stated 95 % interval."""
    return float(np.mean(np.abs(errors) <= TIMES * stated))


def pairs(
    places: Sequence[Place], number: int, least: float, most: float, rng: np.random.Generator
) -> list[tuple[Place, Place]]:
    """Return pairs of places that are from `least` to `most` metres apart."""
    found: list[tuple[Place, Place]] = []
    while len(found) < number:
        first, second = (places[int(k)] for k in rng.choice(len(places), 2, replace=False))
        if least <= np.linalg.norm(first.position - second.position) <= most:
            found.append((first, second))
    return found


def length_of(pair: tuple[Place, Place], picked: Photos, rng: np.random.Generator, name: str = "wall") -> Length:
    """Return the true length between two places, picked in so many photos each."""
    metres = float(np.linalg.norm(pair[1].position - pair[0].position))
    return Length(
        name=name,
        metres=metres,
        accuracy=1e-4,
        start=pair[0].picks(picked, rng),
        end=pair[1].picks(picked, rng),
    )


def run_trials(
    dataset: Path, truth: float, places: Sequence[Place], trials: int, picked: Photos, lengths: int
) -> Trials:
    """Scale a dataset by lengths of about 10 m and measure a distance in it, again and again with other points.

    Args:
        dataset: with poses in any frame.
        truth: true metres per unit of that frame.
        places: to pick.
        trials, picked, lengths: how often; in how many photos; how many lengths at a time.
    """
    cameras = Cameras(dataset)
    found = []
    for seed in range(trials):
        rng = np.random.default_rng([17, seed])
        scale = _scale_by_lengths(dataset, places, picked, lengths, rng)
        (pair,) = pairs(places, 1, 1.0, 10.0, rng)
        first, second = (_point(place, cameras, picked, rng) for place in pair)
        units, error = distance_between(first, second, cameras.pose_error)
        off = units * scale.metres - float(np.linalg.norm(pair[1].position - pair[0].position))
        stated = float(np.hypot(error * scale.metres, units * scale.metres * scale.error))
        found.append((scale.metres / truth - 1, scale.error, off, stated))
    return Trials(*np.array(found).T)


def _scale_by_lengths(
    dataset: Path, places: Sequence[Place], picked: Photos, lengths: int, rng: np.random.Generator
) -> Scale:
    """Return the scale by so many lengths of about 10 m, each end picked in so many photos."""
    chosen = pairs(places, lengths, 9.5, 10.5, rng)
    given = Given(lengths=tuple(length_of(pair, picked, rng, f"wall {k}") for k, pair in enumerate(chosen)))
    scale = measure(dataset, given).scale
    assert scale
    return scale


def _point(place: Place, cameras: Cameras, picked: Photos, rng: np.random.Generator) -> Point:
    return triangulated(place.picks(picked, rng), cameras, NOISE)[0]


def true_dataset(truth: Path, folder: Path, unit: float = 7.3) -> Path:
    """Write a dataset with the true poses, in units of so many metres."""
    content = json.loads(truth.read_text())
    for frame in content["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] /= unit
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def true_scale(dataset: Path, places: Sequence[Place]) -> float:
    """Return the true metres per unit of a dataset's frame, by where its cameras see the places, without noise.

    The places decide and not the cameras: photos tell a focal length within a percent or so, and an error of it makes
    the houses too large for the way between the cameras. People measure houses.
    """
    cameras = Cameras(dataset)
    found = []
    for place in places:
        seen = [(camera, pixel) for name, pixel in place.pixels.items() if (camera := cameras.find(name))]
        found.append(triangulate([camera for camera, _ in seen], np.array([pixel for _, pixel in seen]), NOISE))
    true = np.array([place.position for place in places])
    return fit_similarity([point.position for point in found], true).scale


def rows(name: str, dataset: Path, places: Sequence[Place], trials: int) -> Iterator[str]:
    """Yield the rows of the table for one dataset."""
    truth = true_scale(dataset, places)
    for picked in (Photos(3), Photos(3, suggested=True), Photos(4, suggested=True), Photos(6)):
        for lengths in (1, 4) if picked.suggested else (1, 2, 4, 8):
            found = run_trials(dataset, truth, places, trials, picked, lengths)
            errors, off = 100 * found.scales, 1000 * abs(found.distances)
            photos = f"{picked.number}, suggested" if picked.suggested else str(picked.number)
            yield (
                f"| {name} | {photos} | {lengths} | {errors.std():.3f} % ({errors.mean():+.3f} %) "
                f"| {100 * np.median(found.scales_stated):.3f} % "
                f"| {100 * covered(found.scales, found.scales_stated):.1f} % "
                f"| {np.median(off):.1f} mm | {np.quantile(off, 0.95):.1f} mm "
                f"| {100 * covered(found.distances, found.distances_stated):.1f} % |"
            )


LATER: dict[str, tuple[Visit, facade.Walk]] = {
    "0.7 m further along, 0.9 m nearer": ("2", (22, 0.7, 0.9)),
    "0.7 m back, 0.9 m nearer": ("2", (21, -0.7, 0.9)),
    "12 m further along; a third overlaps": ("3", (52, 12.0, 0.0)),
}
"""Later visits, by where their walks are. Their seeds are every second number from that of the walk on."""


def later_visits(folder: Path, first: Path, truth: float, size: tuple[int, int], number: int) -> Iterator[str]:
    """Yield a row for each kind of later visit, in the frame of the first one, whose scale is exactly known.

    Args:
        folder: see `prepare`.
        first, truth: the first visit's dataset, and its true scale.
        size: the number of photos of each visit, and their width in px.
        number: of visits for each row.
    """
    known = SceneInMetres(scale=Scale(metres=truth, error=0.0), up=Up(direction=(0, 0, 1), error=5.0))
    street = Street("1", *size)
    for name, (visit, (seed, along, nearer)) in LATER.items():
        off, there, added, stated = [], [], [], []
        for walk in [(seed + 2 * k, along, nearer) for k in range(number)]:
            later = prepare(folder, visit, *size, first, walk=walk)
            scale = measure(later, Given(), known).scale
            assert scale
            places = Street(visit, *size, walk).places(150, 12, 1)
            off.append(scale.metres / true_scale(later, places) - 1)
            both = [(old, place) for place in places if (old := street.place(place.position, _LEAST_SHARED))]
            before = true_scale(first, [old for old, _ in both])
            there.append(truth / before - 1)
            added.append(before / true_scale(later, [place for _, place in both]) - 1)
            stated.append(scale.error)
        cells = (_listed(off), _listed(there), _listed(added), f"{100 * np.median(stated):.3f} %")
        yield f"| {name} | {' | '.join(cells)} |"


def _listed(shares: Sequence[float]) -> str:
    return ", ".join(f"{100 * each:+.3f} %" for each in shares)


HEAD = """\
| poses | photos per point | known lengths | scale off, 1σ (mean) | stated, 1σ | true scale in the 95 % interval \
| distances off, median | 95 % | true distance in the 95 % interval |
|---|---|---|---|---|---|---|---|---|"""
HEAD_LATER = """\
| later visits | inherited scale off | of it by the first visit, where both look | added by the later one | stated, 1σ |
|---|---|---|---|---|"""


def prepare(
    folder: Path, visit: Visit, photos: int, width: int, *reference: Path, walk: facade.Walk | None = None
) -> Path:
    """Photograph a visit and run structure from motion, unless the folder has both already."""
    name = f"{visit}_{walk[0]}" if walk else visit
    place, dataset = folder / f"visit_{name}", folder / f"dataset_{name}"
    if not (dataset / "transforms.json").is_file():
        views = facade.cameras(photos, width, width * 9 // 16, visit, walk)
        facade.photograph(facade.street(width, visit), views, place)
        references = {"street:1": reference} if reference else {}
        prepare_job.prepare(place / "photos", dataset, PrepareOptions(), references)
    return dataset


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=48, help="of each visit")
    parser.add_argument("--width", type=int, default=640, help="of the photos, px")
    parser.add_argument("--trials", type=int, default=1000, help="a row: of the scale, and of a distance that it gives")
    parser.add_argument("--visits", type=int, default=1, help="later visits a row")
    parser.add_argument("--keep", type=Path, help="folder for photos and datasets, which are used again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        first = prepare(folder, "1", given.photos, given.width)
        places = Street("1", given.photos, given.width).places(150, 12, 1)
        true = true_dataset(folder / "visit_1" / "truth.json", folder / "true")
        print(f"{given.photos} photos of {given.width} px, picks with {NOISE} px of noise.\n\n{HEAD}")
        for name, dataset in (("true", true), ("found", first)):
            for row in rows(name, dataset, places, given.trials):
                print(row, flush=True)
        print(f"\n{HEAD_LATER}")
        size = given.photos, given.width
        for row in later_visits(folder, first, true_scale(first, places), size, given.visits):
            print(row, flush=True)
