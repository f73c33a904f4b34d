"""Generate camera paths from the photos' cameras.

`tour` moves along the cameras, `orbit` around the point they look at, and `sweep` straight past it. `spiral` makes
small circles near one camera. All paths stay where the photos show something. Poses are in the model frame (+Z up,
OpenGL camera axes), without roll.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.camera_path import GENERATED, CameraPath, Frame
from jobs.errors import InvalidInput
from jobs.options import RenderOptions
from jobs.path.photos import Array, PosedPhotos, looking_ahead
from jobs.path.reading import read_photos
from jobs.path.shapes import orbit, spiral, sweep
from jobs.path.sight import covered
from jobs.path.tour import tour

__all__ = ["KINDS", "generate", "moments"]

_CLOSED = ("orbit", "spiral")  # end where they began


def generate(kind: str, dataset: Path, model: Path, options: RenderOptions) -> CameraPath:
    """Generate a camera path in the model frame.

    By default, the video's shape and field of view are those of the photos. If the field of view does not fit the
    shape, it becomes narrower.

    Args:
        kind: one of `KINDS`.
        dataset: folder with `transforms.json`, or such a file.
        model: folder with `dataparser_transforms.json`.
        options: size, length, pace and projection, with the defaults of a profile filled in.

    Raises:
        InvalidInput: the dataset or model cannot be read, the photos do not allow such a path, or the options do not
            fit the photos.
    """
    photos = looking_ahead(read_photos(dataset, model))
    options = options.in_shape(photos.shape)
    assert options.width and options.height and options.seconds and options.fps
    # A rate such as 29.97 frames per second stays exact, even if no whole number of frames fills the time.
    seconds = options.seconds if options.fps == int(options.fps) else options.frames / options.fps
    aspect = options.width / options.height
    horizontal, vertical = photos.half_field
    fov = options.field_of_view or float(np.degrees(2 * np.arctan(min(vertical, horizontal / aspect))))
    if apart := len(photos.centres) - len(photos.largest_part().centres):
        print(f"{apart} of {len(photos.centres)} photos are far from the others. The {kind} ignores them.", flush=True)
    poses = KINDS[kind](photos, moments(kind, options.frames, options.easing == "ease", options.loop))
    _check_covered(kind, photos, poses)
    return CameraPath(
        render_width=options.width,
        render_height=options.height,
        fps=options.frames / seconds,
        seconds=seconds,
        camera_type=options.camera_type or "perspective",
        camera_path=[Frame(camera_to_world=p.flatten().tolist(), fov=fov, aspect=aspect) for p in poses],
        crop=options.crop,
    )


def _check_covered(kind: str, photos: PosedPhotos, poses: Array) -> None:
    into_nothing = np.flatnonzero(~covered(photos, poses[:, :3, 3], -poses[:, :3, 2]))
    if len(into_nothing):
        raise InvalidInput(
            f"The {kind} leaves the area that the photos cover at frame {into_nothing[0] + 1} of {len(poses)}. Choose "
            "the spiral, which stays near one photo, or draw a path in the viewer."
        )


def moments(kind: str, frames: int, ease: bool = False, loop: bool = False) -> Array:
    """Return the position (frames,) of each frame along a path, from 0 at its beginning to 1 at its end.

    Args:
        kind: one of `KINDS`.
        frames: their number, at least 2.
        ease: whether to begin and end slowly, by the smoothstep polynomial. Otherwise the pace is even.
        loop: whether to end at the beginning. Orbit and spiral always do. Other paths go forth and, with a soft turn,
            back.
    """
    closed = kind in _CLOSED
    # In a loop, the first frame follows the last, and is not repeated.
    even = np.arange(frames) / (frames if closed or loop else frames - 1)
    eased = even**2 * (3 - 2 * even) if ease else even
    there: Array = 0.5 - 0.5 * np.cos(2 * np.pi * eased) if loop and not closed else eased
    return there


KINDS = dict(zip(GENERATED, (tour, orbit, sweep, spiral), strict=True))
"""The functions that generate paths, by name."""
