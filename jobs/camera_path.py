"""The viewer's `camera_path.json`: its format, and the checks before a job starts.

The RENDER tab of nerfstudio's viewer writes this format (`nerfstudio/viewer/render_panel.py`), and
`nerfstudio.cameras.camera_paths.get_path_from_json` reads it. A video has one frame for each entry of `camera_path` and
lasts `seconds`. The key `fps` has no effect.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from jobs.errors import InvalidInput
from jobs.validation import key_of

__all__ = ["GENERATED", "CameraPath", "CameraType", "Crop", "Frame", "beyond_h264", "describe", "read"]

GENERATED = ("tour", "orbit", "sweep", "spiral")
"""Names of generated paths, which need no file: see `jobs.path.trajectory`. The first is the default."""

CameraType = Literal["perspective", "fisheye", "equirectangular"]

# Limits of level 6.2, the highest (ITU-T H.264, table A-1): macroblocks of 16x16 px per frame and per second.
_MACROBLOCKS, _MACROBLOCKS_A_SECOND = 139_264, 16_711_680

_MOST_BYTES = 16 << 20
_DEEPEST = 20  # the viewer writes 5
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

_RIGID_TOLERANCE = 1e-3  # the viewer writes float64; files edited by hand are often rounded to four digits
_LIKE = 1e-4
_EXPORT = "Export the path again with 'Generate Command' in the RENDER tab of the viewer"
_REMEDY = f"{_EXPORT}, or correct that key by hand."

_Vector = Annotated[list[float], Field(min_length=3, max_length=3)]
_Byte = Annotated[float, Field(ge=0, le=255)]


class _Part(BaseModel):
    # Keep the viewer's own keys (keyframes, smoothness_value …), so that it can load the path again.
    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class Frame(_Part):
    """One frame of a path.

    Args:
        camera_to_world: a rigid 4x4 matrix in the model frame, as 16 numbers in row-major order or as four rows. OpenGL
            camera axes: +X right, +Y up, view direction -Z.
        fov: vertical field of view in degrees.
        aspect: width divided by height, as the viewer writes it. It has no effect.
        render_time: the moment to show, 0 to 1, for methods with a time.
    """

    camera_to_world: list[float]
    fov: float = Field(gt=0, lt=180)
    aspect: float | None = Field(None, gt=0)
    render_time: float | None = Field(None, ge=0, le=1)

    @field_validator("camera_to_world", mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        rows = value if isinstance(value, list) else [value]
        if rows and all(isinstance(row, list) for row in rows):
            value = [number for row in rows for number in row]
        return value

    @field_validator("camera_to_world")
    @classmethod
    def _rigid(cls, value: list[float]) -> list[float]:
        if len(value) != 16:
            shape = {9: "a 3x3 matrix, ", 12: "a 3x4 matrix, "}.get(len(value), "")
            raise ValueError(f"is {shape}{len(value)} numbers, and must be a 4x4 matrix, 16 numbers row by row")
        if math.dist(value[12:], (0, 0, 0, 1)) > _RIGID_TOLERANCE:
            raise ValueError(f"has the last row {value[12:]}, and must have 0 0 0 1: is it written column by column?")
        x, y, z = ([value[row + column] for row in (0, 4, 8)] for column in range(3))
        lengths = [math.hypot(*axis) for axis in (x, y, z)]
        if max(abs(length - 1) for length in lengths) > _RIGID_TOLERANCE:
            raise ValueError(
                f"is scaled by {', '.join(f'{s:.4g}' for s in lengths)}: its first three columns must be 1 long"
            )
        if max(abs(_dot(a, b)) for a, b in ((x, y), (y, z), (z, x))) > _RIGID_TOLERANCE:
            raise ValueError("is skewed: its first three columns must be at right angles")
        if _dot(_cross(x, y), z) < 0:
            raise ValueError("mirrors the scene: the determinant of its rotation is -1, and must be 1")
        return value


class _Colour(_Part):
    r: _Byte = Field(description="Red, 0 to 255.")
    g: _Byte = Field(description="Green, 0 to 255.")
    b: _Byte = Field(description="Blue, 0 to 255.")


class Crop(_Part):
    """Box in the model frame outside which nothing is rendered."""

    crop_center: _Vector = Field(description="Centre of the box: x, y, z.")
    crop_scale: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] = Field(
        description="Edge lengths of the box along its x, y and z axes."
    )
    crop_rot: _Vector = Field([0.0, 0.0, 0.0], description="Rotation of the box: roll, pitch and yaw in radians.")
    crop_bg_color: _Colour = Field(description="Background colour outside the box.")


class Origin(_Part):
    """The model in which a path was made, and the dataset that began its scene frame, each as name:version."""

    model: str | None = None
    frame: str | None = None


class CameraPath(_Part):
    """A camera path: one `Frame` for each frame of the video, evenly spaced over `seconds`.

    Args:
        render_width: width of the video in px.
        render_height: height of the video in px.
        seconds: length of the video.
        camera_type: projection of all frames.
        fps: as the viewer writes it. The video's rate is `frame_rate`.
        camera_path: the frames.
        crop: see `Crop`.
        rebel_nerf: see `Origin`. The viewer does not write it.
    """

    render_width: int = Field(ge=16, le=16384)
    render_height: int = Field(ge=16, le=16384)
    seconds: float = Field(gt=0, le=3600)
    camera_type: Annotated[CameraType, BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v)] = (
        "perspective"
    )
    fps: float | None = Field(None, gt=0)
    camera_path: list[Frame] = Field(min_length=2)
    crop: Crop | None = None
    rebel_nerf: Origin | None = None

    @model_validator(mode="after")
    def _playable(self) -> CameraPath:
        if problem := beyond_h264(self.render_width, self.render_height, self.frame_rate):
            raise ValueError(problem)
        return self

    @property
    def frame_rate(self) -> Fraction:
        """Return the frames per second, as a fraction with a denominator small enough for an MP4's time base."""
        return (len(self.camera_path) / Fraction(self.seconds)).limit_denominator(10_000)

    @property
    def even_size(self) -> tuple[int, int]:
        """Return the width and height in pixels, rounded down to even numbers, which H.264's yuv420p requires."""
        return self.render_width // 2 * 2, self.render_height // 2 * 2

    def is_like(self, other: CameraPath) -> bool:
        """Return whether another path is the same up to rounding on another machine.

        Numbers of a pose (in the model's units) and fields of view (in degrees) may differ by 0.0001.
        """
        if len(self.camera_path) != len(other.camera_path) or self._but_frames() != other._but_frames():
            return False
        return all(
            abs(a - b) <= _LIKE
            for one, another in zip(self.camera_path, other.camera_path, strict=True)
            for a, b in zip((*one.camera_to_world, one.fov), (*another.camera_to_world, another.fov), strict=True)
        )

    def _but_frames(self) -> dict[str, Any]:
        return self.model_dump(exclude={"camera_path", "rebel_nerf"})

    def content(self) -> dict[str, Any]:
        """Return the path as the content of a `camera_path.json`."""
        return self.model_dump(mode="json", exclude_none=True)

    def write(self, file: Path) -> None:
        """Write the path as a `camera_path.json`."""
        file.write_text(json.dumps(self.content(), allow_nan=False) + "\n")


