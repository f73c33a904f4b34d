from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.errors import InvalidInput
from jobs.geometry import Similarity
from tests.true_poses import compare_poses


def _rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    rotation: NDArray[np.float64] = q if np.linalg.det(q) > 0 else -q
    return rotation


def _about(axis: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Return the rotation about an axis, by Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    k, t = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.radians(degrees)
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(t) * k + (1 - np.cos(t)) * k @ k
    return rotation


def _similarity(rng: np.random.Generator) -> Similarity:
    return Similarity(float(np.exp(rng.normal(0, 2))), _rotation(rng), rng.normal(0, 50, 3))


def _write(file: Path, poses: dict[str, NDArray[np.float64]]) -> Path:
    frames = [{"file_path": name, "transform_matrix": pose.tolist()} for name, pose in poses.items()]
    file.write_text(json.dumps({"frames": frames}))
    return file


def _poses(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = [_rotation(rng) for _ in range(count)]
    poses[:, :3, 3] = rng.normal(0, [8, 2, 1], (count, 3))
    return poses


def test_poses_in_another_frame_have_no_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    true, other = _poses(rng, 12), _similarity(rng)
    truth = _write(tmp_path / "truth.json", {f"photos/p{i}.jpg": pose for i, pose in enumerate(true)})
    estimate = other.poses(true[2:])  # two photos did not register, and one is not of this capture
    renamed = {f"images/frame_{i:05d}.jpg": pose for i, pose in enumerate([*estimate, np.eye(4)])}
    photos = {f"frame_{i:05d}.jpg": f"p{i + 2}.jpg" for i in range(len(estimate))} | {"frame_00010.jpg": "other.jpg"}
    errors = compare_poses(truth, _write(tmp_path / "transforms.json", renamed), photos)
    assert set(errors.names) == {f"p{i}.jpg" for i in range(2, 12)}
    assert errors.positions.max() < 1e-9
    assert errors.rotations.max() < 1e-6
    assert errors.size == pytest.approx(np.linalg.norm(np.ptp(true[:, :3, 3], axis=0)))
    assert errors.similarity.scale == pytest.approx(1 / other.scale)


def test_errors_are_in_shares_of_the_scene_and_degrees(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    true = _poses(rng, 200)
    moved = true.copy()
    moved[:, :3, :3] = [r @ _about(rng.normal(size=3), 2.0) for r in true[:, :3, :3]]
    size = np.linalg.norm(np.ptp(true[:, :3, 3], axis=0))
    step = rng.normal(size=(200, 3))
    moved[:, :3, 3] += 0.01 * size * step / np.linalg.norm(step, axis=1, keepdims=True)
    truth, found = (
        _write(tmp_path / name, {f"{i}.jpg": pose for i, pose in enumerate(poses)})
        for name, poses in (("truth.json", true), ("transforms.json", _similarity(rng).poses(moved)))
    )
    errors = compare_poses(truth, found)
    assert errors.positions.mean() == pytest.approx(0.01, rel=0.05)
    assert errors.rotations.mean() == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"frames": [{"file_path": "a.jpg", "transform_matrix": [[NaN]]}]}', '{"frames": []}']
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "transforms.json").write_text(content)
    poses = {f"{i}.jpg": pose for i, pose in enumerate(_poses(np.random.default_rng(6), 4))}
    truth = _write(tmp_path / "truth.json", poses)
    with pytest.raises(InvalidInput, match=r"transforms\.json"):
        compare_poses(truth, tmp_path / "transforms.json")
