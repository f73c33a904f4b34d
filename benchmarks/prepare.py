"""How long a dataset takes: `jobs.prepare` beside `ns-process-data images`, on the same photos, one after the other.

`python -m benchmarks.prepare FOLDER … > benchmarks/prepare.md` prints a table in Markdown. ns-process-data needs
`colmap` and `ffmpeg` on the PATH (Debian: apt-get install colmap ffmpeg libusb-1.0-0 libgl1). Neither uses a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from jobs import media


@dataclass(frozen=True)
class Run:
    """Wall time and CPU time in seconds, and the number of registered photos."""

    wall: float
    cpu: float
    registered: int


def measure(command: list[str], dataset: Path) -> Run:
    """Run a program. Its output is shown only if it fails."""
    before, start = os.times(), monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wall, after = monotonic() - start, os.times()
    file = dataset / "transforms.json"
    if done.returncode or not file.is_file():
        sys.exit(f"{' '.join(command)}\n{done.stdout}\nended with {done.returncode}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(wall, cpu, len(json.loads(file.read_text())["frames"]))


def ours(photos: Path, dataset: Path) -> Run:
    """Run `jobs.prepare` as the flow does."""
    return measure([sys.executable, "-m", "jobs.prepare", "--images", str(photos), "--dataset", str(dataset)], dataset)


def theirs(photos: Path, dataset: Path) -> Run:
    """Run `ns-process-data images` with exhaustive matching and otherwise default options."""
    program = Path(sys.executable).with_name("ns-process-data")
    options = ["--matching-method", "exhaustive", "--no-gpu"]
    return measure([str(program), "images", "--data", str(photos), "--output-dir", str(dataset), *options], dataset)


def main() -> None:
    """Measure every folder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", type=Path, help="folders of photos")
    arguments = parser.parse_args()
    if not shutil.which("colmap"):
        parser.error("no colmap on the PATH: apt-get install colmap")
    version = re.search(r"COLMAP ([\d.]+)", subprocess.run(["colmap", "-h"], capture_output=True, text=True).stdout)
    print("# Photos to a dataset\n\nWritten by `python -m benchmarks.prepare`, exhaustive matching on both sides.\n")
    print(f"{platform.machine()}, {os.cpu_count()} cores, no GPU; COLMAP {version[1] if version else 'unknown'}\n")
    print("| capture | photos | program | registered | time | time of all cores | faster |")
    print("|---|---|---|---|---|---|---|")
    for folder in arguments.captures:
        found = media.scan(folder)
        with tempfile.TemporaryDirectory() as temporary:
            we = ours(folder, Path(temporary) / "ours")
            they = theirs(folder, Path(temporary) / "theirs")
        for name, run in (("`ns-process-data images`", they), ("`jobs.prepare`", we)):
            figures = f"{run.registered} | {run.wall:.0f} s | {run.cpu:.0f} s | {they.wall / run.wall:.1f} ×"
            print(f"| {folder.name} | {len(found.photos)} | {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
