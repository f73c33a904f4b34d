"""The options of each stage: the flow's parameters, a job's command line and a fingerprint, from one definition.

A field that is None is decided by the flow's profile (see `PROFILES`), so that what a person sets always wins.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from jobs import code
from jobs.camera_path import CameraType, Crop, beyond_h264
from jobs.errors import InvalidInput
from jobs.names import SUFFIXES

__all__ = [
    "METHODS",
    "NERFACTOS",
    "PROFILES",
    "SPLATS",
    "CaptureVersion",
    "CompareOptions",
    "ExportOptions",
    "Layout",
    "Options",
    "PageOptions",
    "PrepareOptions",
    "Profile",
    "RenderOptions",
    "SceneName",
    "ShardOptions",
    "Shards",
    "TrainOptions",
]

_SCENE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def _check_scene_name(name: str) -> str:
    if not _SCENE_NAME.fullmatch(name):
        shown = f"{name[:70]!r}{'…' if len(name) > 70 else ''}"
        raise ValueError(
            f"scene {shown} is not a name: take lower-case letters, digits and hyphens, 1 to 63 of them, "
            "not a hyphen first. For example: town-hall-2"
        )
    endings = tuple(SUFFIXES.values())
    if name.endswith(endings):
        raise ValueError(
            f"scene {name!r} has a name that ends like an asset of another scene: {', '.join(endings)}. "
            "Choose a name with another ending."
        )
    return name


SceneName = Annotated[
    str,
    AfterValidator(_check_scene_name),
    Field(json_schema_extra={"pattern": f"^{_SCENE_NAME.pattern}$"}),
]
"""A scene's name: lower-case letters, digits and hyphens, at most 63, as Azure ML and file systems take it."""

CaptureVersion = Annotated[int, Field(ge=1)]
"""Which capture of a scene: 1, 2, 3 …"""

Profile = Literal["auto", "full", "fast", "preview"]
"""`full` is nerfstudio's own nerfacto; `fast` is to be the same quality in less GPU time, and is `full` so far;
`preview` is something within minutes on two CPU cores; `auto` takes `full` where the workspace has a CUDA GPU, else
`preview`."""

METHODS = (
    "depth-nerfacto",
    "dnerf",
    "generfacto",
    "instant-ngp",
    "instant-ngp-bounded",
    "mipnerf",
    "nerfacto",
    "nerfacto-big",
    "nerfacto-huge",
    "neus",
    "neus-facto",
    "phototourism",
    "semantic-nerfw",
    "splatfacto",
    "splatfacto-big",
    "tensorf",
    "vanilla-nerf",
)
"""The methods that nerfstudio 1.1.5 itself brings, by the names that `ns-train` takes."""

NERFACTOS = ("nerfacto", "nerfacto-big", "nerfacto-huge", "depth-nerfacto", "phototourism")
"""The methods that are nerfacto in another size or with another input."""

SPLATS = ("splatfacto", "splatfacto-big")
"""The methods whose models are Gaussians, and not a NeRF."""

_NEEDS_MORE_THAN_PHOTOS = {
    "dnerf": "a time for each photo",
    "generfacto": "a text, and makes up its own scene",
    "neus": "a scene in SDFStudio's format",
    "neus-facto": "a scene in SDFStudio's format",
    "semantic-nerfw": "a semantic map of each photo",
}


