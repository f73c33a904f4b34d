"""The kernels along rays against the same mathematics in PyTorch, with gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("nerfstudio")
pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

import torch
from nerfstudio.model_components.losses import lossfun_distortion, lossfun_outer
from torch import Tensor
from torch.nn import functional

from jobs.radiance import ray_functions

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(1, 1), (5, 3), (3, 48), (2, 96), (2, 256), (3, 130)]  # rays and samples


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def sorted_bins(rays: int, samples: int, seed: int = 0) -> Tensor:
    inner = random(rays, samples - 1, seed=seed).sort(-1).values
    return torch.cat([torch.zeros(rays, 1, device=DEVICE), inner, torch.ones(rays, 1, device=DEVICE)], -1)


def densities(rays: int, samples: int) -> Tensor:
    """Return exponents of densities from clear to solid, including infinite ones."""
    exponent = random(rays, samples, seed=1) * 8 - 3
    exponent[0, samples // 2] = 200.0  # its exponential overflows
    exponent[-1, : samples // 2] = -200.0
    return exponent


def weights_of(density: Tensor, edges: Tensor) -> Tensor:
    thickness = (edges[:, 1:] - edges[:, :-1]) * density
    through = torch.exp(-functional.pad(torch.cumsum(thickness[:, :-1], -1), (1, 0)))
    return torch.nan_to_num((1 - torch.exp(-thickness)) * through)


def truncated(exponent: Tensor) -> Tensor:
    """Return nerfstudio's exponential, whose gradient is that of an exponent between -15 and 15."""
    slope = torch.exp(exponent.detach().clamp(-15, 15))
    return torch.exp(exponent.detach()) + slope * (exponent - exponent.detach())


def distances(bins: Tensor, near: Tensor, far: Tensor) -> Tensor:
    near, far = (torch.where(each < 1, each / 2, 1 - 1 / (2 * each)) for each in (near, far))
    x = bins * far + (1 - bins) * near
    return torch.where(x < 0.5, 2 * x, 1 / (2 - 2 * x))


def resampled(weights: Tensor, bins: Tensor, quantiles: Tensor) -> Tensor:
    """Resample as nerfstudio's `PDFSampler` does."""
    pdf = weights + 0.01
    pdf = pdf / pdf.sum(-1, keepdim=True)
    cdf = functional.pad(torch.cumsum(pdf, -1).clamp(max=1.0), (1, 0))
    index = torch.searchsorted(cdf, quantiles, right=True)
    below, above = (index - 1).clamp(0, cdf.shape[-1] - 1), index.clamp(0, cdf.shape[-1] - 1)
    c0, c1 = cdf.gather(-1, below), cdf.gather(-1, above)
    b0, b1 = bins.gather(-1, below), bins.gather(-1, above)
    return b0 + torch.nan_to_num((quantiles - c0) / (c1 - c0), 0).clamp(0, 1) * (b1 - b0)


