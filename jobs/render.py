"""A model and a camera path to a video: `python -m jobs.render --dataset DIR --model DIR --video DIR [options]`.

Writes `video.mp4` (H.264, yuv420p, fast start), `poster.jpg`, `preview.gif`, `camera_path.json` (the path rendered)
and `video.json` (the manifest). A frame is encoded while the next is rendered, and none is kept: memory does not
grow with the length.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image
from pydantic_settings import CliApp

from jobs import camera_path, manifest, report, trajectory
from jobs.camera_path import CameraPath
from jobs.errors import GateRefused, JobFailed
from jobs.options import RenderOptions

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.data.scene_box import OrientedBox
    from nerfstudio.pipelines.base_pipeline import Pipeline

Picture = NDArray[np.uint8]
"""(height, width, 3), RGB."""

CPU_CHUNK = 2048
"""Rays at a time on a CPU: what is computed for them stays in its cache."""

_CRF = "18"  # no loss to be seen
_FLAT = 8  # a picture whose grey values, 0 to 255, differ by less shows nothing
_GIF_SIDE, _GIF_FRAMES, _GIF_BYTES = 320, 40, 2_000_000


class Video(NamedTuple):
    """What a video file holds, found by decoding it."""

    frames: int
    width: int
    height: int
    duration: float
    """s."""
    codec: str
    pix_fmt: str
    contrast: int
    """The widest range of grey values, 0 to 255, within any of its frames."""


def render(options: RenderOptions, dataset: Path, model: Path, video: Path) -> None:
    """Render a camera path, and write the folder `video`.

    Args:
        options: which path; its size and length, where it is generated.
        dataset: what the model was trained on.
        model: a folder that `jobs.train` wrote.
        video: a folder, made if missing.

    Raises:
        InvalidInput: the camera path, dataset or model cannot be used.
        GateRefused: the video shows nothing, or the file does not hold what was rendered.
        JobFailed: the GPU's memory is too small, even for a few rays at a time.
    """
    from jobs.model import load

    timer = manifest.Timer()
    path, kind = choose_path(options, dataset, model)
    width, height = path.even_size
    if (width, height) != (path.render_width, path.render_height):
        print(f"H.264 needs even sizes: {path.render_width}x{path.render_height} becomes {width}x{height}.", flush=True)
    with timer.step("load"):
        pipeline = load(model, dataset)
    video.mkdir(parents=True, exist_ok=True)
    partial = video / ".video.mp4.partial"
    total = len(path.camera_path)
    pictures = _Pictures(total)
    try:
        with timer.step("render"):
            encode(partial, pictures.of(_ahead(rendered(pipeline, path))), path.frame_rate, (width, height))
        with timer.step("check"):
            written = inspect(partial)
            _check(written, path)
        os.replace(partial, video / "video.mp4")
    finally:
        partial.unlink(missing_ok=True)
    with timer.step("pictures"):
        pictures.write(video)
    path.write(video / "camera_path.json")
    seconds = timer.seconds["render"]
    manifest.write(
        video / "video.json",
        options,
        timer,
        {
            "camera_path": kind,
            **written._asdict(),
            "fps": round(float(path.frame_rate), 6),
            "bytes": (video / "video.mp4").stat().st_size,
            "checksums": {"video.mp4": manifest.checksum(video / "video.mp4")},
            "frames_per_second": round(total / seconds, 3),
            "rays_per_second": round(total * width * height / seconds),
            "rays_at_a_time": pipeline.model.config.eval_num_rays_per_chunk,
            "peak_memory_bytes": {
                "cpu": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
                "cuda": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
            },
            "device": str(pipeline.device),
        },
    )
    report.emit(
        report.Result(
            "render",
            {
                "path": kind,
                "frames": total,
                "size": f"{width}x{height}",
                "fps": round(float(path.frame_rate), 3),
                "rendering_seconds": round(seconds),
            },
        )
    )


def choose_path(options: RenderOptions, dataset: Path, model: Path) -> tuple[CameraPath, str]:
    """The camera path that the options ask for, and its kind: "file", or the generated one's."""
    options = options.with_profile("full")
    kind = "tour" if options.camera_path == "auto" else options.camera_path
    if kind not in trajectory.KINDS:
        return camera_path.read(Path(kind)), "file"
    assert options.width and options.height and options.seconds and options.fps  # the profile has them all
    frames = max(2, round(options.seconds * options.fps))
    size = (options.width, options.height)
    return trajectory.generate(kind, dataset, model, frames, options.seconds, size), kind


