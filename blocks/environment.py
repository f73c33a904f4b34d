"""The environment of a process that runs a job's program on this machine."""

from __future__ import annotations

import os
import re

__all__ = ["FOR_PYTHON", "job_environment"]

FOR_PYTHON = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "DO_NOT_TRACK": "1"}
"""Further variables of a job's program: its log appears at once and is UTF-8 in any locale, and it reports no use."""

# A list of allowed names, because nobody can list the names of all secrets. Jobs use no network, so no proxy.
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TEMP|TMP|XDG_CACHE_HOME|XDG_RUNTIME_DIR"
    r"|LD_LIBRARY_PATH|LD_PRELOAD|DYLD_\w+|LIBRARY_PATH|CPATH|CC|CXX|CFLAGS|CXXFLAGS|LDFLAGS|MAX_JOBS"
    r"|(CUDA|NVIDIA|NCCL|CUDNN|TORCH|PYTORCH|TORCHINDUCTOR|TRITON|TCNN)_\w+|CUDA_HOME"
    r"|(OMP|MKL|OPENBLAS|NUMEXPR|VECLIB|GOMP|KMP)_\w+"
    r"|VIRTUAL_ENV|CONDA_PREFIX|PYTHONHASHSEED|PYTHONDONTWRITEBYTECODE|PYTHONPYCACHEPREFIX"
    r"|DISPLAY|XAUTHORITY|NO_COLOR|TERM"
)
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASS|CREDENTIAL|(^|_)(AUTH|PAT|SAS|UR[IL])(_|$)", re.IGNORECASE)


def job_environment() -> dict[str, str]:
    """Return the variables of this process that a job's program may see. They hold no secrets."""
    return {
        name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name) and not _SECRET.search(name)
    }
