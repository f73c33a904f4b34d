from __future__ import annotations

import pytest


@pytest.fixture
def nerfstudios_own_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo `jobs.radiance.cpu.install`, which an earlier test of this process may have called.

    The functions that it installs may leave out gradients that a test compares.
    """
    from jobs.radiance import cpu

    monkeypatch.setattr(cpu.HashEncoding, "pytorch_fwd", cpu._stock_encode)
    monkeypatch.setattr(cpu.SceneContraction, "forward", cpu._stock_contract)
