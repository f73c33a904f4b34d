"""Kernels run on the GPU where there is one, else in Triton's interpreter on the CPU (see `tests/conftest.py`)."""

from __future__ import annotations

import pytest

pytest.importorskip("nerfstudio")
pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")
