"""Train a model on a dataset: `python -m jobs.train --dataset DIR --model DIR --checkpoints DIR [options]`.

nerfstudio's Trainer runs in this process, so that the job can report progress and resume after an interruption.
Checkpoints go to a folder that may be a slow network mount. The model folder gets only the finished model.
"""

from __future__ import annotations

import copy
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jobs.radiance  # noqa: F401 – before nerfstudio, which then starts without torch's compiler

# isort: split
import torch
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils.external import TCNN_EXISTS
from pydantic import ValidationError
from pydantic_settings import CliApp

from jobs import manifest, model, report
from jobs.errors import GateRefused, InvalidInput, JobFailed, is_disk_full
from jobs.options import TrainOptions
from jobs.radiance import cpu, cuda, gpu, revisit, support
from jobs.radiance.checkpoints import Checkpoints, content_of, write_new_file
from jobs.radiance.datamanager import cache_images
from jobs.radiance.dataset import Dataset, read_dataset
from jobs.radiance.evaluation import HeldOut, evaluate
from jobs.radiance.randomness import seed_all
from jobs.radiance.settings import SMALL, configure, has_appearances
from jobs.radiance.trainer import ResumableTrainer, pipeline_state
from jobs.validation import complaints


@dataclass(frozen=True)
class _Training:
    """A finished training.

    Args:
        trainer: which has the model.
        saved: nerfstudio's config, for the model folder.
        figures: what `evaluate` measured.
        done_before: the number of steps that earlier attempts had done.
        no_lpips: why LPIPS was not measured; None if it was.
    """

    trainer: ResumableTrainer
    saved: TrainerConfig
    figures: dict[str, Any]
    done_before: int
    no_lpips: str | None


def train(
    options: TrainOptions,
    dataset: Path,
    output: Path,
    checkpoints: Path,
    frame: str | None = None,
    earlier: Path | None = None,
) -> None:
    """Train a model, or resume its training, evaluate it, and write the model folder.

    Args:
        options: of the training.
        dataset: a folder with `transforms.json`, or such a file.
        output: the model folder to write.
        checkpoints: a folder for checkpoints, kept between attempts.
        frame: the dataset, as name:version, that defined the scene frame. Camera paths drawn in the viewer record it.
        earlier: the model folder of an earlier visit to start from, if the options say so.

    Raises:
        InvalidInput: the dataset, the options or the earlier model do not work.
        GateRefused: training diverged.
        JobInterrupted: SIGTERM arrived. The next attempt resumes from the checkpoint.
        JobFailed: memory or disk space ran out.
    """
    timer = manifest.Timer()
    about = read_dataset(dataset)
    places = _Places(dataset, output, checkpoints, frame)
    start = revisit.read_start(earlier, options) if earlier and options.start == "earlier" else None
    tried: dict[str, Any] = {}
    if start:
        done, start, tried = _train_from(start, options, about, places, timer)
    else:
        done = _train_once(options, about, places, timer)
    trainer, figures = done.trainer, done.figures
    held_out: list[HeldOut] = figures.pop("pictures")
    if figures["psnr"] is None:
        raise GateRefused("Training diverged: the held-out photos render as NaN. Try another seed or method.")
    with timer.step("save"):
        step = trainer.total - 1
        output.mkdir(parents=True, exist_ok=True)
        files = [each for pair in held_out for each in (pair.photo, pair.rendering)]
        files += _write_model(output, done.saved, trainer, step)
        checksums = {name: manifest.checksum(output / name) for name in files}
    steps = trainer.total + (start.steps if start else 0)
    seconds = trainer.seconds + tried.get("seconds", 0.0)
    content = {
        "checkpoint": {"file": files[-1], "step": step, "sha256": checksums[files[-1]]},
        "checksums": checksums,
        "dataset": {"images": about.images, "transforms_sha256": about.checksum},
        "metrics": {**figures, "lpips_not_available": done.no_lpips},
        "held_out": [pair._asdict() for pair in held_out],
        "curve": trainer.curve,
        "steps": steps,
        "steps_resumed": done.done_before,
        "appearance": "per-photo" if has_appearances(done.saved) else "one",
        **({"start": tried} if tried else {}),
        "training_seconds": round(seconds, 1),
        "steps_per_second": round(trainer.total / trainer.seconds, 3),
        "peak_memory_bytes": gpu.peak_memory(),
        "gpu": _gpu(),
        "tiny_cuda_nn": _uses_tcnn(done.saved),
        "cuda_graphs": trainer.steps is not None,
    }
    manifest.write(output / model.MANIFEST, options, timer, content)
    summary = {"method": options.method, **_quality(figures, about), "steps": steps, "training_seconds": round(seconds)}
    if start:
        summary["started_from"] = "an earlier visit's model"
    report.emit(report.Figures("train", summary))


