"""Render a video of a model along a camera path: `python -m jobs.render --dataset DIR --model DIR --video DIR …`.

Writes `video.mp4` (H.264, yuv420p, fast start), `poster.jpg`, `contact_sheet.jpg`, `preview.gif`, `camera_path.json`
(the rendered path) and `video.json` (the manifest). Options add `depth.mp4`, `accumulation.mp4` and `frames/`.

The job renders chunks, which survive an interruption, and joins them without re-encoding. With `--shards`, it joins the
chunks of `jobs.shard` instead. Each frame is encoded while the next one is rendered, so memory does not grow with the
length of the video.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic_settings import CliApp

from jobs import camera_path, manifest, report
from jobs.camera_path import CameraPath, Origin
from jobs.errors import GateRefused, InvalidInput, JobFailed, is_disk_full
from jobs.options import RenderOptions
from jobs.path import trajectory
from jobs.radiance import gpu
from jobs.radiance.renderer import Renderer
from jobs.video import chunks
from jobs.video.chunks import Chunk, Chunks
from jobs.video.h264 import Picture, Pictures, Video, inspect, join, writer
from jobs.video.png import png_writer

_MOST_KEPT_BYTES = 256_000_000  # 600 frames of 480x270, 40 of 1920x1080
_FLAT = 8  # a picture whose grey values (0 to 255) span less than this shows nothing
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
    """Render the missing chunks of a camera path, join them, and write the folder `video`.

    Args:
        options: the path, and the size and length of a generated path.
        dataset: the dataset that the model was trained on.
        model: a folder that `jobs.train` wrote.
        video: a folder, created if missing.
        checkpoints: a folder for chunks, kept between attempts.
        shards: folders that `jobs.shard` wrote and that make up the whole video. Then nothing is rendered here.
        frame: the dataset, as name:version, that defined the scene frame. The path's file records it.

    Raises:
        InvalidInput: the camera path, dataset, model or shards cannot be used.
        GateRefused: the video shows nothing, or the file does not contain the rendered frames.
        JobFailed: the GPU's memory is too small even for a few rays at a time.
    """
    timer = manifest.Timer()
    path, kind = choose_path(options, dataset, model)
    if shards:  # take the path that was rendered; another machine may round a generated one differently
        path = _path_of(shards)
        found = [Chunks(shard).find() for shard in shards]
    else:
        store = Chunks(checkpoints)
        render_chunks("render", options, path, dataset, model, store, (0, len(path.camera_path)), timer)
        found = [store.find(content_of(options, path))]
    total = len(path.camera_path)
    with timer.step("join"):
        parts = chunks.chunks_of_video(found, total)
        written = _write_videos(parts, path, options, video)
    if frame and not path.rebel_nerf:
        path = path.model_copy(update={"rebel_nerf": Origin(frame=frame)})
    path.write(video / "camera_path.json")
    seconds = sum(chunk.seconds for chunk in parts.values())
    names = [_FILES[output] for output in ("rgb", *options.outputs)]
    content = {
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
        "peak_memory_bytes": gpu.peak_memory(),
        "device": ", ".join(sorted({chunk.device for chunk in parts.values()})),
    }
    manifest.write(video / "video.json", options, timer, content)
    summary: dict[str, str | int | float] = {
        "path": kind,
        "frames": total,
        "size": f"{written.width}x{written.height}",
        "fps": round(float(path.frame_rate), 3),
        "rendering_seconds": round(seconds),
    }
    report.emit(report.Figures("render", summary))


def _path_of(shards: Sequence[Path]) -> CameraPath:
    """Return the path that all shards are parts of. Machines may differ in its last digits."""
    path, *others = (camera_path.read(shard / "camera_path.json") for shard in shards)
    for shard, other in zip(shards[1:], others, strict=True):
        if not other.is_like(path):
            raise InvalidInput(f"The shard {shard} belongs to another camera path than {shards[0]}. Render it again.")
    return path


def choose_path(options: RenderOptions, dataset: Path, model: Path) -> tuple[CameraPath, str]:
    """Return the requested camera path and its kind: "file", or the kind of the generated path."""
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
    """Render those chunks of a path that `store` lacks.

    Args:
        stage: the stage whose progress is reported.
        options, dataset, model: see `render`.
        path: the camera path.
        store: gets the chunks.
        span: the index of the first frame, and the index after the last.
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
        print(f"Resuming: {last - first - len(todo)} of {last - first} frames are already rendered.", flush=True)
    if not todo:
        return
    if path.even_size != (path.render_width, path.render_height):
        width, height = path.even_size
        print(f"H.264 needs even sizes. {path.render_width}x{path.render_height} becomes {width}x{height}.", flush=True)
    with timer.step("load"):
        renderer = Renderer(load(model, dataset), path, options)
    meter = report.Meter(stage, last - first, done=last - first - len(todo))
    with timer.step("render"), closing(_ahead(without_repeats(renderer.frame, path, todo))) as frames:
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
    """Return a checksum of the frames of a path.

    Poses are rounded, without -0.0, because machines differ in the last digits.
    """
    views = [[round(number, 5) + 0.0 for number in (*frame.camera_to_world, frame.fov)] for frame in path.camera_path]
    rest = path.model_dump_json(exclude={"camera_path": {"__all__": {"camera_to_world", "fov"}}})
    return sha256(f"{views} {rest} {options.near_plane} {options.outputs} {options.png_frames}".encode()).hexdigest()


