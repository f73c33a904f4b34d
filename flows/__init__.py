"""The flows, a file each, which are commands too: `python -m flows.nerf`."""

import sys

if sys.argv[:1] == ["-m"]:  # a module is being started, and this is imported on the way to it
    from flows._usage import check_command_line

    check_command_line()
