"""Camera paths made from the cameras of a capture.

`tour` goes along them, `orbit` around what they look at, `sweep` straight past it, `spiral` a little about one of them.
All stay where the capture saw something. Poses are in the model's frame (+Z up, OpenGL camera axes), without roll.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.camera_path import GENERATED, CameraPath, Frame
from jobs.errors import InvalidInput
from jobs.options import RenderOptions
from jobs.path.capture import Array, Capture
from jobs.path.reading import read_capture
from jobs.path.shapes import orbit, spiral, sweep
from jobs.path.sight import covered
from jobs.path.tour import tour

__all__ = ["KINDS", "generate", "moments"]

_CLOSED = ("orbit", "spiral")  # they end where they began


def generate(kind: str, dataset: Path, model: Path, options: RenderOptions) -> CameraPath:
    """A camera path through what the dataset saw, in the model's frame.

    If the options name none, the shape of the video and its field of view are those of the photos. A field of view
    that does not fit the video's shape is made narrower.

    Args:
        kind: one of `KINDS`.
        dataset: folder with `transforms.json`, or such a file.
        model: folder with `dataparser_transforms.json`.
        options: with the profile filled in: size, length, pace, projection.

    Raises:
        InvalidInput: see `read_capture`, `orbit`, `sweep` and `RenderOptions.in_shape`.
    """
    capture = read_capture(dataset, model)
    options = options.in_shape(capture.shape)
    assert options.width and options.height and options.seconds and options.fps
    # 29.97 frames a second are that, though no whole number of them may fill the time.
    seconds = options.seconds if options.fps == int(options.fps) else options.frames / options.fps
    aspect = options.width / options.height
    horizontal, vertical = capture.half_field
    fov = options.field_of_view or float(np.degrees(2 * np.arctan(min(vertical, horizontal / aspect))))
    if apart := len(capture.centres) - len(capture.largest_part().centres):
        print(
            f"{apart} of {len(capture.centres)} photos are apart from the others: {kind} leaves them out.", flush=True
        )
    poses = KINDS[kind](capture, moments(kind, options.frames, options.easing == "ease", options.loop))
    _check_covered(kind, capture, poses)
    return CameraPath(
        render_width=options.width,
        render_height=options.height,
        fps=options.frames / seconds,
        seconds=seconds,
        camera_type=options.camera_type or "perspective",
        camera_path=[Frame(camera_to_world=p.flatten().tolist(), fov=fov, aspect=aspect) for p in poses],
        crop=options.crop,
    )


def _check_covered(kind: str, capture: Capture, poses: Array) -> None:
    into_nothing = np.flatnonzero(~covered(capture, poses[:, :3, 3], -poses[:, :3, 2]))
    if len(into_nothing):
        raise InvalidInput(
            f"The path {kind} leaves what the photos saw at frame {into_nothing[0] + 1} of {len(poses)}: take the "
            "spiral, which stays about one photo, or make a path in the viewer."
        )


def moments(kind: str, frames: int, ease: bool = False, loop: bool = False) -> Array:
    """(frames,) where on a path of `kind` each frame is: 0 is its beginning, 1 its end.

    Args:
        kind: one of `KINDS`.
        frames: at least 2.
        ease: begin and end slowly, by the smoothstep polynomial; else at an even pace.
        loop: end where it began. Orbit and spiral do; others go there and, turning softly, back.
    """
    closed = kind in _CLOSED
    # Where the first frame follows upon the last, it is not shown twice.
    even = np.arange(frames) / (frames if closed or loop else frames - 1)
    eased = even**2 * (3 - 2 * even) if ease else even
    there: Array = 0.5 - 0.5 * np.cos(2 * np.pi * eased) if loop and not closed else eased
    return there


KINDS = dict(zip(GENERATED, (tour, orbit, sweep, spiral), strict=True))
"""The generated paths by name."""
