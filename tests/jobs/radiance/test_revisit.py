"""Training a later visit from an earlier visit's model."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nerfstudio")

from pydantic_settings import CliApp  # noqa: E402

from jobs import manifest, model, train  # noqa: E402
from jobs.errors import InvalidInput  # noqa: E402
from jobs.options import TrainOptions  # noqa: E402
from jobs.radiance import revisit  # noqa: E402
from jobs.radiance.dataset import read_dataset  # noqa: E402
from jobs.radiance.revisit import load_start  # noqa: E402
from jobs.radiance.settings import configure  # noqa: E402
from tests import made_once  # noqa: E402
from tests.made_once import TINY_TRAINING  # noqa: E402

FRESH = CliApp.run(TrainOptions, cli_args=[*TINY_TRAINING])
OPTIONS = FRESH.model_copy(update={"start": "earlier"})

torch.set_num_threads(1)


def in_scene_frame(street: Path, folder: Path) -> Path:
    """Write the street as a dataset with its true poses, in units of 10 m: both visits in one frame."""
    shutil.copytree(street, folder)
    content = json.loads((folder / "truth.json").read_text())
    for frame in content["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] /= 10
    same = {"applied_transform": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "applied_scale": 1.0}
    (folder / "transforms.json").write_text(json.dumps({**content, **same}))
    return folder


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the street on another day."""
    return in_scene_frame(made_once.street("2"), tmp_path_factory.mktemp("later") / "dataset")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model of the street on the first day."""
    folder = tmp_path_factory.mktemp("earlier")
    dataset = in_scene_frame(made_once.street(), folder / "dataset")
    other = FRESH.model_copy(update={"seed": 7})
    train.train(other, dataset, folder / "model", folder / "checkpoints")
    return folder / "model"


def changed(folder: Path, copy: Path, **values: Any) -> Path:
    """Copy a model with other content of its manifest."""
    shutil.copytree(folder, copy)
    file = copy / model.MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return copy


def with_weights(folder: Path, copy: Path, change: Callable[[Any], Any]) -> Path:
    """Copy a model with a change of one of its weights."""
    changed(folder, copy)
    content = about(copy)
    file = content["checkpoint"]["file"]
    state = torch.load(copy / file, weights_only=True)
    name = next(name for name in state["pipeline"] if "hash_table" in name)
    state["pipeline"][name] = change(state["pipeline"][name])
    torch.save(state, copy / file)
    checksums = {**content["checksums"], file: manifest.checksum(copy / file)}
    (copy / model.MANIFEST).write_text(json.dumps({**content, "checksums": checksums}))
    return copy


def about(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / model.MANIFEST).read_text())
    return content


def weights(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / about(folder)["checkpoint"]["file"], weights_only=True)["pipeline"]
    return state


def likeness(first: Path, second: Path) -> float:
    """Return the correlation of the features of two models."""
    tables = [
        next(value for name, value in weights(folder).items() if "field.mlp_base" in name and "hash_table" in name)
        for folder in (first, second)
    ]
    return float(torch.corrcoef(torch.stack([table.flatten() for table in tables]))[0, 1])


@contextmanager
def global_generator_in_use() -> Iterator[None]:
    """Draw from Python's global generator in another thread, as servers and clients of websockets do for each ping."""
    done = threading.Event()

    def draw() -> None:
        while not done.wait(0.01):
            random.getrandbits(32)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_it_takes_a_seventh_of_the_steps_from_the_earlier_model(earlier: Path, later: Path, tmp_path: Path) -> None:
    before = about(earlier)
    known = changed(earlier, tmp_path / "known", metrics={**before["metrics"], "psnr": 5.0})
    train.train(FRESH, later, tmp_path / "fresh", tmp_path / "checkpoints")
    train.train(OPTIONS, later, tmp_path / "warm", tmp_path / "checkpoints", earlier=known)
    warm = about(tmp_path / "warm")
    assert likeness(tmp_path / "warm", earlier) > 0.5 > likeness(tmp_path / "fresh", earlier)
    assert (warm["steps"], warm["curve"]["step"][-1]) == (30 + 4, 4)
    assert warm["start"] == {"checkpoint": before["checkpoint"]["sha256"], "psnr": 5.0}
    assert revisit.read_start(tmp_path / "warm", OPTIONS).psnr == 5.0, "a chain of visits gets worse and worse"
    assert warm["options"]["start"] == "earlier"

    # An attempt that was interrupted after its training goes on with its result.
    train.train(OPTIONS, later, tmp_path / "again", tmp_path / "checkpoints", earlier=known)
    assert about(tmp_path / "again")["steps_resumed"] == 4
    for name, value in weights(tmp_path / "warm").items():
        assert torch.equal(value, weights(tmp_path / "again")[name]), name