def beyond_h264(width: int, height: int, rate: float | Fraction) -> str | None:
    """Return why no H.264 video can have this size (px) and rate (frames per second), or None if one can."""
    across, down = -(-width // 16), -(-height // 16)
    longest = math.isqrt(8 * _MACROBLOCKS)
    if max(across, down) > longest or across * down > _MACROBLOCKS:
        return f"{width}x{height} is larger than an H.264 video can be: 8192x4352 is the most"
    if across * down * rate > _MACROBLOCKS_A_SECOND:
        most = _MACROBLOCKS_A_SECOND // (across * down)
        return f"{width}x{height} at {float(rate):g} frames a second is beyond H.264's levels: {most} are the most"
    return None


def read(file: Path) -> CameraPath:
    """Return the camera path in a file, with every part checked.

    Raises:
        InvalidInput: the file does not exist or is not a camera path. The text names the file, the key and the remedy.
    """
    if not file.is_file():
        raise InvalidInput(f"The camera path {file} does not exist. Name a file, or one of: {', '.join(GENERATED)}.")
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MOST_BYTES + 1)
        if problem := _too_much(raw):
            raise InvalidInput(f"The camera path {file} {problem}")
        content = json.loads(raw.decode("utf-8-sig"))
        not_finite = list(_not_finite(content))
    except OSError as error:
        raise InvalidInput(f"The camera path {file} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        reason = "is empty" if not file.stat().st_size else f"is not JSON ({error})"
        raise InvalidInput(f"The camera path {file} {reason}. {_EXPORT}.") from error
    if not isinstance(content, dict):
        raise InvalidInput(
            f"The camera path {file} is a JSON {type(content).__name__}, and must be an object. {_EXPORT}."
        )
    if not_finite:
        key, number = not_finite[0]
        raise InvalidInput(f"The camera path {file}: {key} is {number}, and must be a finite number. {_REMEDY}")
    try:
        return CameraPath.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(f"The camera path {file}: {describe(error)} {_REMEDY}") from None


def _too_much(raw: bytes) -> str | None:
    """Return why a file is not even parsed, because that could take minutes, or None if it is."""
    if len(raw) > _MOST_BYTES:
        return (
            f"is larger than {_MOST_BYTES >> 20} MiB, which is enough for about 30,000 frames. {_EXPORT}, shorter or "
            "with fewer frames a second."
        )
    outside_strings = raw.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    brackets = b"".join(outside_strings).translate(None, _NOT_BRACKETS)
    deepest = max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0)
    if deepest > _DEEPEST:
        return f"is nested {deepest} levels deep; a path has at most {_DEEPEST}. {_EXPORT}."
    return None


def describe(error: ValidationError) -> str:
    """Return the first error in a path as text, with its key and the number of further errors."""
    first, *others = error.errors(include_url=False)
    key = key_of(first["loc"])
    more = f" (and {len(others)} more like it)" if others else ""
    if first["type"] == "missing":
        return f"{key} is missing{more}."
    if first["type"] == "value_error":
        return f"{key} {first['ctx']['error']!s}{more}.".lstrip()
    if first["loc"][-1] == "camera_path" and first["type"] == "too_short":
        found = len(first["input"])
        return f"{key} has {'no frame' if not found else 'only one frame'}, and a video needs at least two{more}."
    shown = repr(first["input"])
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{key} is {shown}; {first['msg'][:1].lower()}{first['msg'][1:]}{more}."


def _not_finite(value: Any, *location: int | str) -> Iterator[tuple[str, float]]:
    """Yield every NaN and infinity in a JSON value with its key. Python's parser accepts them."""
    if isinstance(value, float) and not math.isfinite(value):
        yield key_of(location), value
    elif isinstance(value, (dict, list)):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_finite(inner, *location, part)


def _dot(a: list[float], b: list[float]) -> float:
    return sum(i * j for i, j in zip(a, b, strict=True))


def _cross(a: list[float], b: list[float]) -> list[float]:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
