"""The options of each stage. One definition gives the flow's parameters, the job's command line and the fingerprint.

A field that is None takes its value from the flow's profile (see `PROFILES`). A value that a person sets always wins.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from jobs.base_options import Options
from jobs.camera_path import CameraType, Crop, beyond_h264
from jobs.errors import InvalidInput
from jobs.methods import METHODS, NEEDS_MORE_THAN_PHOTOS, NERFACTOS, SPLATS
from jobs.profiles import Profile

__all__ = [
    "CaptureVersion",
    "ChangesOptions",
    "CompareOptions",
    "ExportOptions",
    "Images",
    "Layout",
    "PageOptions",
    "PrepareOptions",
    "RenderOptions",
    "ScaleOptions",
    "ShardOptions",
    "Shards",
    "TrainOptions",
]

CaptureVersion = Annotated[int, Field(ge=1)]
"""The number of a scene's capture: 1, 2, 3 …"""

Images = Annotated[str, BeforeValidator(lambda given: "" if given is None else str(given))]
"""The path of a folder of photos or of a video; "" for none: Prefect's form would ask for the type of a value first."""


class PrepareOptions(Options):
    """How photos or a video become a dataset."""

    STAGE: ClassVar[str] = "prepare"
    STAGE_VERSION: ClassVar[int] = 3
    ADDED: ClassVar[frozenset[str]] = frozenset({"frame", "poses"})

    downscale_factor: int = Field(
        1, ge=1, le=16, description="Divide the width and height of the dataset's images by this factor."
    )
    num_frames: int = Field(200, ge=8, le=5000, description="Number of frames to take from a video.")
    matching: Literal["auto", "exhaustive", "sequential", "retrieval"] = Field(
        "auto",
        description="Which pairs of photos to match. auto: exhaustive for few photos, else sequential for a video and "
        "retrieval for photos.",
    )
    mapper: Literal["auto", "incremental", "hierarchical", "global"] = Field(
        "auto",
        description="COLMAP's mapper. auto: incremental; for more than 100 photos, if there are cores for it, "
        "hierarchical, which maps parts at the same time; for more than 400, global.",
    )
    feature_image_size: int = Field(
        1600, ge=320, le=8192, description="Longest side, in pixels, at which features are detected."
    )
    max_features: int = Field(4096, ge=512, le=32768, description="Maximum number of features per photo.")
    min_registered_share: float = Field(
        0.6, ge=0, le=1, description="Refuse the dataset if a smaller share of the photos is registered."
    )
    min_registered_images: int = Field(
        8, ge=3, description="Refuse the dataset if fewer photos than this are registered."
    )
    frame: Literal["auto", "keep", "new"] = Field(
        "auto",
        description="Coordinate frame of the dataset. auto: register the photos to the scene's earlier datasets, or "
        "start a new frame if that fails. keep: refuse photos that cannot be registered. new: start a new frame.",
    )
    poses: Literal["find", "keep"] = Field(
        "find",
        description="Where the camera poses come from. find: structure from motion. keep: files beside the photos, "
        "such as nerfstudio's transforms.json or a COLMAP model; they are checked against the photos and refined.",
    )


