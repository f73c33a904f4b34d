"""A small yard that is photographed twice, with the true depths and the true changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.demo.raster import Camera, Geometry, Light, Patch, Scene
from jobs.demo.shapes import Opening, Shapes, X, Y, Z
from jobs.demo.things import Things
from jobs.geometry import Floats
from jobs.visits.views import Array, Bools, Pinhole, View

MORNING, EVENING = (-0.7, -0.8, 0.9), (0.6, -0.7, 0.8)
"""Directions to the sun."""

_SIZE, _FOCAL = (160, 90), 115.0
_SKY = ((-1.0, -1.0, 1.0), (1.0, -1.0, 1.0), (0.0, -1.0, 0.3), (0.0, -1.0, 2.0))


def base() -> list[Patch]:
    """Return a brick wall with two windows, a ledge that casts a shadow, and paving stones."""
    shapes = Shapes(60, 1)
    panes = [Opening(left, 1.0, 1.0, 1.4, shapes.window((0.85, 0.83, 0.8))) for left in (3.4, 6.4)]
    shapes.wall((-4.5, 0, 0), X, 9.0, 4.0, shapes.brick((0.7, 0.45, 0.37)), panes)
    shapes.face(np.array([-4.5, 0.0, 0.0]), 9.0 * X, -4.0 * Y, shapes.stone((0.66, 0.63, 0.59), (0.75, 0.5)))
    shapes.box((-4.5, -0.5, 2.9), (4.5, 0.0, 3.05), shapes.stone((0.8, 0.75, 0.66)))
    return shapes.patches


def board(colour: tuple[float, float, float]) -> list[Patch]:
    """Return a painted board on the wall, 1.2 x 0.9 m."""
    shapes = Shapes(60, 2)
    shapes.box((-0.4, -0.06, 1.1), (0.8, 0.0, 2.0), shapes.plain(colour))
    return shapes.patches


def chest(
    left: float, colour: tuple[float, float, float] = (0.45, 0.4, 0.12), width: float = 1.0, height: float = 1.0
) -> list[Patch]:
    """Return a wooden chest on the ground, 1 m wide and high unless given otherwise."""
    shapes = Shapes(60, 3)
    shapes.box((left, -1.0, 0.0), (left + width, 0.0, height), shapes.planks(colour), "flrt")
    return shapes.patches


def bush(colours: Sequence[tuple[float, float, float]]) -> list[Patch]:
    """Return leaves in front of the wall, in the given colours."""
    things, middle = Things(60, 9), np.array([2.6, -1.3, 1.0])
    things.foliage(things.blob(middle, 0.8, 60), middle - 0.3 * Z, 0.36, 0.05, colours)
    return things.patches


def visit(patches: Sequence[Patch], sun: tuple[float, float, float], shift: float, name: str) -> list[View]:
    """Photograph the yard from nine places in a row, with an exposure of its own for each photo."""
    places = [np.array([x, -5.5, 1.7]) for x in np.linspace(-2.5, 2.5, 9) + shift]
    return photographed(patches, sun, name, [(place, np.array([0.6 * place[0], 0.0, 1.6])) for place in places])


def photographed(
    patches: Sequence[Patch],
    sun: tuple[float, float, float],
    name: str,
    stands: Sequence[tuple[Floats, Floats]],
    sky: Sequence[tuple[float, float, float]] = _SKY,
) -> list[View]:
    """Photograph patches from each place (3,) towards a target (3,), lit by the sun and evenly from the `sky`."""
    direction = np.array(sun) / np.linalg.norm(sun)
    even = [Light(np.array(each) / np.linalg.norm(each), np.array([0.3, 0.36, 0.45])) for each in sky]
    lights = [Light(direction, np.array([1.6, 1.4, 1.1]))]
    scene = Scene(patches, lights, even, np.full(3, 0.3), np.array([[0.84, 0.89, 0.94], [0.45, 0.64, 0.88]]))
    views = []
    for number, (place, target) in enumerate(stands):
        camera = Camera.looking_at(place, target, _FOCAL, *_SIZE)
        pinhole = pinhole_of(camera)
        picture = scene.photograph(camera).astype(np.float32) / 255
        light = np.log(np.maximum(picture**2.2, 0.002)) + 0.1 * np.sin(number)
        views.append(View(f"{name}-{number}", pinhole, light.astype(np.float32), depths(scene.geometry, pinhole)))
    return views


def pinhole_of(camera: Camera) -> Pinhole:
    """Return a camera of the raster as a pinhole."""
    pose = np.column_stack([camera.rotation, camera.center]).astype(np.float32)
    return Pinhole(pose, camera.focal, camera.width, camera.height)


def depths(geometry: Geometry, pinhole: Pinhole) -> Array:
    """Return the true distances (H, W); 0 for the sky."""
    nearness, _, _ = geometry.rasterize(_camera(pinhole))
    ahead = pinhole.rays @ pinhole.pose[:, 2]
    found: Array = np.where(nearness > 0, 1 / np.maximum(nearness, 1e-6) / ahead, 0).astype(np.float32)
    return found


def changed(then: Sequence[Patch], now: Sequence[Patch], view: View) -> Bools:
    """Return where (H, W) a view shows something that only one of the two visits has."""
    seen = []
    for patches in (then, now):
        known = [hash((*map(float, [*p.origin, *p.right, *p.down]), float(p.color.mean()))) for p in patches]
        _, index, _ = Geometry(patches).rasterize(_camera(view.camera))
        seen.append(np.array([*known, 0])[index])
    different: Bools = seen[0] != seen[1]
    return different


def _camera(pinhole: Pinhole) -> Camera:
    pose = pinhole.pose.astype(float)
    return Camera(pose[:, 3], pose[:, :3], pinhole.focal, pinhole.width, pinhole.height)
