"""nerfstudio on a CUDA GPU: which methods need one, and faster code.

The compiled code has the same parameters, and the same values within rounding. Without it, the hash encoding is about a
hundred small kernels, each of which reads and writes all points. Compiled, it is a few. On an H100, a step of nerfacto
takes half the time, and rendering a frame a quarter (`benchmarks/gpu.md`).
"""

from __future__ import annotations

import shutil
import threading
import warnings
from contextlib import suppress

import torch
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.mlp import MLP
from nerfstudio.models.nerfacto import NerfactoModel
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils.external import TCNN_EXISTS

from jobs.errors import InvalidInput
from jobs.methods import SPLATS
from jobs.radiance import support
from jobs.radiance.startup import compile_later

_NEEDED_BY = ("instant-ngp", "instant-ngp-bounded", *SPLATS)
_installed = False


def device() -> str:
    """Return the device of this process: "cuda" if there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check(method: str, device: str) -> None:
    """Check that a method of nerfstudio runs on a device ("cpu" or "cuda").

    Raises:
        InvalidInput: the method needs a GPU, or gsplat's kernels, which gsplat builds if there is a CUDA toolkit.
    """
    if method not in _NEEDED_BY:
        return
    if torch.device(device).type != "cuda":
        raise InvalidInput(f"The method {method} needs a CUDA GPU, and this machine has none. Choose nerfacto instead.")
    if method in SPLATS and (why := _no_splats()):
        toolkit = f"NVIDIA's CUDA toolkit {torch.version.cuda or ''}".rstrip()
        raise InvalidInput(
            f"The method {method} needs gsplat's CUDA kernels, {why}. Install {toolkit}, or choose nerfacto instead."
        )


def _no_splats() -> str | None:
    """Return why gsplat has no kernels, or None if it has. The first call may build them, which takes minutes."""
    try:
        from gsplat.cuda._backend import _C
    except Exception as error:  # any failure of the compiler or its environment
        return f"which could not be built here ({repr(error)[:200]})"
    return None if _C is not None else "which are neither installed here nor can be built without nvcc"


def install() -> None:
    """Compile code of nerfstudio when it is first called, unless tiny-cuda-nn, which is even faster, replaces it."""
    global _installed
    if _installed or not torch.cuda.is_available():
        return
    _installed = True
    if support.machine_lacks() is None:
        threading.Thread(target=_hash_triton, daemon=True).start()
    if TCNN_EXISTS:
        return
    if not (shutil.which("cc") or shutil.which("gcc")):  # Triton builds its launchers with it
        print("There is no C compiler, so kernels cannot be compiled. This job is several times slower.", flush=True)
        return
    warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor)")
    HashEncoding.pytorch_fwd = compile_later(torch.compile, HashEncoding.pytorch_fwd, dynamic=True)
    MLP.pytorch_fwd = compile_later(torch.compile, MLP.pytorch_fwd, dynamic=True)


def _hash_triton() -> None:
    """Let Triton compute the hash of its compiler, half a gigabyte, before its first kernel needs it."""
    with suppress(ImportError):  # other versions have it in another place
        from triton.runtime.cache import triton_key

        triton_key()


def accelerate_rendering(pipeline: Pipeline, graph: bool = True) -> None:
    """Render a nerfacto on a GPU with this package's kernels, or print why that is impossible.

    Args:
        pipeline: of any method. Other methods and devices do not change.
        graph: see `jobs.radiance.frames.Frames`.
    """
    model = pipeline.model
    if model.device.type != "cuda" or not isinstance(model, NerfactoModel):
        return
    why = support.machine_lacks() or support.model_lacks(model)
    if why is None:
        from jobs.radiance.frames import Frames

        try:
            model.get_outputs_for_camera_ray_bundle = Frames(model, graph)
        except Exception as error:  # any failure of the compiler or its environment
            why = f"the kernels could not be built here ({repr(error)[:200]})"
    if why:
        print(f"nerfstudio's own code renders the pictures: {why}.", flush=True)