def test_a_model_that_is_not_as_good_as_the_earlier_one_goes_on(
    earlier: Path, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as many steps as from the beginning."""
    begun: list[revisit.Start] = []

    def load(pipeline: Any, start: revisit.Start) -> None:
        begun.append(start)
        load_start(pipeline, start)

    monkeypatch.setattr(revisit, "load_start", load)
    monkeypatch.setattr(revisit, "_MOST_CHANGED", 60.0)
    better = changed(earlier, tmp_path / "better", metrics={**about(earlier)["metrics"], "psnr": 60.0})
    train.train(OPTIONS, later, tmp_path / "full", tmp_path / "checkpoints", earlier=better)
    full = about(tmp_path / "full")
    assert (full["steps"], full["curve"]["step"][-1]) == (30 + 30, 26)
    assert full["start"]["given_up_at"] < 59.7 and full["training_seconds"] > full["start"]["seconds"] > 0
    assert revisit.read_start(tmp_path / "full", OPTIONS).psnr == full["metrics"]["psnr"]
    first, second = (torch.cat([value.flatten() for _, value in sorted(each.weights.items())]) for each in begun)
    assert not torch.equal(first, second), "what the first steps changed was lost"

    # An attempt that was interrupted after its training goes on with its result.
    train.train(OPTIONS, later, tmp_path / "again", tmp_path / "checkpoints", earlier=better)
    assert about(tmp_path / "again")["steps_resumed"] == 26
    for name, value in weights(tmp_path / "full").items():
        assert torch.equal(value, weights(tmp_path / "again")[name]), name


def test_a_model_of_a_place_that_has_changed_in_most_parts_is_trained_from_the_beginning(
    earlier: Path, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And becomes what it would have become without the earlier one."""
    train.train(FRESH, later, tmp_path / "fresh", tmp_path / "one")
    better = changed(earlier, tmp_path / "better", metrics={**about(earlier)["metrics"], "psnr": 60.0})
    with global_generator_in_use():
        train.train(OPTIONS, later, tmp_path / "full", tmp_path / "two", earlier=better)
    full = about(tmp_path / "full")
    assert "instead of 60.00 dB. Training from the beginning." in capsys.readouterr().out
    assert full["steps"] == 30 and full["start"]["given_up_at"] < 58.5 and full["start"]["seconds"] > 0
    for name, value in weights(tmp_path / "fresh").items():
        assert torch.equal(value, weights(tmp_path / "full")[name]), name
    assert revisit.read_start(tmp_path / "full", OPTIONS).psnr == full["metrics"]["psnr"]


def test_the_learning_rate_starts_at_half_and_falls_within_the_steps(later: Path) -> None:
    whole, part = (configure(FRESH, read_dataset(later), "cpu") for _ in range(2))
    revisit.shorten(part, 0.1)
    assert (whole.max_num_iterations, part.max_num_iterations) == (30, 3)
    for name in ("fields", "proposal_networks"):
        before, after = whole.optimizers[name], part.optimizers[name]
        assert after["optimizer"].lr == before["optimizer"].lr / 2
        assert after["scheduler"].max_steps == before["scheduler"].max_steps / 10
        assert after["scheduler"].learning_rate_alpha == before["scheduler"].learning_rate_alpha


def test_a_model_without_appearances_is_not_the_start_of_one_with_them(
    earlier: Path, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = OPTIONS.model_copy(update={"appearance": "per-photo"})
    train.train(options, later, tmp_path / "model", tmp_path / "checkpoints", earlier=earlier)
    assert "Training from the beginning" in capsys.readouterr().out
    found = about(tmp_path / "model")
    assert found["appearance"] == "per-photo" and "start" not in found and found["steps"] == FRESH.max_num_iterations


def test_what_cannot_be_started_from_is_refused(earlier: Path, later: Path, tmp_path: Path) -> None:
    def start(folder: Path) -> None:
        train.train(OPTIONS, later, tmp_path / "model", tmp_path / "checkpoints", earlier=folder)

    other = {**about(earlier)["options"], "model_size": "standard"}
    with pytest.raises(InvalidInput, match=r"standard.*train\.start to fresh"):
        start(changed(earlier, tmp_path / "standard", options=other))
    with pytest.raises(InvalidInput, match="not a number"):
        start(with_weights(earlier, tmp_path / "nan", lambda value: value * float("nan")))
    with pytest.raises(InvalidInput, match="other sizes"):
        start(with_weights(earlier, tmp_path / "size", lambda value: value[:-1]))
    moved = tmp_path / "moved"
    shutil.copytree(earlier, moved)
    frame = json.loads((moved / model.TRANSFORMS).read_text())
    (moved / model.TRANSFORMS).write_text(json.dumps({**frame, "scale": 2 * frame["scale"]}))
    content = about(moved)
    content["checksums"][model.TRANSFORMS] = manifest.checksum(moved / model.TRANSFORMS)
    (moved / model.MANIFEST).write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match="another coordinate frame"):
        start(moved)
    assert not (tmp_path / "model" / model.MANIFEST).exists()
