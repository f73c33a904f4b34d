"""The flows, one file each. `python -m flows.nerf` runs one from a shell."""

import os
import sys

os.environ.setdefault("DO_NOT_TRACK", "1")  # before Prefect is imported, which reports its use otherwise

if sys.argv[:1] == ["-m"]:  # `python -m flows.NAME` imports this package first
    import commands  # noqa: F401 – it checks the command line, and shows help, before Prefect is imported
