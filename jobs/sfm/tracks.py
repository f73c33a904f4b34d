"""The matches of all pictures as tracks: features that are of one point, if all matches are right.

Mappers spend most of their time on points, of which there are far more than the poses need. With the best tracks, a few
hundred in each picture, mapping takes a fraction of the time. All the others are triangulated afterwards, those of
different tracks at the same time.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jobs.sfm.machine import SEED
from jobs.sfm.search import FEW_MATCHES, Search
from jobs.sfm.shared import grid_cells

__all__ = ["Matches"]

_CELLS = 8  # in each direction of a picture
_OF_A_CELL = 4  # tracks
_OF_A_PAIR = 50  # tracks, so that pictures that share little stay connected
_PART = 30_000  # features of the tracks that are triangulated at a time: fewer are not worth the copy
_MOST_PARTS = 8

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """The verified matches of a search.

    Args:
        search: has the n features and m matches.
        pairs: both pictures of each pair, and their matches. Pairs with too few are left out.
        matches: (m, 2) the features of each match, counted in each picture.
        ends: (m, 2) likewise, counted over all pictures.
        pair: (m,) the row of each match's pair.
        matched: (k,) the features that have matches.
        cells: (n,) where each feature is: the cell of a grid over its picture. The cells of a picture follow on those
            of the picture before.
        track: (n,) the number of each feature's track.
    """

    search: Search
    pairs: list[tuple[int, int, pycolmap.TwoViewGeometry]]
    matches: NDArray[np.uint32]
    ends: Integers
    pair: Integers
    matched: Integers
    cells: Integers
    track: Integers

    @classmethod
    def of(cls, search: Search) -> Matches:
        """Read the matches of a search."""
        first, cells, features = dict[int, int](), [np.empty(0, np.int64)], 0
        with pycolmap.Database.open(search.database) as database:
            for row, image in enumerate(database.read_all_images()):
                camera = database.read_camera(image.camera_id)
                points = database.read_keypoints(image.image_id)[:, :2]
                cells.append(row * _CELLS**2 + grid_cells(points, camera, _CELLS))
                first[image.image_id] = features
                features += len(points)
            pairs = [
                (*pycolmap.pair_id_to_image_pair(number), geometry)
                for number, geometry in zip(*database.read_two_view_geometries(), strict=True)
                if len(geometry.inlier_matches) >= FEW_MATCHES
            ]
        found = [geometry.inlier_matches for *_, geometry in pairs]
        pair = np.repeat(np.arange(len(pairs)), [len(each) for each in found])
        matches = np.concatenate([np.empty((0, 2), np.uint32), *found])
        begin = np.array([[first[i], first[j]] for i, j, _ in pairs], np.int64).reshape(-1, 2)
        ends = matches + begin[pair]
        graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(features, features))
        _, track = connected_components(graph, directed=False)
        has_match = np.zeros(features, bool)
        has_match[ends] = True
        return cls(search, pairs, matches, ends, pair, np.flatnonzero(has_match), np.concatenate(cells), track)

    def best(self) -> NDArray[np.bool_]:
        """Return which matches (m,) belong to the best tracks: those that determine the poses.

        They are seen in many pictures, once in each. Each cell of the grid over a picture keeps its best four, and each
        pair of pictures its best 50.
        """
        of_feature, of_match = self.track[self.matched], self.track[self.ends[:, 0]]
        picture = self.cells[self.matched] // _CELLS**2
        number, pictures = int(self.track.max(initial=-1)) + 1, int(picture.max(initial=-1)) + 1
        once = np.unique(of_feature * pictures + picture) // pictures
        seen_in, seen = (np.bincount(each, minlength=number) for each in (once, of_feature))
        length = np.where(seen_in == seen, seen_in, 0)
        best = np.zeros(number, bool)
        best[of_feature[_rank(self.cells[self.matched], length[of_feature]) < _OF_A_CELL]] = True
        best[of_match[_rank(self.pair, length[of_match]) < _OF_A_PAIR]] = True
        chosen: NDArray[np.bool_] = best[of_match]
        return chosen

    def write(self, file: Path, kept: NDArray[np.bool_]) -> None:
        """Write a database with some of the matches (m,), as far as a mapper needs it."""
        rows, begin = np.unique(self.pair[kept], return_index=True)
        matches = np.split(self.matches[kept], begin[1:])
        connected = {picture for row in rows.tolist() for picture in self.pairs[row][:2]}
        file.unlink(missing_ok=True)
        with (
            pycolmap.Database.open(self.search.database) as source,
            pycolmap.Database.open(file) as target,
            pycolmap.DatabaseTransaction(target),
        ):
            for camera in source.read_all_cameras():
                target.write_camera(camera, use_camera_id=True)
            for rig in source.read_all_rigs():
                target.write_rig(rig, use_rig_id=True)
            for frame in source.read_all_frames():
                target.write_frame(frame, use_frame_id=True)
            for image in source.read_all_images():
                target.write_image(image, use_image_id=True)
                if image.image_id in connected:
                    target.write_keypoints(image.image_id, source.read_keypoints(image.image_id))
            for row, own in zip(rows.tolist(), matches, strict=True):
                i, j, geometry = self.pairs[row]
                some = pycolmap.TwoViewGeometry(config=geometry.config, inlier_matches=own)
                target.write_two_view_geometry(i, j, some)

    def triangulate(self, model: pycolmap.Reconstruction) -> None:
        """Replace the points of a model by those of all matches, with the poses that it has.

        Args:
            model: found from some of the matches.
        """
        parts = self._parts(min(self.search.threads, _MOST_PARTS))
        files = [self.search.work / f"tracks-{number}.db" for number in range(len(parts))]
        options = pycolmap.IncrementalPipelineOptions(num_threads=1, random_seed=SEED, min_num_matches=1)
        options.ba_global_max_refinements, options.extract_colors = 0, False

        def points(file: Path, kept: NDArray[np.bool_]) -> pycolmap.Reconstruction:
            self.write(file, kept)
            output = file.with_suffix("")
            output.mkdir(exist_ok=True)
            copied = pycolmap.Reconstruction(model)
            return pycolmap.triangulate_points(copied, file, self.search.folder, output, options=options)

        for number in model.point3D_ids():
            model.delete_point3D(number)
        with ThreadPoolExecutor(len(parts)) as pool:
            for part in pool.map(points, files, parts):
                for point in part.points3D.values():
                    model.add_point3D(point.xyz, point.track)

    def _parts(self, most: int) -> list[NDArray[np.bool_]]:
        """Return the matches (m,) of each part of the tracks. A part has tracks of pictures that follow one another."""
        of_match = self.track[self.ends[:, 0]]
        number = int(np.clip(len(self.matched) // _PART, 1, most))
        tracks, first, sizes = np.unique(self.track[self.matched], return_index=True, return_counts=True)
        order = np.argsort(first)  # by the first picture
        part = np.empty(len(self.track), np.int64)
        part[tracks[order]] = (np.cumsum(sizes[order]) - 1) * number // max(1, len(self.matched))
        parts = [part[of_match] == own for own in range(number)]
        return [kept for kept in parts if kept.any()]


def _rank(groups: Integers, values: Integers) -> Integers:
    """Return the place (n,) of each value within its group; the greatest is at 0."""
    order = np.argsort((groups + 1) * (int(values.max(initial=0)) + 1) - values, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    rank = np.empty(len(ordered), np.int64)
    rank[order] = np.arange(len(ordered)) - np.repeat(starts, sizes)
    return rank
