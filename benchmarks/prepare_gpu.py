"""Compare `jobs.prepare` with and without a GPU, on the same photos.

`python -m benchmarks.prepare_gpu FOLDER … > benchmarks/prepare_gpu.md` prints a table in Markdown. It needs an NVIDIA
GPU and a pycolmap that is built for CUDA (`pip install pycolmap-cuda12`). A folder with `photos/` and `truth.json`, as
`python -m jobs.facade` writes it, is compared with its true poses.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from jobs.sfm import machine
from tests.true_poses import compare_poses

_STEPS = ("features", "matching", "mapping")


def prepare(photos: Path, dataset: Path, gpu: bool) -> dict[str, Any]:
    """Prepare a dataset from the photos and return its manifest. Without the GPU, the GPU is hidden from CUDA."""
    environment = {**os.environ, **({} if gpu else {"CUDA_VISIBLE_DEVICES": ""})}
    command = [sys.executable, "-m", "jobs.prepare", "--images", str(photos), "--dataset", str(dataset)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}\nended with {done.returncode}")
    manifest: dict[str, Any] = json.loads((dataset / "dataset.json").read_text())
    assert manifest["gpu"] is gpu, "this pycolmap does not see the GPU"
    return manifest


def errors(capture: Path, dataset: Path, manifest: dict[str, Any]) -> str:
    """Return the median errors of the poses: of positions, and of view directions."""
    if not (capture / "truth.json").is_file():
        return "unknown"
    photos = {Path(each["file"]).name: each["source"] for each in manifest["images"]}
    found = compare_poses(capture / "truth.json", dataset / "transforms.json", photos)
    return f"{100 * median(found.positions):.3f} %, {median(found.rotations):.3f}°"


def row(capture: Path, gpu: bool, runs: int) -> str:
    """Return a row of the table: medians, and whether all runs gave the same poses."""
    photos = capture / "photos" if (capture / "photos").is_dir() else capture
    made, transforms, off = [], set(), []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            made.append(prepare(photos, Path(folder), gpu))
            transforms.add((Path(folder) / "transforms.json").read_text())
            off.append(errors(capture, Path(folder), made[-1]))
    seconds = {step: median(each["seconds"][step] for each in made) for step in _STEPS}
    last = made[-1]
    return (
        f"| {capture.name} | {last['used']} | {'GPU' if gpu else 'CPU'} | {last['registered']} | "
        + " | ".join(f"{seconds[step]:.1f} s" for step in _STEPS)
        + f" | {median(sum(each['seconds'].values()) for each in made):.1f} s"
        + f" | {last['points']:,} | {median(each['reprojection_error_px'] for each in made):.3f} px"
        + f" | {sorted(off)[runs // 2]} | {('yes' if len(transforms) == 1 else 'no') if runs > 1 else 'one run'} |"
    )


def main() -> None:
    """Measure every folder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", type=Path, help="folders of photos")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    if not machine.gpu():
        parser.error("pycolmap sees no GPU here")
    cores = len(os.sched_getaffinity(0))
    print("# Photos to a dataset, with a GPU and without\n")
    print(f"Written by `python -m benchmarks.prepare_gpu`. {platform.machine()}, {cores} cores.")
    print(f"Each row is the median of {given.runs} run(s).")
    print("Errors are medians over the photos: positions as a share of the scene's size, and directions.\n")
    names = ("capture", "photos", "on", "registered", *_STEPS, "in all", "points", "reprojection error")
    print(f"| {' | '.join(names)} | error of poses | same each time |\n|{'---|' * (len(names) + 2)}")
    for capture in given.captures:
        for gpu in (False, True):
            print(row(capture, gpu, given.runs), flush=True)


if __name__ == "__main__":
    main()
