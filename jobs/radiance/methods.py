"""nerfstudio's own methods, and those of installed plug-ins."""

from __future__ import annotations

from nerfstudio.configs import external_methods

# nerfstudio also lists plug-ins that are not installed. Creating each entry inspects the whole call stack: 5 s per job.
external_methods.external_methods.clear()

from nerfstudio.configs.method_configs import all_methods  # noqa: E402

__all__ = ["all_methods"]