def gradients(inputs: list[Tensor], losses: Callable[..., Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the result of a function of inputs, and the gradients of its sum with random factors."""
    inputs = [each.detach().clone().requires_grad_() for each in inputs]
    result = losses(*inputs)
    factors = random(*result.shape, seed=9)
    (result * factors).sum().backward()
    return result.detach(), [each.grad for each in inputs if each.grad is not None]


def compare(
    inputs: list[Tensor], ours: Callable[..., Tensor], theirs: Callable[..., Tensor], rounding: float = 1e-5
) -> None:
    """Compare results and gradients, whose errors may be this part of the largest gradient."""
    found, found_gradients = gradients(inputs, ours)
    expected, expected_gradients = gradients(inputs, theirs)
    assert expected.abs().max() > 0 and len(found_gradients) == len(expected_gradients) == len(inputs)
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-6)
    for gradient, other in zip(found_gradients, expected_gradients, strict=True):
        assert other.isfinite().all()
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=rounding * float(other.abs().max()))


@pytest.mark.parametrize(("rays", "samples"), SHAPES)
def test_weights(rays: int, samples: int) -> None:
    edges = sorted_bins(rays, samples) * 3
    density = torch.exp(densities(rays, samples)).clamp(max=1e6)
    compare([density], lambda each: ray_functions.weigh(each, edges)[0], lambda each: weights_of(each, edges))


@pytest.mark.parametrize(("rays", "samples"), SHAPES)
def test_infinite_and_undefined_densities_give_finite_weights(rays: int, samples: int) -> None:
    edges = sorted_bins(rays, samples)
    density = torch.exp(densities(rays, samples))
    edges[0, samples // 2 + 1] = edges[0, samples // 2]  # 0 times infinity
    expected = weights_of(density, edges)
    torch.testing.assert_close(ray_functions.weigh(density, edges)[0], expected, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("anneal", [0.0, 0.3, 1.0, None])
@pytest.mark.parametrize(("rays", "samples"), SHAPES)
def test_resampling(rays: int, samples: int, anneal: float | None) -> None:
    bins, jitter = sorted_bins(rays, samples), random(rays, 1, seed=4)
    near, far = torch.full((1, 1), 0.05, device=DEVICE), random(rays, 1, seed=5) * 1000
    density = torch.exp(densities(rays, samples).clamp(max=20))
    edges = distances(bins, near, far)
    power = None if anneal is None else torch.tensor(anneal, device=DEVICE)
    weights, distribution = ray_functions.weigh(density, edges, power)
    for wanted in (7, 48):
        found, found_edges = ray_functions.resample(distribution, bins, jitter, near, far, wanted)
        quantiles = (torch.arange(wanted + 1, device=DEVICE) + jitter) / (wanted + 1)
        annealed = weights if anneal is None else weights**anneal
        expected = resampled(annealed, bins, quantiles)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found_edges, distances(found, near, far), rtol=1e-3, atol=1e-5)
        assert (found.diff(dim=-1) > -1e-6).all() and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("jittered", [True, False])
@pytest.mark.parametrize(("rays", "samples"), SHAPES)
def test_first_edges(rays: int, samples: int, jittered: bool) -> None:
    near, far = random(rays, 1, seed=1) * 0.5, 2 + random(rays, 1, seed=2) * 500
    jitter = random(rays, 1, seed=3) if jittered else None
    bins, edges = ray_functions.first_edges(jitter, near, far, rays, samples)
    even = torch.linspace(0, 1, samples + 1, device=DEVICE).expand(rays, -1)
    if jitter is not None:  # the lines of nerfstudio's `SpacedSampler`
        middle = (even[:, 1:] + even[:, :-1]) / 2
        lower, upper = torch.cat([even[:, :1], middle], -1), torch.cat([middle, even[:, -1:]], -1)
        even = lower + (upper - lower) * jitter
    torch.testing.assert_close(bins, even, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(edges, distances(bins, near, far), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rays", "samples"), SHAPES)
def test_losses_of_the_last_samples(rays: int, samples: int, kind: torch.dtype) -> None:
    bins = sorted_bins(rays, samples)
    edges, truth = bins * 2, random(rays, 3, seed=6)
    inside = (random(rays * samples, seed=7) > 0.2).float()
    exponent = densities(rays, samples).clamp(max=20).view(-1)
    logits = random(rays * samples, 3, seed=8) * 4 - 2

    def ours(exponent: Tensor, logits: Tensor) -> Tensor:
        wide = functional.pad(exponent[:, None], (0, 2)).to(kind)  # its column is not contiguous
        error, distortion, _ = ray_functions.ray_losses(
            wide[:, 0], inside, logits.to(kind), edges, bins, truth, 0.5, False
        )
        return torch.stack([error, distortion])

    def theirs(exponent: Tensor, logits: Tensor) -> Tensor:
        density = 0.5 * truncated(exponent.to(kind).float()) * inside
        weights = weights_of(density.view(rays, samples), edges)
        rgb = torch.sigmoid(logits.to(kind).float()).view(rays, samples, 3)
        seen = (weights[..., None] * rgb).sum(1) + rgb[:, -1] * (1 - weights.sum(-1, keepdim=True))
        return torch.stack([functional.mse_loss(seen, truth), lossfun_distortion(bins, weights).mean()])

    if kind == torch.float32:
        # The order of a sum may move the gradient of a solid sample by a rounding error times its slope of exp(15).
        compare([exponent, logits], ours, theirs, rounding=5e-4)
        return
    (found, found_gradients), (expected, expected_gradients) = (
        gradients([exponent, logits], each) for each in (ours, theirs)
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    for gradient, other in zip(found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-2, atol=1e-3 * float(other.abs().max()))


@pytest.mark.parametrize(("rays", "samples"), SHAPES)
@pytest.mark.parametrize("outer_samples", [1, 20, 130])
def test_interlevel_loss(rays: int, samples: int, outer_samples: int) -> None:
    bins, outer_bins = sorted_bins(rays, samples, seed=1), sorted_bins(rays, outer_samples, seed=2)
    bins = bins * 0.9 + 0.05 if samples % 2 else bins
    outer_bins[0] = outer_bins[0] * 0.5 + 0.3  # samples lie outside of it
    for each in (bins, outer_bins):
        each[-1] = (each[-1] * 16).round() / 16  # limits are equal, and samples empty
    weights, outer = random(rays, samples, seed=3) * 2 + 1, random(rays, outer_samples, seed=4) / outer_samples
    compare(
        [outer],
        lambda each: ray_functions.interlevel_loss(bins, weights, outer_bins, each),
        lambda each: lossfun_outer(bins, weights, outer_bins, each).mean(),
    )


@pytest.mark.parametrize(("rays", "samples"), SHAPES)
def test_pictures(rays: int, samples: int) -> None:
    edges = sorted_bins(rays, samples) * 3 + 0.1
    inside = (random(rays * samples, seed=7) > 0.2).float()
    exponent = densities(rays, samples).clamp(max=20).view(-1)
    logits = random(rays * samples, 3, seed=8) * 4 - 2
    weights = weights_of((0.5 * torch.exp(exponent) * inside).view(rays, samples), edges)
    rgb = torch.sigmoid(logits).view(rays, samples, 3)
    middle, seen = (edges[:, 1:] + edges[:, :-1]) / 2, weights.sum(-1, keepdim=True)
    half = torch.full((rays, 1), 0.5, device=DEVICE)
    index = torch.searchsorted(torch.cumsum(weights, -1), half).clamp(max=samples - 1)
    expected = {
        "accumulation": seen,
        "depth": middle.gather(-1, index),
        "expected_depth": ((weights * middle).sum(-1, keepdim=True) / (seen + 1e-10)).clamp(
            middle[:, :1], middle[:, -1:]
        ),
    }
    for background in (torch.full((1, 3), torch.nan), torch.tensor([[0.0, 0.5, 1.0]])):
        background = background.to(DEVICE)
        behind = torch.where(background.isnan(), rgb[:, -1], background)
        expected["rgb"] = ((weights[..., None] * rgb).sum(1) + behind * (1 - seen)).clamp(0, 1)
        found = ray_functions.picture(exponent, inside, logits, edges, background, 0.5)
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-5, msg=name)
    torch.testing.assert_close(ray_functions.median_depth(weights, edges), expected["depth"])
