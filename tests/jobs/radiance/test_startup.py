"""A job starts without torch's compiler, which works all the same once it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("nerfstudio")

EARLY = """
import json, sys
import jobs.train, torch, torchmetrics, torchvision
from nerfstudio.models import splatfacto
hasattr(torchvision.models, '__file__')
weight = torch.nn.Parameter(torch.ones(3))
adam = torch.optim.Adam([weight])
weight.sum().backward()
adam.step()
assert torch.broadcast_shapes((2, 1), torch.Size([3]), ()) == torch.Size([2, 3])
deferred = ["torch._dynamo", "torch._inductor", "sympy", "matplotlib.pyplot"]
deferred += ["tensorboard", "tensorly.base"]
print(json.dumps([name for name in deferred if name in sys.modules]))
"""
LATE = """
import json, sys
import jobs.train, torch, torchmetrics, torchvision
import torchmetrics.functional.image.lpips as lpips
from jobs.model import ALEXNET
from nerfstudio.models.splatfacto import get_viewmat

torch._dynamo.config.suppress_errors = True  # without a compiler for C++ it runs as it is
matrix = get_viewmat(torch.eye(4)[None, :3])
boxes = torchvision.ops.box_area(torch.tensor([[0.0, 0.0, 2.0, 3.0]]))
model = torchvision.models.alexnet(weights=None)
url = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url
as_ever = [type(model).__name__, url.endswith("/" + ALEXNET), bool(lpips._TORCHVISION_AVAILABLE)]
add = torch.optim.Optimizer.add_param_group
as_ever.append(hasattr(add.__wrapped__, "__dynamo_disable"))
torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
as_ever.append(hasattr(add.__wrapped__, "__dynamo_disable"))
print(json.dumps([matrix.shape, boxes.tolist(), *as_ever, "torch._inductor" in sys.modules]))
"""
EVENTS = """
import json, sys, tempfile
from pathlib import Path
import jobs.train, torch
from nerfstudio.model_components import lib_bilagrid
from nerfstudio.utils.writer import TensorboardWriter

folder = Path(tempfile.mkdtemp())
TensorboardWriter(folder).write_scalar("loss", 0.5, 1)
kinds = [type(torch.utils.tensorboard.SummaryWriter).__name__, len(list(folder.iterdir()))]
from tensorly.decomposition import parafac
weights, factors = parafac(torch.ones(3, 3, 3), rank=1)
bilateral = lib_bilagrid.tl.get_backend(), isinstance(factors[0], torch.Tensor)
print(json.dumps([*kinds, *bilateral]))
"""


def run(program: str) -> Any:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_job_imports_no_compiler() -> None:
    assert run(EARLY) == []


@pytest.mark.slow
def test_event_files_and_tensorly_are_imported_when_they_are_needed() -> None:
    assert run(EVENTS) == ["type", 1, "pytorch", True]


@pytest.mark.slow  # it imports the whole compiler
def test_the_compiler_is_imported_when_it_is_needed() -> None:
    assert run(LATE) == [[1, 4, 4], [6.0], "AlexNet", True, True, False, True, True]
