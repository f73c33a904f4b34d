"""Compare `jobs.radiance.cpu` with nerfstudio's own PyTorch code: `python benchmarks/cpu_encoding.py DATASET`.

Runs both in turn, in one process, on the same small nerfacto and the same rays. Takes the least of several CPU times,
so that other programs on the machine matter little. Prints a table, which is kept in cpu_encoding.md.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.spatial_distortions import SceneContraction

from jobs import model
from jobs.options import TrainOptions
from jobs.radiance import cpu, settings
from jobs.radiance.checkpoints import Checkpoints
from jobs.radiance.datamanager import DataManager
from jobs.radiance.dataset import read_dataset
from jobs.radiance.trainer import ResumableTrainer

ROUNDS = 7


def stock(optimizers: Optimizers) -> None:
    """Run nerfstudio's own code, and PyTorch's default Adam."""
    HashEncoding.pytorch_fwd = cpu._stock_encode
    SceneContraction.forward = cpu._stock_contract
    for optimizer in optimizers.optimizers.values():
        for group in optimizer.param_groups:
            group.update(fused=False)


def ours(optimizers: Optimizers) -> None:
    """Run this project's code."""
    cpu.install(point_gradients=False)
    cpu.fuse(optimizers)


def least(run: Callable[[], object], optimizers: Optimizers) -> list[float]:
    """Return the least CPU time of `run` in seconds, with nerfstudio's and with our code."""
    best = [float("inf")] * 2
    for _ in range(ROUNDS):
        for index, install in enumerate((stock, ours)):
            install(optimizers)
            start = time.process_time()
            run()
            best[index] = min(best[index], time.process_time() - start)
    return best


def main(dataset: Path) -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    options = TrainOptions().with_profile("preview")
    rays = options.rays_per_batch
    assert rays
    about = read_dataset(dataset)
    config = settings.configure(options, about, "cpu")
    model.set_paths(config, Path(), dataset.resolve())
    config.pipeline.datamanager._target = DataManager
    with tempfile.TemporaryDirectory() as folder, model.lpips_from_cache():
        trainer = ResumableTrainer(config, Path(folder), Checkpoints(Path(folder), ""))
        trainer.setup()
    step = super(ResumableTrainer, trainer).train_iteration
    network = trainer.pipeline.model
    encoding = network.field.mlp_base.model[0]
    points = torch.rand(rays * network.config.num_nerf_samples_per_ray, 3)

    def encode() -> torch.Tensor:
        with torch.no_grad():
            encoded: torch.Tensor = encoding.pytorch_fwd(points)
            return encoded

    def encode_and_back() -> None:
        encoding.pytorch_fwd(points).sum().backward()

    def train_step() -> None:
        network.proposal_sampler._steps_since_update = 99  # the proposal network is trained in every step
        step(0)

    runs: dict[str, Callable[[], object]] = {
        f"encode {len(points)} points, {encoding.num_levels} levels, ms": encode,
        "… and back, ms": encode_and_back,
        f"training step of {rays} rays, ms": train_step,
        "of which Adam, ms": trainer.optimizers.optimizer_step_all,
    }
    rows = [(name, 1e3, least(run, trainer.optimizers)) for name, run in runs.items()]
    trainer.pipeline.eval()
    camera = trainer.pipeline.datamanager.eval_dataset.cameras[:1]
    camera.rescale_output_resolution(0.5)
    seconds = least(lambda: network.get_outputs_for_camera(camera), trainer.optimizers)
    count = int(camera.width) * int(camera.height)
    print(f"| on one thread, torch {torch.__version__} | nerfstudio | here | |\n|---|---|---|---|")
    for name, scale, (old, new) in rows:
        print(f"| {name} | {old * scale:.0f} | {new * scale:.0f} | {old / new:.1f} × |")
    old, new = (count / each for each in seconds)
    print(f"| rendering, rays/s | {old:,.0f} | {new:,.0f} | {new / old:.1f} × |")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(Path(sys.argv[1]))
