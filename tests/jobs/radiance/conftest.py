from __future__ import annotations

import pytest


@pytest.fixture
def nerfstudios_own_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo `jobs.radiance.cpu.install`, which an earlier test of this process may have called.

    The functions that it installs may leave out gradients that a test compares.
    """
    from nerfstudio.field_components.encodings import HashEncoding
    from nerfstudio.field_components.spatial_distortions import SceneContraction

    from jobs.radiance import cpu

    monkeypatch.setattr(HashEncoding, "pytorch_fwd", cpu._stock_encode)
    monkeypatch.setattr(SceneContraction, "forward", cpu._stock_contract)
