"""Join two videos of the same camera path, then and now: `python -m jobs.compare --then DIR --now DIR …`.

Writes `video.mp4`, the same pictures as `jobs.render`, and `video.json` (the manifest). With `--marked DIR`, a folder
that `jobs.changes` wrote, it also writes `changes.mp4`, the same video with the changes marked, if there are any.
Frames are read and written one by one.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydantic_settings import CliApp

from jobs import camera_path, manifest, report
from jobs.errors import InvalidInput
from jobs.options import CompareOptions
from jobs.video.h264 import Picture, Pictures, decoded, encode, inspect, rgb
from jobs.visits.overlay import Overlay

_LABEL = 1 / 28  # height of a label's letters, relative to the height of the picture
_LINE = 1 / 640  # half the width of the line between the two, relative to the width of the picture


def compare(options: CompareOptions, then: Path, now: Path, video: Path, marked: Path | None = None) -> None:
    """Join two videos, and write the folder `video`.

    Args:
        options: the layout and the labels.
        then, now: folders that `jobs.render` wrote for the same camera path.
        video: a folder, created if missing.
        marked: a folder that `jobs.changes` wrote for these two visits; None to mark nothing.

    Raises:
        InvalidInput: the two videos differ in length or size.
        GateRefused: a video cannot be decoded.
    """
    timer = manifest.Timer()
    path = camera_path.read(now / "camera_path.json")
    total, (width, height) = len(path.camera_path), path.even_size
    join, size = {
        "side-by-side": (_side_by_side, (2 * width, height)),
        "wipe": (_wipe, (width, height)),
    }[options.layout]
    named = _label(options.then_label, height), _label(options.now_label, height)
    pictures = Pictures(total)
    video.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=video) as name, timer.step("compare"):
        file = Path(name) / "video.mp4"
        overlay = Overlay(marked, path) if marked else None
        if overlay and overlay.is_empty:
            overlay = None
        meter = report.Meter("compare", total * (2 if overlay else 1))

        def frames(marks: Overlay | None) -> Iterator[Picture]:
            for index, pair in enumerate(_pairs(then / "video.mp4", now / "video.mp4")):
                if marks:
                    labels = marks.labels(path.camera_path[index])
                    pair = marks.mark(pair[0], labels), marks.mark(pair[1], labels)
                yield join(*pair, *named, index / max(1, total - 1))
                meter.advance()

        encode(file, frames(None), path.frame_rate, size)
        written = inspect(file, pictures.add)
        if overlay:
            encode(Path(name) / "changes.mp4", frames(overlay), path.frame_rate, size)
        pictures.write(Path(name))
        for made in Path(name).iterdir():
            os.replace(made, video / made.name)
    path.write(video / "camera_path.json")
    about = {
        **written._asdict(),
        "checksums": {file.name: manifest.checksum(file) for file in sorted(video.glob("*.mp4"))},
    }
    manifest.write(video / "video.json", options, timer, about)
    report.emit(
        report.Figures(
            "compare", {"layout": options.layout, "frames": written.frames, "size": f"{written.width}x{written.height}"}
        )
    )


def _pairs(then: Path, now: Path) -> Iterator[tuple[Picture, Picture]]:
    """Yield the frames of two videos in pairs."""
    for pair in zip_longest(decoded(then), decoded(now)):
        if None in pair or len({(frame.width, frame.height) for frame in pair}) > 1:
            raise InvalidInput(f"{then} and {now} differ in length or size. Render both along the same camera path.")
        yield rgb(pair[0]), rgb(pair[1])


def _side_by_side(then: Picture, now: Picture, then_label: Picture, now_label: Picture, _share: float) -> Picture:
    """Return both pictures side by side, the older one on the left."""
    line = max(1, round(2 * then.shape[1] * _LINE))
    both = np.concatenate([_labelled(then, then_label), _labelled(now, now_label)], axis=1)
    both[:, then.shape[1] - line : then.shape[1] + line] = 255
    return both


def _wipe(then: Picture, now: Picture, then_label: Picture, now_label: Picture, share: float) -> Picture:
    """Return the older picture left of a line, the newer one right of it.

    The line is at the left edge for `share` 0 and 1, and at the right edge for 0.5.
    """
    width = then.shape[1]
    at = round(width * (0.5 - 0.5 * math.cos(2 * math.pi * share)))
    line = max(1, round(width * _LINE))
    both = _labelled(now, now_label, right=True)
    both[:, :at] = _labelled(then, then_label)[:, :at]
    both[:, max(0, at - line) : at + line] = 255
    return both


def _label(text: str, height: int) -> Picture:
    """Return a text, white on black, for a picture of this height (px)."""
    font = ImageFont.load_default(max(9, round(height * _LABEL)))
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    margin = max(2, (bottom - top) // 3)
    label = Image.new("RGB", (right - left + 2 * margin, bottom - top + 2 * margin))
    ImageDraw.Draw(label).text((margin - left, margin - top), text, fill="white", font=font)
    return np.asarray(label)


def _labelled(picture: Picture, label: Picture, right: bool = False) -> Picture:
    """Return a copy with a translucent label in the lower left or lower right corner."""
    picture = picture.copy()
    height, width, _ = np.minimum(label.shape, picture.shape)
    corner = picture[-height:, -width:] if right else picture[-height:, :width]
    corner[:] = np.maximum(corner // 3, label[:height, :width])
    return picture


class Job(CompareOptions):
    """The command line of this job."""

    then: Path
    now: Path
    video: Path
    marked: Path | None = None


def main() -> None:
    """Run the job of this command line."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    compare(CompareOptions.of(job), job.then, job.now, job.video, job.marked)


if __name__ == "__main__":
    report.run("compare", main)