class Options(BaseModel):
    """Options of one stage. Frozen, and strict about names: a misspelt option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    STAGE: ClassVar[str] = ""
    """The stage's name."""
    STAGE_VERSION: ClassVar[int] = 1
    """Raised when the stage's program changes what it makes of the same input, so that nothing stale is reused."""
    USES_NERFSTUDIO: ClassVar[bool] = False
    """Whether a nerfstudio checkout of the user's own decides the result, too."""
    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after results were registered: with its default, such a field is left out of the fingerprint,
    so that what was made before it is found again. The default must do what was done without the field."""

    @classmethod
    def of(cls: type[OptionsT], job: BaseModel) -> OptionsT:
        """The stage's options of a job's command line, which is these and the places where the job works."""
        return cls(**{name: getattr(job, name) for name in cls.model_fields})

    def with_profile(self: OptionsT, profile: Profile) -> OptionsT:
        """These options with every None that the profile decides filled in."""
        defaults = PROFILES[profile].get(self.STAGE, {})
        return self.model_copy(update={k: v for k, v in defaults.items() if getattr(self, k) is None})

    def fingerprint(self, **inputs: str) -> str:
        """SHA-256 in hex of all that decides the stage's output: options, `inputs` by name, the stage's version."""
        as_before = {name for name in self.ADDED if getattr(self, name) == type(self).model_fields[name].get_default()}
        decides = {
            "stage": self.STAGE,
            "stage_version": self.STAGE_VERSION,
            "options": self.model_dump(mode="json", exclude=as_before),
            "inputs": inputs,
        }
        if self.USES_NERFSTUDIO and (own := code.own_nerfstudio_fingerprint()):
            decides["nerfstudio"] = own
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


OptionsT = TypeVar("OptionsT", bound=Options)


class PrepareOptions(Options):
    """Photos or a video to a dataset: structure from motion and nerfstudio's `transforms.json`."""

    STAGE: ClassVar[str] = "prepare"
    ADDED: ClassVar[frozenset[str]] = frozenset({"frame"})

    downscale_factor: int = Field(1, ge=1, le=16, description="shrink the written images by this factor")
    num_frames: int = Field(200, ge=8, le=5000, description="how many frames to take from a video")
    matching: Literal["auto", "exhaustive", "sequential", "retrieval"] = Field(
        "auto", description="which pairs of photos are matched; auto: by number and kind of capture"
    )
    mapper: Literal["auto", "incremental", "global"] = Field("auto", description="auto: by number of images")
    feature_image_size: int = Field(1600, ge=320, le=8192, description="longest side in px at which features are found")
    max_features: int = Field(4096, ge=512, le=32768, description="most features of a photo")
    min_registered_share: float = Field(0.6, ge=0, le=1, description="refuse a dataset with a smaller share of photos")
    min_registered_images: int = Field(8, ge=3, description="refuse a dataset with fewer photos")
    frame: Literal["auto", "keep", "new"] = Field(
        "auto",
        description="auto: that of the scene's earlier datasets where the photos fit, else a new one; "
        "keep: refuse photos that do not fit; new: a new one",
    )


class TrainOptions(Options):
    """A dataset to a model, by one of nerfstudio's methods."""

    STAGE: ClassVar[str] = "train"
    USES_NERFSTUDIO: ClassVar[bool] = True

    method: Literal[METHODS] = Field("nerfacto", description="nerfstudio's name of the method")  # type: ignore[valid-type]
    max_num_iterations: int | None = Field(None, ge=1, description="training steps")
    model_size: Literal["standard", "small"] | None = Field(
        None, description="small: fewer and smaller hash levels and layers, for a CPU; only for nerfacto"
    )
    max_image_size: int | None = Field(
        None, ge=64, description="longest side in px of the photos trained and evaluated on"
    )
    rays_per_batch: int | None = Field(None, ge=64, description="rays of a step; None: as the method has it")
    steps_per_save: int = Field(2000, ge=1, description="steps between checkpoints")
    seed: int = Field(42, ge=0)

    @field_validator("method")
    @classmethod
    def _check_method(cls, method: str) -> str:
        if need := _NEEDS_MORE_THAN_PHOTOS.get(method):
            raise ValueError(f"{method} needs {need}; a capture has photos only: take another method")
        return method

    @model_validator(mode="after")
    def _check_model_size(self) -> TrainOptions:
        if self.model_size == "small" and self.method not in NERFACTOS:
            raise ValueError(f"model_size small is made for {', '.join(NERFACTOS)}; for {self.method} give standard")
        return self

    def with_profile(self, profile: Profile) -> TrainOptions:
        """As for every stage; only a nerfacto is made smaller."""
        options = super().with_profile(profile)
        return options if self.method in NERFACTOS else options.model_copy(update={"model_size": "standard"})


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number  # in a fingerprint, 30 is as it was


