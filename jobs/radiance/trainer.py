"""nerfstudio's Trainer, with progress reports, a gate, a viewer and exact resumption."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.pipelines.base_pipeline import Pipeline
from torch import Tensor

from jobs import report
from jobs.camera_path import Origin
from jobs.errors import GateRefused, JobInterrupted
from jobs.radiance import gpu, support
from jobs.radiance.checkpoints import Checkpoints
from jobs.radiance.randomness import random_state, set_random_state
from jobs.radiance.viewer import Thumbnails, open_viewer

if TYPE_CHECKING:
    from jobs.radiance.steps import Steps

__all__ = ["ResumableTrainer", "pipeline_state"]

_MOST_POINTS = 200  # of the training curve
_STEPS_AHEAD = 50  # steps that may be queued on the GPU; an interruption or the viewer waits for them

# State of nerfacto's sampler. It decides in which steps the proposal networks are trained.
_SAMPLER_STATE = ("_step", "_steps_since_update")


class ResumableTrainer(Trainer):  # type: ignore[misc]
    """nerfstudio's Trainer, with progress reports, a gate for NaN and exact resumption.

    Args:
        config: nerfstudio's config of the training.
        output: the model folder.
        checkpoints: where checkpoints are kept between attempts.
        frame: the dataset, as name:version, whose scene frame camera paths drawn in the viewer belong to.
    """

    def __init__(self, config: TrainerConfig, output: Path, checkpoints: Checkpoints, frame: str | None = None) -> None:
        super().__init__(config)
        self.base_dir = output
        self.checkpoints = checkpoints
        self.frame = frame
        self.scratch = tempfile.TemporaryDirectory()
        self.total: int = config.max_num_iterations
        self.steps: Steps | None = None
        """Runs whole steps as CUDA graphs. None if nerfstudio runs the steps."""
        self.seconds = 0.0
        """The time spent in training steps, over all attempts."""
        self.curve: dict[str, list[float | None]] = {"step": [], "loss": [], "psnr": []}
        """Loss and PSNR of single steps, at even intervals, over all attempts. PSNR is that of the step's rays."""
        self.terminated = False
        """Whether SIGTERM arrived. Training then ends after the current step."""
        self._bad_losses = 0

    def use_graphs(self) -> str | None:
        """Run the steps as CUDA graphs from now on. Return the reason if that is impossible, else None."""
        from jobs.radiance import steps

        try:
            self.steps = steps.build(self.pipeline, self.optimizers)
        except support.NotCovered as why:
            return str(why)
        return None

    def resume(self) -> int:
        """Continue from the newest checkpoint, if there is one. Return the number of finished steps."""
        if (state := self.checkpoints.newest()) is not None:
            self.pipeline.load_pipeline(state["pipeline"], state["step"])
            self.optimizers.load_optimizers(state["optimizers"])
            self.optimizers.load_schedulers(state["schedulers"])
            self.grad_scaler.load_state_dict(state["scalers"])
            self.seconds = state["seconds"]
            self.curve = state.get("curve", self.curve)
            for name, value in state["sampler"].items():
                setattr(self.pipeline.model.proposal_sampler, name, value)
            set_random_state(state["random"])
            self._start_step = state["step"] + 1
            print(f"Resuming from the checkpoint of step {state['step']}.")
        self.config.max_num_iterations = self.total - self._start_step  # nerfstudio counts the steps that remain
        return int(self._start_step)

    def open_viewer(self) -> None:
        """Serve nerfstudio's viewer during the training. Without a viewer, training goes on."""
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
            print(f"The viewer did not start, so this training has none: {error}")
            return
        # A spectator must not be able to pause a machine that costs money.
        viewer.pause_train.visible = False
        self.viewer_state, self.config.vis = viewer, "viewer"
        report.emit(report.PageReport("train", "viewer", viewer.viser_server.get_port()))

    def close_viewer(self) -> None:
        """Stop the viewer, even if browsers are still connected."""
        if self.viewer_state is not None:
            self.viewer_state.viser_server.stop()
        self.scratch.cleanup()

    def _init_viewer_state(self) -> None:
        if self.viewer_state is not None:
            self.viewer_state.init_scene(Thumbnails(self.pipeline.datamanager.train_dataset), self.training_state)

    def train(self) -> None:
        """Train to the last step. The last checkpoint may still be written afterwards; `checkpoints.wait` waits for it.

        Raises:
            JobInterrupted: SIGTERM arrived. A checkpoint was saved.
            GateRefused: the loss is not a number.
        """
        self._meter = report.Meter("train", self.total, done=self._start_step)
        self._reported = (self._start_step, time.monotonic())
        if self._start_step < self.total:
            self.open_viewer()
            try:
                super().train()
            except BaseException:
                self.checkpoints.wait()  # for the one that is being written
                raise
            self.close_viewer()

    def train_iteration(self, step: int) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Run one step; see nerfstudio."""
        if self.terminated:
            if step > self._start_step:
                self.save_checkpoint(step - 1)
            self.interrupt(step)
        start = time.monotonic()
        taken = self._newest = (self.steps.take if self.steps else super().train_iteration)(step)
        self.seconds += time.monotonic() - start
        return taken

    def interrupt(self, done: int) -> NoReturn:
        """Wait until the last checkpoint is written, and raise `JobInterrupted` after `done` finished steps."""
        self.checkpoints.wait()
        raise JobInterrupted(
            f"Training was interrupted after {done} of {self.total} steps. The next attempt resumes there."
        )

    def _update_viewer_state(self, step: int) -> None:
        # The viewer may render now. Waiting for the GPU here keeps its queue short.
        self._observe(step)
        super()._update_viewer_state(step)

    def _observe(self, step: int) -> None:
        """Check and report the progress at intervals, because reading a figure waits for the GPU."""
        loss, _, metrics = self._newest
        done, now = step + 1, time.monotonic()
        if done % (_STEPS_AHEAD if self.steps else 10) == 0 or done == self.total:
            self._check(loss, step)
        if done % math.ceil(self.total / _MOST_POINTS) == 0 or done == self.total:
            self._note(done, loss, metrics.get("psnr", math.nan))
        if now - self._reported[1] > 2 or done == self.total:
            pace = (done - self._reported[0]) / (now - self._reported[1])
            rays = self.pipeline.datamanager.get_train_rays_per_batch() * pace
            self._reported = (done, now)
            lr = next(iter(self.optimizers.optimizers.values())).param_groups[0]["lr"]
            figures = {"loss": loss, "psnr": metrics.get("psnr", math.nan), "steps/s": pace, "rays/s": rays, "lr": lr}
            known = {name: torch.as_tensor(value).item() for name, value in figures.items()}
            self._meter.update(done, known | gpu.read_utilization())
        self.seconds += time.monotonic() - now

    def _note(self, done: int, loss: Tensor, psnr: Tensor | float) -> None:
        """Append a point to the curve. PSNR is NaN for methods that do not compute it."""
        point = (done, *(float(f"{torch.as_tensor(value).item():.5g}") for value in (loss, psnr)))
        for values, value in zip(self.curve.values(), point, strict=True):
            values.append(value if math.isfinite(value) else None)

    def save_checkpoint(self, step: int) -> None:
        """Save a checkpoint that the training can resume from after `step`, the last finished step.

        Other steps may run while it is written. `checkpoints.wait` waits for it.
        """
        sampler = getattr(self.pipeline.model, "proposal_sampler", None)
        state = {
            "step": step,
            "pipeline": pipeline_state(self.pipeline),
            "optimizers": {name: _optimizer_state(each) for name, each in self.optimizers.optimizers.items()},
            "schedulers": {name: each.state_dict() for name, each in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
            "seconds": self.seconds,
            "curve": self.curve,
            "sampler": {name: getattr(sampler, name) for name in _SAMPLER_STATE if hasattr(sampler, name)},
            "random": random_state(),
        }
        self.checkpoints.save_meanwhile(step, state)

    def _after_train(self) -> None:
        # nerfstudio's version also prints a folder that is not the model's, and waits for its viewer.
        self.training_state = "completed"
        self.save_checkpoint(self.step)
        for callback in self.callbacks:
            callback.run_callback_at_location(step=self.step, location=TrainingCallbackLocation.AFTER_TRAIN)

    def _check(self, loss: Tensor, step: int) -> None:
        # In half precision, single losses may be infinite. The gradient scaler skips those steps.
        self._bad_losses = 0 if bool(torch.isfinite(loss)) else self._bad_losses + 1
        if self._bad_losses == 3:
            raise GateRefused(
                f"Training diverged: the loss is not a number at step {step}. Check the poses and the focal length in "
                "the dataset's transforms.json, or prepare the dataset again. If they are right, try another seed or "
                "method."
            )


def _optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of an optimizer. The learning rate is a number, although CUDA graphs keep it on the GPU."""
    state: dict[str, Any] = optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
    return state


def pipeline_state(pipeline: Pipeline) -> dict[str, Tensor]:
    """Return the pipeline's parameters and buffers, without the LPIPS network, which nerfstudio loads itself."""
    return {name: value for name, value in pipeline.state_dict().items() if ".lpips." not in name}
