"""Nerfstudio's methods: its own, and those of plug-ins that are installed."""

from __future__ import annotations

from nerfstudio.configs import external_methods

# What could be installed besides. Each of these asks for the whole call stack as it is made: 5 s at the start of a job.
external_methods.external_methods.clear()

from nerfstudio.configs.method_configs import all_methods  # noqa: E402

__all__ = ["all_methods"]
