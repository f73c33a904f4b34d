"""Compare trainings of the profile preview with those before: `python -m benchmarks.preview FOLDER [NAME=DATASET …]`.

Trains both models in turn, a hundredth at a time, in one process on one thread, so that other programs slow both
alike. Measures held-out photos after a quarter, half and all of the steps, and the CPU time of the steps until then.
The street front of `make demo` is drawn, and has its true poses; other datasets are named. Results are kept in FOLDER,
and a second call goes on where the first one ended. Prints tables, which are kept in preview.md.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import jobs.radiance  # noqa: F401 – before nerfstudio

# isort: split
import torch
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.engine.trainer import TrainerConfig

from benchmarks.trainings import street
from jobs import model
from jobs.options import TrainOptions
from jobs.radiance import cpu, settings
from jobs.radiance.checkpoints import Checkpoints
from jobs.radiance.datamanager import DataManager
from jobs.radiance.dataset import read_dataset
from jobs.radiance.evaluation import evaluate
from jobs.radiance.randomness import seed_all
from jobs.radiance.trainer import ResumableTrainer

SEEDS = (1, 7, 42)
NOW = TrainOptions().with_profile("preview")
OPTIONS = {"before": NOW.model_copy(update={"max_num_iterations": 1000, "rays_per_batch": 1024}), "now": NOW}
SLICES = 100


def as_before(config: TrainerConfig) -> None:
    """Change the settings of a small nerfacto to those that this benchmark found too slow."""
    config.pipeline.model.log2_hashmap_size = 16
    for name in ("fields", "proposal_networks"):
        config.optimizers[name] = {
            "optimizer": AdamOptimizerConfig(lr=2e-2, eps=1e-15),
            "scheduler": ExponentialDecaySchedulerConfig(lr_final=1e-3, max_steps=config.max_num_iterations),
        }


class Training:
    """A training that other code takes step by step.

    Args:
        dataset: to train on.
        seed: of the random numbers.
        variant: a key of `OPTIONS`.
    """

    def __init__(self, dataset: Path, seed: int, variant: str) -> None:
        options = OPTIONS[variant].model_copy(update={"seed": seed})
        config = settings.configure(options, read_dataset(dataset), "cpu")
        if variant == "before":
            as_before(config)
        self.total: int = config.max_num_iterations
        model.set_paths(config, Path(), dataset.resolve())
        config.pipeline.datamanager._target = DataManager
        seed_all(seed)
        folder = Path(tempfile.mkdtemp())
        with model.lpips_from_cache():
            self._trainer = ResumableTrainer(config, folder, Checkpoints(folder, ""))
            self._trainer.setup()
        if variant == "now":
            cpu.fuse(self._trainer.optimizers)
        self._take = super(ResumableTrainer, self._trainer).train_iteration
        self._done, self._seconds = 0, 0.0
        self.curve: list[dict[str, float]] = []

    def advance(self, done: int) -> None:
        """Take steps until this number of steps is done."""
        start = time.process_time()
        self._trainer.pipeline.train()
        for step in range(self._done, done):
            self._call_back(step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
            self._take(step)
            self._call_back(step, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        self._done = done
        self._seconds += time.process_time() - start

    def _call_back(self, step: int, location: TrainingCallbackLocation) -> None:
        for callback in self._trainer.callbacks:
            callback.run_callback_at_location(step, location=location)

    def measure(self) -> None:
        """Append a point to the curve."""
        start = time.process_time()
        found = evaluate(self._trainer.pipeline)
        seconds = time.process_time() - start
        point = {"steps": self._done, "seconds": self._seconds, "psnr": found["psnr"], "ssim": found["ssim"]}
        self.curve.append(point | {"evaluation": seconds})


def compare(dataset: Path, seed: int) -> dict[str, Any]:
    """Train both variants in turn. Return the curve of each."""
    both = {variant: Training(dataset, seed, variant) for variant in OPTIONS}
    for part in range(1, SLICES + 1):
        for each in both.values():
            each.advance(each.total * part // SLICES)
        if part in (SLICES // 4, SLICES // 2, SLICES):
            for each in both.values():
                each.measure()
    return {variant: each.curve for variant, each in both.items()}


def mean(curves: list[dict[str, Any]], variant: str, point: int, figure: str) -> float:
    """Return the mean over all seeds of a figure at a point of the curve."""
    return sum(float(each[variant][point][figure]) for each in curves) / len(curves)


def table(name: str, curves: list[dict[str, Any]]) -> None:
    """Print the mean curves of a dataset, and the result of each seed."""
    print(f"| {name}, {len(curves)} seeds | CPU seconds | PSNR, dB | SSIM |\n|---|---|---|---|")
    for variant in OPTIONS:
        for point, at in enumerate(curves[0][variant]):
            seconds, psnr, ssim = (mean(curves, variant, point, figure) for figure in ("seconds", "psnr", "ssim"))
            print(f"| {variant}, {at['steps']} steps | {seconds:.0f} | {psnr:.2f} | {ssim:.3f} |")
    ends = [[f"{each[variant][-1]['psnr']:.2f}" for each in curves] for variant in OPTIONS]
    print(f"\nBy seed: {', '.join(ends[0])} dB before, {', '.join(ends[1])} dB now.")
    shares = [
        mean(curves, "now", -1, figure) / mean(curves, "before", -1, figure) for figure in ("seconds", "evaluation")
    ]
    print(f"CPU time now: {shares[0]:.0%} of before for the steps, {shares[1]:.0%} for rendering held-out photos.\n")


def main(folder: Path, datasets: dict[str, Path]) -> None:
    """Measure what is not yet measured, and print the tables."""
    torch.set_num_threads(1)
    cpu.install(point_gradients=False)
    datasets = {"street": street(folder / "street", width=640), **datasets}
    for seed in SEEDS:
        for name, dataset in datasets.items():
            file = folder / f"{name}-{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(compare(dataset, seed)))
    for name in datasets:
        table(name, [json.loads((folder / f"{name}-{seed}.json").read_text()) for seed in SEEDS])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(Path(sys.argv[1]), {name: Path(path) for name, _, path in (each.partition("=") for each in sys.argv[2:])})
