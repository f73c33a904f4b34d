"""Render the frames of a camera path, with nerfstudio's cameras and crop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput, JobFailed
from jobs.options import RenderOptions
from jobs.video.h264 import Picture

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.pipelines.base_pipeline import Pipeline

__all__ = ["CPU_CHUNK", "Renderer"]

CPU_CHUNK = 2048
"""The number of rays at a time on a CPU, whose cache holds their intermediate results."""

_BAND = 1 << 21  # rays, more than full HD has; nerfstudio alone generates all rays of a frame, 10 GB of them for 8K
_PROBES, _PROBE_SIDE = 16, 160  # frames along the path, and their width in px, which give the range of depths
_DEPTHS = (0.02, 0.9)  # quantiles; outside are floaters and the sky, which would leave the rest in one colour


class Renderer:
    """Renders the frames of a path.

    Args:
        pipeline: of the model. Its near plane and its number of rays at a time are changed.
        path: the cameras and the size of the frames.
        options: the outputs to render, and the near plane.

    Raises:
        InvalidInput: the model lacks a requested output, or has no near plane.
        JobFailed: the GPU's memory is too small even for a few rays at a time.
    """

    def __init__(self, pipeline: Pipeline, path: CameraPath, options: RenderOptions = RenderOptions()) -> None:
        from nerfstudio.cameras.camera_paths import get_path_from_json
        from nerfstudio.scripts.render import get_crop_from_json

        content = path.content()
        content["render_width"], content["render_height"] = path.even_size
        self._pipeline = pipeline
        self._outputs = options.outputs
        self._cameras = get_path_from_json(content).to(pipeline.device)
        self._crop = get_crop_from_json(content)
        self._config = pipeline.model.config
        if torch.device(pipeline.device).type == "cpu":
            self._config.eval_num_rays_per_chunk = min(self._config.eval_num_rays_per_chunk, CPU_CHUNK)
        if options.near_plane is not None:
            _set_near_plane(pipeline, options.near_plane)
        self.depth_range = self._find_depth_range() if "depth" in options.outputs else None
        """The depths of the first and the last colour of the colour map, the same for all frames."""

    @property
    def device(self) -> str:
        """Return the device of the model."""
        return str(self._pipeline.device)

    @property
    def rays_at_a_time(self) -> int:
        """Return the number of rays that are rendered together. It is halved when memory runs out."""
        return int(self._config.eval_num_rays_per_chunk)

    def frame(self, index: int) -> dict[str, Picture]:
        """Return the pictures of one frame by output: "rgb", and the others that the options name."""
        bands = [
            {output: self._coloured(output, shown) for output in ("rgb", *self._outputs)}
            for shown in self._render(self._cameras[index : index + 1])
        ]
        return {output: np.concatenate([band[output] for band in bands]) for output in bands[0]}

    def _coloured(self, output: str, shown: dict[str, torch.Tensor]) -> Picture:
        from nerfstudio.utils import colormaps

        values = shown[output]
        if output == "depth":
            near, far = self.depth_range or (None, None)
            values = colormaps.apply_depth_colormap(values, shown.get("accumulation"), near, far)
        elif output == "accumulation":
            values = colormaps.apply_colormap(values)
        picture: Picture = (values * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        return picture

    def _find_depth_range(self) -> tuple[float, float]:
        """Return the nearest and farthest depth of small frames along the whole path.

        One range for the whole path gives all shards the same colours. A range for each frame would flicker.
        """
        indices = np.linspace(0, len(self._cameras) - 1, _PROBES).round().astype(int)
        depths = []
        for index in indices.tolist():
            camera = self._cameras[index : index + 1]
            camera.rescale_output_resolution(min(1.0, _PROBE_SIDE / int(camera.width)))
            for shown in self._render(camera):
                seen = shown["accumulation"] > 0.5 if "accumulation" in shown else slice(None)
                depths.append(shown["depth"][seen].flatten())
        found = torch.cat(depths)
        if not len(found):
            return 0.0, 1.0
        near, far = (float(f"{found.quantile(share).item():.3g}") for share in _DEPTHS)
        return near, far

    def _render(self, camera: Cameras) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the outputs (rows, width, channels) of bands of a frame, from top to bottom."""
        from nerfstudio.model_components.renderers import background_color_override_context
        from nerfstudio.models.base_model import Model

        model = self._pipeline.model
        box = self._crop and self._crop.obb
        background: Callable[[], AbstractContextManager[None]] = nullcontext
        if self._crop is not None:
            colour = self._crop.background_color.to(self._pipeline.device)
            background = partial(background_color_override_context, colour)

        def band(coords: torch.Tensor) -> dict[str, torch.Tensor]:
            coords = coords.to(camera.device)
            rays = camera.generate_rays(camera_indices=0, coords=coords, keep_shape=True, obb_box=box)
            shown: dict[str, torch.Tensor] = model.get_outputs_for_camera_ray_bundle(rays)
            return shown

        # Methods that cast no rays render the whole frame at once.
        parts: list[Callable[[], dict[str, torch.Tensor]]] = [
            partial(model.get_outputs_for_camera, camera, obb_box=box)
        ]
        if type(model).get_outputs_for_camera is Model.get_outputs_for_camera:
            rows = max(1, _BAND // int(camera.width))
            parts = [partial(band, coords) for coords in camera.get_image_coords(index=(0,)).split(rows)]
        for part in parts:
            with background(), torch.inference_mode():
                shown = self._fitting(part)
            if lacking := set(self._outputs) - shown.keys():
                method = type(model).__name__
                raise InvalidInput(
                    f"{method} has no output {' or '.join(sorted(lacking))}. Remove it from render.outputs."
                )
            yield shown

    def _fitting(self, part: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Render a part, with fewer rays at a time if memory runs out."""
        while True:
            try:
                return part()
            except torch.OutOfMemoryError as error:
                rays = self.rays_at_a_time // 2
                if rays < 256:
                    raise JobFailed(
                        f"The GPU's memory is too small even for {2 * rays} rays at a time: use a larger GPU. {error}"
                    ) from error
                print(f"The GPU ran out of memory. Continuing with {rays} rays at a time.", flush=True)
                self._config.eval_num_rays_per_chunk = rays
            torch.cuda.empty_cache()  # not earlier: the error's traceback still held the tensors


def _set_near_plane(pipeline: Pipeline, near: float) -> None:
    """Let rays begin at this distance. nerfstudio applies its own near plane only during training."""
    if pipeline.model.collider is None:
        raise InvalidInput(f"{type(pipeline.model).__name__} has no near plane. Leave out render.near-plane.")

    def begin(_module: object, _given: object, rays: Any) -> Any:
        rays.nears = rays.nears.clamp(min=near)
        rays.fars = torch.maximum(rays.fars, rays.nears + 1e-6)
        return rays

    pipeline.model.collider.register_forward_hook(begin)
