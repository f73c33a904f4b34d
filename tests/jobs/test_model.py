from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from pydantic_settings import CliApp

torch = pytest.importorskip("torch")
pytest.importorskip("nerfstudio")

from jobs import model, train  # noqa: E402
from jobs.errors import InvalidInput  # noqa: E402
from jobs.options import TrainOptions  # noqa: E402
from jobs.radiance.evaluation import evaluate  # noqa: E402
from tests.processes import free_port  # noqa: E402

torch.set_num_threads(1)  # the same work, without threads that wait for a core


@pytest.fixture(scope="module")
def trained(tiny_dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `model/`, whose dataset was elsewhere and is gone, and a copy of that as `dataset/`."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny_dataset, folder / "dataset")
    shutil.copytree(tiny_model, folder / "model")
    return folder


@pytest.fixture(scope="module")
def weights_in_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a torch cache with a file for LPIPS's network, so that nerfstudio's own tools download nothing.

    The weights are random, so tests can only check that figures are computed from them.
    """
    from torchvision.models import alexnet

    home = tmp_path_factory.mktemp("torch")
    (home / "hub/checkpoints").mkdir(parents=True)
    torch.save(alexnet(weights=None).state_dict(), home / "hub/checkpoints" / model.ALEXNET)
    return home


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "model/model.json").read_text())["metrics"]
    return content


@pytest.mark.slow
def test_nerfstudios_own_tools_take_a_model_that_was_moved(trained: Path, weights_in_cache: Path) -> None:
    subprocess.run(
        [Path(sys.executable).with_name("ns-eval"), "--load-config", "config.yml", "--output-path", "../eval.json"],
        cwd=trained / "model",
        env={**os.environ, "TORCH_HOME": str(weights_in_cache)},
        check=True,
        timeout=300,
    )
    found = json.loads((trained / "eval.json").read_text())["results"]
    assert found["psnr"] == pytest.approx(results(trained)["psnr"], abs=0.01)
    assert found["ssim"] == pytest.approx(results(trained)["ssim"], abs=0.001)


@pytest.mark.slow
def test_nerfstudios_viewer_shows_a_model_that_was_moved(trained: Path, weights_in_cache: Path) -> None:
    port = free_port()
    viewer = subprocess.Popen(
        [Path(sys.executable).with_name("ns-viewer"), "--load-config=config.yml", f"--viewer.websocket-port={port}"],
        cwd=trained / "model",
        env={**os.environ, "TORCH_HOME": str(weights_in_cache)},
    )
    try:
        deadline = time.monotonic() + 240
        while True:
            assert viewer.poll() is None and time.monotonic() < deadline
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
                    assert page.status == 200
                break
            except URLError:
                time.sleep(1)
    finally:
        viewer.terminate()
        viewer.wait(60)


def test_a_model_and_its_dataset_load_from_anywhere(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "a model")
    shutil.copytree(trained / "dataset", tmp_path / "elsewhere" / "photos")
    pipeline = model.load(tmp_path / "a model", tmp_path / "elsewhere" / "photos", device="cpu")
    assert not pipeline.training
    found = evaluate(pipeline)
    assert found["psnr"] == pytest.approx(results(trained)["psnr"], abs=1e-3)


def test_lpips_is_computed_where_its_weights_are(
    trained: Path, weights_in_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert results(trained)["lpips"] is None and "AlexNet" in results(trained)["lpips_not_available"]
    monkeypatch.setenv("TORCH_HOME", str(weights_in_cache))
    options = TrainOptions(max_num_iterations=1, model_size="small", max_image_size=96, rays_per_batch=64)
    train.train(options, trained / "dataset", tmp_path / "model", tmp_path / "checkpoints")
    assert results(tmp_path)["lpips"] > 0 and results(tmp_path)["lpips_not_available"] is None
    [checkpoint] = (tmp_path / "model" / model.CHECKPOINTS).iterdir()
    assert not any("lpips" in name for name in torch.load(checkpoint, weights_only=True)["pipeline"])


def test_the_config_is_written_for_a_location(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nerfstudio.utils.eval_utils import eval_setup

    config = tmp_path / "config.yml"
    arguments = [trained / "model", trained / "dataset", config]
    CliApp.run(model._Arguments, cli_args=list(map(str, arguments)))
    monkeypatch.chdir(tmp_path)
    with model.lpips_from_cache():
        _, pipeline, checkpoint, step = eval_setup(config, test_mode="inference")
    assert step == 29 and checkpoint.is_relative_to(trained / "model")
    assert len(pipeline.datamanager.train_dataset) == 13


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("{", "Expecting"),
        ("[]", "valid dictionary"),
        ({"checksums": ["config.yml"]}, "checksums: "),
        ({"checkpoint": None}, "checkpoint: "),
        ({"dataset": {}}, r"dataset\.transforms_sha256: "),
        ({"options": {"method": 3}}, r"options\.method: "),
    ],
)
def test_a_damaged_manifest_is_named(tiny_model: Path, tmp_path: Path, damage: str | dict[str, Any], says: str) -> None:
    whole = json.loads((tiny_model / model.MANIFEST).read_text())
    (tmp_path / model.MANIFEST).write_text(damage if isinstance(damage, str) else json.dumps(whole | damage))
    with pytest.raises(InvalidInput, match=rf"{tmp_path}/model\.json .*{says}"):
        model.read_manifest(tmp_path)


def test_a_changed_file_or_another_dataset_is_refused(trained: Path, tmp_path: Path) -> None:
    changed = tmp_path / "model"
    shutil.copytree(trained / "model", changed)
    [checkpoint] = (changed / model.CHECKPOINTS).iterdir()
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-1])
    with pytest.raises(InvalidInput, match="checksum"):
        model.load(changed, trained / "dataset")
    checkpoint.unlink()
    with pytest.raises(InvalidInput, match="missing"):
        model.load(changed, trained / "dataset")
    with pytest.raises(InvalidInput, match=r"no transforms\.json"):
        model.load(trained / "model", tmp_path)
    with pytest.raises(InvalidInput, match="manifest"):
        model.load(trained / "dataset", trained / "dataset")
    other = tmp_path / "other"
    shutil.copytree(trained / "dataset", other)
    (other / "transforms.json").write_text((other / "transforms.json").read_text() + "\n")
    with pytest.raises(InvalidInput, match="was not trained on"):
        model.load(trained / "model", other)
