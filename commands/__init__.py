"""What people type: `rebel-nerf NAME` is the module NAME here, or the flow or service that it starts."""

import os
import sys

os.environ.setdefault("DO_NOT_TRACK", "1")  # before Prefect is imported, which reports its use otherwise

if sys.argv[:1] == ["-m"]:  # `python -m commands.NAME` imports this package first
    from commands.shell.usage import check_command_line

    check_command_line()
