"""A model and a camera path to a video: `python -m jobs.render --dataset DIR --model DIR --video DIR …`.

Writes `video.mp4` (H.264, yuv420p, fast start), `depth.mp4` and `accumulation.mp4` and `frames/` where they are asked
for, `poster.jpg`, `contact_sheet.jpg`, `preview.gif`, `camera_path.json` (the path rendered) and `video.json` (the
manifest). Frames are rendered in chunks, which stand when the job is interrupted, and joined without encoding again;
with `--shards`, the chunks are those of `jobs.shard`. A frame is encoded while the next is rendered, and none is kept:
memory does not grow with the length.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from pydantic_settings import CliApp

from jobs import camera_path, manifest, report
from jobs.camera_path import CameraPath, Origin
from jobs.errors import GateRefused, InvalidInput, JobFailed
from jobs.options import RenderOptions
from jobs.path import trajectory
from jobs.radiance.renderer import Renderer
from jobs.video import chunks
from jobs.video.chunks import Chunk, Chunks
from jobs.video.h264 import Picture, Pictures, Video, inspect, join, writer

_FLAT = 8  # a picture whose grey values, 0 to 255, differ by less shows nothing
_FILES = {"rgb": "video.mp4", "depth": "depth.mp4", "accumulation": "accumulation.mp4"}

T = TypeVar("T")


def render(
    options: RenderOptions,
    dataset: Path,
    model: Path,
    video: Path,
    checkpoints: Path,
    shards: Sequence[Path] = (),
    frame: str | None = None,
) -> None:
    """Render a camera path, or what is missing of it, and write the folder `video`.

    Args:
        options: which path; its size and length, where it is generated.
        dataset: what the model was trained on.
        model: a folder that `jobs.train` wrote.
        video: a folder, made if missing.
        checkpoints: a folder for chunks, kept between attempts.
        shards: folders that `jobs.shard` wrote: the whole video in parts. Nothing is then rendered here.
        frame: the dataset that began the model's frame, for the path to say where it belongs.

    Raises:
        InvalidInput: the camera path, dataset, model or shards cannot be used.
        GateRefused: the video shows nothing, or the file does not hold what was rendered.
        JobFailed: the GPU's memory is too small, even for a few rays at a time.
    """
    timer = manifest.Timer()
    path, kind = choose_path(options, dataset, model)
    if shards:  # the path that was rendered: by another machine's arithmetic, a tie may end otherwise
        path = _path_of(shards)
        found = [Chunks(shard).find() for shard in shards]
    else:
        store = Chunks(checkpoints)
        render_chunks("render", options, path, dataset, model, store, (0, len(path.camera_path)), timer)
        found = [store.find(content_of(options, path))]
    total = len(path.camera_path)
    with timer.step("join"):
        parts = chunks.whole(found, total)
        pictures = Pictures(total)
        video.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=video) as name:
            written = _join(parts, path, options, Path(name), pictures)
            pictures.write(Path(name))
            for file in Path(name).iterdir():
                os.replace(file, video / file.name)
    if frame and not path.rebel_nerf:
        path = path.model_copy(update={"rebel_nerf": Origin(frame=frame)})
    path.write(video / "camera_path.json")
    seconds = sum(chunk.seconds for chunk in parts.values())
    names = [_FILES[output] for output in ("rgb", *options.outputs)]
    manifest.write(
        video / "video.json",
        options,
        timer,
        {
            "camera_path": kind,
            **written._asdict(),
            "fps": round(float(path.frame_rate), 6),
            "bytes": (video / "video.mp4").stat().st_size,
            "checksums": {name: manifest.checksum(video / name) for name in names},
            "chunks": len(parts),
            "shards": max(1, len(shards)),
            "rendering_seconds": round(seconds, 3),
            "frames_per_second": round(total / seconds, 3),
            "rays_per_second": round(total * written.width * written.height / seconds),
            "rays_at_a_time": min(chunk.rays_at_a_time for chunk in parts.values()),
            "depth_range": next(iter(parts.values())).depth_range,
            "peak_memory_bytes": peak_memory(),
            "device": ", ".join(sorted({chunk.device for chunk in parts.values()})),
        },
    )
    report.emit(
        report.Result(
            "render",
            {
                "path": kind,
                "frames": total,
                "size": f"{written.width}x{written.height}",
                "fps": round(float(path.frame_rate), 3),
                "rendering_seconds": round(seconds),
            },
        )
    )


def _path_of(shards: Sequence[Path]) -> CameraPath:
    """The path that all shards are parts of: in the last digits, each machine may have come to its own."""
    path, *others = (camera_path.read(shard / "camera_path.json") for shard in shards)
    for shard, other in zip(shards[1:], others, strict=True):
        if not other.is_like(path):
            raise InvalidInput(f"The shard {shard} is of another camera path than {shards[0]}: render it again.")
    return path


def choose_path(options: RenderOptions, dataset: Path, model: Path) -> tuple[CameraPath, str]:
    """The camera path that the options ask for, and its kind: "file", or the generated one's."""
    kind = "tour" if options.camera_path == "auto" else options.camera_path
    if kind not in trajectory.KINDS:
        return camera_path.read(Path(kind)), "file"
    return trajectory.generate(kind, dataset, model, options.with_profile("full")), kind


