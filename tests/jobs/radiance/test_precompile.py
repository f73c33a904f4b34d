"""The cache of compiled kernels for GPUs of other machines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import radiance

pytest.importorskip("nerfstudio")
triton = pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

PROGRAM = """
from jobs.radiance.precompile import compile_sizes, compiling_only, launch_all, make_models, make_photos

compile_sizes((9, 0), ["nerfacto"])
with compiling_only((9, 0)):
    before = len(FILES())
    for model in make_models("nerfacto"):
        launch_all(model, (9, 0), [make_photos(45, masked=False), make_photos(48, masked=True)], rays=4096)
    as_usual = len(FILES())
    launch_all(model, (9, 0), [make_photos(45, masked=False)], rays=1001)
print(before, as_usual, len(FILES()), *{file.stem for file in FILES()})
"""


def stand_for_libcuda(folder: Path) -> None:
    """Build a library with the driver's functions that Triton calls. None of them does anything."""
    sources = (Path(triton.__file__).parent / "backends" / "nvidia").glob("driver.*")
    names = sorted({name for source in sources for name in re.findall(r"\bcu[A-Z]\w*(?=\()", source.read_text())})
    (folder / "libcuda.c").write_text("\n".join(f"int {name}(void) {{ return 1; }}" for name in names))
    command = ["gcc", "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "libcuda.c", "-o", "libcuda.so.1"]
    subprocess.run(command, cwd=folder, check=True)


@pytest.mark.slow  # it compiles for half a minute
@pytest.mark.skipif(shutil.which("gcc") is None, reason="Triton needs a C compiler, and there is none")
def test_a_training_finds_all_its_kernels_in_the_cache(tmp_path: Path) -> None:
    stand_for_libcuda(tmp_path)
    cache = tmp_path / "cache"
    files = f"from pathlib import Path\ndef FILES(): return [*Path({str(cache)!r}).rglob('*.cubin')]\n"
    variables = {"LD_LIBRARY_PATH": str(tmp_path), "TRITON_CACHE_DIR": str(cache), "TRITON_STORE_BINARY_ONLY": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    command = [sys.executable, "-W", "ignore", "-c", files + PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    before, as_usual, unusual, *names = done.stdout.split()
    assert int(before) == int(as_usual) < int(unusual)
    sources = [file.read_text() for file in Path(radiance.__file__).parent.glob("*.py")]
    launched = {name for source in sources for name in re.findall(r"(\w+)\[(?:grid|\(.*\))\]\(", source)}
    assert set(names) == launched
