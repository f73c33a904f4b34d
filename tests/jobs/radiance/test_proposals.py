"""The proposal networks' kernels, beyond what `test_nerfacto` compares with nerfstudio's."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

import torch

from jobs.radiance import functions

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_gradients_are_the_same_in_any_number_of_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE).requires_grad_()

    levels, log2_size, hidden = 3, 7, 16
    network = functions.Proposal(
        *(normal(levels << log2_size, 2), normal(hidden, 2 * levels), normal(hidden), normal(1, hidden), normal(1)),
        torch.tensor([15.0, 31.0, 63.0], device=DEVICE), log2_size, 0.5,
    )  # fmt: skip
    origins, directions = normal(9, 3), normal(9, 3)
    edges = torch.linspace(0.1, 4, 22, device=DEVICE).repeat(9, 1)
    factors = torch.rand(9, 21, generator=generator).to(DEVICE)
    monkeypatch.setattr(functions, "_DENSITY_BLOCK", 32)
    results = []
    for programs in (1000, 2):
        monkeypatch.setattr(functions, "_DENSITY_PROGRAMS", programs)
        density = functions.proposed_density(origins, directions, edges, network)
        results.append(torch.autograd.grad((density * factors).sum(), [origins, directions, *network[:5]]))
    for one, other in zip(*results, strict=True):
        assert one.any()
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))
