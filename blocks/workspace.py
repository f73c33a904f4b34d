"""A workspace: where captures and assets lie, and where jobs run."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Literal

from prefect.blocks.core import Block
from pydantic import BaseModel, ConfigDict, Field

from blocks.expense import Expense
from blocks.marks import Marks
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
    "Workspace",
    "content_fingerprint",
]

AssetKind = Literal["capture", "dataset", "model", "shard", "video", "export", "page"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Asset(_Record):
    """A registered, immutable, versioned folder. Small: this is what a task returns and Prefect stores.

    Args:
        name, version: its identity in the workspace.
        kind: what the folder holds.
        tags: provenance, by name (scene, fingerprint, versions of inputs, the job that made it …).
        uri: where it lies, in the workspace's own way of saying; a folder for a local workspace.
        created: when it was registered, with its time zone.
        number: the number of a model among all models of its name: 1, 2, 3 …; None for other assets.
        archived: whether a person has archived it. It is not used any more, but its version stays taken.
        marks: what people have noted about it, when it was read.
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
        """The name, the version and, for a model, the number, as people read them."""
        return f"{self} (model {self.number})" if self.number else str(self)

    @property
    def seconds(self) -> dict[str, float] | None:
        """How long the jobs ran that made it, by tier; those of its parts, on GPUs, too. None where it is not known."""
        if "job_seconds" not in self.tags:
            return None
        spent = {"cpu": 0.0, "gpu": float(self.tags.get("parts_seconds", 0))}
        spent["gpu" if self.tags.get("tier") == "gpu" else "cpu"] += float(self.tags["job_seconds"])
        return spent


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """A photo or video where people drop them: its bytes, and a checksum that changes with its content."""

    size: int
    checksum: str


@dataclass(frozen=True)
class DroppedCapture:
    """What people dropped for one scene, from a listing.

    Args:
        scene: the folder's name, whether it is a scene's name or not.
        files: photos and videos by path below the folder; hidden and other files are passed over.
        age: seconds since something was last changed there, by the store's own clock.
        uploading: files of which only a part has come yet.
        folder: where the files can be read on this machine; None where they cannot.
    """

    scene: str
    files: dict[str, DroppedFile]
    age: float
    uploading: tuple[str, ...] = ()
    folder: Path | None = None

    @cached_property
    def content(self) -> str:
        """The fingerprint of all files: whatever their names."""
        return content_fingerprint(file.checksum for file in self.files.values())

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True)
class Leftover:
    """What is left of work that ended.

    Args:
        place: where it lies, as the workspace names it.
        what: in words.
        size: bytes.
    """

    place: str
    what: str
    size: int


class JobSpec(_Record):
    """All that a workspace needs to run one job.

    Args:
        family: `<scene>-<stage>-<asset version>`, shared by all attempts at the same result.
        attempt: 1, 2, 3 …
        scene, stage: what it is for.
        part: which part of the stage, in lower-case letters, digits and hyphens; "" where it is the whole.
        arguments: of `python -m jobs.<stage>`, with placeholders `{inputs.x}`, `{outputs.x}`, `{scratch.x}` and
            `{files.x}`, which become paths where it runs.
        inputs: assets to read, by name.
        outputs: names of the folders that it writes and that can be registered; each attempt has its own.
        scratch: names of folders that all attempts share, for checkpoints; emptied once the result is registered.
        files: small texts that travel with the job, by file name.
        tier: whether it needs the GPU.
        tags: provenance, kept with the job.
        description: what the job is for, as Markdown, for the job's own page where its workspace has one.
        time_limit: seconds after which the job is ended, queueing not counted.
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
    tier: Literal["cpu", "gpu"] = "gpu"
    tags: dict[str, str] = Field(default_factory=dict)
    description: str = ""
    time_limit: int = Field(24 * 3600, ge=1)

    @property
    def name(self) -> str:
        """`<scene>-<stage>-<asset version>-<attempt>`: deterministic, so that a job is never started twice."""
        return f"{self.family}-{self.attempt}"

    def resolve(self, place: Callable[[str, str], str]) -> list[str]:
        """The arguments, each placeholder replaced by `place(group, name)`, the group one of inputs, outputs …"""
        return [_PLACEHOLDER.sub(lambda found: place(found[1], found[2]), argument) for argument in self.arguments]


_PLACEHOLDER = re.compile(r"\{(inputs|outputs|scratch|files)\.([\w.-]+)\}")


class JobState(str, Enum):
    """Where a job stands, in every kind of workspace."""

    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    INTERRUPTED = "Interrupted"
    """Ended from outside: preempted, killed, its machine lost."""
    CANCELED = "Canceled"

    @property
    def ended(self) -> bool:
        """Whether nothing runs any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobStatus(_Record):
    """What a workspace knows of a job.

    Args:
        name, state: its name, and where it stands.
        reason: why it is in that state, where there is a reason.
        url: where to look at it.
        seconds: how long it ran, once it has ended; queueing is not counted.
        place: of a queued job in its line, 1 for the next; 0 where that is not known.
        behind: the job just before it, which runs or waits; "" where that is not known.
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
        curve: which step of the job it is of; "" for the job's main part. Steps only grow along a curve.
        step: how far the job was, in the unit of that step.
        time: when it was measured, in seconds since 1970.
        values: what was measured, by name.
    """

    curve: str
    step: int
    time: float
    values: dict[str, float]


