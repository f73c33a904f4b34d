"""A path's frames in chunks: pieces of its video, each a folder, that stand when rendering is interrupted.

A chunk is a folder `<first>-<last>-<random>/` with `video.mp4` and whatever else was asked for, and `chunk.json`,
written last. One without it, or whose files differ from it, was torn and is passed over. Nothing is renamed or
overwritten: the folder may be blob storage behind a mount (see `jobs.radiance.checkpoints`). The first version named
the folders `<first>-<last>`.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs import manifest
from jobs.errors import InvalidInput

__all__ = ["FRAMES", "Chunk", "Chunks", "whole"]

FRAMES = 60
"""Of a chunk: as many are rendered again, at most, after an interruption."""

_ABOUT = "chunk.json"


class Chunk(BaseModel):
    """What `chunk.json` says.

    Args:
        content: what its frames show, as a checksum: chunks that differ are of different videos.
        first, last: its first frame, and the one after its last.
        seconds: that it took.
        device, rays_at_a_time: with which it was rendered.
        depth_range: the depths, model's units, that have the first and last colour of `depth.mp4`.
        checksums: SHA-256 of its files by relative path.
    """

    model_config = ConfigDict(frozen=True)

    content: str
    first: int
    last: int
    seconds: float
    device: str
    rays_at_a_time: int
    depth_range: tuple[float, float] | None = None
    checksums: dict[str, str] = {}

    @property
    def name(self) -> str:
        """With which that of its folder begins."""
        return f"{self.first:06d}-{self.last:06d}"


class Chunks:
    """The chunks in a folder; it is made if missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, chunk: Chunk, files: Path) -> None:
        """Put in a chunk: all that is in the folder `files`."""
        target = self.folder / f"{chunk.name}-{secrets.token_hex(4)}"
        shutil.copytree(files, target)
        names = [file.relative_to(files).as_posix() for file in files.rglob("*") if file.is_file()]
        checksums = {name: manifest.checksum(files / name) for name in sorted(names)}
        (target / _ABOUT).write_text(chunk.model_copy(update={"checksums": checksums}).model_dump_json())

    def find(self, content: str | None = None) -> dict[Path, Chunk]:
        """The whole chunks by folder, in the order of their frames; of all videos, or of one.

        Two attempts at a job may have rendered the same one: it is given once.
        """
        found: dict[tuple[int, int, str], tuple[Path, Chunk]] = {}
        for folder in sorted(filter(Path.is_dir, self.folder.iterdir())):
            chunk = self._read(folder)
            if chunk and content in (None, chunk.content):
                found.setdefault((chunk.first, chunk.last, chunk.content), (folder, chunk))
        return dict(found.values())

    def missing(self, content: str, first: int, last: int) -> list[tuple[int, int]]:
        """The first and last of the chunks that are not here yet, of the frames `first` to `last` of a video."""
        here = {(chunk.first, chunk.last) for chunk in self.find(content).values()}
        wanted = [(start, min(start + FRAMES, last)) for start in range(first, last, FRAMES)]
        return [each for each in wanted if each not in here]

    def _read(self, folder: Path) -> Chunk | None:
        try:
            chunk = Chunk.model_validate_json((folder / _ABOUT).read_bytes())
            if all(manifest.checksum(folder / name) == known for name, known in chunk.checksums.items()):
                return chunk
        except (OSError, ValidationError):
            pass
        print(f"The chunk {folder} is torn and passed over.", flush=True)
        return None


def whole(found: Iterable[dict[Path, Chunk]], total: int) -> dict[Path, Chunk]:
    """All chunks of a video of `total` frames by folder, in the order of their frames, from what stores have of it.

    Raises:
        InvalidInput: frames are missing, or twice there.
    """
    chunks = sorted(((f, chunk) for each in found for f, chunk in each.items()), key=lambda each: each[1].first)
    end = 0
    for _, chunk in chunks:
        if chunk.first != end:
            break
        end = chunk.last
    if end != total:
        raise InvalidInput(
            f"Of the {total} frames of this video, there is no chunk that begins with {end}: render again."
        )
    return dict(chunks)
