"""Photos, steps and whole trainings, on the built-in street front.

Kernels run on the GPU where there is one, else in Triton's interpreter on the CPU (see `tests/conftest.py`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nerfstudio")
pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

import torch
from nerfstudio.engine.schedulers import MultiStepSchedulerConfig
from PIL import Image

from jobs import model, ply, train
from jobs.errors import GateRefused, InvalidInput
from jobs.options import TrainOptions
from jobs.radiance import cuda, settings, steps, support, trainer
from jobs.radiance.datamanager import DataManager
from jobs.radiance.dataset import read_dataset
from jobs.radiance.photos import Photos
from jobs.radiance.support import NotCovered

pytestmark = pytest.mark.usefixtures("nerfstudios_own_functions")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OPTIONS = TrainOptions(max_num_iterations=4, max_image_size=64, rays_per_batch=64, steps_per_save=2)
_small = settings._make_small


def make_small(config: Any) -> None:
    """Make a nerfacto so small that the interpreter trains it within seconds. The kernels support it."""
    _small(config)
    network = config.pipeline.model
    network.features_per_level, network.num_levels, network.log2_hashmap_size = 2, 2, 8
    network.num_proposal_samples_per_ray, network.num_nerf_samples_per_ray = (8,), 6
    network.proposal_net_args_list[0].update(num_levels=2, log2_hashmap_size=8)
    config.pipeline.datamanager.train_num_rays_per_batch = 2
    network.use_appearance_embedding, network.camera_optimizer.mode = True, "SO3xR3"
    # Adam would move a parameter as far by a gradient of 1e-12, which is rounding, as by one of 1.
    for each in config.optimizers.values():
        each["optimizer"].eps = 1e-4


@pytest.fixture
def dataset(street: Path, tmp_path: Path) -> Path:
    """Return the street front as a dataset that a test may change, with seven photos."""
    shutil.copytree(street, tmp_path / "dataset")
    content = json.loads((tmp_path / "dataset/truth.json").read_text())
    content["frames"] = content["frames"][:7]
    (tmp_path / "dataset/transforms.json").write_text(json.dumps(content))
    return tmp_path / "dataset"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> TrainOptions:
    """Return options of a training that is done by `jobs.radiance`, on the GPU or in the interpreter."""
    monkeypatch.setattr(settings, "_make_small", make_small)
    monkeypatch.setattr(support, "machine_lacks", lambda: None)
    return OPTIONS.model_copy(update={"model_size": "small"})


def photos_of(dataset: Path, max_image_size: int | None = 96) -> tuple[Photos, Any]:
    """Return the training photos of a dataset, and nerfstudio's data manager of them."""
    options = OPTIONS.model_copy(update={"max_image_size": max_image_size})
    config = settings.configure(options, read_dataset(dataset), DEVICE.type)
    model.set_paths(config, Path(), dataset)
    config.pipeline.datamanager._target = DataManager
    manager = config.pipeline.datamanager.setup(device=DEVICE, test_mode="val")
    return Photos(manager.train_dataset, DEVICE), manager


