"""Store the frames of a path in chunks: pieces of its video that survive an interruption of the job.

A chunk is a folder `<first>-<last>-<random>/` with `video.mp4`, the other requested outputs and `chunk.json`, which is
written last. A chunk without `chunk.json`, or with other checksums, is incomplete and is ignored. Nothing is renamed or
overwritten, because the folder may be blob storage behind a mount (see `jobs.radiance.checkpoints`). The first version
named the folders `<first>-<last>`.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs import manifest
from jobs.errors import InvalidInput

__all__ = ["FRAMES", "Chunk", "Chunks", "chunks_of_video"]

FRAMES = 60
"""The number of frames in a chunk. An interruption loses at most this many."""

_ABOUT = "chunk.json"


class Chunk(BaseModel):
    """The content of `chunk.json`.

    Args:
        content: a checksum of the video's frames; chunks of different videos differ in it.
        first, last: the index of the first frame, and the index after the last.
        seconds: the time that rendering took.
        device, rays_at_a_time: how it was rendered.
        depth_range: the depths of the first and the last colour of `depth.mp4`, in the model's units.
        checksums: SHA-256 of the files, by relative path.
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
        """Return the beginning of the folder's name."""
        return f"{self.first:06d}-{self.last:06d}"


class Chunks:
    """The chunks in a folder, which is created if missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, chunk: Chunk, files: Path) -> None:
        """Add a chunk with all files of the folder `files`."""
        target = self.folder / f"{chunk.name}-{secrets.token_hex(4)}"
        shutil.copytree(files, target)
        names = [file.relative_to(files).as_posix() for file in files.rglob("*") if file.is_file()]
        checksums = {name: manifest.checksum(files / name) for name in sorted(names)}
        (target / _ABOUT).write_text(chunk.model_copy(update={"checksums": checksums}).model_dump_json())

    def find(self, content: str | None = None) -> dict[Path, Chunk]:
        """Return the complete chunks by folder, in the order of their frames.

        If two attempts at a job rendered the same chunk, it is returned once.

        Args:
            content: the video whose chunks are wanted; None for all videos.
        """
        found: dict[tuple[int, int, str], tuple[Path, Chunk]] = {}
        for folder in sorted(filter(Path.is_dir, self.folder.iterdir())):
            chunk = self._read(folder)
            if chunk and content in (None, chunk.content):
                found.setdefault((chunk.first, chunk.last, chunk.content), (folder, chunk))
        return dict(found.values())

    def missing(self, content: str, first: int, last: int) -> list[tuple[int, int]]:
        """Return `first` and `last` of each missing chunk, for the frames `first` to `last` of a video."""
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
        print(f"The chunk {folder} is incomplete and is ignored.", flush=True)
        return None


def chunks_of_video(found: Iterable[dict[Path, Chunk]], total: int) -> dict[Path, Chunk]:
    """Return all chunks of a video by folder, in the order of their frames.

    Args:
        found: the chunks of the video in each store.
        total: the number of frames in the video.

    Raises:
        InvalidInput: frames are missing or occur twice.
    """
    every = {folder: chunk for chunks in found for folder, chunk in chunks.items()}
    ordered = sorted(every, key=lambda folder: every[folder].first)
    ends = [0, *(every[folder].last for folder in ordered)]
    begins = [*(every[folder].first for folder in ordered), total]
    for end, begin in zip(ends, begins, strict=True):
        if begin != end:
            first, last = min(begin, end), max(begin, end) - 1
            what = "missing" if begin > end else "rendered twice"
            raise InvalidInput(f"Frames {first} to {last} of the video are {what}. Render again.")
    return {folder: every[folder] for folder in ordered}
