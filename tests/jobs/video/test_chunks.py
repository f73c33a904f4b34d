"""Rendering in chunks and in shards: interrupted, torn or split, it comes to the same frames."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic_settings import CliApp

pytest.importorskip("torch")
pytest.importorskip("nerfstudio")

from jobs import report
from jobs.errors import InvalidInput
from jobs.options import RenderOptions, ShardOptions
from jobs.render import choose_path, content_of, render
from jobs.shard import shard
from jobs.video import chunks
from jobs.video.chunks import Chunk, Chunks, chunks_of_video
from jobs.video.h264 import inspect
from tests.jobs.video.test_h264 import decode

OPTIONS = RenderOptions(camera_path="tour", width=48, height=26, seconds=1.25, fps=8, png_frames=True)


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "FRAMES", 4)
        yield


@pytest.fixture(scope="module")
def whole(_short: None, tiny_model: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the video of OPTIONS in one piece: ten frames."""
    folder = tmp_path_factory.mktemp("whole")
    render(OPTIONS, tiny_dataset, tiny_model, folder / "video", folder / "checkpoints")
    return folder / "video"


def frames_of(video: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (video / "frames").iterdir()}


def psnr(one: Path, other: Path) -> float:
    pairs = zip(decode(one), decode(other), strict=True)
    error = np.mean([(a.astype(float) - b) ** 2 for a, b in pairs])
    return float(10 * np.log10(255**2 / error)) if error else np.inf


