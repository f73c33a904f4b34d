"""Equirectangular and fisheye cameras for the built-in street."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.demo.raster import Camera, Scene

__all__ = ["XMP", "directions", "fisheye", "photograph"]

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" '
    b'GPano:ProjectionType="equirectangular"/></rdf:RDF></x:xmpmeta>'
)
_FACES = [(0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0.001, 1), (0, 0.001, -1)]


def photograph(scene: Scene, center: NDArray[np.float64], width: int) -> Image.Image:
    """Photograph all round from a place, +Y of the world in the middle; from six photos of 90° each."""
    x, y, z = np.moveaxis(directions(width), -1, 0)
    return Image.fromarray(_seen(scene, center, np.stack([x, z, -y], axis=-1), width * 3 // 8))


def directions(width: int) -> NDArray[np.float64]:
    """Return where each pixel of an equirectangular picture looks (h, w, 3): x right, y down, z ahead."""
    longitude = ((np.arange(width) + 0.5) / width * 2 - 1) * np.pi
    latitude = (0.5 - (np.arange(width // 2) + 0.5) / (width // 2)) * np.pi
    longitude, latitude = np.meshgrid(longitude, latitude)
    flat = np.cos(latitude)
    return np.stack([flat * np.sin(longitude), -np.sin(latitude), flat * np.cos(longitude)], axis=-1)


def fisheye(scene: Scene, camera: Camera) -> Image.Image:
    """Photograph with an equidistant fisheye: angles to the view times the focal length are distances from the middle.

    Args:
        scene: the street.
        camera: its place, rotation, size and focal length.
    """
    fine = 2  # samples per pixel and axis
    x, y = np.meshgrid(
        (np.arange(fine * camera.width) + 0.5) / fine - camera.width / 2,
        (np.arange(fine * camera.height) + 0.5) / fine - camera.height / 2,
    )
    angle = np.hypot(x, y) / camera.focal
    across = np.sin(angle) / np.maximum(angle, 1e-9) / camera.focal
    rays = np.stack([across * x, across * y, np.cos(angle)], axis=-1) @ camera.rotation.T
    seen = _seen(scene, camera.center, rays, round(2 * fine * camera.focal))
    shape = camera.height, fine, camera.width, fine, 3
    return Image.fromarray(seen.reshape(shape).mean(axis=(1, 3)).round().astype(np.uint8))


def _seen(scene: Scene, center: NDArray[np.float64], rays: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """Return what rays (h, w, 3) from a place show, from up to six photos of 90° and `side` px."""
    picture, nearest = np.zeros((*rays.shape[:2], 3), np.uint8), np.full(rays.shape[:2], 0.2)
    for face in _FACES:
        camera = Camera.looking_at(center, center + np.array(face, float), side / 2, side, side)
        local = rays @ camera.rotation
        depth = local[..., 2]
        seen = (depth > nearest) & (np.abs(local[..., :2]).max(axis=2) <= 1.001 * depth)
        if seen.any():
            at = local[..., :2] / np.maximum(depth, 1e-6)[..., None] * side / 2 + side / 2
            at = np.clip(at, 0, side - 1).astype(int)
            picture[seen] = scene.photograph(camera, 1)[at[seen][:, 1], at[seen][:, 0]]
            nearest[seen] = depth[seen]
    return picture
