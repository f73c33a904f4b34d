"""A dataset to a model: `python -m jobs.train --dataset DIR --model DIR --checkpoints DIR [options]`.

nerfstudio's own Trainer runs in this process, so that the loop can be watched, interrupted and taken up again.
Checkpoints go to a folder that may be a slow network mount; the model folder gets only the finished model.
"""

from __future__ import annotations

import copy
import errno
import json
import math
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jobs.radiance  # noqa: F401 – before nerfstudio, which then starts without torch's compiler

# isort: split
import numpy as np
import torch
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager
from nerfstudio.data.datamanagers.parallel_datamanager import ParallelDataManager
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils.external import TCNN_EXISTS
from pydantic import ValidationError
from pydantic_settings import CliApp
from torch import Tensor

from jobs import manifest, memory, model, report
from jobs.camera_path import Origin
from jobs.errors import GateRefused, InvalidInput, JobFailed, JobInterrupted
from jobs.options import TrainOptions
from jobs.radiance import cpu, cuda, gpu, support
from jobs.radiance.checkpoints import Checkpoints, content_of, place
from jobs.radiance.methods import all_methods
from jobs.radiance.viewer import open_viewer

if TYPE_CHECKING:
    from jobs.radiance.steps import Steps

_MOST_POINTS = 200  # of a training's curve
_STEPS_AHEAD = 50  # of the GPU, by graphs: so much waits when training is to end, or a picture is to be shown

# Of nerfacto's sampler; they decide whether the proposal networks are trained in a step.
_SAMPLER_STATE = ("_step", "_steps_since_update")


class Dataset(NamedTuple):
    """What training needs to know of a dataset before nerfstudio reads it."""

    path: Path
    """The folder, or the JSON file itself where it isn't called transforms.json."""
    images: int
    longest_side: int
    """px, of the largest image at full size."""
    pyramid: tuple[int, ...]
    """Factors at which every image exists in an `images_<factor>` folder, 1 included."""
    in_scene_frame: bool
    """The poses are already oriented, centred and scaled."""
    has_depth: bool
    has_masks: bool
    checksum: str
    """SHA-256 of the transforms."""


def read_dataset(path: Path) -> Dataset:
    """Look at a dataset's `transforms.json` and pyramid.

    Raises:
        InvalidInput: it cannot be trained on; the text names the file and key.
    """
    file = model.transforms_file(path)
    try:
        content = json.loads(file.read_text())
        frames = content["frames"]
        sides = [max(int(frame.get("w", content.get("w"))), int(frame.get("h", content.get("h")))) for frame in frames]
        poses = [value for frame in frames for row in frame["transform_matrix"] for value in row]
        names = [Path(frame["file_path"]) for frame in frames]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{file} is not a nerfstudio dataset: {error!r}; make it with jobs.prepare") from error
    if len(frames) < 2:
        raise InvalidInput(f"{file} has {len(frames)} photos; at least 2 are needed, one of them to hold out")
    if not all(math.isfinite(value) for value in poses):
        raise InvalidInput(f"{file} holds a pose that is not finite; prepare the dataset again")
    if missing := [name for name in names if not (file.parent / name).is_file()]:
        raise InvalidInput(f"{file} names {len(missing)} photos that are not there, the first: {missing[0]}")
    pyramid = [f for f in (2, 4, 8, 16) if all((file.parent / f"images_{f}" / name.name).is_file() for name in names)]
    return Dataset(
        path=path,
        images=len(frames),
        longest_side=max(sides),
        pyramid=(1, *pyramid),
        in_scene_frame="applied_scale" in content,
        has_depth="depth_file_path" in frames[0],
        has_masks="mask_path" in frames[0],
        checksum=manifest.checksum(file),
    )


