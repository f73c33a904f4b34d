"""The training methods that can be chosen, by the names that `ns-train` takes: those of nerfstudio 1.1.5."""

from __future__ import annotations

__all__ = ["METHODS", "NEEDS_MORE_THAN_PHOTOS", "NERFACTOS", "PLUGINS", "SPLATS"]

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
"""The methods that can be chosen."""

PLUGINS: tuple[str, ...] = ()
"""Packages of nerfstudio plug-ins. The config of a model may name their classes, and those of nerfstudio."""

NERFACTOS = ("nerfacto", "nerfacto-big", "nerfacto-huge", "depth-nerfacto", "phototourism")
"""Methods that are nerfacto in another size or with another input."""

SPLATS = ("splatfacto", "splatfacto-big")
"""Methods whose models are Gaussians instead of a NeRF."""

NEEDS_MORE_THAN_PHOTOS = {
    "dnerf": "a time for each photo",
    "generfacto": "a text prompt instead of photos",
    "neus": "a scene in SDFStudio's format",
    "neus-facto": "a scene in SDFStudio's format",
    "semantic-nerfw": "a semantic map for each photo",
}
"""Methods that cannot train on a capture, and what they need."""
