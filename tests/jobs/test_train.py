from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError
from pydantic_settings import CliApp
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

torch = pytest.importorskip("torch")
pytest.importorskip("nerfstudio")

from jobs import manifest, model, report, train  # noqa: E402
from jobs.errors import GateRefused, InvalidInput, JobFailed  # noqa: E402
from jobs.methods import METHODS  # noqa: E402
from jobs.options import TrainOptions  # noqa: E402
from jobs.radiance import cuda, settings  # noqa: E402
from jobs.radiance.checkpoints import KEPT, Checkpoints  # noqa: E402
from jobs.radiance.datamanager import ByteImages, DataManager  # noqa: E402
from jobs.radiance.dataset import read_dataset  # noqa: E402
from tests.deaths import files_of_at_most  # noqa: E402
from tests.made_once import TINY_TRAINING  # noqa: E402

OPTIONS = CliApp.run(TrainOptions, cli_args=[*TINY_TRAINING, "--steps-per-save=6"])
# Runs a training that gets SIGTERM while a step runs, at the same one on a slow machine and on a fast one.
_INTERRUPTED = """
import os, runpy, signal
from jobs.radiance.trainer import ResumableTrainer
run_step = ResumableTrainer.train_iteration
def run_step_and_interrupt(self, step):
    result = run_step(self, step)
    if step == {step}:
        os.kill(os.getpid(), signal.SIGTERM)
    return result
ResumableTrainer.train_iteration = run_step_and_interrupt
runpy.run_module("jobs.train", run_name="__main__", alter_sys=True)
"""

torch.set_num_threads(1)  # the same work, without threads that wait for a core


@pytest.fixture
def dataset(street: Path, tmp_path: Path) -> Path:
    """Return the built-in street front as a dataset that a test may change."""
    shutil.copytree(street, tmp_path / "dataset")
    (tmp_path / "dataset/truth.json").rename(tmp_path / "dataset/transforms.json")
    return tmp_path / "dataset"


def change(dataset: Path, **values: Any) -> None:
    file = dataset / "transforms.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def parameters(folder: Path) -> dict[str, Any]:
    [file] = (folder / model.CHECKPOINTS).iterdir()
    state: dict[str, Any] = torch.load(file, weights_only=True)["pipeline"]
    return state


