"""Features of pictures and the matches between them, in one COLMAP database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pycolmap
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.pictures.reading import hide
from jobs.sfm import parallax, vocabulary
from jobs.sfm.machine import SEED, device, gpu, threads
from jobs.sfm.overlays import Region, find_overlays
from jobs.sfm.positions import moved, near_pairs
from jobs.sfm.progress import reported
from jobs.sfm.views import View, write_views

__all__ = ["FEW_MATCHES", "Matching", "Points", "Search", "Shared", "Tracks", "verified_pairs"]

FEW_MATCHES = 15
"""COLMAP's least number of inlier matches of a pair."""

_EXHAUSTIVE_IMAGES = 60  # up to here, matching all pairs costs less than choosing some
_NEIGHBOURS = 24  # pictures that retrieval proposes for each picture
_BESIDE_GPS = 8  # … if GPS proposes others
_REPEATABLE_IMAGES = 100  # up to here, one thread maps as fast as many, and gives the same poses each time
# Up to here, one thread takes about 20 s to match. With two threads, COLMAP's approximate search for neighbours (by
# faiss) found other matches in 5 of 760 runs on the same features, so that the poses were slightly different.
_REPEATABLE_PAIRS = 1300
_ADDED_NEIGHBOURS = 8  # pictures of an earlier dataset for each picture
_LOOP_NEIGHBOURS = 6  # … in addition to the pairs of a sequence
_OVERLAP = 10  # next neighbours of a picture in a sequence; farther ones are taken in powers of two
_EXPLAINED = 0.25  # share of a pair's matches that are points of a model, if the model explains the pair
_FAINT = 0.15  # of SIFT's usual least contrast of a feature
_COMPARED = 64  # pairs that decide whether the camera only turned

Matching = Literal["exhaustive", "sequential", "retrieval"]
Points = NDArray[np.int64]
Tracks = dict[str, tuple[NDArray[np.float64], Points]]
"""By picture's name: where points were seen in it, (n, 2) px, and the points' numbers, (n,)."""
Shared = list[tuple[str, str, Points]]
"""For pairs of pictures of two models, by name: the numbers in both models of the points that are the same, (m, 2)."""


