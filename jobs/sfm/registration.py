"""Register a new reconstruction to an earlier dataset of the scene, so that all visits share one scene frame.

Photos of both are matched. The points that they share determine a similarity. It is accepted only if many of these
points agree on it, in several photos and spread over the scene.

Structure from motion estimates a focal length to a percent or two, and the distances from the cameras depend on it. Two
visits with the same camera would therefore differ in shape. If the reference's intrinsics explain the new photos as
well as their own, the new reconstruction adopts them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
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
from jobs.sfm import fisheye
from jobs.sfm.refinement import adjust, usual_loss_scale
from jobs.sfm.search import Points, Search, Shared, Tracks
from jobs.sfm.shared import observations, reprojection_error
from jobs.sfm.views import View

_LEAST_INLIERS = 40
_LEAST_PHOTOS = 3  # among the new ones, and among the reference's
_LEAST_SHARE = 0.3  # of the shared points. The others have changed, or only look alike
_LEAST_SPREAD = 0.02  # standard deviation of the inliers along their second axis, as a fraction of the scene's size
_MOST_RESIDUAL = 0.01
_TOLERANCE = 0.03  # the greatest distance of an inlier, as a fraction of the scene's size
_ENOUGH_POINTS = 5000  # for the refinement
_SAME_FOCAL = 0.03  # the greatest relative difference of focal lengths at which a reference's camera is tried
# The greatest factor by which the reprojection error may grow with a reference's cameras. With the same camera on two
# days and ten photos each, it was 1.010. A focal length that is 2 % off costs a factor of 1.024, and 3 % one of 1.03.
_AS_WELL = 1.015
_SEED = 0


@dataclass(frozen=True)
class Fit:
    """How a reconstruction fits an earlier dataset.

    Args:
        model: the reconstruction, with the dataset's intrinsics where these explain its photos as well.
        cameras: the number of its cameras that have the dataset's intrinsics.
        similarity: from the reconstruction's frame to the dataset's.
        inliers: the number of shared points that the similarity brings together.
        photos_matched: the number of new photos that show such points.
        residual: the median distance of these points, as a fraction of the scene's size, which is the diagonal of the
            box around the dataset's camera centres.
        spread: the standard deviation of these points about their mean, as such a fraction.
    """

    model: pycolmap.Reconstruction
    cameras: int
    similarity: Similarity
    inliers: int
    photos_matched: int
    residual: float
    spread: float

    def figures(self) -> dict[str, float]:
        """Return the figures that are recorded in `dataset.json`."""
        return {
            "cameras": self.cameras,
            "inliers": self.inliers,
            "photos_matched": self.photos_matched,
            "residual": round(self.residual, 6),
            "spread": round(self.spread, 4),
            "scale": self.similarity.scale,
        }

    def sim3d(self) -> pycolmap.Sim3d:
        """Return the similarity in COLMAP's form."""
        given = self.similarity
        return pycolmap.Sim3d(given.scale, pycolmap.Rotation3d(given.rotation), given.translation)


class Reference:
    """An earlier dataset of the scene, to whose scene frame new ones are registered.

    Args:
        dataset: its folder, with `images/`, and `colmap/sparse/0/` in the scene frame.
        feature_image_size: the longest side in px at which features are found.

    Raises:
        ValueError, OSError: the folder holds no such reconstruction.
    """

    def __init__(self, dataset: Path, feature_image_size: int) -> None:
        self.model = pycolmap.Reconstruction(dataset / "colmap" / "sparse" / "0")
        self._images = [image for image in self.model.images.values() if image.has_pose]
        self._photos = [dataset / "images" / image.name for image in self._images]
        if missing := [photo for photo in self._photos if not photo.is_file()]:
            raise FileNotFoundError(f"{missing[0]} does not exist")
        self._longest = feature_image_size
        centers = np.array([image.projection_center() for image in self._images])
        self.size = float(np.linalg.norm(np.ptp(centers, axis=0)))
        """The scene's size."""

    def write_grey(self, folder: Path, prefix: str) -> tuple[list[View], Tracks]:
        """Write the photos in grey, as feature search needs them. Return their views, and the points that they show.

        File names begin with `prefix`.
        """
        meter = report.Meter("prepare:frame", len(self._images))
        views, tracks, seen = [], {}, observations(self.model)
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
            lens = f"{prefix}{image.camera_id}"
            views.append(View(name, *grey.size, lens, focal=focal, fisheye=camera.model in fisheye.MODELS))
            tracks[name] = grey.width / camera.width * seen[image.image_id].pixels, seen[image.image_id].points
            meter.update(len(views))
        return views, tracks


def fit_any(
    search: Search, model: pycolmap.Reconstruction, references: Mapping[str, Sequence[Path]], folder: Path
) -> tuple[str, Fit | None]:
    """Register a new reconstruction to the first earlier dataset that fits.

    Args:
        search, model, folder: see `fit`.
        references: earlier datasets of the scene, by the name of their scene frame.

    Returns:
        The name of the dataset's scene frame, and the fit; "new" and None if none fits.
    """
    datasets = [(name, dataset) for name, members in references.items() for dataset in members]
    for number, (name, dataset) in enumerate(datasets, 1):
        try:
            reference = Reference(dataset, search.options.feature_image_size)
        except (OSError, ValueError) as error:  # a dataset in another form, registered by hand
            print(f"{name} has no photos and points for registration: {error}")
            continue
        if found := fit(search, model, reference, folder, f"reference{number}-"):
            return name, found
    return "new", None


