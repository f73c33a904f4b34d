"""The kernels of the field's networks against the same networks in PyTorch, with every gradient."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

import torch
from torch import Tensor
from torch.nn import functional

from jobs.radiance import field

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="needs newer tensor cores"
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def networks(channels: int, hidden: int, geometry: int) -> field.Networks:
    """Return networks with random weights. `into` is a part of a larger matrix."""
    generator = torch.Generator().manual_seed(1)
    shapes = [
        *((hidden, channels), (hidden,), (1 + geometry, hidden), (1 + geometry,)),
        *((hidden, geometry + 5), (hidden, hidden), (hidden,), (3, hidden), (3,)),
    ]
    each = [torch.randn(shape, generator=generator).to(DEVICE) / shape[-1] ** 0.5 for shape in shapes]
    each[4] = each[4][:, 2 : 2 + geometry]
    return field.Networks(*(part.requires_grad_() for part in each))


def plain(features: Tensor, per_ray: Tensor, given: field.Networks, samples: int) -> tuple[Tensor, Tensor]:
    hidden = functional.relu(functional.linear(features.t(), given.w1, given.b1))
    found = functional.linear(hidden, given.w2, given.b2)
    hidden = functional.linear(found[:, 1:], given.into) + per_ray.repeat_interleave(samples, 0)
    hidden = functional.relu(functional.linear(functional.relu(hidden), given.wb, given.bb))
    return found[:, 0], functional.linear(hidden, given.wc, given.bc)


@pytest.mark.parametrize(
    ("rays", "samples", "channels", "hidden", "geometry"),
    [(5, 12, 16, 64, 15), (7, 48, 32, 64, 15), (3, 256, 64, 32, 7), (1, 5, 16, 32, 1)],
)
def test_results_and_every_gradient(
    rays: int, samples: int, channels: int, hidden: int, geometry: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(field, "_PROGRAMS", 2)  # fewer than blocks
    given = networks(channels, hidden, geometry)
    assert field.fits(given, samples)
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(channels, rays * samples, generator=generator).to(DEVICE).requires_grad_()
    per_ray = torch.randn(rays, hidden, generator=generator).to(DEVICE).requires_grad_()
    factors = torch.randn(rays * samples, 4, generator=generator).to(DEVICE)
    results = []
    for evaluate in (field.evaluate, plain):
        exponent, logits = evaluate(features, per_ray, given, samples)
        inputs = [features, per_ray, *given]
        gradients = torch.autograd.grad((torch.cat([exponent[:, None], logits], 1) * factors).sum(), inputs)
        results.append([exponent.detach(), logits.detach(), *gradients])
    names = ["exponent", "logits", "features", "per_ray", *given._fields]
    for name, found, expected in zip(names, *results, strict=True):
        error = float((found - expected).norm() / expected.norm())
        # TF32 moves the inputs of some ReLUs across zero, which switches parts of a gradient on or off.
        bound = 1e-5 if DEVICE == "cpu" else 1e-2 if name in ("exponent", "logits") else 0.1
        assert error < bound, (name, error)


def test_sizes_that_the_kernels_do_not_support() -> None:
    assert not field.fits(networks(48, 64, 15), 48)
    assert not field.fits(networks(32, 64, 15), 2)