def configure(options: TrainOptions, dataset: Dataset, device: str) -> TrainerConfig:
    """nerfstudio's config of the method, set for this dataset, device ("cpu" or "cuda") and these options.

    Raises:
        InvalidInput: the method cannot work on this dataset or machine, or lacks an option that was asked for.
    """
    method = options.method
    if method == "depth-nerfacto" and not dataset.has_depth:
        raise InvalidInput(f"{dataset.path} has no depth maps, which the method {method} needs; take nerfacto")
    cuda.check(method, device)

    config = copy.deepcopy(all_methods[method])
    config.max_num_iterations = options.max_num_iterations or config.max_num_iterations
    config.steps_per_save = options.steps_per_save
    config.machine.device_type = device
    config.machine.seed = options.seed
    config.logging.local_writer.enable = False
    config.viewer.quit_on_train_completion = True
    config.vis = "none"  # no event files; the viewer is opened once there is something to see
    for name, value in model.VIEWER.items():
        setattr(config.viewer, name, value)

    datamanager = config.pipeline.datamanager
    parser = datamanager.dataparser
    if not isinstance(parser, NerfstudioDataParserConfig):
        parser = datamanager.dataparser = NerfstudioDataParserConfig()
    if dataset.in_scene_frame:
        parser.orientation_method, parser.center_method, parser.auto_scale_poses = "none", "none", False
    # nerfstudio rounds the share of training photos up: with fewer than 10 nothing would be held out
    parser.train_split_fraction = min(parser.train_split_fraction, 1 - 1.5 / dataset.images)
    parser.downscale_factor, datamanager.camera_res_scale_factor = _scale(dataset, options.max_image_size)
    if options.rays_per_batch is not None:
        if not hasattr(datamanager, "train_num_rays_per_batch"):
            raise InvalidInput(f"the method {method} trains on whole photos: leave out the rays per batch")
        datamanager.train_num_rays_per_batch = options.rays_per_batch
    if options.model_size == "small":
        _make_small(config)
    return config


