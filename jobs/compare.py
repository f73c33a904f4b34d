"""Two videos of the same camera path to one that shows then and now: `python -m jobs.compare --then DIR --now DIR …`.

Writes `video.mp4`, the pictures that every video has, and `video.json` (the manifest). The two are read and written
frame by frame.
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

_LABEL = 1 / 28  # height of a label's letters, by the height of the picture
_LINE = 1 / 640  # half the width of the line between the two, by the width of the picture


def compare(options: CompareOptions, then: Path, now: Path, video: Path) -> None:
    """Show two videos as one, and write the folder `video`.

    Args:
        options: how, and what is written on each.
        then, now: folders that `jobs.render` wrote, of the same camera path.
        video: a folder, made if missing.

    Raises:
        InvalidInput: the two are not of the same path.
        GateRefused: one cannot be decoded.
    """
    timer = manifest.Timer()
    path = camera_path.read(now / "camera_path.json")
    total, (width, height) = len(path.camera_path), path.even_size
    join, size = {
        "side-by-side": (_side_by_side, (2 * width, height)),
        "wipe": (_wipe, (width, height)),
    }[options.layout]
    labels = _label(options.then_label, height), _label(options.now_label, height)
    pictures = Pictures(total)
    video.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=video) as name, timer.step("compare"):
        file = Path(name) / "video.mp4"
        meter = report.Meter("compare", total)

        def frames() -> Iterator[Picture]:
            for index, pair in enumerate(_pairs(then / "video.mp4", now / "video.mp4")):
                yield join(*pair, *labels, index / max(1, total - 1))
                meter.update(index + 1)

        encode(file, frames(), path.frame_rate, size)
        written = inspect(file, pictures.look)
        pictures.write(Path(name))
        for made in Path(name).iterdir():
            os.replace(made, video / made.name)
    path.write(video / "camera_path.json")
    about = {**written._asdict(), "checksums": {"video.mp4": manifest.checksum(video / "video.mp4")}}
    manifest.write(video / "video.json", options, timer, about)
    report.emit(
        report.Result(
            "compare", {"layout": options.layout, "frames": written.frames, "size": f"{written.width}x{written.height}"}
        )
    )


def _pairs(then: Path, now: Path) -> Iterator[tuple[Picture, Picture]]:
    """The frames of two videos, two by two."""
    for pair in zip_longest(decoded(then), decoded(now)):
        if None in pair or len({(frame.width, frame.height) for frame in pair}) > 1:
            raise InvalidInput(f"{then} and {now} are not of the same length and size: render the same path with both.")
        yield rgb(pair[0]), rgb(pair[1])


def _side_by_side(then: Picture, now: Picture, then_label: Picture, now_label: Picture, _share: float) -> Picture:
    """Both, the older one on the left."""
    line = max(1, round(2 * then.shape[1] * _LINE))
    both = np.concatenate([_labelled(then, then_label), _labelled(now, now_label)], axis=1)
    both[:, then.shape[1] - line : then.shape[1] + line] = 255
    return both


def _wipe(then: Picture, now: Picture, then_label: Picture, now_label: Picture, share: float) -> Picture:
    """The older one to the left of a line that has moved from the left to the right, and back, when `share` is 1."""
    width = then.shape[1]
    at = round(width * (0.5 - 0.5 * math.cos(2 * math.pi * share)))
    line = max(1, round(width * _LINE))
    both = _labelled(now, now_label, right=True)
    both[:, :at] = _labelled(then, then_label)[:, :at]
    both[:, max(0, at - line) : at + line] = 255
    return both


def _label(text: str, height: int) -> Picture:
    """A text, white on black, for a picture of this height (px)."""
    font = ImageFont.load_default(max(9, round(height * _LABEL)))
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    margin = max(2, (bottom - top) // 3)
    label = Image.new("RGB", (right - left + 2 * margin, bottom - top + 2 * margin))
    ImageDraw.Draw(label).text((margin - left, margin - top), text, fill="white", font=font)
    return np.asarray(label)


def _labelled(picture: Picture, label: Picture, right: bool = False) -> Picture:
    """A copy with a label in the lower left or right corner, through which the picture is seen."""
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


def main() -> None:
    """Run the job that the command line tells."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    compare(CompareOptions.of(job), job.then, job.now, job.video)


if __name__ == "__main__":
    report.run("compare", main)