def fit(search: Search, model: pycolmap.Reconstruction, reference: Reference, folder: Path, prefix: str) -> Fit | None:
    """Register a new reconstruction to a reference. Return None if no similarity is certain.

    Args:
        search: the search that found `model`. The reference's photos are added to it.
        model: the new reconstruction, in px of the searched pictures.
        reference: the earlier dataset.
        folder: gets grey pictures of the reference. Their names begin with `prefix`.
    """
    views, added = reference.write_grey(folder, prefix)
    search.add(folder, views)
    names = [[view.name for view in each] for each in (search.views, views)]
    search.match(search.pairs_between(*names), "reference")
    own = {shown.name: (shown.pixels, shown.points) for shown in observations(model).values()}
    shared = search.shared(own, added)
    found = _fit(shared, model, 0, reference)
    if found is None:
        return None
    same, cameras = _with_cameras_of(reference.model, model, search.threads)
    return (_fit(shared, same, cameras, reference) if cameras else None) or found


def _fit(shared: Shared, model: pycolmap.Reconstruction, cameras: int, reference: Reference) -> Fit | None:
    """Fit a similarity to the points that pairs of photos share. Return None if it is not certain."""
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
    around = target[inlier] - target[inlier].mean(axis=0)
    spread = np.linalg.svd(around, compute_uv=False) / np.sqrt(inlier.sum())
    found = Fit(
        model,
        cameras,
        similarity,
        inliers=int(inlier.sum()),
        photos_matched=len({new for new, _ in seen_in}),
        residual=float(np.median(distances[inlier]) / reference.size),
        spread=float(np.linalg.norm(spread) / reference.size),
    )
    sure = (
        found.inliers >= max(_LEAST_INLIERS, _LEAST_SHARE * len(numbers))
        and min(found.photos_matched, len({old for _, old in seen_in})) >= _LEAST_PHOTOS
        and found.residual < _MOST_RESIDUAL
        and spread[1] > _LEAST_SPREAD * reference.size
    )
    return found if sure else None


def _with_cameras_of(
    reference: pycolmap.Reconstruction, model: pycolmap.Reconstruction, threads: int
) -> tuple[pycolmap.Reconstruction, int]:
    """Adjust a reconstruction to a reference's intrinsics. Return it with the number of cameras that adopted them.

    If they explain the photos less well, the photos were taken with another camera or zoom. Then the reconstruction is
    returned as it was, with 0.
    """
    adjusted = copy.deepcopy(model)
    held = [camera for camera in adjusted.cameras.values() if _take_similar(reference.cameras.values(), camera)]
    if not held:
        return model, 0
    adjust(adjusted, threads, [camera.camera_id for camera in held], usual_loss_scale(model))
    before, after = map(reprojection_error, (model, adjusted))
    return (adjusted, len(held)) if after <= _AS_WELL * before else (model, 0)


def _take_similar(known: Iterable[pycolmap.Camera], camera: pycolmap.Camera) -> bool:
    """Give a camera the intrinsics of the most similar known one. Return False if none is similar."""

    def difference(other: pycolmap.Camera) -> float:
        """Return the relative difference of the focal lengths per width. It is infinite for another shape or model."""
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
    camera.params = like.params.tolist()
    return True


def _refined(
    rough: pycolmap.Sim3d, model: pycolmap.Reconstruction, reference: pycolmap.Reconstruction, numbers: Points
) -> Similarity:
    """Return the similarity that minimises reprojection errors of each model's points in the other model's photos.

    Distances between points are a worse measure, because points are most uncertain along their rays.

    Args:
        numbers: (n, 2) numbers of shared points, in the model and in the reference.
    """
    source, target = (_positions(m, numbers[:, k]) for k, m in enumerate((model, reference)))
    in_target, in_source = _Observations(reference, numbers[:, 1]), _Observations(model, numbers[:, 0])

    extent = float(np.linalg.norm(np.ptp(target, axis=0)))

    def moved(change: Floats) -> Similarity:
        turn = Rotation.from_rotvec(change[:3]).as_matrix()
        scale = float(rough.scale * np.exp(change[3]))
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
        numbers: (n,) numbers of the points. A number may occur several times.
    """

    def __init__(self, model: pycolmap.Reconstruction, numbers: Points) -> None:
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
        """Return the reprojection errors (m, 2) in px if the points were at `positions` (n, 3)."""
        local = np.einsum("kij,kj->ki", self._poses[:, :, :3], positions[self._at]) + self._poses[:, :, 3]
        errors: Floats = self._focal * (local[:, :2] / local[:, 2:] - self._rays)
        return errors


def _positions(model: pycolmap.Reconstruction, numbers: Points) -> Floats:
    """Return the positions (n, 3) of points, given by number."""
    return np.array([model.points3D[number].xyz for number in numbers.tolist()])
