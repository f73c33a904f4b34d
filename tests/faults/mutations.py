"""Break the product on purpose, and see that the kill rounds report it: `python -m tests.faults.mutations`.

Each mutation is applied to a copy of the code, in which rounds of the kinds named run until one goes wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.strikes import Kind
from tests.service import ROOT

__all__ = ["MUTATIONS", "Mutation", "apply", "reported"]

_ROUNDS = 12  # a full disk strikes at a place that chance decides; the first wrong round ends them
_PACKAGES = ("blocks", "commands", "deployments", "flows", "jobs", "tasks", "tests")
_PATIENCE_SECONDS = "60"
COMMON: tuple[Kind, ...] = ("two at once", "flow", "job", "cancel", "supervisor", "power loss")
"""The kinds through which the code as it is goes."""


@dataclass(frozen=True)
class Mutation:
    """A way to break the product.

    Args:
        what: in words.
        file: the file that is changed.
        old: the text that is replaced; it is there once.
        new: what takes its place.
        kinds: the kinds of rounds that report it.
    """

    what: str
    file: str
    old: str
    new: str
    kinds: tuple[Kind, ...]


MUTATIONS = (
    Mutation(
        "registering copies no files",
        "blocks/local.py",
        "for file in files_below(source):\n                    target = part",
        "for file in ():\n                    target = part",
        ("two at once",),
    ),
    Mutation(
        "registering copies half of a file",
        "blocks/local_files.py",
        "        os.link(source, target)",
        "        target.write_bytes(source.read_bytes()[:2])",
        ("two at once",),
    ),
    Mutation(
        "nothing is flushed to the disk",
        "blocks/local_files.py",
        "    places = [folder, *(",
        "    return\n    places = [folder, *(",
        ("power loss",),
    ),
    Mutation(
        "a job is started twice",
        "blocks/local_jobs.py",
        '                subprocess.run(\n                    [sys.executable, "-I"',
        '                for _ in range(2): subprocess.run(\n                    [sys.executable, "-I"',
        ("two at once",),
    ),
    Mutation(
        "a job that runs is not attached to",
        "tasks/run.py",
        "        ended_before = status is not None and status.state.ended\n",
        "        ended_before = status is not None and status.state.ended\n"
        "        if status is not None and not status.state.ended:\n            continue\n",
        ("two at once", "flow"),
    ),
    Mutation(
        "registering notes a wrong checksum",
        "blocks/local.py",
        "checksums[str(file.relative_to(source))] = checksum(target)",
        'checksums[str(file.relative_to(source))] = "0" * 64',
        ("two at once",),
    ),
    Mutation(
        "a job that was killed is not tried again",
        "tasks/stage.py",
        "        return is_transient(error)",
        "        return False",
        ("job",),
    ),
    Mutation(
        "cancelling a run leaves its job running",
        "tasks/run.py",
        "        workspace.cancel(spec.name)\n",
        "        pass\n",
        ("cancel",),
    ),
    Mutation(
        "cancelling a job forgets its children",
        "blocks/supervisor.py",
        "            os.killpg(group, number)",
        "            os.kill(group, number)",
        ("cancel",),
    ),
    Mutation(
        "cancelling a run cancels the job of another",
        "tasks/run.py",
        "    if not any(age < silent for age in",
        "    if True or not any(age < silent for age in",
        ("cancel one of two",),
    ),
    Mutation(
        "the end of a job without a supervisor is forgotten",
        "blocks/supervisor.py",
        "echo $? >exit_code.part && mv exit_code.part exit_code || rm -f exit_code.part",
        "",
        ("supervisor",),
    ),
    Mutation(
        "the runs of a dead worker are not put back",
        "deployments/scene_worker.py",
        "            before = self._mine()\n",
        "            return\n            before = self._mine()\n",
        ("worker",),
    ),
    Mutation(
        "a worker that is stopped cancels its jobs",
        "deployments/worker.py",
        "    end_without_cancelling()\n    runs",
        "    runs",
        ("worker stopped",),
    ),
    Mutation(
        "a worker ends when the server fails",
        "deployments/scene_worker.py",
        "            submitted = await super().get_and_submit_flow_runs()\n",
        "            async with asyncio.timeout(5):  # less than Prefect's client waits for a server that fails\n"
        "                submitted = await super().get_and_submit_flow_runs()\n",
        ("server failing",),
    ),
    Mutation(
        "the runs of a worker are not taken over by another",
        "deployments/scene_worker.py",
        '        for file in self._folder.glob("[!.]*"):',
        "        for file in ():",
        ("two workers",),
    ),
    Mutation(
        "time limits go by a clock that can be set",
        "blocks/supervisor.py",
        "import time\nfrom collections.abc import Callable, Mapping\n",
        "import time\ntime.monotonic = time.time\nfrom collections.abc import Callable, Mapping\n",
        ("clock",),
    ),
    Mutation(
        "a job that could not be written leaves its folder",
        "blocks/local_jobs.py",
        "            shutil.rmtree(part, ignore_errors=True)  # if it has not become the job's folder",
        "            pass",
        ("disk full",),
    ),
)


def apply(mutation: Mutation, root: Path) -> None:
    """Change the code below `root`.

    Raises:
        AssertionError: the text to be replaced is not there once.
    """
    file = root / mutation.file
    text = file.read_text()
    assert text.count(mutation.old) == 1, f"{mutation.what}: {text.count(mutation.old)} places in {mutation.file}"
    file.write_text(text.replace(mutation.old, mutation.new))


def reported(mutation: Mutation | None) -> str:
    """Run rounds in a copy of the code, changed or not; return what the first that went wrong says, "" if none did.

    Raises:
        RuntimeError: the rounds could not be run, which says nothing.
    """
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for package in _PACKAGES:
            shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "prefect.yaml"):
            shutil.copy(ROOT / file, copy)
        kinds: tuple[str, ...] = ("--only", *COMMON)
        if mutation:
            apply(mutation, copy)
            kinds = ("--only", *mutation.kinds)
        command = [sys.executable, "-m", "tests.faults.rounds", "--rounds", str(_ROUNDS), "--until-wrong", *kinds]
        command += ["--patience", _PATIENCE_SECONDS, "--at-once", "2"]
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    found = re.search(r"^ *\d+ (?P<kind>[\w ]+), \d+ s: (?!nothing wrong)(?P<fault>.*)$", done.stderr, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the rounds failed themselves:\n{done.stderr[-3000:]}")
    return f"{found['kind']}: {found['fault']}"


def main(only: str) -> int:
    """Try the code as it is and each mutation, print a table, and return how many came out wrong."""
    missed = 0
    print("| mutation | reported by | what it says | seconds |\n|---|---|---|---|")
    if not only:
        start, fault = time.monotonic(), reported(None)
        missed += bool(fault)
        print(f"| none | {fault or 'nothing, which is right'} | | {time.monotonic() - start:.0f} |", flush=True)
    for mutation in MUTATIONS:
        if not re.search(only, mutation.what):
            continue
        start = time.monotonic()
        kind, _, fault = reported(mutation).partition(": ")
        missed += not kind
        short = re.sub(r"/tmp/\S+/|-1-[0-9a-f]{8}|\br\d+t\d+-", "", fault).replace("|", "\\|")[:160]
        print(f"| {mutation.what} | {kind or 'NOTHING'} | {short} | {time.monotonic() - start:.0f} |", flush=True)
    return missed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="try the mutations whose description has this regular expression")
    sys.exit(min(1, main(parser.parse_args().only)))
