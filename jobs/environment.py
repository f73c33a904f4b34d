"""The environment of every program that this project starts: an allow list, because no secret must get there."""

from __future__ import annotations

import os
import re

__all__ = ["FOR_PREFECT", "FOR_PYTHON", "NETWORK", "child_environment"]

FOR_PYTHON = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "DO_NOT_TRACK": "1"}
"""Further variables of a job's program: its log appears at once and is UTF-8 in any locale, and it reports no use."""

NETWORK = r"(?i:https?|all|no)_(?i:proxy)|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
"""What a program needs to use the network as this one does. A proxy's address may hold a password."""

FOR_PREFECT = rf"(PREFECT|REBEL_NERF)_\w+|PYTHONPATH|{NETWORK}"
"""What one of our own programs needs to sign in to the Prefect server."""

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


def child_environment(further: str = "") -> dict[str, str]:
    """Return the variables of this process that a program which it starts may see.

    Args:
        further: a pattern of the names of further variables that this program needs, secret or not.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if (_PASSED_ON.fullmatch(name) and not _SECRET.search(name)) or re.fullmatch(further, name)
    }
