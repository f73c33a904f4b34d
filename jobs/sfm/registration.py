"""The scene frame over visits: the similarity that brings a new reconstruction into an earlier dataset's frame.

Photos of both are matched; what is the same point in both models decides the similarity. It is accepted only where many
such points, in several photos and not all in one corner, agree on it.

Photos tell a focal length within a percent or two, and with it all distances from the cameras: of two visits, each has
its own. So where the reference's cameras explain the new photos as well, these have them too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from PIL import Image
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from jobs import report
from jobs.geometry import Floats, Similarity
from jobs.pictures import photo as photos
from jobs.pictures.reading import save_feature_mask
from jobs.sfm.refinement import adjust
from jobs.sfm.search import Points, Search, Shared, Tracks
from jobs.sfm.views import View

_LEAST_INLIERS = 40
_LEAST_PHOTOS = 3  # of the new ones, and of the reference's
_LEAST_SHARE = 0.3  # of the points that matches call the same: the others are changes, and look-alikes
_LEAST_SPREAD = 0.02  # standard deviation of the inliers along their second axis, in terms of the scene's size
_MOST_RESIDUAL = 0.01
_TOLERANCE = 0.03  # of an inlier, in terms of the scene's size
_ENOUGH_POINTS = 5000  # to refine with
_SAME_FOCAL = 0.03  # share by which the focal lengths of two visits' cameras may differ, to be tried as one
# Times the reprojection error. What one camera was found to have on two days differs by up to 1.3 %, and costs 1.0035
# times; 2 % cost 1.008, and 3 % 1.017.
_AS_WELL = 1.005
_SEED = 0


@dataclass(frozen=True)
class Fit:
    """How a reconstruction fits an earlier dataset.

    Args:
        model: the reconstruction; with the dataset's cameras, where they explain its photos as well.
        cameras: how many of its cameras are the dataset's.
        similarity: from the reconstruction's frame to the dataset's.
        inliers: points of both that it brings together.
        photos_matched: new photos that show such points.
        residual: the median distance of what it brings together, in terms of the scene's size: the diagonal of the box
            about the dataset's camera centres.
    """

    model: Any
    cameras: int
    similarity: Similarity
    inliers: int
    photos_matched: int
    residual: float

    def figures(self) -> dict[str, float]:
        """What is worth noting."""
        return {
            "cameras": self.cameras,
            "inliers": self.inliers,
            "photos_matched": self.photos_matched,
            "residual": round(self.residual, 6),
            "scale": self.similarity.scale,
        }

    def sim3d(self) -> Any:
        """The similarity as COLMAP takes it."""
        given = self.similarity
        return pycolmap.Sim3d(given.scale, pycolmap.Rotation3d(given.rotation), given.translation)


class Reference:
    """An earlier dataset of the scene, to whose frame new ones are brought.

    Args:
        dataset: its folder, with `images/` and `colmap/sparse/0/`, in its own scene frame.
        feature_image_size: longest side in px at which features are found.

    Raises:
        ValueError, OSError: there is no such model in it.
    """

    def __init__(self, dataset: Path, feature_image_size: int) -> None:
        self.model = pycolmap.Reconstruction(dataset / "colmap" / "sparse" / "0")
        self._images = [image for image in self.model.images.values() if image.has_pose]
        self._photos = [dataset / "images" / image.name for image in self._images]
        if missing := [photo for photo in self._photos if not photo.is_file()]:
            raise FileNotFoundError(f"{missing[0]} is not there")
        self._longest = feature_image_size
        centers = np.array([image.projection_center() for image in self._images])
        self.size = float(np.linalg.norm(np.ptp(centers, axis=0)))
        """The scene's size."""

    def write_grey(self, folder: Path, prefix: str) -> tuple[list[View], Tracks]:
        """Write the photos as features are found in them, names begun with `prefix`; and which points they show."""
        meter = report.Meter("prepare:frame", len(self._images))
        views, tracks = [], {}
        for image, photo in zip(self._images, self._photos, strict=True):
            camera = self.model.cameras[image.camera_id]
            with Image.open(photo) as opened:
                grey = photos.grey(opened, self._longest)
            name = f"{prefix}{photo.stem}.pgm"
            grey.save(folder / name)
            mask = photo.parent.with_name("masks") / f"{photo.stem}.png"
            if mask.is_file():
                with Image.open(mask) as opened:
                    save_feature_mask(opened.convert("L"), grey.size, folder / name)
            focal = camera.mean_focal_length() / float(np.hypot(camera.width, camera.height))
            views.append(View(name, *grey.size, camera=f"{prefix}{image.camera_id}", focal=focal))
            tracks[name] = _seen(image, grey.width / camera.width)
            meter.update(len(views))
        return views, tracks