def _even(pixels: float) -> int:
    return max(16, 2 * round(pixels / 2))  # H.264's yuv420p needs it


Rate = Annotated[
    int | float,
    Field(ge=1, le=240),
    AfterValidator(_whole),
    WithJsonSchema({"type": "number", "minimum": 1, "maximum": 240}),
]
"""Frames a second, as 24 or 29.97."""

Shards = Annotated[int, Field(ge=1, le=1000)]
"""In how many parts, each a job of its own, a path is rendered."""


class RenderOptions(Options):
    """A model and a camera path to a video."""

    STAGE: ClassVar[str] = "render"
    USES_NERFSTUDIO: ClassVar[bool] = True
    ADDED: ClassVar[frozenset[str]] = frozenset(
        {
            *("easing", "loop", "field_of_view", "camera_type", "crop"),
            *("near_plane", "outputs", "png_frames", "long_side"),
        }
    )

    camera_path: str = Field(
        "auto",
        min_length=1,
        description="tour: along the cameras at a constant speed, slower only where it turns sharply; orbit, sweep, "
        "spiral, or a camera_path.json; auto: trajectories/SCENE.json where there is one, else tour",
    )
    width: int | None = Field(
        None, ge=16, le=16384, description="px; if not given, it follows from the shape of the photos, or of a file"
    )
    height: int | None = Field(
        None, ge=16, le=16384, description="px; if not given, it follows from the shape of the photos, or of a file"
    )
    long_side: int | None = Field(
        None, ge=16, le=16384, description="longest side in px, where neither width nor height is given"
    )
    seconds: float | None = Field(
        None, gt=0, le=3600, description="length; the frames of a file are its own, and go as fast as this says"
    )
    fps: Rate | None = Field(
        None, description="frames a second; of a file, where no length is given: its frames are its own, and as many"
    )
    easing: Literal["linear", "ease"] = Field(
        "linear", description="pace of a generated path; ease: slow at its beginning and end"
    )
    loop: bool = Field(False, description="a generated path ends where it began: a tour goes there and back")
    field_of_view: float | None = Field(
        None, gt=0, lt=180, description="vertical, degrees; None: the photos' own, or a file's own"
    )
    camera_type: CameraType | None = Field(None, description="projection; None: perspective, or a file's own")
    crop: Crop | None = Field(None, description="box, as in a camera_path.json; None: none, or a file's own")
    near_plane: float | None = Field(
        None, gt=0, description="nothing nearer to the camera is shown; in the units of the model"
    )
    outputs: tuple[Literal["depth", "accumulation"], ...] = Field(
        (), description="further videos beside the colours: depth.mp4, accumulation.mp4"
    )
    png_frames: bool = Field(False, description="each frame as a PNG, too, in frames/")

    @property
    def frames(self) -> int:
        """How many a generated path has; the profile must be filled in."""
        assert self.seconds and self.fps
        return round(self.seconds * self.fps)

    @field_validator("outputs", mode="after")
    @classmethod
    def _order(cls, outputs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(outputs)))  # the same, in whatever order they are asked for

    def with_profile(self, profile: Profile) -> RenderOptions:
        """Fill in what the profile decides; a width or height that follows from the photos' shape stays open.

        An equirectangular picture is twice as wide as high, for it shows 360 by 180 degrees.

        Raises:
            InvalidInput: no video can be made with these figures.
        """
        options = super().with_profile(profile)
        if options.frames < 2:
            raise InvalidInput(
                f"{options.seconds:g} s at {options.fps:g} frames a second are {options.frames} frames, and a video "
                "needs at least two: give more seconds or fps."
            )
        if self.camera_type == "equirectangular":
            return options.in_shape(2.0)
        if options.width and options.height:
            return options.in_shape(options.width / options.height)
        return options.model_copy(update={"long_side": None}) if options.width or options.height else options

    def in_shape(self, shape: float) -> RenderOptions:
        """Fill in the size that is still open. The profile must be filled in.

        Args:
            shape: the width of the picture divided by its height.

        Raises:
            InvalidInput: no H.264 video can be of this size.
        """
        width, height = self.width, self.height
        if not width and not height:
            assert self.long_side
            width = self.long_side if shape >= 1 else _even(self.long_side * shape)
            height = self.long_side if shape < 1 else None
        width = width or _even((height or 0) * shape)
        height = height or _even(width / shape)
        assert self.fps
        if problem := beyond_h264(width, height, self.fps):
            raise InvalidInput(f"{problem}. Give a smaller width, height or fps.")
        return self.model_copy(update={"width": width, "height": height, "long_side": None})


