"""The adjustment for GPUs finds what Ceres finds. It runs on the CPU here: only the device differs."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pycolmap
import pytest

from jobs.geometry import Floats, fit_similarity, rotation_angles
from jobs.sfm import dense, refinement
from tests.jobs.sfm.test_refinement import scene


def begun(photos: int = 20) -> Any:
    """Return a reconstruction whose poses are off by so much that several steps are needed."""
    model = scene(photos)
    rng = np.random.default_rng(0)
    for frame in model.frames.values():
        pose = frame.rig_from_world
        frame.rig_from_world = pycolmap.Rigid3d(pose.rotation, pose.translation + rng.normal(0, 0.02, 3))
    return model


def adjust(model: Any, held: set[int], *, principal_points: bool = True) -> dict[int, Floats]:
    """Adjust a reconstruction in place, on the CPU."""
    return dense.adjust(
        model, held, principal_points=principal_points, loss_scale=1.0, tolerance=1e-9, device="cpu"
    )  # fmt: skip


def poses(model: Any) -> Any:
    """Return the cameras' axes in the world and their centres (n, 3, 4)."""
    return np.stack([image.cam_from_world().inverse().matrix() for _, image in sorted(model.images.items())])


def assert_alike(model: Any, other: Any, covariance: Floats | None = None) -> None:
    """Check that poses are the same, and that the lens is, within a tenth of its standard deviation."""
    deviation = 0.0 if covariance is None else np.sqrt(np.diagonal(covariance))
    assert (np.abs(model.cameras[1].params - other.cameras[1].params) <= 0.1 * deviation + 1e-9).all()
    ours, theirs = poses(model), poses(other)
    fit = fit_similarity(ours[:, :, 3], theirs[:, :, 3])
    assert rotation_angles(fit.rotation @ ours[:, :, :3], theirs[:, :, :3]).max() < 0.003
    assert np.abs(fit.points(ours[:, :, 3]) - theirs[:, :, 3]).max() < 1e-4 * np.ptp(theirs[:, :, 3])


@pytest.mark.parametrize("held", [set(), {1}])
def test_it_finds_the_poses_and_lens_that_ceres_finds(held: set[int]) -> None:
    model, other = begun(), begun()
    before = list(model.cameras[1].params)
    covariances = adjust(model, held, principal_points=False)
    refinement.adjust(other, 1, held)
    assert_alike(model, other, covariances.get(1))
    assert covariances.keys() == {1} - held
    assert list(model.cameras[1].params[2:4]) == before[2:4]


def test_it_knows_principal_points_as_well_as_ceres_does() -> None:
    model, other = begun(), begun()
    ours, theirs = adjust(model, set())[1], refinement._adjust_lenses(other, 1, set())[1]
    assert_alike(model, other, ours)
    assert np.diagonal(ours) == pytest.approx(np.diagonal(theirs), rel=0.02)
    scale = np.sqrt(np.outer(np.diagonal(theirs), np.diagonal(theirs)))
    assert ours / scale == pytest.approx(theirs / scale, abs=0.02)


def test_a_large_reconstruction_is_adjusted_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = begun(), begun()
    refinement.refine(other, 1)
    monkeypatch.setattr(refinement, "_GPU_PHOTOS", 20)
    monkeypatch.setattr(refinement, "fast_float64", lambda: True)
    monkeypatch.setattr(dense, "warm_up", partial(dense.warm_up, device="cpu"))
    refinement.warm_up(len(model.images))
    monkeypatch.setattr(dense, "adjust", partial(dense.adjust, device="cpu"))
    monkeypatch.setattr(refinement, "_solve", lambda *_, **__: pytest.fail("Ceres was asked"))
    assert refinement.refine(model, 1) == 1
    assert_alike(model, other, adjust(copy.deepcopy(model), set()).get(1))


def test_rigs_and_other_lenses_are_left_to_ceres() -> None:
    model = scene(photos=6)
    assert dense.suits(model, set())
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=2, num_frames_per_rig=3)
    assert not dense.suits(pycolmap.synthesize_dataset(options), set())
    for kind in (pycolmap.CameraModelId.OPENCV_FISHEYE, pycolmap.CameraModelId.PINHOLE):
        other = copy.deepcopy(model)
        other.cameras[1].model = kind
        assert not dense.suits(other, set())
    assert dense.suits(other, {1})
