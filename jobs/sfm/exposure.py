"""Measure how exposure and white balance differ between photos, by points of the scene that several of them show."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse

from jobs.light import Light
from jobs.pictures.colour import linear
from jobs.sfm.machine import threads
from jobs.sfm.shared import observations, registered_images

__all__ = ["gains", "measure", "spread"]

_SIDE = 400  # px of the pictures from which colours are taken: small ones have less noise and forgive inexact poses
_LEAST, _MOST = 10, 245  # values beyond may be clipped
_PHOTOS_OF_A_POINT, _POINTS_OF_A_PHOTO, _PHOTOS = 2, 30, 4  # fewer do not say enough
_MIDDLE = (5, 95)  # percentiles: a few photos into the sun are not what the rest is like
_COLOURS = 100_000  # of all photos: more do not make the gains of many photos more exact
_ROUNDS = 8  # of weighting colours by their residuals
_USUAL = 0.15  # stops of residual, above which a colour counts less and less: edges, reflections, wrong matches


def measure(model: pycolmap.Reconstruction, images: Path) -> Light | None:
    """Measure the spread of exposure and white balance; None if too few photos show the same points.

    Args:
        model: in px of the pictures, named as they are.
        images: the folder of the pictures.
    """
    photos = registered_images(model)
    seen = observations(model)

    def observe(image: pycolmap.Image) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        shown = seen[image.image_id]
        return shown.points, _colours(images / image.name, shown.pixels)

    with ThreadPoolExecutor(threads()) as pool:
        observed = list(pool.map(observe, photos))
    photo = np.concatenate([np.full(len(points), index) for index, (points, _) in enumerate(observed)])
    points = np.concatenate([points for points, _ in observed])
    stops = np.concatenate([colours for _, colours in observed])
    kept = np.isfinite(stops).all(axis=1) & (points % max(1, len(points) // _COLOURS) == 0)
    found = gains(photo[kept], points[kept], stops[kept])
    return None if found is None else spread(found)


def spread(gains: NDArray[np.float64]) -> Light:
    """Return how exposure and white balance differ between photos whose gains are known.

    Args:
        gains: (photos, 3) by how many stops red, green and blue of each photo are brighter than usual.
    """
    low, high = np.percentile(gains.mean(axis=1), _MIDDLE)
    # Red and blue in terms of green
    balance = np.percentile(gains[:, [0, 2]] - gains[:, [1]], _MIDDLE, axis=0)
    white = float(np.max(2 ** (balance[1] - balance[0]) - 1))
    return Light(exposure_stops=round(float(high - low), 3), white_balance=round(white, 4), photos=len(gains))


def gains(photo: NDArray[np.int64], point: NDArray[np.int64], stops: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return by how many stops each channel of each photo is brighter than the mean photo (photos, 3).

    Every colour is that of its point, times the gain of its photo. Least squares with little weight for outliers.
    Photos with too few points are left out; None if too few photos are left.

    Args:
        photo, point: (N,) which photo and which point each colour belongs to.
        stops: (N, 3) the colours: binary logarithms of linear red, green and blue.
    """
    while True:
        number = np.unique(point, return_inverse=True)[1]
        shared = np.bincount(number, minlength=1)[number] >= _PHOTOS_OF_A_POINT
        enough = np.bincount(photo[shared], minlength=int(photo.max(initial=0)) + 1) >= _POINTS_OF_A_PHOTO
        kept = shared & enough[photo]
        if kept.all():
            break
        photo, point, stops = photo[kept], point[kept], stops[kept]
    photo, point = (np.unique(each, return_inverse=True)[1] for each in (photo, point))
    if not len(photo) or (photos := int(photo.max()) + 1) < _PHOTOS:
        return None
    order = np.argsort(photo, kind="stable")
    photo, point, stops = photo[order], point[order], stops[order]
    starts = np.searchsorted(photo, np.arange(photos + 1))
    columns = []
    for values in stops.T:
        weights, gain = np.ones(len(values)), np.zeros(photos)
        for _ in range(_ROUNDS):
            of_points = np.bincount(point, weights)
            table, means = (sparse.csr_array((each, point, starts)) for each in (weights, weights / of_points[point]))
            # Without its points, the equations of the photos alone. The added matrix fixes the mean gain at 0.
            normal = np.diag(np.bincount(photo, weights)) - (table @ means.T).toarray() + 1.0 / photos
            residual = values - np.bincount(point, weights * values)[point] / of_points[point]
            gain = np.linalg.lstsq(normal, np.bincount(photo, weights * residual), rcond=None)[0]
            left = values - gain[photo]
            left -= np.bincount(point, weights * left)[point] / of_points[point]
            weights = 1 / (1 + (left / _USUAL) ** 2)
        columns.append(gain)
    return np.column_stack(columns)


def _colours(file: Path, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the binary logarithms of linear colours (N, 3) at positions in px (N, 2); NaN where they are clipped."""
    with Image.open(file) as image:
        width, height = image.size
        image.draft("RGB", (_SIDE, _SIDE))
        small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float64)
    x, y = (at * (np.array(small.size) / (width, height))).astype(int).T
    values = pixels[y.clip(0, small.height - 1), x.clip(0, small.width - 1)]
    values[((values < _LEAST) | (values > _MOST)).any(axis=1)] = np.nan
    return np.log2(linear(values / 255))  # type: ignore[no-any-return]