def reports_of_training(
    dataset: Path, model_folder: Path, checkpoints: Path, interrupted_at: int | None = None
) -> tuple[int, list[report.Progress | report.PageReport | report.Figures | report.Failure]]:
    """Train with `OPTIONS` in a process on one thread, because sums depend on how they are divided among threads.

    Args:
        interrupted_at: the step in which SIGTERM arrives.

    Returns:
        The exit status of the process, and what it reported.
    """
    program = ["-m", "jobs.train"] if interrupted_at is None else ["-c", _INTERRUPTED.format(step=interrupted_at)]
    places = ("--dataset", dataset, "--model", model_folder, "--checkpoints", checkpoints)
    command = [sys.executable, *program, *map(str, places), *CliApp.serialize(OPTIONS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, timeout=300, check=False)
    return done.returncode, [line for text in done.stdout.splitlines() if (line := report.parse(text)) is not None]


@pytest.mark.parametrize("steps", [(14,), pytest.param((8, 9, 29), marks=pytest.mark.slow)])
def test_an_interrupted_training_ends_like_an_uninterrupted_one(
    dataset: Path, tiny_model: Path, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    checkpoints = tmp_path / "checkpoints"
    for step in steps:
        status, reports = reports_of_training(dataset, tmp_path / "model", checkpoints, interrupted_at=step)
        assert status == report.EXIT_INTERRUPTED, reports
        last = reports[-1]
        assert isinstance(last, report.Failure) and f"after {step + 1} of 30 steps" in last.message
    kept = sorted(checkpoints.glob("*.ckpt"))
    assert len(kept) == KEPT and not (tmp_path / "model/model.json").exists()

    kept[-1].write_bytes(kept[-1].read_bytes()[:1000])  # torn
    (checkpoints / "step-000000099.ckpt").write_text("foreign")
    (checkpoints / "step-notes.json").write_text("foreign")
    (checkpoints / "step-folder.json").mkdir()
    status, reports = reports_of_training(dataset, tmp_path / "model", checkpoints)
    assert status == 0, reports
    metrics = [line.metrics for line in reports if isinstance(line, report.Progress) and line.metrics]
    assert metrics and any({"loss", "psnr", "steps/s", "rays/s", "lr"} <= set(found) for found in metrics)
    content = json.loads((tmp_path / "model/model.json").read_text())
    assert content["steps"] == 30
    assert content["curve"] == json.loads((tiny_model / "model.json").read_text())["curve"]
    assert content["curve"]["step"] == list(range(1, 31)) and content["metrics"]["image_size"] == 96
    assert content["steps_resumed"] == int(kept[0].stem.split("-")[1]) + 1

    expected, found = parameters(tiny_model), parameters(tmp_path / "model")
    assert expected.keys() == found.keys()
    for name in expected:  # the schedule, the optimizer and every random number went on
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_training_can_be_watched_beside_another_viewer_and_ends_on_its_own(dataset: Path, tmp_path: Path) -> None:
    longer = OPTIONS.model_copy(update={"max_num_iterations": 120, "steps_per_save": 1000})
    places = ("--dataset", dataset, "--model", tmp_path / "model", "--checkpoints", tmp_path / "checkpoints")
    command = [sys.executable, "-m", "jobs.train", *map(str, places), *CliApp.serialize(longer)]
    with socket.socket() as other, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # taken it is, by us or another
            other.bind(("127.0.0.1", 7007))
            other.listen()
        assert job.stdout is not None
        port = next(told for line in job.stdout if isinstance(told := report.parse(line), report.PageReport)).port
        assert port != 7007
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert b"<html" in answer.read()
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://127.0.0.1:{port}", origin=Origin("http://evil.example"))
        with connect(f"ws://127.0.0.1:{port}", max_size=None) as tab:  # as a browser that stays open
            assert tab.recv(timeout=60)
            log = job.stdout.read()
            assert job.wait(60) == 0, log
    with pytest.raises(ConnectionError):  # so it was this training's
        connect(f"ws://127.0.0.1:{port}")
    assert json.loads((tmp_path / "model/model.json").read_text())["steps"] == 120


def test_a_finished_training_is_not_repeated_and_another_is_not_resumed(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = OPTIONS.model_copy(update={"max_num_iterations": 3})
    train.train(short, dataset, tmp_path / "model", tmp_path / "checkpoints")
    train.train(short, dataset, tmp_path / "model", tmp_path / "checkpoints")
    assert json.loads((tmp_path / "model/model.json").read_text())["steps_resumed"] == 3
    train.train(short.model_copy(update={"seed": 1}), dataset, tmp_path / "model", tmp_path / "checkpoints")
    assert json.loads((tmp_path / "model/model.json").read_text())["steps_resumed"] == 0
    monkeypatch.setattr(train, "SMALL", "of other sizes")
    train.train(short, dataset, tmp_path / "model", tmp_path / "checkpoints")
    assert json.loads((tmp_path / "model/model.json").read_text())["steps_resumed"] == 0
    assert [file.name for file in (tmp_path / "model/nerfstudio_models").iterdir()] == ["step-000000002.ckpt"]


def test_divergence_is_refused(dataset: Path, tmp_path: Path) -> None:
    change(dataset, fl_x=1e-40)  # a camera calibration that blew up: rays without a direction
    with pytest.raises(GateRefused, match="step 29"):
        train.train(OPTIONS, dataset, tmp_path / "model", tmp_path / "checkpoints")
    assert not (tmp_path / "model/model.json").exists()


def test_memory_that_runs_out_ends_with_a_remedy(dataset: Path, tmp_path: Path) -> None:
    greedy = OPTIONS.model_copy(update={"rays_per_batch": 10**13})
    with pytest.raises(JobFailed, match="rays per batch"), train._clear_end(greedy):
        train.train(greedy, dataset, tmp_path / "model", tmp_path / "checkpoints")


def test_a_full_disk_ends_with_a_remedy_and_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "fingerprint")
    checkpoints.save(1, {"step": 1, "table": torch.zeros(10)})
    with pytest.raises(JobFailed, match="disk"), train._clear_end(OPTIONS), files_of_at_most(10_000):
        checkpoints.save(2, {"step": 2, "table": torch.rand(100_000)})
    newest = checkpoints.newest()
    assert newest is not None and newest["step"] == 1


@pytest.mark.parametrize("size", [None, 96, 100, 101, 237, 240, 333, 479, 480, 5000])
def test_photos_and_cameras_shrink_alike_and_never_grow(dataset: Path, size: int | None) -> None:
    half = dataset / "images_2"
    half.mkdir()
    for photo in (dataset / "photos").iterdir():
        Image.open(photo).resize((240, 135)).save(half / photo.name)
    options = OPTIONS.model_copy(update={"max_image_size": size})
    config = settings.configure(options, read_dataset(dataset), "cpu")
    model.set_paths(config, Path(), dataset)
    config.pipeline.datamanager._target = DataManager
    images = config.pipeline.datamanager.setup(device="cpu", test_mode="inference")
    parser = config.pipeline.datamanager.dataparser.setup()
    outputs = parser.get_dataparser_outputs("train")
    data = ByteImages(outputs, scale_factor=config.pipeline.datamanager.camera_res_scale_factor)
    height, width, _ = data[0]["image"].shape
    assert (width, height) == (int(data.cameras.width[0]), int(data.cameras.height[0]))
    assert width == min(size or 480, 480)
    assert abs(height - width * 9 / 16) < 1
    assert float(data.cameras.fx[0]) == pytest.approx(width * 462.222 / 640, rel=1e-3)
    assert outputs.image_filenames[0].parent.name == ("images_2" if size and size <= 240 else "photos")
    assert images.train_dataset is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="gsplat may have its kernels here")
def test_the_requirements_of_a_method_are_reported() -> None:
    for method in ("instant-ngp", "splatfacto"):
        with pytest.raises(InvalidInput, match=f"{method} .*CUDA GPU"):
            cuda.check(method, "cpu")
    with pytest.raises(InvalidInput, match="splatfacto .*CUDA toolkit"):
        cuda.check("splatfacto", "cuda:0")
    cuda.check("nerfacto", "cpu")
    cuda.check("instant-ngp", "cuda")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_set_up_or_refused_in_words(method: str, dataset: Path) -> None:
    for device in ("cpu", "cuda"):
        try:
            options = TrainOptions(method=method, max_num_iterations=7)
            config = settings.configure(options, read_dataset(dataset), device)
        except (InvalidInput, ValidationError) as error:
            refused = str(error)
            assert method in refused and method != "nerfacto"
        else:
            assert config.max_num_iterations == 7
            assert type(config.pipeline.datamanager.dataparser).__name__ == "NerfstudioDataParserConfig"


def test_a_dataset_in_the_scene_frame_is_not_moved(dataset: Path) -> None:
    parser = settings.configure(OPTIONS, read_dataset(dataset), "cpu").pipeline.datamanager.dataparser
    assert (parser.orientation_method, parser.auto_scale_poses) == ("up", True)
    change(dataset, applied_scale=0.1, applied_transform=torch.eye(4)[:3].tolist())
    parser = settings.configure(OPTIONS, read_dataset(dataset), "cpu").pipeline.datamanager.dataparser
    assert (parser.orientation_method, parser.center_method, parser.auto_scale_poses) == ("none", "none", False)


@pytest.mark.parametrize("method", ["nerfacto", "nerfacto-big", "nerfacto-huge"])
def test_poses_are_refined_only_on_request(method: str, dataset: Path) -> None:
    about = read_dataset(dataset)
    options = TrainOptions(method=method)
    assert settings.configure(options, about, "cpu").pipeline.model.camera_optimizer.mode == "off"
    refining = settings.configure(options.model_copy(update={"refine_poses": True}), about, "cpu")
    assert refining.pipeline.model.camera_optimizer.mode == "SO3xR3"


@pytest.mark.parametrize("method", ["nerfacto", "nerfacto-big", "splatfacto"])
def test_each_photo_gets_an_appearance_where_the_light_differs(
    method: str, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "check", lambda *_: None)  # splatfacto is configured here, not trained

    def chosen(appearance: str, size: str, light: object) -> bool:
        if light != "no record":
            (dataset / "dataset.json").write_text(json.dumps({"light": light}))
        options = TrainOptions(method=method, model_size=size, appearance=appearance)
        return settings.has_appearances(settings.configure(options, read_dataset(dataset), "cpu"))

    sizes = ["standard"] if method == "splatfacto" else ["standard", "small"]
    before = {"standard": method != "splatfacto", "small": False}
    for size in sizes:
        assert chosen("auto", size, "no record") == before[size]
        for damaged in (
            None,
            "much",
            {"exposure_stops": "much"},
            {"exposure_stops": 1, "white_balance": -2, "photos": 9},
        ):
            assert chosen("auto", size, damaged) == before[size]
        for stops, white, differs in ((0.09, 0.02, False), (0.4, 0.02, True), (0.09, 0.3, True)):
            light = {"exposure_stops": stops, "white_balance": white, "photos": 48}
            assert chosen("auto", size, light) == differs
            assert chosen("per-photo", size, light) and not chosen("one", size, light)
        (dataset / "dataset.json").unlink()


def test_something_is_held_out_of_few_photos(dataset: Path) -> None:
    frames = json.loads((dataset / "transforms.json").read_text())["frames"]
    for number in (2, 3, 8, 9, 10, 14):
        change(dataset, frames=frames[:number])
        config = settings.configure(OPTIONS, read_dataset(dataset), "cpu")
        model.set_paths(config, Path(), dataset)
        parser = config.pipeline.datamanager.dataparser.setup()
        held_out = len(parser.get_dataparser_outputs("val").image_filenames)
        assert held_out == 1 and len(parser.get_dataparser_outputs("train").image_filenames) == number - 1


def frame(value: str) -> str:
    return f'{{"file_path": "a", "transform_matrix": [[{value}]]}}'


@pytest.mark.parametrize("member", ["file_path", "mask_path", "depth_file_path"])
@pytest.mark.parametrize("leads", ["outside", "/outside", "link"])
def test_a_dataset_names_no_file_outside_of_it(dataset: Path, tmp_path: Path, member: str, leads: str) -> None:
    """A dataset from elsewhere could name private pictures, which the model would then show."""
    outside = tmp_path / "private.jpg"
    shutil.copy(next((dataset / "photos").iterdir()), outside)
    (dataset / "photos" / "link.jpg").symlink_to(outside)
    frames = json.loads((dataset / "transforms.json").read_text())["frames"]
    frames[0][member] = {"outside": "../" * 30 + str(outside), "/outside": str(outside), "link": "photos/link.jpg"}[
        leads
    ]
    change(dataset, frames=frames)
    with pytest.raises(InvalidInput, match=r"transforms\.json .*leads out of"):
        read_dataset(dataset)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not JSON", "nerfstudio dataset"),
        ("{}", "frames"),
        ('{"w": 8, "h": 8, "frames": []}', "at least 2"),
        ('{"w": 8, "h": 8, "frames": [{"file_path": "a"}]}', "transform_matrix"),
        (f'{{"w": 8, "h": 8, "frames": [{frame("NaN")}, {frame("1")}]}}', "finite"),
        (f'{{"w": 8, "h": 8, "frames": [{frame("1")}, {frame("1")}]}}', "do not exist"),
        (f'{{"frames": [{frame("1")}, {frame("1")}]}}', "nerfstudio dataset"),
    ],
)
def test_folders_that_are_no_datasets(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text(content)
    with pytest.raises(InvalidInput, match=words):
        read_dataset(tmp_path)


def test_an_unknown_method_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    places = ("--dataset", tmp_path, "--model", tmp_path, "--checkpoints", tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "--method", "nerf-o-matic", *map(str, places)])
    with pytest.raises(InvalidInput, match="nerfacto"):
        train.main()


def test_the_model_folder_records_how_it_was_trained(dataset: Path, tmp_path: Path) -> None:
    train.train(OPTIONS.model_copy(update={"max_num_iterations": 2}), dataset, tmp_path / "m", tmp_path / "c")
    assert sorted(file.name for file in (tmp_path / "m").iterdir()) == [
        "config.yml",
        "dataparser_transforms.json",
        "held_out",
        "model.json",
        "nerfstudio_models",
    ]
    content = json.loads((tmp_path / "m/model.json").read_text())
    assert content["steps_per_second"] > 0 and content["training_seconds"] > 0
    assert content["peak_memory_bytes"]["cpu"] > 10**8 and content["versions"]["nerfstudio"] == "1.1.5"
    assert content["metrics"]["psnr"] > 3 and 0 < content["metrics"]["ssim"] < 1 and content["metrics"]["images"] == 1
    assert content["gpu"] is None if not torch.cuda.is_available() else content["gpu"]
    checkpoint = content["checkpoint"]
    assert manifest.checksum(tmp_path / "m" / checkpoint["file"]) == checkpoint["sha256"]
