"""Captures of every kind to try camera paths on, and a dataset with true poses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jobs.path import trajectory
from jobs.path.photos import Array, PosedPhotos
from jobs.pictures import panorama

__all__ = [
    *("CAPTURES", "RNG", "capture", "check_upright", "dataset_of_panoramas", "dataset_without_photos"),
    *("from_nearest_photo", "house", "levels", "poses_of", "ring", "room", "row", "shuffled", "together"),
]

RNG = np.random.default_rng(7)


def capture(centres: Array, looks: Array, depth: float) -> PosedPhotos:
    return PosedPhotos(centres, looks / np.linalg.norm(looks, axis=1, keepdims=True), depth, (0.7, 0.4))


def facade() -> PosedPhotos:
    from jobs.facade import cameras

    views = cameras(48, 640, 360)
    return capture(np.array([v.center for v in views]), np.array([v.rotation[:, 2] for v in views]), 8.5)


def ring(levels: tuple[float, ...] = (1.5,), gap: float = 0.0) -> PosedPhotos:
    angles = np.concatenate([np.linspace(gap / 2, 2 * np.pi - gap / 2, 40, endpoint=gap > 0) for _ in levels])
    heights = np.repeat(levels, 40)
    centres = np.stack([3 * np.cos(angles), 3 * np.sin(angles), heights], axis=1) + RNG.normal(
        0, 0.05, (len(angles), 3)
    )
    return capture(centres, np.array([0, 0, 1.0]) - centres, 3)


def house() -> PosedPhotos:
    """Return a walk through a house, round five corners, looking ahead."""
    corners = np.array([[0, 0], [8, 0], [8, 6], [2, 6], [2, 10], [9, 10]], dtype=float)
    at = np.linspace(0, 5, 120)
    centres = np.stack([*(np.interp(at, np.arange(6), c) for c in corners.T), np.full(120, 1.6)], axis=1)
    ahead = np.gradient(centres, axis=0)
    smooth = np.stack([np.convolve(np.pad(c, 6, mode="edge"), np.ones(13) / 13, "valid") for c in ahead.T], axis=1)
    return capture(centres + RNG.normal(0, 0.05, centres.shape), smooth, 3)


def room() -> PosedPhotos:
    """Return photos taken outwards from the middle of a room."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    out = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    return capture(0.4 * out + [0, 0, 1.5], out, 3)


def drone() -> PosedPhotos:
    """Return photos taken straight down, in parallel lanes."""
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-10, 10, 8), np.linspace(-10, 10, 8)))
    return capture(np.stack([x, y, 0 * x + 12], axis=1), np.tile([0.0, 0.0, -1.0], (64, 1)), 12)


def row(y: float, looks_to: float, x: float = 0.0) -> PosedPhotos:
    """Return a straight walk along X, looking at a right angle to it."""
    along = np.linspace(-4, 4, 20)
    centres = np.stack([along + x, 0 * along + y, 0 * along + 1.6], axis=1)
    return capture(centres, np.tile([0.0, looks_to, 0.0], (20, 1)), 4)


def levels(shape: str, heights: tuple[float, ...], at_once: bool, spots: int) -> PosedPhotos:
    """Return photos at several heights along a straight row, half a circle or a whole one, 3 units from what they show.

    Args:
        shape: "row", "arc" or "ring".
        heights: of the levels.
        at_once: whether all levels were taken at one spot before the next, instead of one walk a level.
        spots: of each level.
    """
    random, count = np.random.default_rng(3), len(heights)
    along = np.linspace(-0.5, 0.5, spots, endpoint=shape != "ring")
    along, height = (
        (np.repeat(along, count), np.tile(heights, spots))
        if at_once
        else (np.tile(along, count), np.repeat(heights, spots))
    )
    if shape == "row":
        centres = np.stack([10 * along, 0 * along, height], axis=1)
        seen = centres * [1, 0, 0] + [0, 3, 1.5]
    else:
        angle = along * (np.pi if shape == "arc" else 2 * np.pi)
        centres = np.stack([3 * np.sin(angle), -3 * np.cos(angle), height], axis=1)
        seen = np.tile([0, 0, 1.5], (len(angle), 1))
    centres = centres + random.normal(0, 0.08, centres.shape)
    return capture(centres, seen + random.normal(0, 0.15, seen.shape) - centres, 3)


