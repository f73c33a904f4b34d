"""Kernels run on the GPU where there is one, else in Triton's interpreter on the CPU (see `tests/conftest.py`)."""

from __future__ import annotations

import pytest

pytest.importorskip("nerfstudio")
pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")


@pytest.fixture(autouse=True)
def nerfstudios_own_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo `jobs.radiance.cpu.install`, which an earlier test of this process may have called.

    What it installs may leave out gradients that these tests compare.
    """
    from jobs.radiance import cpu

    monkeypatch.setattr(cpu.HashEncoding, "pytorch_fwd", cpu._stock_encode)
    monkeypatch.setattr(cpu.SceneContraction, "forward", cpu._stock_contract)