def without_repeats(
    render: Callable[[int], dict[str, Picture]],
    path: CameraPath,
    todo: Sequence[int],
    most_bytes: int = _MOST_KEPT_BYTES,
) -> Iterator[dict[str, Picture]]:
    """Yield the frames of a path, but render views that occur again only once: a loop goes the same way back.

    Args:
        render: returns the pictures of a frame.
        path: the path.
        todo: the frames' indices, in order.
        most_bytes: of pictures that are kept until they occur again.
    """
    views = {index: _view(path, index) for index in todo}
    left, kept, free = Counter(views.values()), dict[str, dict[str, Picture]](), most_bytes
    for index in todo:
        view = views[index]
        left[view] -= 1
        pictures = kept.get(view) or render(index)
        size = sum(picture.nbytes for picture in pictures.values())
        if view in kept and not left[view]:
            del kept[view]
            free += size
        elif view not in kept and left[view] and size <= free:
            kept[view] = pictures
            free -= size
        yield pictures


def _view(path: CameraPath, index: int) -> str:
    """Return everything that decides what a frame shows."""
    frame = path.camera_path[index]
    rest = frame.model_dump_json(exclude={"camera_to_world", "fov"})
    return f"{[round(number, 7) + 0.0 for number in (*frame.camera_to_world, frame.fov)]} {rest}"


def _write_chunk(
    folder: Path, path: CameraPath, png: bool, frames: Iterator[dict[str, Picture]], indices: range, meter: report.Meter
) -> None:
    """Write the next frames, which have these indices, as the files of a chunk."""
    with ExitStack() as open_files:
        save = open_files.enter_context(png_writer(folder / "frames")) if png else None
        write: dict[str, Any] = {}
        for index in indices:
            pictures = next(frames)
            for output, picture in pictures.items():
                if output not in write:
                    write[output] = open_files.enter_context(
                        writer(folder / _FILES[output], path.frame_rate, path.even_size)
                    )
                write[output](picture)
            if save:
                save(f"{index:05d}.png", pictures["rgb"])
            meter.advance()


def _ahead(frames: Iterator[T]) -> Generator[T, None, None]:
    """Yield the same frames, computing each in another thread while its predecessor is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = thread.submit(next, frames, None)
            yield frame


def _write_videos(parts: dict[Path, Chunk], path: CameraPath, options: RenderOptions, video: Path) -> Video:
    """Join the chunks of a path, check each video, and draw the pictures of it. Return what `video.mp4` contains.

    The files are moved into the folder `video` when all are complete.
    """
    found = {}
    pictures = Pictures(len(path.camera_path))
    video.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=video) as name:
        folder = Path(name)
        for output in ("rgb", *options.outputs):
            file = folder / _FILES[output]
            join([part / file.name for part in parts], file, path.frame_rate)
            found[output] = inspect(file, pictures.add) if output == "rgb" else inspect(file)
            _check(found[output], path, may_be_flat=output != "rgb")
        if options.png_frames:
            (folder / "frames").mkdir()
            for part in parts:
                shutil.copytree(part / "frames", folder / "frames", dirs_exist_ok=True)
        pictures.write(folder)
        for file in folder.iterdir():
            os.replace(file, video / file.name)
    return found["rgb"]


def _check(video: Video, path: CameraPath, may_be_flat: bool = False) -> None:
    """Raise GateRefused if a video does not match its path, or shows nothing."""
    wanted = (len(path.camera_path), *path.even_size, "yuv420p")
    found = (video.frames, video.width, video.height, video.pix_fmt)
    if found != wanted or abs(video.duration - path.seconds) > 0.5 * path.seconds / len(path.camera_path):
        raise GateRefused(
            "The video file is wrong: it has {} frames of {}x{} in {} and lasts {:.2f} s".format(*found, video.duration)
            + ", instead of {} frames of {}x{} in {} and {:.2f} s. Render again.".format(*wanted, path.seconds)
        )
    if video.contrast < _FLAT and not may_be_flat:
        raise GateRefused(
            "The video is empty: every frame has a single colour. Check the model's PSNR. If it is good, the path "
            "misses the scene: its poses must be in the scene frame of this model. Try the camera path tour."
        )


@contextmanager
def ended_clearly(folder: Path) -> Iterator[None]:
    """Turn SIGTERM and a full disk into errors that say what happens next."""
    interrupted = report.interruption(
        "Rendering was interrupted. The next attempt resumes after the last complete chunk."
    )
    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            places = f"{folder} and {tempfile.gettempdir()}"
            raise JobFailed(f"The disk is full. Free space at {places}, then render again. {error}") from error
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
    """Run the job of this command line."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    with ended_clearly(job.video):
        render(RenderOptions.of(job), job.dataset, job.model, job.video, job.checkpoints, job.shards, job.frame)


if __name__ == "__main__":
    report.run("render", main)
