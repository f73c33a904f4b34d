"""nerfstudio on a CUDA GPU: the methods that need one, and its code replaced or compiled to be faster.

Compiled, parameters are the same and values within rounding. The hash encoding is some hundred small kernels that read
and write all points; compiled, they are a few. On an H100 a step of nerfacto takes half the time, a frame a quarter:
`benchmarks/gpu.md`.
"""

from __future__ import annotations

import shutil
import warnings

import torch
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.mlp import MLP
from nerfstudio.models.nerfacto import NerfactoModel
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils.external import TCNN_EXISTS

from jobs.errors import InvalidInput
from jobs.options import SPLATS
from jobs.radiance import support

_NEEDED_BY = ("instant-ngp", "instant-ngp-bounded", *SPLATS)
_installed = False


def device() -> str:
    """The device of this process: "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check(method: str, device: str) -> None:
    """See whether a method of nerfstudio can be computed on a device ("cpu", "cuda").

    Raises:
        InvalidInput: it needs a GPU, or gsplat's kernels, which gsplat builds where there is a CUDA toolkit.
    """
    if method not in _NEEDED_BY:
        return
    if torch.device(device).type != "cuda":
        raise InvalidInput(f"the method {method} needs a CUDA GPU, and there is none here; train with nerfacto instead")
    if method in SPLATS and (why := _no_splats()):
        toolkit = f"NVIDIA's CUDA toolkit {torch.version.cuda or ''}".rstrip()
        raise InvalidInput(
            f"the method {method} needs gsplat's CUDA kernels, {why}: install {toolkit}, or train with nerfacto instead"
        )


def _no_splats() -> str | None:
    """Why gsplat has no kernels, in words; None if it has. Takes minutes the first time, when it builds them."""
    try:
        from gsplat.cuda._backend import _C
    except Exception as error:  # whatever the compiler, and what is around it, may come to
        return f"which could not be built here ({repr(error)[:200]})"
    return None if _C is not None else "and there are none here, nor the nvcc that builds them"


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


def quicken(pipeline: Pipeline, graph: bool = True) -> None:
    """Have the pictures of a nerfacto on a GPU made by `jobs.radiance`; say why where that cannot be.

    Args:
        pipeline: of any method.
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
        except Exception as error:  # whatever the compiler, and what is around it, may come to
            why = f"its kernels could not be built here ({repr(error)[:200]})"
    if why:
        print(f"Pictures are made by nerfstudio's own code: {why}.", flush=True)