class Search:
    """A COLMAP database of features and matches, and the steps that fill it and read it.

    Args:
        folder: where the pictures are, in grey; masks/NAME.png in it is the mask of picture NAME.
        views: the pictures, in the order in which they were taken.
        work: an empty folder on a local disk.
        options: matching and max_features are used here, mapper by `jobs.sfm.mapping`.
        timer: measures the steps features and matching.
        database: file name in `work`.
    """

    def __init__(
        self,
        folder: Path,
        views: list[View],
        work: Path,
        options: PrepareOptions,
        timer: Timer,
        database: str = "database.db",
    ) -> None:
        self.folder, self.views, self.work, self.options, self.timer = folder, views, work, options, timer
        self.database = work / database
        self.matching: list[str] = []
        """The kinds of matching that were used, in order."""
        self._names = [view.name for view in views]
        self.first_octave = 0
        """The first octave of the features; see `find_features`."""
        self.overlays: dict[str, list[Region]] = {}
        """The regions in which no features are sought, by picture's name; see `jobs.sfm.overlays`."""

    def likely(self, *, sequence: bool) -> Matching:
        """Return the kind of matching that suits these pictures.

        Args:
            sequence: whether the pictures are frames of a video.
        """
        if self.options.matching != "auto":
            return self.options.matching
        if len(self.views) <= _EXHAUSTIVE_IMAGES:
            return "exhaustive"
        return "sequential" if sequence else "retrieval"

    def find_features(self, first_octave: int) -> None:
        """Find SIFT features in every picture.

        Args:
            first_octave: 0, or -1 to enlarge the pictures twofold first, at four times the cost.
        """
        self.database.unlink(missing_ok=True)
        self.matching = []
        self.first_octave = first_octave
        self.add(self.folder, self.views)

    def add(self, folder: Path, views: list[View]) -> None:
        """Find features in more pictures, in the same way."""
        with pycolmap.Database.open(self.database) as database:
            write_views(database, views)
        self._extract(folder, views, self.first_octave)

    def hide_overlays(self) -> bool:
        """Hide what is in the same place of most pictures with masks. Return whether there is anything.

        Features and matches must then be sought again.
        """
        with self.timer.step("matching"), pycolmap.Database.open(self.database) as database:
            self.overlays = find_overlays(database, self.views)
        for view in self.views:
            if regions := self.overlays.get(view.name):
                hide(self.folder / view.name, (view.width, view.height), regions)
        return bool(self.overlays)

    def _extract(self, folder: Path, views: list[View], first_octave: int, contrast: float = 1.0) -> None:
        options = pycolmap.FeatureExtractionOptions(num_threads=threads())
        options.sift.max_num_features = self.options.max_features
        options.sift.first_octave = first_octave
        options.sift.peak_threshold *= contrast
        reader = pycolmap.ImageReaderOptions()
        if (masks := folder / "masks").is_dir():
            reader.mask_path = masks
            for view in views:  # COLMAP finds no features in a picture without one
                if not (mask := masks / f"{view.name}.png").exists():
                    Image.new("L", (view.width, view.height), 255).save(mask)
        with (
            self.timer.step("features"),
            reported("features", len(views), self.database, _images_with_features) as cancellation,
        ):
            pycolmap.extract_features(
                self.database,
                folder,
                [view.name for view in views],
                reader_options=reader,
                extraction_options=options,
                device=device(),
                cancellation_token=cancellation,
            )

    def pairs(self, kind: Matching) -> list[tuple[str, str]]:
        """Return the pairs of pictures, by name, that a kind of matching compares."""
        number = len(self.views)
        if kind == "exhaustive":
            chosen = set(combinations(range(number), 2))
        else:
            steps = {*range(1, _OVERLAP + 1), *(1 << k for k in range(4, number.bit_length()))}
            if kind == "retrieval":  # photos are mostly taken along a walk: a few neighbours are a good guess
                steps = {1, 2, 3}
            ahead = 1 + max((view.mount.index for view in self.views if view.mount), default=0)  # to the next moment
            chosen = {(i, i + step * ahead) for step in steps for i in range(number - step * ahead)}
            near = near_pairs([view.position for view in self.views]) if kind == "retrieval" else set()
            alike = _LOOP_NEIGHBOURS if kind == "sequential" else _BESIDE_GPS if near else _NEIGHBOURS
            chosen |= near | self._look_alikes(alike)
        moments = [view.mount.frame if view.mount else view.name for view in self.views]
        return [(self._names[i], self._names[j]) for i, j in sorted(chosen) if moments[i] != moments[j]]

    def pairs_between(self, own: Collection[str], others: Collection[str]) -> list[tuple[str, str]]:
        """Return the pairs, by name, of a picture and one of others: all, or only the likeliest of many."""
        if len(own) * len(others) <= _EXHAUSTIVE_IMAGES**2 / 2:
            return [(name, other) for name in own for other in others]
        with pycolmap.Database.open(self.database) as database:
            names = _names(database)  # those of another dataset may be among them
        first, second, chosen = set(own), set(others), dict[int, list[str]]()
        numbers = [number for number, name in names.items() if name in first]
        for i, j in self._alike(len(names), numbers):  # the likeliest first
            if names[j] in second:
                chosen.setdefault(i, []).append(names[j])
        return [(names[i], other) for i, likely in chosen.items() for other in likely[:_ADDED_NEIGHBOURS]]

    def _look_alikes(self, neighbours: int) -> set[tuple[int, int]]:
        """Return pairs that share visual words, by position among the pictures."""
        pairs = self._alike(neighbours + 1)  # each picture is among its own neighbours
        return {(min(i, j) - 1, max(i, j) - 1) for i, j in pairs if i != j}

    def _alike(self, neighbours: int, of: Iterable[int] = ()) -> list[tuple[int, int]]:
        """Return pairs of a picture and one that looks like it, by number; see `vocabulary.alike`."""
        with self.timer.step("matching"):
            return vocabulary.alike(self.database, self.work, neighbours, self.threads, of)

    @property
    def threads(self) -> int:
        """Return the number of threads for steps whose result repeats exactly only with one thread."""
        return 1 if len(self.views) <= _REPEATABLE_IMAGES else threads()

    def shared(self, own: Tracks, added: Tracks) -> Shared:
        """Return the points that two models have in common, found by the features that match between their pictures.

        Args:
            own, added: the points that each picture shows, for both models.
        """
        result = []
        with pycolmap.Database.open(self.database) as database:
            seen = {**own, **added}
            numbers = {number: name for number, name in _names(database).items() if name in seen}
            points = {
                name: _points_of(database.read_keypoints(number), *seen[name]) for number, name in numbers.items()
            }
            for i, j, _ in verified_pairs(database):
                names = numbers.get(i, ""), numbers.get(j, "")
                if names[0] not in own or names[1] not in added:
                    continue
                matches = database.read_two_view_geometry(i, j).inlier_matches.astype(int)
                both = np.stack([points[name][matches[:, k]] for k, name in enumerate(names)], axis=1)
                both = both[(both >= 0).all(axis=1)]
                if len(both):
                    result.append((*names, both))
        return result

    def with_views(self, views: list[View]) -> Search:
        """Return a search of the same pictures and matches with other cameras, for which the matches are verified."""
        other, pairs = self._copy(views)
        with self.timer.step("matching"):
            pycolmap.verify_matches(other.database, other._write_pairs(pairs), _verification())
        return other

    def with_fainter_features(self, names: Collection[str], first_octave: int) -> Search:
        """Return a search in which some pictures have fainter features and no matches. The others stay the same.

        Args:
            names: the pictures that get fainter features.
            first_octave: see `find_features`.
        """
        other, _ = self._copy(self.views, without=names)
        other._extract(self.folder, [view for view in self.views if view.name in names], first_octave, _FAINT)
        return other

    def _copy(self, views: list[View], without: Collection[str] = ()) -> tuple[Search, list[tuple[str, str]]]:
        """Copy the features and matches of all pictures, except some.

        Args:
            views: the pictures with the cameras of the copy. Verified matches are copied if the cameras are the same.
            without: the pictures whose features and matches are left out.

        Returns:
            The search with the copy, and the pairs of pictures that match, by name.
        """
        other = Search(self.folder, views, self.work, self.options, self.timer, f"again-{self.database.name}")
        other.database.unlink(missing_ok=True)
        other.matching, other.first_octave = list(self.matching), self.first_octave
        other.overlays = self.overlays
        pairs = []
        with (
            self.timer.step("matching"),
            pycolmap.Database.open(self.database) as source,
            pycolmap.Database.open(other.database) as target,
        ):
            write_views(target, views)
            names = _names(source)
            number_of = {name: number for number, name in _names(target).items()}
            kept = {number: number_of[name] for number, name in names.items() if name not in without}
            for number, new in kept.items():
                target.write_keypoints(new, source.read_keypoints(number))
                target.write_descriptors(new, source.read_descriptors(number))
            for pair, matches in zip(*source.read_all_matches(), strict=True):
                i, j = pycolmap.pair_id_to_image_pair(pair)
                if i in kept and j in kept:
                    target.write_matches(kept[i], kept[j], matches)
                    pairs.append((names[i], names[j]))
                    if views == self.views and source.exists_two_view_geometry(i, j):
                        target.write_two_view_geometry(kept[i], kept[j], source.read_two_view_geometry(i, j))
        return other, pairs

    def forget(self, places: Sequence[Collection[str]], shared: Mapping[frozenset[str], int] | None = None) -> None:
        """Remove the matches between pictures of different places.

        Args:
            places: the names of each place's pictures. Pictures of no place keep all their matches.
            shared: how many points pairs of pictures share in the model that merged the places. If the model does not
                explain the matches of a pair, the pair really shows the same, and keeps its matches.
        """
        place_of = {name: number for number, place in enumerate(places) for name in place}
        with pycolmap.Database.open(self.database) as database:
            names = _names(database)
            for i, j, inliers in verified_pairs(database):
                a, b = place_of.get(names[i]), place_of.get(names[j])
                if a is None or b is None or a == b:
                    continue
                if shared is None or shared.get(frozenset((names[i], names[j])), 0) >= _EXPLAINED * inliers:
                    database.delete_matches(i, j)
                    database.delete_two_view_geometry(i, j)

    def _write_pairs(self, pairs: list[tuple[str, str]]) -> Path:
        file = self.work / "pairs.txt"
        file.write_text("".join(f"{a} {b}\n" for a, b in pairs))
        return file

    def match(self, pairs: list[tuple[str, str]], kind: str) -> None:
        """Match the features of the pairs, and keep the matches that one rigid motion explains."""
        self.matching.append(kind)
        pairing = pycolmap.ImportedPairingOptions(match_list_path=self._write_pairs(pairs))
        repeatable = len(pairs) <= _REPEATABLE_PAIRS and not gpu()  # a GPU's features differ from run to run
        workers = 1 if repeatable else threads()
        matching = pycolmap.FeatureMatchingOptions(num_threads=workers)
        count = pycolmap.Database.num_matched_image_pairs
        with (
            self.timer.step("matching"),
            reported("matching", len(pairs), self.database, count) as cancellation,
        ):
            pycolmap.match_image_pairs(
                self.database,
                matching_options=matching,
                pairing_options=pairing,
                verification_options=_verification(),
                device=device(),
                cancellation_token=cancellation,
            )

    def only_turned(self) -> bool:
        """Return whether the pictures that match were all taken from one spot (see `jobs.sfm.parallax`)."""
        if moved([view.position for view in self.views]):  # GPS says that the camera was moved
            return False
        (size, _), *_ = Counter((view.width, view.height) for view in self.views).most_common(1)
        names = {view.name for view in self.views if (view.width, view.height) == size}
        with pycolmap.Database.open(self.database) as database:
            same = {number for number, name in _names(database).items() if name in names}
            found = sorted((i, j) for i, j, inliers in verified_pairs(database) if inliers >= 2 * FEW_MATCHES)
            found = [pair for pair in found if same.issuperset(pair)]
            pairs = []
            for i, j in found[:: max(1, len(found) // _COMPARED)]:
                matches = database.read_two_view_geometry(i, j).inlier_matches.astype(int)
                a, b = (database.read_keypoints(image)[matches[:, k], :2] for k, image in enumerate((i, j)))
                pairs.append((a.astype(float), b.astype(float)))
        return parallax.only_turned(pairs, size)

    def mounted(self) -> set[int]:
        """Return the numbers of the cameras in rigs, whose intrinsics are exact."""
        names = {view.name for view in self.views if view.mount}
        with pycolmap.Database.open(self.database) as database:
            return {image.camera_id for image in database.read_all_images() if image.name in names}

    def inliers(self) -> dict[frozenset[str], int]:
        """Return the number of matches that one rigid motion explains, by the names of each pair."""
        with pycolmap.Database.open(self.database) as database:
            names = _names(database)
            return {frozenset((names[i], names[j])): number for i, j, number in verified_pairs(database)}

    def figures(self) -> tuple[dict[str, int], Counter[str]]:
        """Return, by picture's name, its number of features, and its most inlier matches with any one other picture."""
        with pycolmap.Database.open(self.database) as database:
            features = {name: database.num_keypoints_for_image(number) for number, name in _names(database).items()}
        best = Counter[str]()
        for pair, inliers in self.inliers().items():
            for name in pair:
                best[name] = max(best[name], inliers)
        return features, best


def verified_pairs(database: pycolmap.Database) -> list[tuple[int, int, int]]:
    """Return the numbers of both pictures of each verified pair, and of its matches that one rigid motion explains."""
    counts = zip(*database.read_two_view_geometry_num_inliers(), strict=True)
    return [(*pycolmap.pair_id_to_image_pair(pair), inliers) for pair, inliers in counts]


def _names(database: pycolmap.Database) -> dict[int, str]:
    """Return the names of the pictures by number."""
    return {image.image_id: image.name for image in database.read_all_images()}


def _images_with_features(database: pycolmap.Database) -> int:
    return sum(database.exists_keypoints(image.image_id) for image in database.read_all_images())


def _points_of(keypoints: NDArray[np.float32], seen: NDArray[np.float64], points: NDArray[np.int64]) -> Points:
    """Return the number (n,) of the point that each of n keypoints shows, or -1 if none was seen within a pixel."""
    if not len(seen) or not len(keypoints):
        return np.full(len(keypoints), -1)
    distances, nearest = cKDTree(seen).query(keypoints[:, :2])
    found: Points = np.where(distances < 1, points[nearest], -1)
    return found


def _verification() -> pycolmap.TwoViewGeometryOptions:
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = SEED
    return options
