"""nerfstudio's PyTorch code for a CUDA GPU without tiny-cuda-nn, compiled: same parameters, values within rounding.

Its hash encoding is some hundred small kernels that read and write all points; compiled, they are a few. On an H100 a
step of nerfacto takes half the time, a frame a quarter: `benchmarks/gpu.md`.
"""

from __future__ import annotations

import shutil
import warnings

import torch
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.mlp import MLP
from nerfstudio.utils.external import TCNN_EXISTS

_installed = False


def install() -> None:
    """Have this process compile what tiny-cuda-nn, which is faster still, would take over."""
    global _installed
    if _installed or TCNN_EXISTS or not torch.cuda.is_available():
        return
    if not (shutil.which("cc") or shutil.which("gcc")):  # Triton builds its launchers with it
        print("No C compiler here: going on without compiled kernels, several times slower.", flush=True)
        return
    warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor)")
    HashEncoding.pytorch_fwd = torch.compile(HashEncoding.pytorch_fwd, dynamic=True)
    MLP.pytorch_fwd = torch.compile(MLP.pytorch_fwd, dynamic=True)
    _installed = True
