"""Compare training with and without `refine_poses` on a CUDA GPU: `python -m benchmarks.poses [DATASET ...]`.

Trains nerfacto with several seeds on each dataset, or on the built-in street front with its true poses, and prints one
row for each dataset and setting. PSNR and SSIM are those of the held-out photos. The table is kept in gpu.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.trainings import arguments, street

_AT_ONCE = 4  # trainings that share the GPU: their quality is measured, not their speed


class Run(NamedTuple):
    """One training."""

    dataset: Path
    refine: bool
    seed: int


class Quality(NamedTuple):
    """What one training reached: held-out PSNR (dB) and SSIM, and PSNR of the last training rays (dB)."""

    psnr: float
    ssim: float
    trained: float


def train(run: Run, steps: int, folder: Path) -> Quality:
    """Train in a process of its own.

    Raises:
        SystemExit: the training failed; the text is its log.
    """
    place = folder / f"{run.dataset.name}-{run.refine}-{run.seed}"
    command = [
        *(sys.executable, "-W", "ignore", "-m", "jobs.train"),
        *arguments(run.dataset, place, run.seed, steps, steps_per_save=steps),
        "--refine-poses" if run.refine else "--no-refine-poses",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(done.stdout)
    model = json.loads((place / "model" / "model.json").read_text())
    return Quality(model["metrics"]["psnr"], model["metrics"]["ssim"], statistics.mean(model["curve"]["psnr"][-20:]))


def main(datasets: list[Path], seeds: int, steps: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        datasets = datasets or [street(folder / "street")]
        runs = [Run(each, refine, 42 + seed) for each in datasets for refine in (False, True) for seed in range(seeds)]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            reached = dict(zip(runs, threads.map(lambda run: train(run, steps, folder), runs), strict=True))
    print(f"{steps} steps, {seeds} seeds.\n")
    print("| dataset | refine_poses | PSNR of each seed | mean | range | SSIM | PSNR of training rays |")
    print("|---|---|---|---|---|---|---|")
    for dataset in datasets:
        for refine in (False, True):
            rows = [quality for run, quality in reached.items() if run.dataset == dataset and run.refine is refine]
            psnr = [row.psnr for row in rows]
            print(
                f"| {dataset.name} | {'yes' if refine else 'no'} | {', '.join(f'{value:.2f}' for value in psnr)} "
                f"| {statistics.mean(psnr):.2f} dB | {max(psnr) - min(psnr):.2f} dB "
                f"| {statistics.mean(row.ssim for row in rows):.3f} "
                f"| {statistics.mean(row.trained for row in rows):.2f} dB |"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", type=Path, nargs="*", help="folders with transforms.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5000)
    given = parser.parse_args()
    main(given.datasets, given.seeds, given.steps)
