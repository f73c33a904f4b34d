from __future__ import annotations

import math

import pytest
import torch

from jobs.radiance.evaluation import colours_fitted


def plain(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(float(((a - b) ** 2).mean()))


def test_another_light_does_not_count_and_another_shape_does() -> None:
    torch.manual_seed(0)
    scene = 0.2 + 0.5 * torch.rand(40, 61, 3)
    matrix = torch.tensor([[1.2, 0.05, 0.0], [0.0, 1.0, 0.02], [0.03, 0.0, 0.7]])
    rendering = scene + 0.02 * torch.randn_like(scene)
    photo = scene @ matrix + torch.tensor([0.02, -0.03, 0.05])
    assert plain(rendering, photo) < 24
    found = colours_fitted(rendering, {"image": photo})
    assert found == pytest.approx(plain(rendering, scene), abs=1)
    assert colours_fitted(rendering, {"image": (photo * 255).round().byte()}) == pytest.approx(found, abs=0.1)
    elsewhere = rendering.clone()
    elsewhere[:, 30:] = rendering[:, 30:].flip(0)  # the right half shows something else
    assert colours_fitted(elsewhere, {"image": photo}) < found - 10


def test_masked_pixels_neither_fit_nor_count() -> None:
    torch.manual_seed(0)
    photo = torch.rand(40, 60, 3)
    rendering = photo + 0.01 * torch.randn_like(photo)
    mask = torch.ones(40, 60, 1, dtype=torch.bool)
    mask[10:30, 20:40] = False
    broken = torch.where(mask, rendering, torch.zeros(3))
    assert colours_fitted(broken, {"image": photo}) < 20
    assert colours_fitted(broken, {"image": photo, "mask": mask}) == pytest.approx(40, abs=0.5)
    mask[:, 30:] = False
    assert math.isnan(colours_fitted(broken, {"image": photo, "mask": mask}))
    assert math.isnan(colours_fitted(torch.full_like(photo, math.nan), {"image": photo}))