def render_chunks(
    stage: str,
    options: RenderOptions,
    path: CameraPath,
    dataset: Path,
    model: Path,
    store: Chunks,
    span: tuple[int, int],
    timer: manifest.Timer,
) -> None:
    """Render the chunks of a path that `store` does not have yet.

    Args:
        stage: that tells its progress.
        options, path, dataset, model: see `render`.
        store: where chunks go; those that are there already are left alone.
        span: the first frame, and the one after the last.
        timer: gets the steps "load" and "render".

    Raises:
        InvalidInput, JobFailed: see `render`.
    """
    from jobs.model import load

    first, last = span
    content = content_of(options, path)
    missing = store.missing(content, first, last)
    todo = [index for start, end in missing for index in range(start, end)]
    if len(todo) < last - first:
        print(f"Going on: {last - first - len(todo)} of {last - first} frames are there already.", flush=True)
    if not todo:
        return
    if path.even_size != (path.render_width, path.render_height):
        width, height = path.even_size
        print(f"H.264 needs even sizes: {path.render_width}x{path.render_height} becomes {width}x{height}.", flush=True)
    with timer.step("load"):
        renderer = Renderer(load(model, dataset), path, options)
    meter = report.Meter(stage, last - first, done=last - first - len(todo))
    with timer.step("render"), closing(_ahead(map(renderer.frame, todo))) as frames:
        for start, end in missing:
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as name:
                _write_chunk(Path(name), path, options.png_frames, frames, range(start, end), meter)
                chunk = Chunk(
                    content=content,
                    first=start,
                    last=end,
                    seconds=round(time.monotonic() - began, 3),
                    device=renderer.device,
                    rays_at_a_time=renderer.rays_at_a_time,
                    depth_range=renderer.depth_range,
                )
                store.add(chunk, Path(name))


def content_of(options: RenderOptions, path: CameraPath) -> str:
    """What a path's frames show, as one checksum: rounded, and no -0.0, for machines differ in the last digits."""
    views = [[round(number, 5) + 0.0 for number in (*frame.camera_to_world, frame.fov)] for frame in path.camera_path]
    rest = path.model_dump_json(exclude={"camera_path": {"__all__": {"camera_to_world", "fov"}}})
    return sha256(f"{views} {rest} {options.near_plane} {options.outputs} {options.png_frames}".encode()).hexdigest()


def _write_chunk(
    folder: Path, path: CameraPath, png: bool, frames: Iterator[dict[str, Picture]], indices: range, meter: report.Meter
) -> None:
    """Write the next frames, of these indices, as the files of a chunk."""
    with ExitStack() as open_files:
        write: dict[str, Any] = {}
        for index in indices:
            pictures = next(frames)
            for output, picture in pictures.items():
                if output not in write:
                    write[output] = open_files.enter_context(
                        writer(folder / _FILES[output], path.frame_rate, path.even_size)
                    )
                write[output](picture)
            if png:
                (folder / "frames").mkdir(exist_ok=True)
                Image.fromarray(pictures["rgb"]).save(folder / "frames" / f"{index:05d}.png")
            meter.advance()


def _ahead(frames: Iterator[T]) -> Generator[T, None, None]:
    """The same frames, each computed in another thread while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = thread.submit(next, frames, None)
            yield frame


def _join(
    parts: dict[Path, Chunk], path: CameraPath, options: RenderOptions, folder: Path, pictures: Pictures
) -> Video:
    """Write a path's files from its chunks, each checked; what `video.mp4` holds."""
    found = {}
    for output in ("rgb", *options.outputs):
        file = folder / _FILES[output]
        join([part / file.name for part in parts], file, path.frame_rate)
        found[output] = inspect(file, pictures.look) if output == "rgb" else inspect(file)
        _check(found[output], path, may_be_flat=output != "rgb")
    if options.png_frames:
        (folder / "frames").mkdir()
        for part in parts:
            shutil.copytree(part / "frames", folder / "frames", dirs_exist_ok=True)
    return found["rgb"]


def _check(video: Video, path: CameraPath, may_be_flat: bool = False) -> None:
    """Raise GateRefused where a video is not what its path asked for, or shows nothing."""
    wanted = (len(path.camera_path), *path.even_size, "yuv420p")
    found = (video.frames, video.width, video.height, video.pix_fmt)
    if found != wanted or abs(video.duration - path.seconds) > 0.5 * path.seconds / len(path.camera_path):
        raise GateRefused(
            "The video that was written does not hold what was rendered: {} frames of {}x{} in {}, {:.2f} s".format(
                *found, video.duration
            )
            + ", and not {} of {}x{} in {}, {:.2f} s. Render again.".format(*wanted, path.seconds)
        )
    if video.contrast < _FLAT and not may_be_flat:
        raise GateRefused(
            "The video is empty: every frame is of a single colour. Look at the model's PSNR; if that is good, the "
            "path leads through nothing: its poses must be in the frame of this model. Try the camera path tour."
        )


def peak_memory() -> dict[str, int | None]:
    """The most that this process has used, bytes."""
    return {
        "cpu": manifest.peak_memory(),
        "cuda": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    }


@contextmanager
def ended_clearly(folder: Path) -> Iterator[None]:
    """While inside, SIGTERM is an error that says how it goes on, and so is a disk that is full."""
    interrupted = report.interruption("rendering was told to end; the next attempt goes on after the last whole chunk")
    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            places = f"{folder} and {tempfile.gettempdir()}"
            raise JobFailed(f"The disk is full: make room at {places}, and render again. {error}") from error
        raise
    finally:
        if signal.getsignal(signal.SIGTERM) is interrupted:
            signal.signal(signal.SIGTERM, before)


class Job(RenderOptions):
    """The command line of this job."""

    dataset: Path
    model: Path
    video: Path
    checkpoints: Path
    shards: tuple[Path, ...] = ()
    frame: str | None = None


def main() -> None:
    """Run the job that the command line tells."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    with ended_clearly(job.video):
        render(RenderOptions.of(job), job.dataset, job.model, job.video, job.checkpoints, job.shards, job.frame)


if __name__ == "__main__":
    report.run("render", main)
