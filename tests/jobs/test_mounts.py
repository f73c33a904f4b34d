"""Training and rendering with their checkpoints in blob storage behind a mount, on nodes that are lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import CliApp

torch = pytest.importorskip("torch")
pytest.importorskip("nerfstudio")

from jobs.base_options import Options  # noqa: E402
from jobs.options import RenderOptions, TrainOptions  # noqa: E402
from tests.azureml.azurite import Azurite  # noqa: E402
from tests.azureml.tls import write_certificates  # noqa: E402
from tests.mounts import BlobFuse, Mount, StandIn  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TRAIN = TrainOptions(max_num_iterations=30, model_size="small", max_image_size=96, rays_per_batch=64, steps_per_save=6)
RENDER = RenderOptions(camera_path="tour", width=32, height=18, seconds=10, fps=24, png_frames=True)  # four chunks


@pytest.fixture(params=["stand-in", "file_cache", "block_cache"])
def mount(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """Yield storage mounted by the stand-in, and by BlobFuse2 with each of its caches."""
    kind = StandIn if request.param == "stand-in" else BlobFuse
    if why := kind.missing():
        pytest.skip(why)
    if kind is StandIn:
        mounted: Mount = StandIn(tmp_path / "blobs")
        yield mounted
        mounted.lose()
        return
    certificates = tmp_path / "certificates"
    write_certificates(certificates)
    azurite = Azurite("nerfstore", certificates, tmp_path / "azurite.log")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    azurite.client.create_container("scratch")
    endpoint = f"https://127.0.0.1:{azurite.port}/nerfstore"
    mounted = BlobFuse(tmp_path / "blobs", endpoint, "nerfstore", azurite.key, "scratch", request.param)
    yield mounted
    mounted.lose()
    azurite.close()


def job(stage: str, options: Options, log: Path, **places: Path) -> subprocess.Popen[str]:
    """Start a job with one thread: the same number of threads computes the same sums."""
    arguments = [str(word) for name, place in places.items() for word in (f"--{name}", place)]
    return subprocess.Popen(
        [sys.executable, "-m", f"jobs.{stage}", *arguments, *CliApp.serialize(options)],
        stdout=log.open("a"),
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def lose_nodes(mount: Mount, start: Callable[[], subprocess.Popen[str]], requests: Sequence[int], ready: str) -> None:
    """Run attempts at a job whose node is lost meanwhile, one after the other, and then one that ends.

    Args:
        requests: to storage, after which each node is lost; a node of BlobFuse2, which is not told, is lost a little
            after each more of the files `ready` in its folder.
    """
    for number, left in enumerate(requests, 1):
        mount.start(left if isinstance(mount, StandIn) else None)
        attempt = start()
        deadline = time.monotonic() + 200
        while not mount.lost and attempt.poll() is None and time.monotonic() < deadline:
            if isinstance(mount, BlobFuse) and len(list(mount.path.glob(ready))) >= number:
                time.sleep(0.03 * number)
                break
            time.sleep(0.01)
        assert mount.lost or attempt.poll() is None, "the job ended before its node was lost"
        mount.lose()
        attempt.send_signal(signal.SIGKILL)
        attempt.wait()
    mount.start()
    assert start().wait() == 0


def parameters(folder: Path) -> dict[str, Any]:
    [file] = (folder / "nerfstudio_models").iterdir()
    state: dict[str, Any] = torch.load(file, weights_only=True)["pipeline"]
    return state


def test_training_on_nodes_that_are_lost_ends_as_if_they_had_not_been(
    mount: Mount, tiny_dataset: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def train(model: str, checkpoints: Path) -> subprocess.Popen[str]:
        folders = {"dataset": tiny_dataset, "model": tmp_path / model, "checkpoints": checkpoints}
        return job("train", TRAIN, log, **folders)

    assert train("whole", tmp_path / "local").wait() == 0, log.read_text()
    log.unlink()
    # in the second checkpoint's JSON; while the third is written; while the oldest is removed
    lose_nodes(mount, lambda: train("model", mount.path / "checkpoints"), (12, 2, 14), "checkpoints/step-*.json")
    assert log.read_text().count("Resuming from the checkpoint") == 3, log.read_text()
    whole, resumed = parameters(tmp_path / "whole"), parameters(tmp_path / "model")
    assert whole.keys() == resumed.keys()
    for name in whole:
        torch.testing.assert_close(resumed[name], whole[name], rtol=0, atol=0)
    assert len(list((mount.path / "checkpoints").iterdir())) <= 6  # two, with their JSON, and what was torn of one


def test_rendering_on_nodes_that_are_lost_ends_as_if_they_had_not_been(
    mount: Mount, tiny_dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def render(video: str, checkpoints: Path) -> subprocess.Popen[str]:
        folders = {"dataset": tiny_dataset, "model": tiny_model, "video": tmp_path / video, "checkpoints": checkpoints}
        return job("render", RENDER, log, **folders)

    assert render("whole", tmp_path / "local").wait() == 0, log.read_text()
    log.unlink()
    # a chunk is about 190 requests: sixty frames, the video and the JSON
    lose_nodes(mount, lambda: render("video", mount.path / "checkpoints"), (100, 300, 189), "checkpoints/*/chunk.json")
    assert "frames are already rendered" in log.read_text() and "is incomplete" in log.read_text(), log.read_text()
    frames = {file.name: file.read_bytes() for file in (tmp_path / "whole/frames").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "video/frames").iterdir()} == frames
    assert len(frames) == 240
