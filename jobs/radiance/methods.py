"""nerfstudio's methods: its own, and those of installed plug-ins."""

from __future__ import annotations

from nerfstudio.configs import external_methods

# The methods that could be installed. Creating each of them inspects the whole call stack, 5 s at the start of a job.
external_methods.external_methods.clear()

from nerfstudio.configs.method_configs import all_methods  # noqa: E402

__all__ = ["all_methods"]