def fit(search: Search, model: Any, reference: Reference, folder: Path, prefix: str) -> Fit | None:
    """How a new reconstruction fits a reference; None if it does not, surely.

    Args:
        search: what found `model`; the reference's photos are added to it.
        model: the new reconstruction, in px of the searched pictures.
        reference: the earlier dataset.
        folder: for grey pictures of the reference, named with `prefix`.
    """
    views, added = reference.write_grey(folder, prefix)
    search.add(folder, views)
    search.match(search.pairs_with(views), "reference")
    own = {image.name: _seen(image) for image in model.images.values() if image.has_pose}
    shared = search.shared(own, added)
    found = _fit(shared, model, 0, reference)
    if found is None:
        return None
    same, cameras = _with_cameras_of(reference.model, model, search.threads)
    return (_fit(shared, same, cameras, reference) if cameras else None) or found


def _fit(shared: Shared, model: Any, cameras: int, reference: Reference) -> Fit | None:
    """How a reconstruction fits a reference, by the points of both that pairs of photos share."""
    numbers = np.unique(np.concatenate([np.empty((0, 2), np.int64), *(both for *_, both in shared)]), axis=0)
    if len(numbers) < _LEAST_INLIERS:
        return None
    source, target = (_positions(m, numbers[:, k]) for k, m in enumerate((model, reference.model)))
    tolerance = _TOLERANCE * reference.size
    options = pycolmap.RANSACOptions(max_error=tolerance, random_seed=_SEED)
    rough: Any = pycolmap.estimate_sim3d_robust(source, target, options)  # a dict, although typed as Sim3d
    if rough is None or rough["num_inliers"] < _LEAST_INLIERS:
        return None
    agreed = numbers[rough["inlier_mask"]]
    similarity = _refined(rough["tgt_from_src"], model, reference.model, agreed[:: 1 + len(agreed) // _ENOUGH_POINTS])
    distances = np.linalg.norm(similarity.points(source) - target, axis=1)
    inlier = distances < tolerance
    same = {tuple(pair) for pair in numbers[inlier].tolist()}
    seen_in = [names for *names, both in shared if any(tuple(pair) in same for pair in both.tolist())]
    found = Fit(
        model,
        cameras,
        similarity,
        inliers=int(inlier.sum()),
        photos_matched=len({new for new, _ in seen_in}),
        residual=float(np.median(distances[inlier]) / reference.size),
    )
    spread = np.linalg.svd(target[inlier] - target[inlier].mean(axis=0), compute_uv=False)[1] / np.sqrt(inlier.sum())
    sure = (
        found.inliers >= max(_LEAST_INLIERS, _LEAST_SHARE * len(numbers))
        and min(found.photos_matched, len({old for _, old in seen_in})) >= _LEAST_PHOTOS
        and found.residual < _MOST_RESIDUAL
        and spread > _LEAST_SPREAD * reference.size
    )
    return found if sure else None


def _with_cameras_of(reference: Any, model: Any, threads: int) -> tuple[Any, int]:
    """A reconstruction adjusted to have a reference's cameras (intrinsics), and how many of its own gave way to them.

    None give way where the photos are then explained less well: they were taken with another camera, or zoom.
    """
    adjusted = copy.deepcopy(model)
    held = [camera for camera in adjusted.cameras.values() if _take_the_like(reference.cameras.values(), camera)]
    if not held:
        return model, 0
    adjust(adjusted, threads, held=[camera.camera_id for camera in held])
    before, after = map(_reprojection_error, (model, adjusted))
    return (adjusted, len(held)) if after <= _AS_WELL * before else (model, 0)


def _take_the_like(known: Iterable[Any], camera: Any) -> bool:
    """Give a camera the intrinsics of the one that it is most like, if it is like any."""

    def difference(other: Any) -> float:
        """Of the focal lengths, in terms of the pictures' width: infinite for pictures of another shape or model."""
        shape = other.width * camera.height / (other.height * camera.width)
        if other.model != camera.model or abs(shape - 1) > 0.01:
            return np.inf
        off: float = other.mean_focal_length() * camera.width / (other.width * camera.mean_focal_length()) - 1
        return abs(off)

    like = min(known, key=difference)
    if difference(like) > _SAME_FOCAL:
        return False
    like = copy.deepcopy(like)
    like.rescale(camera.width, camera.height)
    camera.params = like.params
    return True


def _reprojection_error(model: Any) -> float:
    model.update_point_3d_errors()
    mean: float = model.compute_mean_reprojection_error()
    return mean


def _refined(rough: Any, model: Any, reference: Any, numbers: Points) -> Similarity:
    """The similarity by which points (n, 2) of each model fall nearest to where the photos of the other show them.

    Points are uncertain along their rays most of all, which the distances between points do not know.
    """
    source, target = (_positions(m, numbers[:, k]) for k, m in enumerate((model, reference)))
    in_target, in_source = _Observations(reference, numbers[:, 1]), _Observations(model, numbers[:, 0])

    extent = float(np.linalg.norm(np.ptp(target, axis=0)))

    def moved(change: Floats) -> Similarity:
        turn = Rotation.from_rotvec(change[:3]).as_matrix()
        scale = rough.scale * float(np.exp(change[3]))
        return Similarity(scale, turn @ rough.rotation.matrix(), rough.translation + extent * change[4:])

    def errors(change: Floats) -> Floats:
        similarity = moved(change)
        there = in_target.errors(similarity.points(source))
        back = in_source.errors(similarity.inverse().points(target))
        return np.concatenate([there.ravel(), back.ravel()])

    return moved(least_squares(errors, np.zeros(7), loss="soft_l1").x)


class _Observations:
    """Where the photos of a model show some of its points.

    Args:
        model: a reconstruction.
        numbers: (n,) of the points; one may be there several times.
    """

    def __init__(self, model: Any, numbers: Points) -> None:
        places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers.tolist()):
            places.setdefault(number, []).append(place)
        at, poses, rays, focal = [], [], [], []
        for number, where in places.items():
            for element in model.points3D[number].track.elements:
                image = model.images[element.image_id]
                camera = model.cameras[image.camera_id]
                ray = camera.cam_from_img(image.points2D[element.point2D_idx].xy)
                pose = image.cam_from_world().matrix()
                for place in where:
                    at.append(place)
                    poses.append(pose)
                    rays.append(ray)
                    focal.append(camera.mean_focal_length())
        self._at, self._poses, self._rays = np.array(at), np.array(poses), np.array(rays)
        self._focal = np.array(focal)[:, None]

    def errors(self, positions: Floats) -> Floats:
        """(m, 2) px from where points that are at `positions` (n, 3) should be seen to where they are seen."""
        local = np.einsum("kij,kj->ki", self._poses[:, :, :3], positions[self._at]) + self._poses[:, :, 3]
        errors: Floats = self._focal * (local[:, :2] / local[:, 2:] - self._rays)
        return errors


def _seen(image: Any, scale: float = 1.0) -> tuple[Floats, Points]:
    """Where a picture shows points, (n, 2) px times `scale`, and their numbers, (n,)."""
    seen = [(point.xy, point.point3D_id) for point in image.points2D if point.has_point3D()]
    return scale * np.array([xy for xy, _ in seen]).reshape(-1, 2), np.array([number for _, number in seen], np.int64)


def _positions(model: Any, numbers: Points) -> Floats:
    """(n, 3) positions of points by number."""
    return np.array([model.points3D[number].xyz for number in numbers.tolist()])