class TrainOptions(Options):
    """How a dataset becomes a model."""

    STAGE: ClassVar[str] = "train"
    STAGE_VERSION: ClassVar[int] = 2
    USES_NERFSTUDIO: ClassVar[bool] = True
    ADDED: ClassVar[frozenset[str]] = frozenset({"appearance", "refine_poses", "start"})

    method: Literal[METHODS] = Field("nerfacto", description="Name of a nerfstudio method.")  # type: ignore[valid-type]
    max_num_iterations: int | None = Field(None, ge=1, description="Number of training steps.")
    model_size: Literal["standard", "small"] | None = Field(
        None, description="small: a smaller network for training on a CPU; only for nerfacto."
    )
    max_image_size: int | None = Field(
        None, ge=64, description="Longest side, in pixels, of the photos used for training and evaluation."
    )
    rays_per_batch: int | None = Field(
        None, ge=64, description="Number of rays per training step. Defaults to the method's own number."
    )
    steps_per_save: int = Field(2000, ge=1, description="Number of training steps between checkpoints.")
    refine_poses: bool = Field(
        False,
        description="Adjust the camera poses during training. Can help when structure from motion is inexact; "
        "otherwise it blurs the model and moves it away from the poses in the dataset.",
    )
    appearance: Literal["auto", "one", "per-photo"] = Field(
        "auto",
        description="Whether colours may differ between photos of the same surface. one: not at all. per-photo: learn "
        "an appearance for each photo (nerfacto) or a bilateral grid (splatfacto). auto: per-photo if exposure or "
        "white balance differ notably, as the dataset records. A method without either takes no notice.",
    )
    seed: int = Field(42, ge=0, description="Seed for the random numbers of training.")
    start: Literal["fresh", "earlier"] = Field(
        "fresh",
        description="What training starts from. fresh: random numbers. earlier: the model of the scene's previous "
        "visit in the same coordinate frame, with 15 % of the steps; if its quality is not reached, training goes on "
        "with the others, or begins again. earlier works only for nerfacto.",
    )

    @field_validator("method")
    @classmethod
    def _check_method(cls, method: str) -> str:
        if need := NEEDS_MORE_THAN_PHOTOS.get(method):
            raise ValueError(f"{method} needs {need}, and a capture has only photos. Choose another method.")
        return method

    @model_validator(mode="after")
    def _check_method_can(self) -> TrainOptions:
        if self.model_size == "small" and self.method not in NERFACTOS:
            raise ValueError(f"model_size small works only for {', '.join(NERFACTOS)}. Use standard for {self.method}.")
        if self.start == "earlier" and self.method not in NERFACTOS:
            raise ValueError(f"start earlier works only for {', '.join(NERFACTOS)}. Use fresh for {self.method}.")
        return self

    def with_profile(self, profile: Profile) -> TrainOptions:
        """Return these options with the profile's values; only a nerfacto is made smaller."""
        options = super().with_profile(profile)
        return options if self.method in NERFACTOS else options.model_copy(update={"model_size": "standard"})


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number  # 30.0 must have the fingerprint of 30


def _even(pixels: float) -> int:
    return max(16, 2 * round(pixels / 2))  # required by H.264's yuv420p


Rate = Annotated[
    int | float,
    Field(ge=1, le=240),
    AfterValidator(_whole),
    WithJsonSchema({"type": "number", "minimum": 1, "maximum": 240}),
]
"""Frames per second, such as 24 or 29.97."""

Shards = Annotated[int, Field(ge=1, le=1000)]
"""Number of jobs that share the rendering of one video."""


class RenderOptions(Options):
    """How a model and a camera path become a video."""

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
        description="Camera path. tour follows the photos at a constant speed and slows down in sharp turns; orbit, "
        "sweep and spiral are other generated paths. Or the path of a camera_path.json, or the name of one saved for "
        "the scene. auto: trajectories/SCENE.json if it exists, else tour.",
    )
    width: int | None = Field(
        None,
        ge=16,
        le=16384,
        description="Width of the video in pixels. Defaults to the aspect ratio of the photos, or of the path file.",
    )
    height: int | None = Field(
        None,
        ge=16,
        le=16384,
        description="Height of the video in pixels. Defaults to the aspect ratio of the photos, or of the path file.",
    )
    long_side: int | None = Field(
        None,
        ge=16,
        le=16384,
        description="Longest side of the video in pixels. Ignored if width or height is set. For a path file, defaults "
        "to the file's own size.",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        le=3600,
        description="Length of the video in seconds. A path file keeps its frames and plays them faster or slower. For "
        "a path file, defaults to the file's own length.",
    )
    fps: Rate | None = Field(
        None,
        description="Frames per second. For a path file, defaults to the file's own rate; ignored if seconds is set.",
    )
    easing: Literal["linear", "ease"] = Field(
        "linear", description="Pace of a generated path. ease: start and end slowly."
    )
    loop: bool = Field(False, description="End a generated path where it began. A tour goes there and back.")
    field_of_view: float | None = Field(
        None,
        gt=0,
        lt=180,
        description="Vertical field of view in degrees. Defaults to that of the photos, or of the path file.",
    )
    camera_type: CameraType | None = Field(
        None, description="Projection of the camera. Defaults to perspective, or to that of the path file."
    )
    crop: Crop | None = Field(
        None, description="Box outside which nothing is rendered. Defaults to none, or to the crop of the path file."
    )
    near_plane: float | None = Field(
        None, gt=0, description="Hide everything nearer to the camera than this distance, in the model's units."
    )
    outputs: tuple[Literal["depth", "accumulation"], ...] = Field(
        (), description="Additional videos: depth.mp4, accumulation.mp4."
    )
    png_frames: bool = Field(False, description="Also write each frame as a PNG, in the folder frames/.")

    @property
    def frames(self) -> int:
        """Return the number of frames of a generated path. Requires the profile's values."""
        assert self.seconds and self.fps
        return round(self.seconds * self.fps)

    @field_validator("outputs", mode="after")
    @classmethod
    def _order(cls, outputs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(outputs)))  # the order does not change the result

    def with_profile(self, profile: Profile) -> RenderOptions:
        """Return these options with the profile's values. A size that depends on the photos' shape stays None.

        An equirectangular image is twice as wide as high, because it covers 360 by 180 degrees.

        Raises:
            InvalidInput: no video can have this size, length and rate.
        """
        options = super().with_profile(profile)
        if options.frames < 2:
            raise InvalidInput(
                f"{options.seconds:g} s at {options.fps:g} frames per second are {options.frames} frames, and a video "
                "needs at least two. Increase render.seconds or render.fps."
            )
        if self.camera_type == "equirectangular":
            return options.in_shape(2.0)
        if options.width and options.height:
            return options.in_shape(options.width / options.height)
        return options.model_copy(update={"long_side": None}) if options.width or options.height else options

    def in_shape(self, shape: float) -> RenderOptions:
        """Return these options with the size that is still None. Requires the profile's values.

        Args:
            shape: the aspect ratio, width divided by height.

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
            raise InvalidInput(f"{problem}. Reduce the width, height or fps.")
        return self.model_copy(update={"width": width, "height": height, "long_side": None})


class ShardOptions(RenderOptions):
    """How one part of a camera path is rendered. Everything but its first and last frame is as for the whole video."""

    STAGE: ClassVar[str] = "shard"

    first: int = Field(ge=0, description="First frame of this part.")
    last: int = Field(ge=1, description="Frame after the last one of this part.")


Layout = Literal["side-by-side", "wipe"]
"""How two videos are combined: side by side, or as a wipe, in which a line moves across and back."""


class CompareOptions(Options):
    """How two videos of the same path become one that compares then and now."""

    STAGE: ClassVar[str] = "compare"

    layout: Layout = Field(
        "side-by-side", description="How then and now are combined. wipe: a line moves across and back."
    )
    then_label: str = Field("then", max_length=60, description="Label on the older video.")
    now_label: str = Field("now", max_length=60, description="Label on the newer video.")


class PageOptions(Options):
    """How a video, its model and its dataset become a page."""

    STAGE: ClassVar[str] = "page"
    STAGE_VERSION: ClassVar[int] = 4


class ScaleOptions(Options):
    """How measurements give a scene's frame its metres."""

    STAGE: ClassVar[str] = "scale"
    STAGE_VERSION: ClassVar[int] = 2


