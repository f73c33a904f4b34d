"""Build gsplat's CUDA kernels into the installed package: `TORCH_CUDA_ARCH_LIST=7.5 python build_gsplat.py`.

PyPI's wheel of gsplat 1.4.0 holds the sources and compiles them when they are first used, which takes minutes and needs
the CUDA toolkit. Built as `gsplat.csrc`, they are found without it (gsplat/cuda/_backend.py). The source distribution
cannot be built: it lacks the GLM headers, which the wheel has.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path


def main() -> None:
    """Compile for the architectures in $TORCH_CUDA_ARCH_LIST, in $MAX_JOBS processes."""
    from torch.utils.cpp_extension import load

    found = importlib.util.find_spec("gsplat")
    assert found and found.origin, "gsplat is not installed"
    package = Path(found.origin).parent
    sources = package / "cuda" / "csrc"
    with tempfile.TemporaryDirectory() as folder:
        load(
            "csrc",
            sorted(str(file) for file in sources.iterdir() if file.suffix in (".cpp", ".cu")),
            extra_cflags=["-O3"],
            extra_cuda_cflags=["-O3", "--use_fast_math", "--expt-relaxed-constexpr", "-diag-suppress", "20012,186"],
            extra_ldflags=["-s"],
            extra_include_paths=[str(sources), str(sources / "third_party" / "glm")],
            build_directory=folder,
            is_python_module=False,
            verbose=True,
        )
        shutil.copy(Path(folder, "csrc.so"), package)


if __name__ == "__main__":
    main()