def check_draw(photos: Photos, manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that drawn rays and colours are those of nerfstudio for the same pixels."""
    data = manager.train_dataset
    torch.manual_seed(5)
    origins, directions, cameras, colours = photos.draw(500)
    torch.manual_seed(5)
    drawn = torch.rand((500, 3), device=DEVICE).cpu()
    size = torch.cat([data.cameras.height, data.cameras.width], 1)
    chosen = (drawn[:, 0] * len(data)).long()
    pixels = (drawn[:, 1:] * size[chosen]).long()
    assert torch.equal(cameras.cpu(), chosen) and len(chosen.unique()) == len(data)
    expected = data.cameras.generate_rays(camera_indices=chosen[:, None], coords=pixels + 0.5)
    torch.testing.assert_close(origins.cpu(), expected.origins, rtol=0, atol=1e-6)
    torch.testing.assert_close(directions.cpu(), expected.directions, rtol=0, atol=2e-6)
    images = [data.get_data(index, image_type="uint8")["image"] for index in range(len(data))]
    true = torch.stack([images[c][y, x] for c, (y, x) in zip(chosen.tolist(), pixels.tolist(), strict=True)])
    torch.testing.assert_close(colours.cpu(), true / 255.0)


def test_photos_of_one_lens(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_draw(*photos_of(dataset), monkeypatch)


def test_photos_of_several_sizes_and_lenses(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = dataset / "transforms.json"
    content = json.loads(file.read_text())
    for number, frame in enumerate(content["frames"]):
        with Image.open(dataset / frame["file_path"]) as opened:
            photo = opened.copy()
        names = ("fl_x", "fl_y", "cx", "cy", "w", "h")
        frame.update({name: content[name] for name in names}, k1=0.1 * (number % 2), k2=0.0, p1=0.0, p2=0.0)
        if number == 2:
            frame.update(w=photo.width // 2, h=photo.height)
            photo.crop((0, 0, photo.width // 2, photo.height)).save(dataset / frame["file_path"])
    for name in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        content.pop(name)
    file.write_text(json.dumps(content))
    photos, manager = photos_of(dataset, max_image_size=None)
    assert len(manager.train_dataset.cameras.width.unique()) == 2
    check_draw(photos, manager, monkeypatch)


def test_pixels_that_a_mask_leaves_out_are_never_drawn(dataset: Path) -> None:
    content = json.loads((dataset / "transforms.json").read_text())
    (dataset / "masks").mkdir()
    for number, frame in enumerate(content["frames"]):
        mask = np.zeros((content["h"], content["w"]), np.uint8)
        side = slice(0, content["w"] // 4) if number % 2 else slice(content["w"] // 2, None)
        mask[:, side] = 255
        name = f"masks/{number}.png"
        Image.fromarray(mask).save(dataset / name)
        frame["mask_path"] = name
    (dataset / "transforms.json").write_text(json.dumps(content))
    photos, manager = photos_of(dataset, max_image_size=None)
    data = manager.train_dataset
    _, directions, cameras, colours = (each.cpu() for each in photos.draw(2000))
    assert len(cameras.unique()) == len(data)
    for camera in range(len(data)):
        chosen = cameras == camera
        pixels = data.get_data(camera, image_type="uint8")
        rays = data.cameras.generate_rays(camera_indices=camera).directions.reshape(-1, 3)
        place = torch.cdist(directions[chosen], rays).argmin(dim=1)
        assert pixels["mask"].reshape(-1)[place].all()
        # All of what the mask leaves is drawn from, not only its beginning.
        columns = (place % pixels["image"].shape[1]).float()
        width = pixels["mask"][0].sum()
        assert columns.max() - columns.min() > 0.8 * width
        torch.testing.assert_close(colours[chosen], pixels["image"].reshape(-1, 3)[place] / 255.0)


def test_a_mask_that_leaves_nothing_is_refused_by_name(dataset: Path) -> None:
    content = json.loads((dataset / "transforms.json").read_text())
    for frame in content["frames"]:
        frame["mask_path"] = "nothing.png"
    Image.fromarray(np.zeros((content["h"], content["w"]), np.uint8)).save(dataset / "nothing.png")
    (dataset / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match="nothing.png"):
        photos_of(dataset)


def test_uncovered_photos_are_reported(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = dataset / "transforms.json"
    content = json.loads(file.read_text())
    first = dataset / content["frames"][0]["file_path"]
    for frame in content["frames"]:
        frame["transform_matrix"] = [[2 * value for value in row[:3]] + row[3:] for row in frame["transform_matrix"]]
    file.write_text(json.dumps({**content, "applied_scale": 1.0}))
    with pytest.raises(NotCovered, match="rotation"):
        photos_of(dataset)
    shutil.copy(dataset / "truth.json", file)
    Image.open(first).convert("RGBA").save(first, format="PNG")
    with pytest.raises(NotCovered, match="channels"):
        photos_of(dataset)


def test_the_accepted_options_of_training(dataset: Path) -> None:
    about = read_dataset(dataset)

    def why(method: str = "nerfacto", **changed: Any) -> str | None:
        config = settings.configure(TrainOptions(method=method), about, "cpu")
        for name, value in changed.items():
            setattr(config.pipeline.model, name, value)
        return support.training_lacks(config)

    assert why() is None and why("nerfacto-big") is None and why("nerfacto-huge") is None
    assert why("vanilla-nerf") == "the kernels do not support the method vanilla-nerf"
    assert why(use_single_jitter=False) == "use_single_jitter is False"
    config = settings.configure(TrainOptions(), about, "cpu")
    config.optimizers["fields"]["scheduler"] = MultiStepSchedulerConfig()
    assert "the schedule of fields is MultiStep" in (support.training_lacks(config) or "")
    config = settings.configure(TrainOptions(), about, "cpu")
    config.optimizers["fields"]["optimizer"].max_norm = 1.0
    assert "the optimizer of fields is AdamOptimizerConfig" in (support.training_lacks(config) or "")


@pytest.mark.parametrize(("apart", "scaled"), [(1.5, True), (0.2, False), (None, False)])
def test_gradients_shrink_near_cameras_only_if_nothing_is_there(
    dataset: Path, apart: float | None, scaled: bool
) -> None:
    content = json.loads((dataset / "transforms.json").read_text())
    content["applied_scale"] = 1.0
    if apart is not None:  # points on a ball around each camera
        cameras = np.array([frame["transform_matrix"] for frame in content["frames"]])[:, :3, 3]
        around = np.random.default_rng(0).normal(size=(100, 3))
        around *= apart / np.linalg.norm(around, axis=1, keepdims=True)
        points = (cameras[:1] + around).astype(np.float32)
        ply.write_vertices(dataset / "points.ply", dict(zip("xyz", points.T, strict=True)))
        content["ply_file_path"] = "points.ply"
        for frame in content["frames"]:
            for row, value in zip(frame["transform_matrix"], cameras[0], strict=False):
                row[3] = float(value)
    (dataset / "transforms.json").write_text(json.dumps(content))
    config = settings.configure(TrainOptions(), read_dataset(dataset), "cpu")
    assert config.pipeline.model.use_gradient_scaling is scaled
    small = settings.configure(TrainOptions(model_size="small"), read_dataset(dataset), "cpu")
    assert small.pipeline.model.use_gradient_scaling is False
    (dataset / "points.ply").unlink(missing_ok=True)  # the trainings of nerfacto never needed it
    config = settings.configure(TrainOptions(), read_dataset(dataset), "cpu")
    assert config.pipeline.model.use_gradient_scaling is False


def trained(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters and the manifest of a model folder."""
    [file] = (folder / model.CHECKPOINTS).iterdir()
    return torch.load(file, weights_only=True)["pipeline"], json.loads((folder / model.MANIFEST).read_text())


@pytest.mark.slow  # three trainings, two of them in the interpreter
@pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU adds up in any order")
def test_steps_are_nerfstudios_and_go_on_exactly(
    tiny: TrainOptions, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.train(tiny, dataset, tmp_path / "whole", tmp_path / "checkpoints of it")

    class Ended(Exception): ...

    take = steps.Steps.take

    def until(self: steps.Steps, step: int) -> Any:
        if step == 3:
            raise Ended
        return take(self, step)

    monkeypatch.setattr(steps.Steps, "take", until)
    with pytest.raises(Ended):
        train.train(tiny, dataset, tmp_path / "resumed", tmp_path / "checkpoints")
    monkeypatch.setattr(steps.Steps, "take", take)
    train.train(tiny, dataset, tmp_path / "resumed", tmp_path / "checkpoints")
    monkeypatch.setattr(support, "machine_lacks", lambda: "nothing, in truth")
    # Pixels are drawn in another way: nerfstudio gets those that were.
    draw_as(Photos.draw, monkeypatch)
    train.train(tiny, dataset, tmp_path / "nerfstudio", tmp_path / "checkpoints of nerfstudio")

    (whole, about), (resumed, about_resumed) = trained(tmp_path / "whole"), trained(tmp_path / "resumed")
    assert about["cuda_graphs"] and about_resumed["cuda_graphs"] and about_resumed["steps_resumed"] == 3
    assert about["curve"] == about_resumed["curve"] and about["curve"]["step"] == [1, 2, 3, 4]
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
    stock, about_stock = trained(tmp_path / "nerfstudio")
    assert not about_stock["cuda_graphs"]
    assert about_stock["curve"]["loss"] == pytest.approx(about["curve"]["loss"], rel=1e-2)
    for name, value in whole.items():
        torch.testing.assert_close(stock[name], value, rtol=1e-2, atol=1e-3)


def draw_as(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nerfstudio train on what a `Photos` draws."""

    def next_train(self: Any, step: int) -> tuple[Any, dict[str, Any]]:
        if not hasattr(self, "same"):
            self.same = Photos(self.train_dataset, DEVICE)
            self.train_count = 0
        origins, directions, cameras, colours = draw(self.same, self.get_train_rays_per_batch())
        from nerfstudio.cameras.rays import RayBundle

        rays = RayBundle(origins, directions, torch.ones_like(origins[:, :1]), cameras[:, None])
        return rays, {"image": colours}

    monkeypatch.setattr(DataManager, "next_train", next_train)


def test_divergence_is_refused(
    tiny: TrainOptions, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_STEPS_AHEAD", 1)
    content = json.loads((dataset / "transforms.json").read_text())
    (dataset / "transforms.json").write_text(json.dumps({**content, "fl_x": 1e-40}))
    with pytest.raises(GateRefused, match="step 2"):
        train.train(tiny, dataset, tmp_path / "model", tmp_path / "checkpoints")


def test_kernels_that_cannot_be_built_leave_it_to_nerfstudio(
    tiny: TrainOptions, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no Python.h")

    monkeypatch.setattr(steps, "Steps", broken)
    monkeypatch.setattr(cuda, "device", lambda: DEVICE.type)
    train.train(tiny, dataset, tmp_path / "model", tmp_path / "checkpoints")
    assert not trained(tmp_path / "model")[1]["cuda_graphs"]
    if DEVICE.type == "cuda":
        assert "with nerfstudio's own steps: the kernels could not be built here (RuntimeError('no Python.h'))" in (
            capsys.readouterr().out
        )
