"""The kernels of camera adjustments and harmonics against nerfstudio's functions, with gradients."""

from __future__ import annotations

import pytest

pytest.importorskip("nerfstudio")
pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

import torch
from nerfstudio.cameras.lie_groups import exp_map_SO3xR3
from nerfstudio.fields.base_field import get_normalized_directions
from nerfstudio.utils.math import components_from_spherical_harmonics
from torch import Tensor

from jobs.radiance import cameras

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def adjustments(photos: int, size: float) -> Tensor:
    pose = normal(photos, 6, seed=3) * size
    pose[0] = 0
    return pose.requires_grad_()


@pytest.mark.parametrize("size", [1e-4, 0.02, 1.0])
@pytest.mark.parametrize(("rays", "photos"), [(1, 1), (5, 3), (300, 7)])
def test_corrected_rays_and_their_gradient(rays: int, photos: int, size: float) -> None:
    origins, directions, pose = normal(rays, 3, seed=1), normal(rays, 3, seed=2), adjustments(photos, size)
    which = torch.randint(0, photos, (rays,), generator=torch.Generator().manual_seed(4)).to(DEVICE)
    found = torch.cat(cameras.correct(origins, directions, pose, which), -1)
    matrices = exp_map_SO3xR3(pose)[which]
    expected = torch.cat([origins + matrices[:, :, 3], (matrices[:, :, :3] * directions[:, None]).sum(-1)], -1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    factors = normal(rays, 6, seed=5)
    [gradient], [other] = (torch.autograd.grad((each * factors).sum(), pose) for each in (found, expected))
    torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("photos", [1, 5, 300])
def test_penalty_and_its_gradient(photos: int) -> None:
    pose = adjustments(photos, 0.1)
    found = cameras.penalty(pose, 0.01, 0.001)
    expected = pose[:, :3].norm(dim=-1).mean() * 0.01 + pose[:, 3:].norm(dim=-1).mean() * 0.001
    torch.testing.assert_close(found, expected)
    [gradient], [other] = (torch.autograd.grad(each * 3, pose) for each in (found, expected))
    torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("rays", [1, 300])
def test_harmonics(rays: int) -> None:
    directions = torch.nn.functional.normalize(normal(rays, 3), dim=-1)
    expected = components_from_spherical_harmonics(4, get_normalized_directions(directions))
    torch.testing.assert_close(cameras.harmonics(directions), expected, rtol=1e-5, atol=1e-5)
