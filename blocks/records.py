"""Records that tasks and workspaces exchange: assets, dropped captures, and jobs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from blocks.marks import Marks
from blocks.provenance import Provenance
from jobs.errors import InvalidInput

__all__ = [
    "Asset",
    "AssetKind",
    "DroppedCapture",
    "DroppedFile",
    "JobSpec",
    "JobState",
    "JobStatus",
    "Leftover",
    "Measured",
    "PageAddress",
    "Tier",
    "content_fingerprint",
    "parse_registered",
]

AssetKind = Literal["capture", "dataset", "model", "shard", "video", "export", "page", "metres", "changes"]

Tier = Literal["cpu", "gpu"]
"""The kind of machine that a job needs."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Read a result that Prefect stored. Fields that were added since get their defaults."""
        super().__setstate__(state)
        for name, field in type(self).model_fields.items():
            self.__dict__.setdefault(name, field.get_default(call_default_factory=True))


class Asset(_Record):
    """A registered, immutable, versioned folder. A task returns this small record, and Prefect stores it.

    Args:
        name, version: its identity in the workspace.
        kind: what the folder holds.
        tags: where it comes from (see `provenance`), and how good it is.
        uri: where it is, in the workspace's own notation; a folder for a local workspace.
        created: when it was registered, with its time zone.
        number: the number of a model among all models of its name: 1, 2, 3 …; None for other assets.
        archived: whether a person archived it. It is no longer used, but its version stays taken.
        marks: what people had noted about it when it was read.
    """

    name: str
    version: str
    kind: AssetKind
    tags: dict[str, str] = Field(default_factory=dict)
    uri: str
    created: datetime
    number: int | None = None
    archived: bool = False
    marks: Marks = Marks()

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def title(self) -> str:
        """Return the name, the version and, for a model, the number, for people."""
        return f"{self} (model {self.number})" if self.number else str(self)

    @property
    def provenance(self) -> Provenance:
        """Return where it comes from, as far as its tags say."""
        return Provenance.from_tags(self.tags)

    @property
    def figures(self) -> dict[str, str]:
        """Return the tags that say how good it is."""
        return {name: value for name, value in self.tags.items() if not Provenance.has(name)}

    def figure(self, name: str) -> float | None:
        """Return one of its figures; None if it is not known, or if a person wrote something other than a number."""
        try:
            return float(self.tags[name])
        except (KeyError, ValueError):
            return None

    @property
    def registered_photos(self) -> tuple[int, int] | None:
        """Return how many photos of a dataset are registered, and how many were used; None if that is not known."""
        return parse_registered(self.tags.get("registered"))

    @property
    def scene(self) -> str:
        """Return the scene.

        Raises:
            InvalidInput: a person registered the asset without this tag.
        """
        return self._needed("scene", self.provenance.scene)

    @property
    def capture_version(self) -> str:
        """Return the version of the capture that it was made from.

        Raises:
            InvalidInput: a person registered the asset without this tag.
        """
        return self._needed("capture_version", self.provenance.capture_version)

    @property
    def leading_version(self) -> str:
        """Return the version up to its first hyphen: the capture's version, for an asset that a flow registered."""
        return self.version.partition("-")[0]

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of what decided it; for a capture, that of its files.

        Raises:
            InvalidInput: a person registered the asset without either tag.
        """
        known = self.provenance
        return self._needed("fingerprint", known.fingerprint or known.content)

    @property
    def seconds(self) -> dict[Tier, float] | None:
        """Return how long the jobs that made it ran, by tier; None if that is unknown."""
        known = self.provenance
        if known.job_seconds is None:
            return None
        spent: dict[Tier, float] = {"cpu": 0.0, "gpu": known.parts_seconds or 0.0}
        spent[known.tier or "cpu"] += known.job_seconds
        return spent

    def _needed(self, tag: str, value: str | None) -> str:
        if not value:
            raise InvalidInput(f"asset {self} has no tag {tag!r}. Add the tag, or run the flow that makes the asset.")
        return value


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """A photo or video in a drop folder: its bytes, and a checksum that changes with its content."""

    size: int
    checksum: str


@dataclass(frozen=True)
class DroppedCapture:
    """The photos or the video that people dropped for one scene, from a listing.

    Args:
        scene: the folder's name, even if it is not a valid name of a scene.
        files: photos and videos by path below the folder. Hidden and other files are left out.
        age: seconds since the last change there, by the clock of the store.
        uploading: files whose upload is not complete.
        folder: where this machine can read the files; None if it cannot.
    """

    scene: str
    files: dict[str, DroppedFile]
    age: float
    uploading: tuple[str, ...] = ()
    folder: Path | None = None

    @cached_property
    def content(self) -> str:
        """Return the fingerprint of all files. Their names do not count."""
        return content_fingerprint(file.checksum for file in self.files.values())

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True)
class Leftover:
    """What remains of work that ended.

    Args:
        place: where it is, in the workspace's own notation.
        what: a description for people.
        size: in bytes.
    """

    place: str
    what: str
    size: int


class JobSpec(_Record):
    """Everything that a workspace needs to run one job.

    Args:
        family: `<scene>-<stage>-<asset version>`, shared by all attempts at the same result.
        attempt: 1, 2, 3 …
        scene, stage: what the job is for.
        part: which part of the stage, in lower-case letters, digits and hyphens; "" for the whole stage.
        arguments: of `python -m jobs.<stage>`. The placeholders `{inputs.x}`, `{outputs.x}`, `{scratch.x}` and
            `{files.x}` become paths where the job runs.
        inputs: assets to read, by name.
        outputs: names of the folders that the job writes and that can be registered. Each attempt has its own.
        scratch: names of folders that all attempts share, for checkpoints. They are emptied when the result is
            registered.
        files: small texts that travel with the job, by file name.
        tier: the kind of machine that it needs.
        tags: its provenance, stored with the job.
        description: what the job is for, as Markdown, for the job's own page if its workspace has one.
        time_limit: seconds after which the job is ended. Time in a queue does not count.
    """

    family: str
    attempt: int = Field(ge=1)
    scene: str
    stage: str
    part: str = ""
    arguments: tuple[str, ...]
    inputs: dict[str, Asset] = Field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)
    tier: Tier = "gpu"
    tags: dict[str, str] = Field(default_factory=dict)
    description: str = ""
    time_limit: int = Field(24 * 3600, ge=1)

    @property
    def name(self) -> str:
        """Return `<scene>-<stage>-<asset version>-<attempt>`. It is deterministic, so no job is started twice."""
        return f"{self.family}-{self.attempt}"

    def resolve(self, place: Callable[[str, str], str]) -> list[str]:
        """Return the arguments with each placeholder replaced.

        Args:
            place: returns the path for a group (inputs, outputs, scratch or files) and a name.
        """
        return [_PLACEHOLDER.sub(lambda found: place(found[1], found[2]), argument) for argument in self.arguments]


_PLACEHOLDER = re.compile(r"\{(inputs|outputs|scratch|files)\.([\w.-]+)\}")


class JobState(str, Enum):
    """The state of a job, in every kind of workspace."""

    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    INTERRUPTED = "Interrupted"
    """Ended from outside: preempted, killed, or its machine was lost."""
    CANCELED = "Canceled"

    @property
    def ended(self) -> bool:
        """Return whether the job has ended."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobStatus(_Record):
    """What a workspace knows about a job.

    Args:
        name: the job's name.
        state: its state.
        reason: why it is in this state, if that is known.
        url: where a person can look at it.
        seconds: how long it ran, once it has ended. Time in a queue does not count.
        place: a queued job's place in its line, 1 for the next; 0 if unknown.
        behind: the job just before it in the line, or one that runs; "" if unknown.
    """

    name: str
    state: JobState
    reason: str = ""
    url: str = ""
    seconds: float = 0.0
    place: int = 0
    behind: str = ""


class Measured(_Record):
    """One point of a job's curves.

    Args:
        curve: the step of the job that it belongs to; "" for the job's main part. Steps only grow along a curve.
        step: how far the job was, in the unit of that step.
        time: when it was measured, in seconds since 1970.
        values: what was measured, by name.
    """

    curve: str
    step: int
    time: float
    values: dict[str, float]


class PageAddress(_Record):
    """How a person opens a page that a running job serves.

    Args:
        link: the page's URL.
        command: the command that must run on this machine while the page is open, if one is needed.
        variables: a pattern of the environment variables that the command needs, see `jobs.environment`.
    """

    link: str
    command: tuple[str, ...] = ()
    variables: str = ""


def content_fingerprint(checksums: Iterable[str]) -> str:
    """Return the SHA-256 in hex of a capture's content, from the checksums of its files.

    Names, order and copies of files do not change it.
    """
    return hashlib.sha256("\n".join(sorted(set(checksums))).encode()).hexdigest()


def parse_registered(figure: str | None) -> tuple[int, int] | None:
    """Return how many photos are registered, and how many were used, from "46/48"; None if it says something else."""
    registered, _, used = (figure or "").partition("/")
    return (int(registered), int(used)) if registered.isdecimal() and used.isdecimal() else None