def rendered(pipeline: Pipeline, path: CameraPath) -> Iterator[Picture]:
    """The frames of a path, one after the other, with nerfstudio's cameras and crop.

    Raises:
        JobFailed: see `render`.
    """
    from nerfstudio.cameras.camera_paths import get_path_from_json
    from nerfstudio.model_components.renderers import background_color_override_context
    from nerfstudio.scripts.render import get_crop_from_json

    content = path.content()
    content["render_width"], content["render_height"] = path.even_size
    cameras = get_path_from_json(content).to(pipeline.device)
    crop = get_crop_from_json(content)
    background: AbstractContextManager[None] = nullcontext()
    if crop is not None:
        background = background_color_override_context(crop.background_color.to(pipeline.device))
    config = pipeline.model.config
    if torch.device(pipeline.device).type == "cpu":
        config.eval_num_rays_per_chunk = min(config.eval_num_rays_per_chunk, CPU_CHUNK)
    with background, torch.inference_mode():
        for index in range(len(cameras)):
            rgb = _render_frame(pipeline, cameras[index : index + 1], crop and crop.obb)
            yield (rgb * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _render_frame(pipeline: Pipeline, camera: Cameras, box: OrientedBox | None) -> torch.Tensor:
    """(height, width, 3) the colours of one frame, with fewer rays at a time where the GPU's memory is too small."""
    config = pipeline.model.config
    while True:
        try:
            rgb: torch.Tensor = pipeline.model.get_outputs_for_camera(camera, obb_box=box)["rgb"]
            return rgb
        except torch.OutOfMemoryError as error:
            rays = config.eval_num_rays_per_chunk // 2
            if rays < 256:
                raise JobFailed(f"The GPU's memory is too small, even for {2 * rays} rays: {error}") from error
            print(f"The GPU is out of memory: going on with {rays} rays at a time.", flush=True)
            config.eval_num_rays_per_chunk = rays
        torch.cuda.empty_cache()  # here, as the error's traceback still held what did not fit


def _ahead(frames: Iterator[Picture]) -> Iterator[Picture]:
    """The same frames, each computed in another thread while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = thread.submit(next, frames, None)
            yield frame


def encode(file: Path, frames: Iterable[Picture], rate: Fraction, size: tuple[int, int]) -> None:
    """Write frames as H.264, yuv420p, BT.709, in an MP4 that plays while it downloads.

    Args:
        file: to write, whatever its suffix.
        frames: all of the same size.
        rate: frames a second.
        size: width and height, px, both even.
    """
    with av.open(str(file), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": "medium"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        # Said in the file: without, players take BT.601 for small pictures and BT.709 for large ones.
        stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
        stream.codec_context.color_primaries, stream.codec_context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def inspect(file: Path) -> Video:
    """Decode a video file from its beginning to its end.

    Raises:
        GateRefused: it is not a video.
    """
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            frames, contrast = 0, 0
            for frame in container.decode(stream):
                frames += 1
                grey = frame.to_ndarray(format="gray")
                contrast = max(contrast, int(grey.max()) - int(grey.min()))
            seconds = float((stream.duration or 0) * (stream.time_base or 0))
            context = stream.codec_context
            return Video(frames, stream.width, stream.height, seconds, context.name, str(context.pix_fmt), contrast)
    except (av.error.InvalidDataError, IndexError) as error:
        raise GateRefused(f"The video that was written cannot be decoded: {error}. Render again.") from error


def _check(video: Video, path: CameraPath) -> None:
    """Raise GateRefused where a video is not what its path asked for, or shows nothing."""
    wanted = (len(path.camera_path), *path.even_size, "yuv420p")
    found = (video.frames, video.width, video.height, video.pix_fmt)
    if found != wanted or abs(video.duration - path.seconds) > 0.5 * path.seconds / len(path.camera_path):
        raise GateRefused(
            "The video that was written does not hold what was rendered: {} frames of {}x{} in {}".format(*found)
            + ", and not {} of {}x{} in {}. Render again.".format(*wanted)
        )
    if video.contrast < _FLAT:
        raise GateRefused(
            "The video is empty: every frame is of a single colour. Look at the model's PSNR; if that is good, the "
            "path leads through nothing: its poses must be in the frame of this model. Try the camera path tour."
        )


class _Pictures:
    """The middle frame and a few small ones, kept while the frames pass by."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._small_at = set(np.linspace(0, total - 1, min(total, _GIF_FRAMES)).round().astype(int).tolist())
        self._small: list[Image.Image] = []
        self._poster: Image.Image | None = None

    def of(self, frames: Iterable[Picture]) -> Iterator[Picture]:
        """The frames as they are, telling how many have passed."""
        meter = report.Meter("render", self._total)
        for index, frame in enumerate(frames):
            if index == self._total // 2:
                self._poster = Image.fromarray(frame)
            if index in self._small_at:
                small = Image.fromarray(frame)
                small.thumbnail((_GIF_SIDE, _GIF_SIDE), Image.Resampling.LANCZOS)
                self._small.append(small)
            yield frame
            meter.update(index + 1)

    def write(self, folder: Path) -> None:
        """Write `poster.jpg` and `preview.gif`, the latter with fewer frames where it would be too large."""
        assert self._poster is not None
        self._poster.save(folder / "poster.jpg", quality=90)
        small = [picture.quantize(128, dither=Image.Dither.NONE) for picture in self._small]
        while True:
            first, *others = small
            first.save(folder / "preview.gif", save_all=True, append_images=others, duration=5000 // len(small), loop=0)
            if len(small) < 4 or (folder / "preview.gif").stat().st_size <= _GIF_BYTES:
                return
            small = small[::2]


@contextmanager
def _clear_end(folder: Path) -> Iterator[None]:
    """Say it in words where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise JobFailed(f"The disk is full: make room at {folder}, and render again. {error}") from error
        raise


class Job(RenderOptions):
    """The command line of this job."""

    dataset: Path
    model: Path
    video: Path


def main() -> None:
    """Run the job that the command line tells."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    options = RenderOptions(**job.model_dump(exclude={"dataset", "model", "video"}))
    with _clear_end(job.video):
        render(options, job.dataset, job.model, job.video)


if __name__ == "__main__":
    report.run("render", main)
