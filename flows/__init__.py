"""The flows, a file each, which are commands too: `python -m flows.nerf`."""

import os
import sys

os.environ.setdefault("DO_NOT_TRACK", "1")  # before Prefect is imported, which reports its use otherwise

if sys.argv[:1] == ["-m"]:  # a module is being started, and this is imported on the way to it
    from flows._usage import check_command_line

    check_command_line()
