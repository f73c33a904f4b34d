"""A job starts without torch's compiler, which works all the same once it is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("nerfstudio")

PROGRAM = """
import json, sys
import jobs.train, torchvision
from nerfstudio.models import splatfacto
hasattr(torchvision.models, '__file__')
early = [name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules]

import torch, torchvision
from nerfstudio.models.splatfacto import get_viewmat

torch._dynamo.config.suppress_errors = True  # without a compiler for C++ it runs as it is
matrix = get_viewmat(torch.eye(4)[None, :3])
boxes = torchvision.ops.box_area(torch.tensor([[0.0, 0.0, 2.0, 3.0]]))
model = torchvision.models.alexnet(weights=None)
print(json.dumps([early, matrix.shape, boxes.tolist(), type(model).__name__, "torch._inductor" in sys.modules]))
"""


def test_the_compiler_is_imported_when_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[], [1, 4, 4], [6.0], "AlexNet", True]