class Workspace(Block, ABC):
    """Where captures and assets lie and jobs run. Subclasses: a folder and processes, an Azure ML workspace.

    Every method may raise `WorkspaceUnavailable`, after which the same call can be tried again. Methods block;
    the tasks call them in threads.
    """

    gpu_jobs_at_once: int | None = Field(
        None, ge=1, description="GPU jobs under way at once, over all runs of a Prefect server; None: no limit of ours"
    )
    cpu_price_per_hour: float | None = Field(
        None, ge=0, description="of a CPU job's machine, to tell what came to cost"
    )
    gpu_price_per_hour: float | None = Field(None, ge=0, description="of a GPU job's machine")
    currency: str = Field("", max_length=8, description="of the prices: EUR, $ …")
    max_cost_per_run: float | None = Field(
        None, ge=0, description="most that the jobs of one flow run may cost; needs both prices. None: no limit"
    )
    max_cost_per_month: float | None = Field(
        None, ge=0, description="most that all jobs of a calendar month (UTC) may cost; needs both prices"
    )

    @property
    def has_cost_limit(self) -> bool:
        """Whether jobs may cost only so much; only then are expenses recorded."""
        return self.max_cost_per_run is not None or self.max_cost_per_month is not None

    def price_per_hour(self, tier: str) -> float | None:
        """Of a job's machine, by its tier."""
        return self.gpu_price_per_hour if tier == "gpu" else self.cpu_price_per_hour

    def check_cost_limits(self) -> None:
        """Raise `InvalidInput` if there is a limit on costs, and a price to tell them by is missing."""
        if self.has_cost_limit:
            limit = "max_cost_per_month" if self.max_cost_per_run is None else "max_cost_per_run"
            prices = ("cpu_price_per_hour", "gpu_price_per_hour")
            if missing := [price for price in prices if getattr(self, price) is None]:
                raise InvalidInput(
                    f"{limit}: the limit cannot be checked without {' and '.join(missing)}. Set the price of an hour "
                    "in the workspace's block (0 where it costs nothing), or leave the limit out."
                )

    def cost(self, asset: Asset) -> float | None:
        """What the jobs came to that made an asset, by their time and today's price; None where either is unknown."""
        if asset.seconds is None:
            return None
        costs = [(self.price_per_hour(tier), seconds / 3600) for tier, seconds in asset.seconds.items() if seconds]
        return None if any(price is None for price, _ in costs) else sum((price or 0) * hours for price, hours in costs)

    @property
    @abstractmethod
    def identity(self) -> str:
        """What tells this workspace from every other, for cache keys."""

    @abstractmethod
    def check(self) -> None:
        """Raise `InvalidInput`, with the field's name and what to do, if the workspace cannot work as configured."""

    @abstractmethod
    def has_gpu(self) -> bool:
        """Whether jobs of tier "gpu" get a CUDA GPU."""

    # captures

    @abstractmethod
    def take_in(self, scene: str, files: Mapping[str, Path], tags: Mapping[str, str]) -> Asset:
        """Register photos or a video (local files by relative path) as the scene's next capture version.

        Content that a version already has, under whatever file names, is that version: nothing new is registered,
        unless that version is archived.

        Raises:
            InvalidInput: a file vanishes or changes while it is read.
        """

    @abstractmethod
    def dropped(self, scene: str | None = None) -> list[DroppedCapture]:
        """What lies where people drop photos, of one scene or of all: from listings alone, nothing is downloaded.

        Names that are no scene's are among them. What vanishes meanwhile is not.
        """

    def capture_with(self, scene: str, content: str) -> Asset | None:
        """The capture version of that content fingerprint; None if there is none."""
        return next((asset for asset in self.assets(scene) if asset.tags.get("content") == content), None)

    @abstractmethod
    def find_capture(self, dropped: DroppedCapture) -> Asset | None:
        """The capture version that has just this content, under whatever file names; None if it is new.

        Where only an archived version has the content, that version is returned.
        """

    @abstractmethod
    def take_in_dropped(self, dropped: DroppedCapture, tags: Mapping[str, str]) -> Asset:
        """Register what was dropped, as it was listed, as the scene's next capture version; it stays where it lies.

        The version keeps its content, whatever happens to the folder later. As with `take_in`, content that a version
        already has is that version.

        Raises:
            InvalidInput: a file has changed or gone since it was listed.
        """

    # assets

    @abstractmethod
    def scenes(self) -> list[str]:
        """Return the names of the scenes of which something is registered, sorted.

        Where others register assets, too, a scene counts once something was made of its capture.
        """

    @abstractmethod
    def mark(self, asset: Asset, marks: Marks) -> Asset:
        """Replace what people have noted about a model, and return the model with it.

        Raises:
            NotFound: the model is not there any more.
        """

    @abstractmethod
    def assets(self, name: str) -> list[Asset]:
        """All registered versions of an asset that are not archived, oldest first."""

    def archived(self, name: str) -> list[Asset]:
        """The archived versions of an asset, oldest first. Their versions stay taken.

        Raises:
            InvalidInput: the whole name is archived, so that nothing can be registered under it.
        """
        return []

    @abstractmethod
    def find_asset(self, name: str, version: str) -> Asset | None:
        """The registered asset; None where there is none, or it is archived."""

    @abstractmethod
    def fetch(self, asset: Asset) -> Path:
        """A local folder with the asset's files, to be read only.

        Raises:
            NotFound: the asset is not there any more.
        """

    @abstractmethod
    def read(self, asset: Asset, file: str) -> bytes:
        """One small file of an asset by its path in it, without the rest: a manifest, a poster.

        Raises:
            NotFound: the asset, or the file in it, is not there.
        """

    @abstractmethod
    def size(self, asset: Asset) -> int:
        """Return how many bytes an asset's files have.

        Raises:
            NotFound: the asset is not there any more.
        """

    @abstractmethod
    def remove(self, asset: Asset) -> None:
        """Remove an asset and its files for good; nothing happens if it is gone."""

    def leftovers(self, older_than: float) -> list[Leftover]:
        """Return what is left of work that ended and that nothing needs any more.

        Args:
            older_than: seconds since anything in it last changed.
        """
        return []

    def remove_leftover(self, leftover: Leftover) -> None:
        """Remove what `leftovers` has returned."""
        raise NotImplementedError

    # jobs

    @abstractmethod
    def find_job(self, name: str) -> JobStatus | None:
        """Where the job of that name stands, or None if there never was one."""

    @abstractmethod
    def submit(self, spec: JobSpec) -> JobStatus:
        """Start a job; if one of that name exists, that one is left alone and its status returned.

        Raises:
            NotFound: an input is not there any more.
        """

    @abstractmethod
    def read_log(self, name: str, offset: int) -> tuple[str, int]:
        """The job's log from byte `offset`, as whole lines, and the offset to go on from."""

    # who waits for a job

    @abstractmethod
    def follow(self, name: str, follower: str) -> None:
        """Note that `follower` (a flow run's ID) waits for a job: before it is submitted, and again at each poll."""

    @abstractmethod
    def unfollow(self, name: str, follower: str) -> None:
        """Note that it does not wait any more; nothing happens if it never did."""

    @abstractmethod
    def followers(self, name: str | None = None) -> dict[str, dict[str, float]]:
        """By job (of all, or the one named), who waits for it, and how many seconds ago each last said so."""

    # what jobs cost, where there is a limit

    @abstractmethod
    def expenses(self, month: str, job: str | None = None) -> list[Expense]:
        """What the record has for a month ("2026-11"): all entries, or the one of the job named."""

    @abstractmethod
    def write_expense(self, expense: Expense) -> None:
        """Enter an expense into the record, in place of what it has for that month and job."""

    @abstractmethod
    def delete_expense(self, expense: Expense) -> None:
        """Take an expense out of the record; nothing happens if it is not there."""

    def log_metrics(self, job: str, points: Sequence[Measured]) -> None:
        """Pass points of a job's curves on to the job's own page, where its workspace shows curves.

        Points that were passed on before, by whatever process, are left out: a curve goes on after its last step.
        """

    @abstractmethod
    def reach(self, name: str, port: int, local_port: int | None = None) -> str:
        """How a person gets at a port of a running job: a link, after the command that opens the way to it, if any.

        Where there is a command, it brings the port to `local_port` of this machine, if not given to the same.

        Raises:
            NotFound: there is no such job.
            InvalidInput: it does not run, or there is no way; says how to open one.
        """

    @abstractmethod
    def cancel(self, name: str) -> None:
        """End the job with all its processes and wait until it has ended; nothing happens if it already has."""

    @abstractmethod
    def output_sizes(self, job: str, output: str) -> dict[str, int]:
        """Return the size in bytes of each file of a job's output, by its path in the output.

        Raises:
            NotFound: the job or its output does not exist.
        """

    @abstractmethod
    def register(
        self, spec: JobSpec, output: str, name: str, version: str, kind: AssetKind, tags: Mapping[str, str]
    ) -> Asset:
        """Make a completed job's output an asset: all of it or nothing. Registering again returns what is there.

        Raises:
            NotFound: the job or its output does not exist.
            InvalidInput: there is an archived asset of that name and version.
        """

    @abstractmethod
    def poll_seconds(self, waited: float) -> float:
        """How long to wait before a job is asked about again, after `waited` seconds of following it."""


def content_fingerprint(checksums: Iterable[str]) -> str:
    """SHA-256 in hex of a capture's content, from its files' checksums: whatever their names, order and copies."""
    return hashlib.sha256("\n".join(sorted(set(checksums))).encode()).hexdigest()
