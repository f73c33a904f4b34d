"""What only a GPU can show: CUDA graphs, what they make of interruptions, and pictures meanwhile."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic_settings import CliApp

pytest.importorskip("nerfstudio")
pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

import torch

from jobs import model, report, train
from jobs.options import TrainOptions
from jobs.radiance import cuda, steps, support
from jobs.radiance.trainer import ResumableTrainer

pytestmark = [
    pytest.mark.usefixtures("nerfstudios_own_functions"),
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here"),
]
OPTIONS = TrainOptions(max_num_iterations=800, max_image_size=480, rays_per_batch=1024, steps_per_save=200)


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / model.MANIFEST).read_text())
    return content


def at_the_end(content: dict[str, Any]) -> float:
    """Return the mean PSNR of rays in the last fifth of a training, dB."""
    curve: list[float] = content["curve"]["psnr"]
    last = curve[-len(curve) // 5 :]
    return sum(last) / len(last)


def test_interrupted_three_times_a_training_is_as_good(tiny_dataset: Path, tmp_path: Path) -> None:
    longer = OPTIONS.model_copy(update={"max_num_iterations": 8000})
    train.train(longer, tiny_dataset, tmp_path / "whole", tmp_path / "checkpoints of it")
    places = ("--dataset", tiny_dataset, "--model", tmp_path / "model", "--checkpoints", tmp_path / "checkpoints")
    command = [sys.executable, "-m", "jobs.train", *map(str, places), *CliApp.serialize(longer)]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
            assert job.stdout is not None
            for line in job.stdout:
                told = report.parse(line)
                if isinstance(told, report.Progress) and told.metrics:
                    break
            time.sleep(1)  # of training
            job.send_signal(signal.SIGTERM)
            assert job.wait(20) == report.EXIT_INTERRUPTED
    train.train(longer, tiny_dataset, tmp_path / "model", tmp_path / "checkpoints")
    whole, resumed = manifest_of(tmp_path / "whole"), manifest_of(tmp_path / "model")
    assert whole["cuda_graphs"] and resumed["cuda_graphs"] and resumed["steps_resumed"] > 1000
    assert len(resumed["curve"]["step"]) == len(whole["curve"]["step"]) == 200
    assert at_the_end(resumed) == pytest.approx(at_the_end(whole), abs=0.2)


def test_pictures_are_made_while_graphs_train(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the viewer does: in a thread of its own that takes the trainer's lock."""
    pictures: list[torch.Tensor] = []
    over = threading.Event()

    def look(trainer: ResumableTrainer) -> None:
        network = trainer.pipeline.model
        camera = trainer.pipeline.datamanager.train_dataset.cameras[:1].to(network.device)
        while not over.is_set():
            with trainer.train_lock:
                network.eval()
                with torch.no_grad():
                    pictures.append(network.get_outputs_for_camera(camera)["rgb"].mean())
                network.train()
            over.wait(0.01)

    def open_viewer(trainer: ResumableTrainer) -> None:
        threading.Thread(target=look, args=[trainer]).start()

    monkeypatch.setattr(ResumableTrainer, "open_viewer", open_viewer)
    monkeypatch.setattr(ResumableTrainer, "close_viewer", lambda _: over.set())
    try:
        train.train(OPTIONS, tiny_dataset, tmp_path / "model", tmp_path / "checkpoints")
    finally:
        over.set()
    assert len(pictures) > 5 and torch.isfinite(torch.stack(pictures)).all()
    assert manifest_of(tmp_path / "model")["metrics"]["psnr"] > 15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("method", ["nerfacto", "nerfacto-big"])
def test_both_precisions_and_sizes_learn(
    method: str, dtype: torch.dtype, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithDtype(steps.Steps):
        def __init__(self, model: Any, optimizers: Any, photos: Any, rays: int, _: torch.dtype) -> None:
            super().__init__(model, optimizers, photos, rays, dtype)

    monkeypatch.setattr(steps, "Steps", WithDtype)
    options = OPTIONS.model_copy(update={"method": method, "max_num_iterations": 400})
    train.train(options, tiny_dataset, tmp_path / "model", tmp_path / "checkpoints")
    content = manifest_of(tmp_path / "model")
    assert content["cuda_graphs"] and at_the_end(content) > 18


def test_training_resumes_a_checkpoint_of_cuda_graphs_without_them(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until(self: steps.Steps, step: int) -> Any:
        if step == 250:
            raise KeyboardInterrupt
        return take(self, step)

    take = steps.Steps.take
    monkeypatch.setattr(steps.Steps, "take", until)
    options = OPTIONS.model_copy(update={"max_num_iterations": 300})
    with pytest.raises(KeyboardInterrupt):
        train.train(options, tiny_dataset, tmp_path / "model", tmp_path / "checkpoints")
    monkeypatch.setattr(support, "machine_lacks", lambda: "this is a test")
    train.train(options, tiny_dataset, tmp_path / "model", tmp_path / "checkpoints")
    content = manifest_of(tmp_path / "model")
    assert content["steps_resumed"] == 201 and not content["cuda_graphs"] and at_the_end(content) > 18


def test_frames_are_nerfstudios(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train.train(OPTIONS, tiny_dataset, tmp_path / "model", tmp_path / "checkpoints")
    pipeline = model.load(tmp_path / "model", tiny_dataset)
    camera = pipeline.datamanager.train_dataparser_outputs.cameras[3:4].to(pipeline.device)
    shown = pipeline.model.get_outputs_for_camera(camera)
    monkeypatch.setattr(cuda, "support", SimpleNamespace(machine_lacks=lambda: "this is a test"))
    stock = model.load(tmp_path / "model", tiny_dataset).model.get_outputs_for_camera(camera)
    assert shown.keys() == stock.keys()
    error = float((shown["rgb"] - stock["rgb"]).square().mean())
    assert -10 * math.log10(error) > 60
    torch.testing.assert_close(shown["accumulation"], stock["accumulation"], rtol=0, atol=0.05)
    assert (shown["depth"] / stock["depth"]).log().abs().median() < 1e-2


def test_a_machine_without_a_compiler_still_trains(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    options = OPTIONS.model_copy(update={"max_num_iterations": 3, "rays_per_batch": 64})
    train.train(options, tiny_dataset, tmp_path / "model", tmp_path / "checkpoints")
    why = support.machine_lacks()
    assert why and why in capsys.readouterr().out
    assert not manifest_of(tmp_path / "model")["cuda_graphs"]