def _quality(figures: Mapping[str, Any], about: Dataset) -> dict[str, str | int | float]:
    """Return how well held-out photos are matched, rounded for people: PSNR in dB, SSIM, LPIPS and the photos' size."""
    quality: dict[str, str | int | float] = {"psnr": round(figures["psnr"], 2)}
    fitted = figures["psnr_colours_fitted"]
    if about.light and about.light.differs and fitted is not None:
        quality["psnr_colours_fitted"] = round(fitted, 2)
    lpips = "not available" if figures["lpips"] is None else f"{figures['lpips']:.3f}"
    return quality | {"ssim": round(figures["ssim"], 3), "lpips": lpips, "image_size": figures["image_size"]}


@dataclass(frozen=True)
class _Places:
    """Where a training reads and writes; see `train`."""

    dataset: Path
    output: Path
    checkpoints: Path
    frame: str | None


def _train_from(
    start: revisit.Start, options: TrainOptions, about: Dataset, places: _Places, timer: manifest.Timer
) -> tuple[_Training, revisit.Start | None, dict[str, Any]]:
    """Train from an earlier visit's model, or from the beginning if that is better.

    Returns:
        The training; what it started from, or None for the beginning; and what was tried, for the manifest.
    """
    if start.appearances != has_appearances(configure(options, about, cuda.device())):
        one = "an appearance for each photo" if start.appearances else "one appearance for all photos"
        print(f"The earlier visit's model has {one}, and this one does not. Training from the beginning.", flush=True)
        return _train_once(options, about, places, timer), None, {}
    done = _train_once(options, about, places, timer, start)
    psnr, tried = done.figures["psnr"], {"checkpoint": start.checksum, "psnr": start.psnr}
    if start.is_matched(psnr):
        return done, start, tried
    goes_on = start.is_near(psnr)
    print(
        f"After {done.trainer.total} steps from the earlier visit's model, held-out photos are matched at "
        f"{psnr or 0:.2f} dB instead of {start.psnr:.2f} dB. "
        f"{'Training goes on.' if goes_on else 'Training from the beginning.'}",
        flush=True,
    )
    tried |= {"given_up_at": psnr, "seconds": round(done.trainer.seconds, 1)}
    better = start.after(done.trainer.pipeline, done.trainer.total) if goes_on else None
    del done
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return _train_once(options, about, places, timer, better), better, tried


def _train_once(
    options: TrainOptions, about: Dataset, places: _Places, timer: manifest.Timer, start: revisit.Start | None = None
) -> _Training:
    """Train and evaluate a model: from the beginning, or in a share of the steps from another model."""
    device = cuda.device()
    config = configure(options, about, device)
    if start:
        revisit.shorten(config, start.share)
    print(f"{options.method} on {_gpu() or 'the CPU'}, {config.max_num_iterations} steps, {about.images} photos.")
    if about.light:
        each = "An appearance for each photo" if has_appearances(config) else "One appearance for all photos"
        print(f"{each} is learned: {about.light}.", flush=True)
    no_graphs = support.machine_lacks() or support.training_lacks(config)
    if no_graphs is None:
        config.pipeline.model.implementation = "torch"
    if device == "cuda" and not TCNN_EXISTS and getattr(config.pipeline.model, "implementation", "") == "tcnn":
        print("WARNING: tiny-cuda-nn is not installed. With its replacement, a step takes about twice as long.")
    saved = copy.deepcopy(config)
    with timer.step("setup"):
        seed_all(options.seed)
        cpu.install(point_gradients=options.model_size != "small" or options.refine_poses)
        cuda.install()
        model.set_paths(config, places.checkpoints.resolve(), places.dataset.resolve())
        cache_images(config, about, min(options.max_image_size or about.longest_side, about.longest_side))
        kept = Checkpoints(places.checkpoints, _fingerprint(options, about, saved, start))
        trainer = ResumableTrainer(config, places.output, kept, places.frame)
        with model.lpips_from_cache() as no_lpips:
            trainer.setup()
        cpu.fuse(trainer.optimizers)
        if no_lpips:
            print(f"LPIPS will not be measured: {no_lpips}.")
        if start:
            revisit.load_start(trainer.pipeline, start)
        if no_graphs is None:
            no_graphs = trainer.use_graphs()
        if device == "cuda":
            how = f"with nerfstudio's own steps: {no_graphs}" if no_graphs else "with CUDA graphs"
            print(f"Training {how}.", flush=True)
            cuda.accelerate_rendering(trainer.pipeline, graph=False)  # for the viewer
        done_before = trainer.resume()
    with timer.step("train"), _ended_by_signal(trainer):
        trainer.train()
    with timer.step("evaluate"):
        cuda.accelerate_rendering(trainer.pipeline)
        figures = evaluate(trainer.pipeline, places.output)
        kept.wait()  # for the last checkpoint
    return _Training(trainer, saved, figures, done_before, no_lpips)


