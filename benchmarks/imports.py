"""What importing costs: `python -m benchmarks.imports`.

Runs each import several times, in turn, in separate processes. Prints the CPU seconds (user and system) and page faults
of the median. Wall-clock time would depend more on what else the machine does.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from pydantic import BaseModel, Field
from pydantic_settings import CliApp

_PROGRAMS = ("import prefect", "import blocks", "import flows.nerf")


class Imports(BaseModel):
    """Compare imports."""

    times: int = Field(5, ge=1, description="how often each is imported")
    limit: float = Field(1.2, description="of `import blocks`, in CPU seconds of `import prefect`")


def cost(program: str) -> tuple[float, int]:
    """Return the CPU seconds and page faults of a Python process that only runs this statement."""
    process = subprocess.Popen([sys.executable, "-c", program])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{program} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_minflt


def main(given: Imports) -> None:
    """Print the table. Exit with 1 if `import blocks` exceeds the limit."""
    found: dict[str, list[tuple[float, int]]] = {program: [] for program in _PROGRAMS}
    for _ in range(given.times):
        for program in _PROGRAMS:
            found[program].append(cost(program))
    seconds = {program: statistics.median(each for each, _ in costs) for program, costs in found.items()}
    base = seconds["import prefect"]
    print("| | CPU, s | of `import prefect` | page faults |\n|---|---|---|---|")
    for program, costs in found.items():
        faults = statistics.median(each for _, each in costs)
        print(f"| `{program}` | {seconds[program]:.1f} | {seconds[program] / base:.2f} | {faults:,.0f} |")
    if seconds["import blocks"] > given.limit * base:
        raise SystemExit(f"`import blocks` costs more than {given.limit} times `import prefect`.")


if __name__ == "__main__":
    main(CliApp.run(Imports))