class ChangesOptions(Options):
    """How the changes between two visits of a scene are found."""

    STAGE: ClassVar[str] = "changes"
    STAGE_VERSION: ClassVar[int] = 3
    USES_NERFSTUDIO: ClassVar[bool] = True

    photos: int = Field(40, ge=3, le=500, description="Maximum number of photos of each visit to compare.")
    image_size: int = Field(
        320, ge=64, le=2048, description="Longest side, in pixels, at which the photos are compared."
    )


Form = Literal["pointcloud", "mesh", "splat"]


class ExportOptions(Options):
    """How a model becomes files for other programs, and a page that shows it."""

    STAGE: ClassVar[str] = "export"
    STAGE_VERSION: ClassVar[int] = 3
    USES_NERFSTUDIO: ClassVar[bool] = True

    forms: tuple[Form, ...] | None = Field(
        None,
        min_length=1,
        description="Files to write: pointcloud and mesh for a NeRF, splat for Gaussians. Defaults to all that the "
        "model's method supports.",
    )
    points: int | None = Field(None, ge=100, le=20_000_000, description="Maximum number of points in the point cloud.")
    image_size: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="Longest side, in pixels, of the views from which the point cloud and mesh are computed.",
    )
    resolution: int | None = Field(
        None, ge=8, le=1024, description="Number of voxels along the longest side of the mesh."
    )
    reach: float = Field(
        4.0,
        gt=0,
        description="Leave out surfaces farther from the cameras than this many times the typical distance to the "
        "subject.",
    )

    @field_validator("forms")
    @classmethod
    def _order(cls, forms: tuple[Form, ...] | None) -> tuple[Form, ...] | None:
        return forms and tuple(sorted(set(forms)))  # the order does not change the result

    def for_method(self, method: str) -> ExportOptions:
        """Return these options with the forms that a model of the method supports.

        Raises:
            InvalidInput: the model does not support a form in these options.
        """
        can: tuple[Form, ...] = ("splat",) if method in SPLATS else ("mesh", "pointcloud")
        if wrong := [form for form in self.forms or () if form not in can]:
            raise InvalidInput(
                f"a model of {method} can be exported as {' and '.join(can)}, not as {wrong[0]}. Remove {wrong[0]} "
                f"from export.forms, or train with {'nerfacto' if method in SPLATS else 'splatfacto'}."
            )
        return self.model_copy(update={"forms": self.forms or can})