def _fingerprint(options: TrainOptions, about: Dataset, config: TrainerConfig, start: revisit.Start | None) -> str:
    """Return the checksum of everything that decides a training, so that no other one's checkpoint is resumed."""
    decides = {"dataset": about.checksum, "tcnn": str(_uses_tcnn(config))}
    if start:
        decides |= {"start": start.checksum, "share": str(start.share)}
    if about.light:
        decides["appearances"] = str(has_appearances(config))
    if options.model_size == "small":
        decides["small"] = SMALL
    return options.model_copy(update={"steps_per_save": 1, "start": "fresh"}).fingerprint(**decides)


def _uses_tcnn(config: TrainerConfig) -> bool:
    return TCNN_EXISTS and getattr(config.pipeline.model, "implementation", "tcnn") == "tcnn"


def _write_model(output: Path, config: TrainerConfig, trainer: ResumableTrainer, step: int) -> list[str]:
    """Write the files of the model folder. Return their names, the checkpoint's last."""
    model.save_config(config, output)
    trainer.pipeline.datamanager.train_dataparser_outputs.save_dataparser_transform(output / model.TRANSFORMS)
    checkpoint = output / model.CHECKPOINTS / f"step-{step:09d}.ckpt"
    checkpoint.parent.mkdir(exist_ok=True)
    for old in checkpoint.parent.iterdir():
        old.unlink()  # left by an attempt that was interrupted while saving
    write_new_file(content_of({"step": step, "pipeline": pipeline_state(trainer.pipeline)}), checkpoint)
    return [model.CONFIG, model.TRANSFORMS, f"{model.CHECKPOINTS}/{checkpoint.name}"]


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


@contextmanager
def _ended_by_signal(trainer: ResumableTrainer) -> Iterator[None]:
    """Let SIGTERM end the training with `JobInterrupted` after the current step, even if that is the last one."""

    def end(*_: object) -> None:
        trainer.terminated = True

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if trainer.terminated else before)
    if trainer.terminated:
        trainer.interrupt(trainer.total)


@contextmanager
def _clear_end(options: TrainOptions) -> Iterator[None]:
    """Turn a lack of memory or disk space into an error that names a remedy."""
    lower = f"lower the rays per batch ({options.rays_per_batch or 'now the default'}) or the image size"
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise JobFailed(f"The GPU ran out of memory: {lower}, or use a larger GPU. {error}") from error
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise JobFailed(f"Main memory ran out: {lower}. {error}") from error
        raise
    except OSError as error:
        if is_disk_full(error):
            raise JobFailed(f"The disk is full. Free space at {error.filename or 'the output'}. {error}") from error
        raise


class Job(TrainOptions):
    """The command line of this job."""

    dataset: Path
    model: Path
    checkpoints: Path
    frame: str | None = None
    earlier: Path | None = None


def main() -> None:
    """Run the job of this command line."""
    words = "Training was interrupted. The next attempt resumes from the newest checkpoint."
    signal.signal(signal.SIGTERM, report.interruption(words))
    warnings.filterwarnings("ignore", module="nerfstudio")  # hundreds of lines about changes in PyTorch
    try:
        job = CliApp.run(Job, cli_args=sys.argv[1:])
    except ValidationError as error:
        raise InvalidInput(f"The options of the training are not valid: {'; '.join(complaints(error))}") from error
    options = TrainOptions.of(job)
    with _clear_end(options):
        train(options, job.dataset, job.model, job.checkpoints, job.frame, job.earlier)


if __name__ == "__main__":
    report.run("train", main)