def test_only_chunks_that_are_missing_or_torn_are_rendered_again(
    whole: Path, tiny_model: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Leave a chunk as a process does that is killed while it writes."""
    store = tmp_path / "checkpoints"
    render(OPTIONS, tiny_dataset, tiny_model, tmp_path / "first", store)
    kept, torn, unfinished = Chunks(store).find()
    assert [folder.name[:14] for folder in (kept, torn, unfinished)] == [
        *("000000-000004-", "000004-000008-", "000008-000010-")
    ]
    kept = kept.rename(store / "000000-000004")  # as the first version named it
    about = (kept / "chunk.json").read_bytes()
    (torn / "video.mp4").write_bytes((torn / "video.mp4").read_bytes()[:500])
    (unfinished / "chunk.json").unlink()
    capsys.readouterr()
    render(OPTIONS, tiny_dataset, tiny_model, tmp_path / "again", store)
    log = capsys.readouterr().out
    assert (
        f"{torn} is incomplete" in log and f"{unfinished} is incomplete" in log and "4 of 10 frames are already" in log
    )
    assert (kept / "chunk.json").read_bytes() == about, "a whole chunk was rendered again"
    assert frames_of(tmp_path / "again") == frames_of(whole)
    assert psnr(tmp_path / "again" / "video.mp4", whole / "video.mp4") > 45  # x264 rounds otherwise now and then
    manifest = json.loads((tmp_path / "again" / "video.json").read_text())
    assert (manifest["chunks"], manifest["shards"], manifest["frames"]) == (3, 1, 10)


def test_chunks_of_another_video_are_left_alone(
    whole: Path, tiny_model: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    other = OPTIONS.model_copy(update={"camera_path": "orbit"})
    for number, options in enumerate((other, OPTIONS)):
        render(options, tiny_dataset, tiny_model, tmp_path / str(number), tmp_path / "checkpoints")
    assert frames_of(tmp_path / "1") == frames_of(whole) != frames_of(tmp_path / "0")


def test_shards_are_the_same_video(whole: Path, tiny_model: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """Frame for frame to the bit; the joined file only begins its groups of pictures elsewhere."""
    bounds = [(0, 3), (3, 9), (9, 10)]
    shards = [tmp_path / f"shard {first}" for first, _ in bounds]
    for folder, (first, last) in zip(shards, bounds, strict=True):
        options = ShardOptions(**OPTIONS.model_dump(), first=first, last=last)
        shard(options, tiny_dataset, tiny_model, folder, tmp_path / f"checkpoints {first}")
    checkpoint = tiny_model / "nerfstudio_models"
    hidden = checkpoint.rename(checkpoint.with_name("hidden"))
    try:  # joining needs no model
        render(OPTIONS, tiny_dataset, tiny_model, tmp_path / "video", tmp_path / "checkpoints", shards[::-1])
    finally:
        hidden.rename(checkpoint)
    assert frames_of(tmp_path / "video") == frames_of(whole)
    assert inspect(tmp_path / "video" / "video.mp4")[:4] == inspect(whole / "video.mp4")[:4]
    assert psnr(tmp_path / "video" / "video.mp4", whole / "video.mp4") > 45
    assert (tmp_path / "video" / "camera_path.json").read_text() == (whole / "camera_path.json").read_text()
    assert json.loads((tmp_path / "video" / "video.json").read_text())["shards"] == 3

    # A machine that differs in the last digits has made the second; and one whose path leads elsewhere.
    own = json.loads((shards[1] / "camera_path.json").read_text())
    chunk = next(shards[1].glob("*/chunk.json"))
    for off, fits in ((1e-9, True), (1e-2, False)):
        pose = own["camera_path"][4]["camera_to_world"]
        other = [{**frame, "fov": frame["fov"] + off} for frame in own["camera_path"]]
        other[4]["camera_to_world"] = [*pose[:3], pose[3] + off, *pose[4:]]
        (shards[1] / "camera_path.json").write_text(json.dumps({**own, "camera_path": other}))
        chunk.write_text(json.dumps({**json.loads(chunk.read_text()), "content": "of the other machine"}))
        given = (tmp_path / "joined", tmp_path / "checkpoints", shards)
        if fits:
            render(OPTIONS, tiny_dataset, tiny_model, *given)
            assert frames_of(tmp_path / "joined") == frames_of(whole)
            continue
        with pytest.raises(InvalidInput, match="shard 3 .*shard 0"):
            render(OPTIONS, tiny_dataset, tiny_model, *given)

    with pytest.raises(InvalidInput, match="Frames 3 to"):
        render(OPTIONS, tiny_dataset, tiny_model, tmp_path / "less", tmp_path / "checkpoints", [shards[0], shards[2]])
    options = ShardOptions(**OPTIONS.model_dump(), first=9, last=11)
    with pytest.raises(InvalidInput, match="10 frames.* 9 to 11"):
        shard(options, tiny_dataset, tiny_model, tmp_path / "more", tmp_path / "checkpoints")


def test_a_chunk_is_rendered_identically_to_the_last_digits(tiny_model: Path, tiny_dataset: Path) -> None:
    path, _ = choose_path(OPTIONS, tiny_dataset, tiny_model)
    nearly = [
        frame.model_copy(
            update={"fov": frame.fov + 1e-12, "camera_to_world": [n + 1e-12 for n in frame.camera_to_world]}
        )
        for frame in path.camera_path
    ]
    wider = [frame.model_copy(update={"fov": frame.fov + 1e-3}) for frame in path.camera_path]
    same, other = (path.model_copy(update={"camera_path": frames}) for frames in (nearly, wider))
    assert content_of(OPTIONS, same) == content_of(OPTIONS, path) != content_of(OPTIONS, other)
    assert same.is_like(path) and not other.is_like(path)
    assert not path.is_like(path.model_copy(update={"camera_path": path.camera_path[:-1]}))
    assert not path.is_like(path.model_copy(update={"seconds": 2 * path.seconds}))


def test_every_process_comes_to_the_same_generated_path(tiny_model: Path, tiny_dataset: Path) -> None:
    """However many threads it computes with."""
    program = (
        "import sys; from pathlib import Path; from jobs.path import trajectory;"
        "from jobs.options import RenderOptions;"
        "options = RenderOptions().with_profile('preview');"
        "[print(trajectory.generate(kind, Path(sys.argv[1]), Path(sys.argv[2]), options)) for kind in trajectory.KINDS]"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program, tiny_dataset, tiny_model],
            capture_output=True, text=True, check=True, env={"OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": "."},
        ).stdout
        for threads in ("1", "2")
    }  # fmt: skip
    assert len(printed) == 1


@pytest.mark.slow
def test_resumes_where_it_was_stopped(
    tiny_model: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of a workspace, ended by SIGTERM, and its next attempt."""
    options = RenderOptions(camera_path="tour", width=48, height=26, seconds=10, fps=24)
    folders = {"dataset": tiny_dataset, "model": tiny_model, "video": tmp_path / "v", "checkpoints": tmp_path / "c"}
    arguments = [str(part) for name, folder in folders.items() for part in (f"--{name}", folder)]
    with subprocess.Popen(
        [sys.executable, "-m", "jobs.render", *arguments, *CliApp.serialize(options)], stdout=subprocess.PIPE, text=True
    ) as job:
        while not list(tmp_path.glob("c/*/chunk.json")):
            assert job.poll() is None
            time.sleep(0.01)
        job.send_signal(signal.SIGTERM)
        assert job.stdout
        told = [line for line in map(report.parse, job.stdout.read().splitlines()) if line]
    assert job.returncode == report.EXIT_INTERRUPTED
    assert isinstance(told[-1], report.Failure) and told[-1].error == "JobInterrupted"
    assert "after the last complete chunk" in told[-1].message
    assert not (tmp_path / "v").exists()
    stood = {folder / "chunk.json": (folder / "chunk.json").read_bytes() for folder in Chunks(tmp_path / "c").find()}
    assert 0 < len(stood) < 4

    monkeypatch.setattr(chunks, "FRAMES", 60)  # as in the job
    render(options, tiny_dataset, tiny_model, tmp_path / "v", tmp_path / "c")
    assert inspect(tmp_path / "v" / "video.mp4").frames == 240
    assert {about: about.read_bytes() for about in stood} == stood, "what stood was rendered again"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_does_not_grow_with_the_frames(tiny_model: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """Joining ten thousand frames from two shards takes no more memory than joining a hundred."""

    def run(stage: str, output: str, folder: Path, frames: int, *more: object) -> int:
        """Return the peak memory in bytes of a job that writes the folder `output`."""
        places = ("--dataset", tiny_dataset, "--model", tiny_model, f"--{output}", folder)
        path = ("--camera-path", "tour", "--width", 32, "--height", 18, "--fps", 100, "--seconds", frames / 100)
        chunks = ("--checkpoints", tmp_path / f"chunks of {folder.name}")
        words = map(str, (sys.executable, "-m", f"jobs.{stage}", *places, *path, *chunks, *more))
        done = subprocess.run(list(words), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return int(json.loads((folder / f"{output}.json").read_text())["peak_memory_bytes"]["cpu"])

    few = run("render", "video", tmp_path / "few", 100)
    shards = [tmp_path / "first", tmp_path / "second"]
    peaks = [
        run("shard", "shard", folder, 10_000, "--first", first, "--last", first + 5000)
        for folder, first in zip(shards, (0, 5000), strict=True)
    ]
    joined = (word for folder in shards for word in ("--shards", folder))
    peaks.append(run("render", "video", tmp_path / "many", 10_000, *joined))
    assert max(peaks) < few + 60e6
    assert inspect(tmp_path / "many" / "video.mp4").frames == 10_000


@pytest.mark.parametrize(("last", "said"), [((4, 8), "4 to 7 .* twice"), ((6, 10), "4 to 5 .* missing")])
def test_frames_that_are_missing_or_rendered_twice_are_refused(last: tuple[int, int], said: str) -> None:
    spans = [(0, 4), last] if "missing" in said else [(0, 4), (4, 8), last]
    found = [
        {Path(str(number)): Chunk(content="a", first=first, last=end, seconds=1, device="cpu", rays_at_a_time=1)}
        for number, (first, end) in enumerate(spans)
    ]
    with pytest.raises(InvalidInput, match=said):
        chunks_of_video(found, last[1])