def together(*parts: PosedPhotos) -> PosedPhotos:
    return capture(
        np.concatenate([p.centres for p in parts]), np.concatenate([p.directions for p in parts]), parts[0].depth
    )


def outlier() -> PosedPhotos:
    return together(ring(), capture(np.array([[16.0, 0, 1.5]]), np.array([[-1.0, 0, 0]]), 3))


CAPTURES = {
    "facade": facade(),
    "ring": ring(),
    "three rings": ring((0.3, 1.5, 3.0)),
    "house": house(),
    "room": room(),
    "drone": drone(),
    "tripod": capture(np.zeros((5, 3)), np.array([[np.sin(a), np.cos(a), 0] for a in np.linspace(-0.5, 0.5, 5)]), 4),
    "opposite sides of a house": together(row(-8, 1), row(8, -1)),
    "two groups": together(row(0, 1), row(0, 1, x=40)),
    "ring and an outlier": outlier(),
    "ring with a gap": ring(gap=np.radians(70)),
    "ring with a small gap": ring(gap=np.radians(50)),
    "two photos": capture(np.array([[0.0, 0, 0], [1, 0, 0]]), np.tile([0.0, 1.0, 0.0], (2, 1)), 3),
}


def shuffled(of: PosedPhotos) -> PosedPhotos:
    order = np.random.default_rng(7).permutation(len(of.centres))
    return PosedPhotos(of.centres[order], of.directions[order], of.depth, of.half_field)


def poses_of(kind: str, of: PosedPhotos, frames: int, ease: bool = False, loop: bool = False) -> Array:
    return trajectory.KINDS[kind](of, trajectory.moments(kind, frames, ease, loop))


def dataset_without_photos(folder: Path) -> tuple[Path, Path]:
    """Write a dataset with the facade's true poses but no photos, and a model folder in the same frame."""
    from jobs.facade import _transforms, cameras

    views = cameras(20, 640, 360)
    for name in ("dataset", "model"):
        (folder / name).mkdir()
    content = _transforms(views, [f"{i:02}.jpg" for i in range(20)])
    (folder / "dataset/transforms.json").write_text(json.dumps(content))
    identity = {"transform": np.eye(4)[:3].tolist(), "scale": 1.0}
    (folder / "model/dataparser_transforms.json").write_text(json.dumps(identity))
    return folder / "dataset", folder / "model"


def dataset_of_panoramas(folder: Path) -> tuple[Path, Path]:
    """Write a dataset of the walk through the house with a 360° camera, cut into views, and a model folder."""
    dataset, model = dataset_without_photos(folder)
    content = json.loads((dataset / "transforms.json").read_text())
    level = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # looks along +Y, with OpenCV's axes
    frames = []
    for number, centre in enumerate(house().centres[::4]):
        for view, rotation in enumerate(panorama.ROTATIONS):
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = level @ np.array(rotation) * [1, -1, -1], centre
            frames.append({"file_path": f"{number:02}_{view}.jpg", "transform_matrix": pose.tolist()})
    square = {"w": 320, "h": 320, "fl_x": 160.0, "fl_y": 160.0, "cx": 160.0, "cy": 160.0}
    (dataset / "transforms.json").write_text(json.dumps({**content, **square, "frames": frames}))
    return dataset, model


def check_upright(poses: Array) -> None:
    """Check that poses [N, 4, 4] are rotations that neither roll nor turn the picture upside down."""
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (len(poses), 1, 1)), atol=1e-9
    )
    assert (np.linalg.det(rotations) > 0).all()
    straight_down = np.abs(rotations[:, 2, 2]).max() > 0.98
    if not straight_down:
        assert np.abs(rotations[:, 2, 0]).max() < 1e-9, "rolls"
        assert (rotations[:, 2, 1] > 0).all(), "is upside down"


def from_nearest_photo(poses: Array, of: PosedPhotos) -> Array:
    """Return the distance of each pose from the nearest photo."""
    apart: Array = np.linalg.norm(poses[:, None, :3, 3] - of.centres, axis=2).min(axis=1)
    return apart
