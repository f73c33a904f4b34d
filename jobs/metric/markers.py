"""Find printed square markers (ArUco, AprilTag) in a dataset's pictures with OpenCV. Their sides are known lengths."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from jobs import report
from jobs.geometry import Floats
from jobs.metric.adjust import Distance, Measured
from jobs.metric.cameras import Camera, Cameras, Untriangulated
from jobs.metric.given import Markers
from jobs.metric.observations import Observations, distance_between
from jobs.metric.scene import Entry
from jobs.metric.triangulation import triangulate

__all__ = ["find_markers", "observe_markers"]

_ACCURACY = 0.3  # px, of a corner that OpenCV refined
_LEAST_PHOTOS = 3  # a single false detection must not make a marker
_MOST_ERROR = 0.1  # of a side, relative


def observe_markers(markers: Markers, dataset: Path, cameras: Cameras, found: Observations) -> None:
    """Add the markers that enough pictures show to the observations.

    Args:
        markers: which ones, and how large.
        dataset: whose pictures are searched.
        cameras: of the dataset.
        found: the observations, which are changed.
    """
    seen: dict[int, list[tuple[Camera, Floats]]] = defaultdict(list)
    meter = report.Meter("scale:markers", len(cameras.all))
    for number, camera in enumerate(cameras.all, 1):
        for marker, corners in find_markers(dataset / camera.file, markers.family).items():
            seen[marker].append((camera, corners))
        meter.update(number)
    for marker, views in sorted(seen.items()):
        name = f"{markers.family} {marker}"
        try:
            measured, errors = _measured(name, markers, views, cameras.pose_error)
        except Untriangulated as error:
            found.unusable.append(Entry(kind="marker", name=name, used=False, why=f"it {error}"))
        else:
            found.measured.append(measured)
            found.point_errors += errors
    if not seen:
        why = "no picture shows one: they must be flat, sharp, and at least 20 px wide"
        found.unusable.append(Entry(kind="marker", name=markers.family, used=False, why=why))


def find_markers(picture: Path, family: str) -> dict[int, Floats]:
    """Return the corners (4, 2) of each marker in a picture, px, by the marker's number.

    A number that a picture shows twice is left out, because both markers cannot be distinguished.
    """
    with Image.open(picture) as opened:
        grey = np.asarray(opened.convert("L"))
    settings = cv2.aruco.DetectorParameters()
    # It fits lines to the edges. The other methods see a marker 0.6 % to 2 % too small (tests/jobs/metric).
    settings.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_APRILTAG
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, family)), settings)
    corners, numbers, _ = detector.detectMarkers(grey)
    found: dict[int, Floats] = {}
    twice = set()
    for number, places in zip([] if numbers is None else numbers.ravel().tolist(), corners, strict=True):
        if number in found:
            twice.add(number)
        found[number] = places.reshape(4, 2).astype(float) + 0.5  # OpenCV's first pixel is centred at 0
    return {number: places for number, places in found.items() if number not in twice}


def _measured(
    name: str, markers: Markers, views: list[tuple[Camera, Floats]], pose_error: float
) -> tuple[Measured, list[float]]:
    """Return a marker's four sides as one measurement, and the standard errors of its corners.

    Raises:
        Untriangulated: too few pictures show it, or they contradict each other.
    """
    if len(views) < _LEAST_PHOTOS:
        raise Untriangulated(f"was found in {len(views)} pictures, {_LEAST_PHOTOS} are needed")
    cameras = [camera for camera, _ in views]
    points = [
        triangulate(cameras, np.array([corners[corner] for _, corners in views]), _ACCURACY) for corner in range(4)
    ]
    distances = []
    for corner in range(4):
        units, error = distance_between(points[corner], points[(corner + 1) % 4], pose_error)
        if error > _MOST_ERROR * units:
            raise Untriangulated("is too small in the pictures: print it larger, or take photos closer to it")
        # The sides of a marker are printed by one printer: their common error does not average out.
        distances.append(Distance(markers.metres, 2 * markers.accuracy, units, error))
    return Measured("marker", name, distances=tuple(distances)), [point.error for point in points]