def _scale(dataset: Dataset, max_image_size: int | None) -> tuple[int, float]:
    """The pyramid's factor, and by how much to scale its images so that the longest side is `max_image_size` px."""
    if max_image_size is None or max_image_size >= dataset.longest_side:
        return 1, 1.0
    factor = max(f for f in dataset.pyramid if f == 1 or dataset.longest_side // f >= max_image_size)
    side = dataset.longest_side // factor
    # nerfstudio cuts sizes to whole pixels, once in double and once in single precision: stay off the edge
    return factor, 1.0 if side == max_image_size else (max_image_size + 0.01) / side


def _make_small(config: TrainerConfig) -> None:
    """Shrink a nerfacto to what two CPU cores train and render within minutes (see benchmarks/cpu_encoding.py)."""
    small: dict[str, Any] = {
        "num_levels": 8,
        "features_per_level": 4,
        "log2_hashmap_size": 16,
        "max_res": 512,
        "hidden_dim": 32,
        "hidden_dim_color": 32,
        "num_proposal_iterations": 1,
        "num_proposal_samples_per_ray": (32,),
        "num_nerf_samples_per_ray": 16,
        "proposal_net_args_list": [
            {"hidden_dim": 16, "log2_hashmap_size": 15, "num_levels": 5, "max_res": 128, "use_linear": False}
        ],
        "use_appearance_embedding": False,
        "proposal_weights_anneal_max_num_iters": 100,
        "implementation": "torch",
        "eval_num_rays_per_chunk": 2048,  # what is computed for them stays in the cache
    }
    network = config.pipeline.model
    for name, value in small.items():
        setattr(network, name, value)
    network.camera_optimizer.mode = "off"
    for name in ("fields", "proposal_networks"):  # fast at first, and fine within the few steps there are
        config.optimizers[name] = {
            "optimizer": AdamOptimizerConfig(lr=2e-2, eps=1e-15),
            "scheduler": ExponentialDecaySchedulerConfig(lr_final=1e-3, max_steps=config.max_num_iterations),
        }


class _Trainer(Trainer):  # type: ignore[misc]
    """nerfstudio's Trainer with progress, a gate for NaN, and checkpoints that can be taken up exactly."""

    def __init__(self, config: TrainerConfig, output: Path, checkpoints: Checkpoints, frame: str | None = None) -> None:
        super().__init__(config)
        self.base_dir = output
        self.checkpoints = checkpoints
        self.frame = frame
        """That camera paths drawn in the viewer belong to."""
        self.scratch = tempfile.TemporaryDirectory()
        self.total: int = config.max_num_iterations
        self.steps: Steps | None = None
        """Whole steps as CUDA graphs; None: by nerfstudio."""
        self.seconds = 0.0
        """Spent in training steps, over all attempts."""
        self.curve: dict[str, list[float | None]] = {"step": [], "loss": [], "psnr": []}
        """Of the rays of single steps, evenly spaced, over all attempts."""
        self.terminated = False
        """SIGTERM came: end after this step."""
        self._bad_losses = 0

    def use_graphs(self) -> str | None:
        """Take steps by CUDA graphs from now on; why not, in words, where that cannot be."""
        from jobs.radiance import steps

        try:
            self.steps = steps.build(self.pipeline, self.optimizers)
        except support.NotCovered as why:
            return str(why)
        return None

    def resume(self) -> int:
        """Go on from the newest checkpoint; the number of steps already done."""
        if (state := self.checkpoints.newest()) is not None:
            self.pipeline.load_pipeline(state["pipeline"], state["step"])
            self.optimizers.load_optimizers(state["optimizers"])
            self.optimizers.load_schedulers(state["schedulers"])
            self.grad_scaler.load_state_dict(state["scalers"])
            self.seconds = state["seconds"]
            self.curve = state.get("curve", self.curve)
            for name, value in state["sampler"].items():
                setattr(self.pipeline.model.proposal_sampler, name, value)
            _set_random_state(state["random"])
            self._start_step = state["step"] + 1
            print(f"Going on from the checkpoint of step {state['step']}.")
        self.config.max_num_iterations = self.total - self._start_step  # nerfstudio counts from the start step
        return int(self._start_step)

    def open_viewer(self) -> None:
        """Serve nerfstudio's viewer while training; training goes on without where it cannot."""
        try:
            viewer = open_viewer(
                self.config.viewer,
                self.pipeline,
                Path(self.scratch.name),
                Origin(frame=self.frame),
                trainer=self,
                train_lock=self.train_lock,
            )
        except (OSError, RuntimeError) as error:
            print(f"There is no viewer for this training: {error}")
            return
        # Who looks on must not hold a machine that is paid for.
        viewer.pause_train.visible = False
        self.viewer_state, self.config.vis = viewer, "viewer"
        report.emit(report.Page("train", "viewer", viewer.viser_server.get_port()))

    def close_viewer(self) -> None:
        """End the viewer, whoever still looks."""
        if self.viewer_state is not None:
            self.viewer_state.viser_server.stop()
        self.scratch.cleanup()

    def _init_viewer_state(self) -> None:
        if self.viewer_state is None:
            return
        shown = photos = self.pipeline.datamanager.train_dataset
        if isinstance(photos, _ByteImages):  # the viewer takes them as floats
            shown = InputDataset(self.pipeline.datamanager.train_dataparser_outputs, photos.scale_factor)
        self.viewer_state.init_scene(shown, self.training_state)

    def train(self) -> None:
        """Train to the end.

        Raises:
            JobInterrupted: SIGTERM came; a checkpoint was saved.
            GateRefused: the loss is not a number.
        """
        self._meter = report.Meter("train", self.total, done=self._start_step)
        self._told = (self._start_step, time.monotonic())
        if self._start_step < self.total:
            self.open_viewer()
            super().train()
            self.close_viewer()

    def train_iteration(self, step: int) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """One step; see nerfstudio."""
        if self.terminated:
            if step > self._start_step:
                self.save_checkpoint(step - 1)
            raise JobInterrupted(
                f"training was told to end after {step} of {self.total} steps; the next attempt goes on from there"
            )
        start = time.monotonic()
        taken = self._newest = (self.steps.take if self.steps else super().train_iteration)(step)
        self.seconds += time.monotonic() - start
        return taken

    def _update_viewer_state(self, step: int) -> None:
        # Here, the viewer may render: it need not wait for steps that the GPU still has to do.
        self._look(step)
        super()._update_viewer_state(step)

    def _look(self, step: int) -> None:
        """Look at how it goes, now and then: the GPU has to be waited for."""
        loss, _, metrics = self._newest
        done, now = step + 1, time.monotonic()
        if done % (_STEPS_AHEAD if self.steps else 10) == 0 or done == self.total:
            self._check(loss, step)
        if done % math.ceil(self.total / _MOST_POINTS) == 0 or done == self.total:
            self._note(done, loss, metrics.get("psnr", math.nan))
        if now - self._told[1] > 2 or done == self.total:
            pace = (done - self._told[0]) / (now - self._told[1])
            rays = self.pipeline.datamanager.get_train_rays_per_batch() * pace
            self._told = (done, now)
            lr = next(iter(self.optimizers.optimizers.values())).param_groups[0]["lr"]
            figures = {"loss": loss, "psnr": metrics.get("psnr", math.nan), "steps/s": pace, "rays/s": rays, "lr": lr}
            known = {name: torch.as_tensor(value).item() for name, value in figures.items()}
            self._meter.update(done, known | gpu.use())
        self.seconds += time.monotonic() - now

    def _note(self, done: int, loss: Tensor, psnr: Tensor | float) -> None:
        """Another point of the curve; not every method tells its PSNR."""
        point = (done, *(float(f"{torch.as_tensor(value).item():.5g}") for value in (loss, psnr)))
        for values, value in zip(self.curve.values(), point, strict=True):
            values.append(value if math.isfinite(value) else None)

    def save_checkpoint(self, step: int) -> None:
        """Save all that it takes to go on after `step`, the last step that was done."""
        sampler = getattr(self.pipeline.model, "proposal_sampler", None)
        state = {
            "step": step,
            "pipeline": _pipeline_state(self.pipeline),
            "optimizers": {name: _optimizer_state(each) for name, each in self.optimizers.optimizers.items()},
            "schedulers": {name: each.state_dict() for name, each in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
            "seconds": self.seconds,
            "curve": self.curve,
            "sampler": {name: getattr(sampler, name) for name in _SAMPLER_STATE if hasattr(sampler, name)},
            "random": _random_state(),
        }
        self.checkpoints.save(step, _plain(state))

    def _after_train(self) -> None:
        # nerfstudio would also print a table with a folder that is not the model's, and wait for its viewer
        self.training_state = "completed"
        self.save_checkpoint(self.step)
        for callback in self.callbacks:
            callback.run_callback_at_location(step=self.step, location=TrainingCallbackLocation.AFTER_TRAIN)

    def _check(self, loss: Tensor, step: int) -> None:
        # half precision has single bad losses, whose steps the gradient scaler leaves out
        self._bad_losses = 0 if bool(torch.isfinite(loss)) else self._bad_losses + 1
        if self._bad_losses == 3:
            raise GateRefused(
                f"the loss is not a number at step {step}: training diverged. Look at the poses and the focal length "
                "in the dataset's transforms.json, or prepare it again; else try another seed or method"
            )


def _plain(value: Any) -> Any:
    """`value` with NumPy's scalars as Python's: what `torch.load` takes without unpickling objects."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(each) for each in value)
    return value.item() if isinstance(value, np.generic) else value


def _optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state; its learning rate, which a CUDA graph reads from the GPU, as a number."""
    state: dict[str, Any] = optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
    return state


def _pipeline_state(pipeline: Pipeline) -> dict[str, Tensor]:
    """The pipeline's parameters and buffers, without LPIPS's network: nerfstudio brings that itself."""
    return {name: value for name, value in pipeline.state_dict().items() if ".lpips." not in name}


def _random_state() -> dict[str, Any]:
    state = np.random.get_state(legacy=False)
    return {
        "python": random.getstate(),
        "numpy": {**state, "state": {"key": state["state"]["key"].tolist(), "pos": state["state"]["pos"]}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


class _ByteImages(InputDataset):  # type: ignore[misc]
    """Photos as bytes: a quarter of the memory."""

    def __getitem__(self, image_idx: int) -> dict[str, Any]:
        data: dict[str, Any] = self.get_data(image_idx, image_type="uint8")
        return data


class _DataManager(VanillaDataManager[InputDataset]):  # type: ignore[misc]
    """nerfstudio's data manager for rays, in this process, with the photos cached as bytes.

    nerfacto's own (parallel) one starts a process that imports everything again, whose random state no checkpoint
    can hold, and which leaves training waiting for ever when it alone is ended.
    """

    def create_train_dataset(self) -> InputDataset:
        return _ByteImages(self.train_dataparser_outputs, scale_factor=self.config.camera_res_scale_factor)

    def setup_train(self) -> None:
        self._is_set_up = False  # photos are read when a batch is asked for: CUDA graphs keep their own

    def setup_eval(self) -> None:
        # nerfstudio would cache all held-out photos too; they are read one by one, once
        self.fixed_indices_eval_dataloader = FixedIndicesEvalDataloader(self.eval_dataset, device=self.device)

    def next_train(self, step: int) -> tuple[Any, dict[str, Any]]:
        if not self._is_set_up:
            before = _random_state()  # a resumed training must go on with the random numbers of its checkpoint
            super().setup_train()
            _set_random_state(before)
            self.train_ray_generator.to(self.device)
            self._is_set_up = True
        rays, batch = super().next_train(step)
        batch["image"] = batch["image"].float() / 255.0
        return rays, batch


def _cache_images(config: TrainerConfig, dataset: Dataset, longest_side: int) -> None:
    """Have the photos cached in this process, on the GPU where they fit, and only some at a time if memory is short."""
    datamanager = config.pipeline.datamanager
    if datamanager._target not in (ParallelDataManager, VanillaDataManager):
        return
    datamanager._target = _DataManager
    size = dataset.images * longest_side**2 * 3
    if config.machine.device_type == "cuda":
        datamanager.images_on_gpu = size < 0.2 * torch.cuda.mem_get_info()[0]
    room = 0.4 * memory.available()  # the list of photos and the tensor made of it exist at the same time
    if size > room and not datamanager.images_on_gpu:
        at_a_time = max(1, int(dataset.images * room / size))
        datamanager.train_num_images_to_sample_from = at_a_time
        datamanager.train_num_times_to_repeat_images = max(100, at_a_time)
        print(f"{dataset.images} photos do not fit in memory: {at_a_time} of them are taken at a time.")


def evaluate(pipeline: Pipeline) -> dict[str, Any]:
    """Mean PSNR (dB), SSIM and LPIPS over the held-out photos, at the resolution that was trained on.

    Returns:
        psnr, ssim, lpips (None where it is not available), images: their number, image_size: the longest side in px at
        which they were compared, rays_per_second.
    """
    pipeline.eval()
    datamanager = pipeline.datamanager
    photos = getattr(datamanager, "fixed_indices_eval_dataloader", None)
    if photos is None:  # loaded for inference
        photos = FixedIndicesEvalDataloader(datamanager.eval_dataset, device=pipeline.device)
    meter = report.Meter("train:evaluate", len(photos))
    rows: list[dict[str, float]] = []
    rays, side, start = 0, 0, time.monotonic()
    for camera, batch in photos:
        with torch.no_grad():
            outputs = pipeline.model.get_outputs_for_camera(camera)
            figures, _ = pipeline.model.get_image_metrics_and_images(outputs, batch)
        rows.append({name: float(figures[name]) for name in ("psnr", "ssim", "lpips")})
        rays += int(camera.width) * int(camera.height)
        side = max(side, int(camera.width), int(camera.height))
        meter.update(len(rows), {"psnr": rows[-1]["psnr"]})
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {
        **{name: value if math.isfinite(value) else None for name, value in mean.items()},
        "images": len(rows),
        "image_size": side,
        "rays_per_second": round(rays / (time.monotonic() - start)),
    }


def train(options: TrainOptions, dataset: Path, output: Path, checkpoints: Path, frame: str | None = None) -> None:
    """Train a model, or go on training it, evaluate it, and write the model folder.

    Args:
        options: what to train.
        dataset: a folder with `transforms.json`, or that file.
        output: the model folder to write.
        checkpoints: a folder for checkpoints, kept between attempts.
        frame: the dataset, as name:version, that began this one's frame, for camera paths drawn meanwhile.

    Raises:
        InvalidInput: the dataset or options cannot work.
        GateRefused: training diverged.
        JobInterrupted: SIGTERM; the next attempt goes on from the checkpoint.
        JobFailed: memory or disk ran out.
    """
    timer = manifest.Timer()
    about = read_dataset(dataset)
    device = cuda.device()
    config = configure(options, about, device)
    print(f"{options.method} on {_gpu() or 'the CPU'}, {config.max_num_iterations} steps, {about.images} photos.")
    no_graphs = support.machine_lacks() or support.training_lacks(config, about.has_masks)
    if no_graphs is None:
        config.pipeline.model.implementation = "torch"
    tcnn = TCNN_EXISTS and getattr(config.pipeline.model, "implementation", "tcnn") == "tcnn"
    if device == "cuda" and not TCNN_EXISTS and getattr(config.pipeline.model, "implementation", "") == "tcnn":
        print("WARNING: tiny-cuda-nn is not installed: its torch replacement takes about twice as long a step.")
    saved = copy.deepcopy(config)
    with timer.step("setup"):
        _seed(options.seed)
        cpu.install(point_gradients=options.model_size != "small")
        cuda.install()
        model.set_paths(config, checkpoints.resolve(), dataset.resolve())
        _cache_images(config, about, min(options.max_image_size or about.longest_side, about.longest_side))
        fingerprint = options.model_copy(update={"steps_per_save": 1}).fingerprint(
            dataset=about.checksum, tcnn=str(tcnn)
        )
        trainer = _Trainer(config, output, Checkpoints(checkpoints, fingerprint), frame)
        with model.lpips_from_cache() as no_lpips:
            trainer.setup()
        if no_lpips:
            print(f"LPIPS is not available: {no_lpips}.")
        if no_graphs is None:
            no_graphs = trainer.use_graphs()
        if device == "cuda":
            how = f"by nerfstudio's own steps: {no_graphs}" if no_graphs else "by CUDA graphs"
            print(f"Training {how}.", flush=True)
            cuda.quicken(trainer.pipeline, graph=False)  # for the viewer
        done_before = trainer.resume()
    with timer.step("train"), _ended_by_signal(trainer):
        trainer.train()
    with timer.step("evaluate"):
        cuda.quicken(trainer.pipeline)
        figures = evaluate(trainer.pipeline)
    if figures["psnr"] is None:
        raise GateRefused("the held-out photos come out as NaN: training diverged; try another seed or method")
    with timer.step("save"):
        step = trainer.total - 1
        output.mkdir(parents=True, exist_ok=True)
        files = _write_model(output, saved, trainer, step)
    manifest.write(
        output / model.MANIFEST,
        options,
        timer,
        {
            "checkpoint": {"file": files[-1], "step": step, "sha256": manifest.checksum(output / files[-1])},
            "checksums": {name: manifest.checksum(output / name) for name in files},
            "dataset": {"images": about.images, "transforms_sha256": about.checksum},
            "metrics": {**figures, "lpips_not_available": no_lpips},
            "curve": trainer.curve,
            "steps": trainer.total,
            "steps_resumed": done_before,
            "training_seconds": round(trainer.seconds, 1),
            "steps_per_second": round(trainer.total / trainer.seconds, 3),
            "peak_memory_bytes": {
                "cpu": manifest.peak_memory(),
                "cuda": torch.cuda.max_memory_allocated() if device == "cuda" else None,
            },
            "gpu": _gpu(),
            "tiny_cuda_nn": tcnn,
            "cuda_graphs": trainer.steps is not None,
        },
    )
    lpips = "not available" if figures["lpips"] is None else f"{figures['lpips']:.3f}"
    report.emit(
        report.Result(
            "train",
            {
                "method": options.method,
                "psnr": round(figures["psnr"], 2),
                "ssim": round(figures["ssim"], 3),
                "lpips": lpips,
                "image_size": figures["image_size"],
                "steps": trainer.total,
                "training_seconds": round(trainer.seconds),
            },
        )
    )


def _write_model(output: Path, config: TrainerConfig, trainer: _Trainer, step: int) -> list[str]:
    """Write the files of the model folder; their names, the checkpoint's last."""
    model.save_config(config, output)
    trainer.pipeline.datamanager.train_dataparser_outputs.save_dataparser_transform(output / model.TRANSFORMS)
    checkpoint = output / model.CHECKPOINTS / f"step-{step:09d}.ckpt"
    checkpoint.parent.mkdir(exist_ok=True)
    for old in checkpoint.parent.iterdir():
        old.unlink()  # of an attempt that was ended right here
    place(content_of({"step": step, "pipeline": _pipeline_state(trainer.pipeline)}), checkpoint)
    return [model.CONFIG, model.TRANSFORMS, f"{model.CHECKPOINTS}/{checkpoint.name}"]


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


@contextmanager
def _ended_by_signal(trainer: _Trainer) -> Iterator[None]:
    """While inside, SIGTERM ends training after the step that runs."""

    def end(*_: object) -> None:
        trainer.terminated = True

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if trainer.terminated else before)


@contextmanager
def _clear_end(options: TrainOptions) -> Iterator[None]:
    """Turn running out of memory or disk into words with a remedy."""
    lower = f"lower the rays per batch ({options.rays_per_batch or 'as the method has it'}) or the image size"
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise JobFailed(f"the GPU ran out of memory: {lower}, or take a GPU with more. {error}") from error
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise JobFailed(f"main memory ran out: {lower}. {error}") from error
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise JobFailed(f"the disk is full: make room at {error.filename or 'the output'}; {error}") from error
        raise


class Job(TrainOptions):
    """The command line of this job."""

    dataset: Path
    model: Path
    checkpoints: Path
    frame: str | None = None


def main() -> None:
    """Run the job that the command line tells."""
    words = "training was told to end; the next attempt goes on from the newest checkpoint"
    signal.signal(signal.SIGTERM, report.interruption(words))
    warnings.filterwarnings("ignore", module="nerfstudio")  # that PyTorch will change, hundreds of lines
    try:
        job = CliApp.run(Job, cli_args=sys.argv[1:])
    except ValidationError as error:
        raise InvalidInput(f"these options cannot work: {error}") from error
    options = TrainOptions.of(job)
    with _clear_end(options):
        train(options, job.dataset, job.model, job.checkpoints, job.frame)


if __name__ == "__main__":
    report.run("train", main)
