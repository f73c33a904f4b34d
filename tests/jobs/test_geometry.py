from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from jobs.errors import InvalidInput
from jobs.geometry import Y_UP, Similarity, fit_similarity, rotation_angles, rotation_between

Rotation = pytest.importorskip("scipy.spatial.transform").Rotation


def similarity(rng: np.random.Generator) -> Similarity:
    rotation = Rotation.random(random_state=np.random.RandomState(rng.integers(1 << 30))).as_matrix()
    return Similarity(float(np.exp(rng.normal(0, 2))), rotation, rng.normal(0, 50, 3))


def test_the_module_does_without_scipy() -> None:
    program = "import sys, jobs.geometry, jobs.ply; print('scipy' in sys.modules, 'pycolmap' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_identity_changes_nothing() -> None:
    points = np.random.default_rng(0).normal(size=(5, 3))
    assert np.array_equal(Similarity().points(points), points)
    assert np.array_equal(Similarity().inverse().points(points), points)


def test_points_and_poses_move_alike() -> None:
    rng = np.random.default_rng(1)
    moved, pose, local = similarity(rng), np.eye(4), rng.normal(size=3)
    pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec([1, 2, 3]).as_matrix(), rng.normal(size=3)
    there = moved.poses(pose)
    assert np.linalg.det(there[:3, :3]) == pytest.approx(1)
    seen = pose[:3, :3] @ local + pose[:3, 3]
    np.testing.assert_allclose(there[:3, :3] @ local * moved.scale + there[:3, 3], moved.points(seen))


@pytest.mark.parametrize("seed", range(20))
def test_a_random_similarity_is_found_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Every fourth set of points lies on a plane through the origin.
    expected, points = similarity(rng), rng.normal(0, [5, 2, 0 if seed % 4 == 0 else 1], (rng.integers(4, 60), 3))
    found = fit_similarity(points, expected.points(points))
    assert found.scale == pytest.approx(expected.scale)
    np.testing.assert_allclose(found.rotation, expected.rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation, expected.translation, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.inverse().points(found.points(points)), points, atol=1e-9)


def test_noise_moves_the_similarity_no_more_than_it_must() -> None:
    rng = np.random.default_rng(1)
    rotation = similarity(rng).rotation
    expected, points = Similarity(3.0, rotation, np.array([1.0, -2, 5])), rng.normal(0, 5, (400, 3))
    found = fit_similarity(points, expected.points(points) + rng.normal(0, 0.3, points.shape))
    assert found.scale == pytest.approx(3, rel=0.005)
    assert rotation_angles(found.rotation[None], expected.rotation[None])[0] < 0.2
    best = np.square(found.points(points) - expected.points(points)).sum(axis=1).mean()
    assert best < 0.3**2 * 7 / 400 * 3  # seven degrees of freedom share the noise of 400 points


def test_a_mirror_image_is_not_matched_by_a_reflection() -> None:
    points = np.random.default_rng(2).normal(size=(30, 3))
    assert np.linalg.det(fit_similarity(points, points * [1, 1, -1]).rotation) == pytest.approx(1)


def test_points_without_a_single_answer_are_refused() -> None:
    line = np.linspace(0, 1, 10)[:, None] * [1.0, 2, 3] + [7, -2, 9]
    for points in (line, np.zeros((5, 3)), np.ones((5, 3)), np.eye(3)[:2]):
        with pytest.raises(InvalidInput):
            fit_similarity(points, points)
    with pytest.raises(ValueError, match="arrays"):
        fit_similarity(np.zeros((4, 3)), np.zeros((5, 3)))


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 0.01, 45, 179.9])
def test_angles_between_rotations(degrees: float) -> None:
    rng = np.random.default_rng(3)
    first = similarity(rng).rotation
    axis = rng.normal(size=3)
    second = first @ Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    assert rotation_angles(first[None], second[None])[0] == pytest.approx(degrees, rel=1e-6, abs=1e-12)


def test_the_smallest_rotation_between_directions() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        source, target = (each / np.linalg.norm(each) for each in rng.normal(size=(2, 3)))
        rotation = rotation_between(3 * source, target)
        np.testing.assert_allclose(rotation @ source, target, atol=1e-12)
        angle = np.degrees(np.arccos(np.clip(source @ target, -1, 1)))
        assert rotation_angles(rotation[None], np.eye(3)[None])[0] == pytest.approx(angle)
    for axis in np.eye(3):  # half a turn, whose axis is not unique
        rotation = rotation_between(axis, -axis)
        np.testing.assert_allclose(rotation @ axis, -axis, atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)


def test_up_becomes_y() -> None:
    assert np.array_equal(Y_UP.points([0, 0, 1]), [0, 1, 0])
    assert np.linalg.det(Y_UP.rotation) == 1
