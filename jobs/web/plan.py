"""Draw a scene from above as SVG: its cameras and their view directions, sparse points, camera path and scale bar."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from jobs.camera_path import CameraPath
from jobs.path.photos import PosedPhotos
from jobs.web.chart import COLOURS, document, nice_step, text

__all__ = ["draw"]

Array = NDArray[np.float64]

_WIDTH, _TALLEST, _FLATTEST = 460, 500, 180
_MARGIN, _LEGEND = 14, 56
_MOST_POINTS = 4000
_SHADES = 5  # of each colour channel of the points
_TICK = 0.03  # length of a view direction, as a fraction of the plan's width
_FAR = 3.0  # typical depths from the cameras, beyond which points are left out


def draw(photos: PosedPhotos, path: CameraPath | None) -> str:
    """Return the plan of the photos' cameras in the model frame, +Z up: +X to the right, +Y up the page.

    Args:
        photos: the cameras and sparse points of a dataset.
        path: the camera path in the model frame; None to leave it out.
    """
    points, colours = _seen(photos)
    route = np.array(
        [np.reshape(f.camera_to_world, (4, 4))[:2, 3] for f in path.camera_path] if path else np.empty((0, 2))
    )
    cameras = photos.centres[:, :2]

    most = np.percentile(points, [1, 99], axis=0) if len(points) else points
    low, high = _bounds(np.concatenate([cameras, route, most]))
    scale = (_WIDTH - 2 * _MARGIN) / (high - low)[0]
    height = 2 * _MARGIN + scale * (high - low)[1]
    if height > _TALLEST:
        scale *= (_TALLEST - 2 * _MARGIN) / (height - 2 * _MARGIN)
        height = _TALLEST
    middle = np.array([_WIDTH, height]) / 2

    def place(xy: Array) -> Array:
        return np.asarray(middle + scale * (xy - (low + high) / 2) * [1, -1])

    views = photos.directions[:, :2] * (_TICK * _WIDTH / scale)
    ends = zip(place(cameras), place(cameras + views), strict=True)
    ticks = "".join(f"M{_pair(a)}L{_pair(b)}" for a, b in ends)
    dots = "".join(f"M{_pair(a)}h0" for a in place(cameras))
    blue, orange = COLOURS[:2]
    parts = [
        *_cloud(place(points), colours),
        _path(ticks, blue, 1.5),
        _path(dots, blue, 6),
        *([_path("M" + "L".join(map(_pair, place(route))), orange, 2.5)] if len(route) else []),
        *([_path(f"M{_pair(place(route[:1])[0])}h0", orange, 10)] if len(route) else []),
        *_legend(height, bool(len(route)), bool(len(points))),
        *_scale_bar(height, scale),
    ]
    return document(_WIDTH, height + _LEGEND, f"{len(cameras)} cameras from above", parts)


def _seen(photos: PosedPhotos) -> tuple[Array, Array]:
    """Return the points (N, 2) near the cameras and their colours (N, 3). Distant points must not decide the scale."""
    points = photos.points
    away = np.abs(points - np.clip(points, photos.centres.min(axis=0), photos.centres.max(axis=0))).max(axis=1)
    near = np.flatnonzero(away < _FAR * photos.depth)
    near = near[:: max(1, len(near) // _MOST_POINTS)]
    return points[near, :2], photos.colours[near]


def _bounds(places: Array) -> tuple[Array, Array]:
    """Return two corners (2,) of the plan. It contains all places, and is neither too flat nor empty."""
    low, high = places.min(axis=0), places.max(axis=0)
    middle, extent = (low + high) / 2, high - low
    extent = np.maximum(extent, [1e-6, extent[0] * _FLATTEST / _WIDTH])
    extent[0] = max(extent[0], extent[1] / 2)
    return middle - extent / 2, middle + extent / 2


def _cloud(places: Array, colours: Array) -> list[str]:
    """Return the points as one SVG path per shade, for few shades."""
    shades = np.round(colours / 255 * (_SHADES - 1)).astype(int)
    parts = []
    for shade in np.unique(shades, axis=0):
        own = places[(shades == shade).all(axis=1)]
        colour = "#" + "".join(f"{round(255 * part / (_SHADES - 1)):02x}" for part in shade)
        parts.append(_path("".join(f"M{_pair(place)}h0" for place in own), colour, 2.2))
    return parts


def _legend(height: float, route: bool, points: bool) -> list[str]:
    entries = [("camera", "M{x} {y}h0M{x} {y}l9 -5", COLOURS[0], 2.5)]
    entries += [("camera path, from its dot", "M{x} {y}h14", COLOURS[1], 2.5)] if route else []
    entries += [("sparse points", "M{x} {y}h0m5 -3h0m4 4h0", COLOURS[4], 2.5)] if points else []
    parts, x, y = [], float(_MARGIN), height + _LEGEND - 14
    for words, shape, colour, width in entries:
        parts += [_path(shape.format(x=x, y=y), colour, width), text(x + 20, y + 4, words, "start")]
        x += 40 + 6.2 * len(words)
    return parts


def _scale_bar(height: float, scale: float) -> list[str]:
    length = nice_step(_WIDTH / scale, 10)
    y = height + 8
    bar = _path(f"M{_MARGIN} {y - 3}v6v-3h{length * scale:.1f}v-3v6", "var(--ink, #444)", 1.5)
    words = f"{length:g} scene unit{'s' * (length != 1)}"
    return [bar, text(_MARGIN + length * scale + 8, y + 4, words, "start")]


def _pair(place: Array) -> str:
    return f"{place[0]:.1f} {place[1]:.1f}"


def _path(shape: str, colour: str, width: float) -> str:
    style = f"fill:none;stroke:{colour};stroke-width:{width:g};stroke-linecap:round;stroke-linejoin:round"
    return f'<path d="{shape}" style="{escape(style)}"/>'
