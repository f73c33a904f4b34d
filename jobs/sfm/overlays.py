"""Find what is in the same place of most photos while all else moves: a logo, a date, a car's bonnet, dirt on the lens.

Such features match perfectly, without any motion. If they are many, they are taken for the scene.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from jobs.geometry import Floats
from jobs.sfm.views import View

__all__ = ["Region", "find_overlays"]

_STILL = 1.5  # px in both axes, by which what does not move is displaced at most
_MOVED = 0.02  # of the diagonal, by which the rest moves at least
_LEAST_PHOTOS = 6
_FEW_PHOTOS = 4  # of a feature that counts only beside others: a faint watermark is not found in all photos
_SHARE = 0.4  # of the photos of one size, in which a feature of an overlay is found
_LEAST_FEATURES = 4  # of an overlay
_LEAST_MOVED = 30  # matches of a pair, which show that the camera moved
_SMALLEST = 0.015  # of the diagonal: what is smaller does no harm, and a camera that turns about a point has that
_NEAR = 0.06  # of the diagonal, between neighbouring features of an overlay
_MARGIN = 0.015  # of the diagonal, around its features
_LARGEST = 0.35  # of a photo: a bonnet covers a quarter. What covers more is the scene: the camera stood still
_IN_ALL = 0.8  # of the photos of one size: the others have it, too


class Region(NamedTuple):
    """A rectangle of a picture: left, top, right and bottom in px, the last two exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """Return its area in px."""
        return (self.right - self.left) * (self.bottom - self.top)


class _Match(NamedTuple):
    """The matches of two pictures of one size: the numbers of the features in both, and how far these moved, (n, 2)."""

    first: int
    second: int
    features: NDArray[np.int64]
    moved: Floats


def find_overlays(database: pycolmap.Database, views: list[View]) -> dict[str, list[Region]]:
    """Return the regions of each picture that are the same in most pictures of its size, by the pictures' names.

    A feature belongs to an overlay if matches without motion connect it over many pictures, in which other matches
    show that the camera moved. In a capture whose camera turns about a point, features near that point hardly move from
    one picture to the next. But they drift over several pictures, or are others each time.

    Args:
        database: with features and matches that are not verified.
        views: the pictures. Those of rigs are left out.
    """
    sizes: dict[tuple[int, int], set[str]] = defaultdict(set)
    for view in views:
        if view.mount is None:
            sizes[view.width, view.height].add(view.name)
    names = {image.image_id: str(image.name) for image in database.read_all_images()}
    found: dict[str, list[Region]] = {}
    for size, own in sizes.items():
        if len(own) >= _LEAST_PHOTOS:
            numbers = [number for number, name in names.items() if name in own]
            for number, regions in _of_one_size(database, numbers, size).items():
                found[names[number]] = regions
    return found


def _of_one_size(database: pycolmap.Database, numbers: list[int], size: tuple[int, int]) -> dict[int, list[Region]]:
    diagonal = float(np.hypot(*size))
    keypoints = {number: database.read_keypoints(number)[:, :2].astype(float) for number in numbers}
    matches = _matches(database, keypoints)
    still = [(pair, (np.abs(pair.moved) < _STILL).all(axis=1)) for pair in matches]
    tracks = _tracks(keypoints, [(pair, mask) for pair, mask in still if mask.any()])
    tracks = [(at, photos) for at, photos in tracks if len(photos) >= _FEW_PHOTOS]
    if not tracks:
        return {}
    frequent = np.array([len(photos) >= max(_LEAST_PHOTOS, _SHARE * len(numbers)) for _, photos in tracks])
    places = np.array([at for at, _ in tracks])
    moving = _moving(matches, diagonal)
    found: dict[int, list[Region]] = defaultdict(list)
    near = cKDTree(places).sparse_distance_matrix(cKDTree(places), _NEAR * diagonal, output_type="coo_matrix")
    number, labels = connected_components(near + coo_array((len(tracks), len(tracks))), directed=False)
    for label in range(number):
        chosen = np.flatnonzero(labels == label)
        often = chosen[frequent[chosen]]
        if len(often) < _LEAST_FEATURES:
            continue
        photos = set().union(*(tracks[each][1] for each in often))
        extent = float(np.hypot(*np.ptp(places[chosen], axis=0)))
        if extent < _SMALLEST * diagonal or 2 * len(photos & moving) < len(photos):
            continue
        region = _around(places[chosen], size, _MARGIN * diagonal)
        for photo in numbers if len(photos) >= _IN_ALL * len(numbers) else photos:
            found[photo].append(region)
    covered = max((sum(region.area for region in regions) for regions in found.values()), default=0)
    return found if covered <= _LARGEST * size[0] * size[1] else {}


def _matches(database: pycolmap.Database, keypoints: Mapping[int, Floats]) -> list[_Match]:
    found = []
    for pair, features in zip(*database.read_all_matches(), strict=True):
        i, j = pycolmap.pair_id_to_image_pair(pair)
        if i in keypoints and j in keypoints and len(features):
            numbers: NDArray[np.int64] = features.astype(np.int64)
            moved = keypoints[j][numbers[:, 1]] - keypoints[i][numbers[:, 0]]
            found.append(_Match(i, j, numbers, moved))
    return found


def _tracks(
    keypoints: Mapping[int, Floats], still: list[tuple[_Match, NDArray[np.bool_]]]
) -> list[tuple[Floats, set[int]]]:
    """Return where features are that do not move, and the pictures that show them.

    Args:
        keypoints: the positions of all features by picture.
        still: pairs, and which of their matches do not move.
    """
    if not still:
        return []
    begins = dict(zip(keypoints, np.cumsum([0, *map(len, keypoints.values())]).tolist(), strict=False))
    total = sum(map(len, keypoints.values()))
    rows = np.concatenate([begins[pair.first] + pair.features[mask, 0] for pair, mask in still])
    columns = np.concatenate([begins[pair.second] + pair.features[mask, 1] for pair, mask in still])
    _, labels = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(total, total)))
    places = np.concatenate([*keypoints.values()])
    photo_of = np.repeat(list(keypoints), [len(each) for each in keypoints.values()])
    members = np.unique(np.concatenate([rows, columns]))
    members = members[np.argsort(labels[members], kind="stable")]
    found = []
    for track in np.split(members, np.flatnonzero(np.diff(labels[members])) + 1):
        at = places[track]
        middle = np.median(at, axis=0)
        there = (np.abs(at - middle) < _STILL).all(axis=1)  # others drifted away
        found.append((middle, set(photo_of[track[there]].tolist())))
    return found


def _moving(matches: list[_Match], diagonal: float) -> set[int]:
    """Return the pictures with a neighbour whose matches show that the camera moved."""
    found: set[int] = set()
    for pair in matches:
        if (np.hypot(*pair.moved.T) > _MOVED * diagonal).sum() >= _LEAST_MOVED:
            found |= {pair.first, pair.second}
    return found


def _around(places: Floats, size: tuple[int, int], margin: float) -> Region:
    low = np.clip(np.floor(places.min(axis=0) - margin), 0, size).astype(int).tolist()
    high = np.clip(np.ceil(places.max(axis=0) + margin), 0, size).astype(int).tolist()
    return Region(low[0], low[1], high[0], high[1])
