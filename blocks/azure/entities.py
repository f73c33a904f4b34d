"""Turn the SDK's entities and listings of blobs into this project's records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from blocks.azure.listing import Blob
from blocks.azure.tags import KIND, VERSION
from blocks.marks import Marks
from blocks.records import Asset, DroppedCapture, DroppedFile

__all__ = ["asset_of", "checksum_of", "dropped_of", "number_of"]


def number_of(asset: Asset) -> int:
    """Return the number that an asset has in its registry; 0 if its version is not a number."""
    return asset.number or (int(asset.version) if asset.version.isdecimal() else 0)


def asset_of(entity: Any, archived: bool = False) -> Asset:
    """Make an asset of the SDK's data or model.

    Data without our tags is a capture that a person registered. Such a model has its number as its version.
    """
    tags, is_model = dict(entity.tags or {}), type(entity).__name__ == "Model"
    marks = Marks.take_from(tags) if is_model else Marks()
    kind = tags.pop(KIND, "model" if is_model else "capture")
    created = entity.creation_context.created_at if entity.creation_context else None
    if isinstance(created, str):
        created = datetime.fromisoformat(created.replace("Z", "+00:00"))
    return Asset(
        name=entity.name,
        version=tags.pop(VERSION, entity.version) if is_model else entity.version,
        kind=kind,
        tags=tags,
        uri=entity.path,
        created=created or datetime.fromtimestamp(0, timezone.utc),
        number=int(entity.version) if is_model else None,
        archived=archived,
        marks=marks,
    )


def checksum_of(blob: Blob) -> str:
    """Return what changes with a blob's content: its MD5, or its size and ETag if it has none."""
    return blob.md5.hex() if blob.md5 else f"{blob.size} {blob.etag}"


def dropped_of(scene: str, blobs: Mapping[str, Blob]) -> DroppedCapture:
    """Return the dropped capture of blobs, by their paths below the scene's folder."""
    return DroppedCapture(
        scene=scene,
        files={path: DroppedFile(blob.size, checksum_of(blob)) for path, blob in blobs.items() if blob.committed},
        age=min((blob.age for blob in blobs.values()), default=0.0),
        uploading=tuple(path for path, blob in blobs.items() if not blob.committed),
    )
