"""The profiles: default options for a GPU and for a CPU."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["PROFILES", "Profile"]

Profile = Literal["auto", "full", "preview"]
"""Which default options to use.

`full` is nerfstudio's nerfacto with its own settings. `preview` gives a rough result within minutes on two CPU cores.
`auto` chooses `full` if the workspace has a CUDA GPU, and `preview` if not.
"""

PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "full": {
        "train": {"max_num_iterations": 30_000, "model_size": "standard", "max_image_size": 1600},
        "render": {"long_side": 1920, "seconds": 10.0, "fps": 30},
        "export": {"points": 1_000_000, "image_size": 640, "resolution": 320},
    },
    "preview": {
        "train": {"max_num_iterations": 1500, "model_size": "small", "max_image_size": 320, "rays_per_batch": 512},
        "render": {"long_side": 256, "seconds": 2.0, "fps": 24},
        "export": {"points": 200_000, "image_size": 160, "resolution": 128},
    },
}
"""Values for the options that are None, by profile and stage."""