class ShardOptions(RenderOptions):
    """A part of a camera path to chunks of a video, all else as of the whole."""

    STAGE: ClassVar[str] = "shard"

    first: int = Field(ge=0, description="its first frame")
    last: int = Field(ge=1, description="the frame after its last")


Layout = Literal["side-by-side", "wipe"]
"""How two videos are shown as one: beside each other, or one behind the other with a line that moves across."""


class CompareOptions(Options):
    """Two videos of the same path to one that shows then and now."""

    STAGE: ClassVar[str] = "compare"

    layout: Layout = Field("side-by-side", description="side-by-side, or wipe: a line moves across and back")
    then_label: str = Field("then", max_length=60, description="drawn small on the older one")
    now_label: str = Field("now", max_length=60, description="drawn small on the newer one")


class PageOptions(Options):
    """A video and what it was made of to a page."""

    STAGE: ClassVar[str] = "page"
    STAGE_VERSION: ClassVar[int] = 2


Form = Literal["pointcloud", "mesh", "splat"]


class ExportOptions(Options):
    """A model to files that other programs read, and a page that shows it."""

    STAGE: ClassVar[str] = "export"
    USES_NERFSTUDIO: ClassVar[bool] = True

    forms: tuple[Form, ...] | None = Field(
        None, min_length=1, description="pointcloud, mesh, splat; by default all that the model's method can give"
    )
    points: int | None = Field(None, ge=100, le=20_000_000, description="most points of a point cloud")
    image_size: int | None = Field(
        None, ge=16, le=4096, description="longest side in px of the views from which points and mesh are made"
    )
    resolution: int | None = Field(None, ge=8, le=1024, description="voxels along the longest side of a mesh")
    reach: float = Field(
        4.0,
        gt=0,
        description="what is farther from a camera is left out; in typical distances to what was photographed",
    )

    @field_validator("forms")
    @classmethod
    def _order(cls, forms: tuple[Form, ...] | None) -> tuple[Form, ...] | None:
        return forms and tuple(sorted(set(forms)))  # the same, in whatever order they are asked for

    def for_method(self, method: str) -> ExportOptions:
        """These options with the forms that a model of the method can give.

        Raises:
            InvalidInput: it cannot give a form that was asked for.
        """
        can: tuple[Form, ...] = ("splat",) if method in SPLATS else ("mesh", "pointcloud")
        if wrong := [form for form in self.forms or () if form not in can]:
            raise InvalidInput(
                f"a model of {method} gives {' and '.join(can)}, and no {wrong[0]}: leave it out of the forms, "
                f"or train with {'nerfacto' if method in SPLATS else 'splatfacto'}"
            )
        return self.model_copy(update={"forms": self.forms or can})


PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "full": {
        "train": {"max_num_iterations": 30_000, "model_size": "standard", "max_image_size": 1600},
        "render": {"long_side": 1920, "seconds": 10.0, "fps": 30},
        "export": {"points": 1_000_000, "image_size": 640, "resolution": 320},
    },
    "preview": {
        "train": {"max_num_iterations": 1000, "model_size": "small", "max_image_size": 320, "rays_per_batch": 1024},
        "render": {"long_side": 256, "seconds": 2.0, "fps": 24},
        "export": {"points": 200_000, "image_size": 160, "resolution": 128},
    },
}
PROFILES["fast"] = PROFILES["full"]
