"""Frames of a camera path, rendered by a model with nerfstudio's cameras and crop."""

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
"""Rays at a time on a CPU: what is computed for them stays in its cache."""

_BAND = 1 << 21  # rays, more than full HD has: nerfstudio makes a frame's all at once, 10 GB of them for 8K
_PROBES, _PROBE_SIDE = 16, 160  # frames along the path, and their width in px, that the range of depths is taken from
_DEPTHS = (0.02, 0.9)  # quantiles; beyond are floaters, and the sky, which would leave the rest one colour


class Renderer:
    """A model that renders the frames of a path, with nerfstudio's cameras and crop.

    Args:
        pipeline: the model; its near plane and the rays at a time are set.
        path: the frames.
        options: what is shown of them.

    Raises:
        InvalidInput: the model does not have what is asked for.
        JobFailed: see `render`.
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
        """The depths that have the first and last colour, the same for all frames."""

    @property
    def device(self) -> str:
        """That it renders on."""
        return str(self._pipeline.device)

    @property
    def rays_at_a_time(self) -> int:
        """As many as the memory holds."""
        return int(self._config.eval_num_rays_per_chunk)

    def frame(self, index: int) -> dict[str, Picture]:
        """The pictures of one frame by output: "rgb", and what else the options ask for."""
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
        """The nearest and farthest depth of small frames along the whole path, whatever part is rendered here.

        So all shards have the same colours, and these do not flicker as with a range for each frame.
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
        """The model's outputs, (rows, width, channels) each, for bands of the frame from its top to its bottom."""
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

        # Methods that cast no rays come whole.
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
                    f"{method} gives no {' and no '.join(sorted(lacking))}: leave it out of the outputs."
                )
            yield shown

    def _fitting(self, part: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """What `part` gives, with fewer rays at a time where memory is too small."""
        while True:
            try:
                return part()
            except torch.OutOfMemoryError as error:
                rays = self.rays_at_a_time // 2
                if rays < 256:
                    raise JobFailed(f"The GPU's memory is too small, even for {2 * rays} rays: {error}") from error
                print(f"The GPU is out of memory: going on with {rays} rays at a time.", flush=True)
                self._config.eval_num_rays_per_chunk = rays
            torch.cuda.empty_cache()  # here, as the error's traceback still held what did not fit


def _set_near_plane(pipeline: Pipeline, near: float) -> None:
    """Have rays begin at this distance: nerfstudio's own near plane is for training only."""
    if pipeline.model.collider is None:
        raise InvalidInput(f"{type(pipeline.model).__name__} has no near plane: leave it out.")

    def begin(_module: object, _given: object, rays: Any) -> Any:
        rays.nears = rays.nears.clamp(min=near)
        rays.fars = torch.maximum(rays.fars, rays.nears + 1e-6)
        return rays

    pipeline.model.collider.register_forward_hook(begin)
