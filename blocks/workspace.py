"""A workspace: where captures and assets are stored, and where jobs run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect.blocks.core import Block
from pydantic import Field

from blocks.expense import Expense
from blocks.marks import Marks
from blocks.records import Asset, AssetKind, DroppedCapture, JobSpec, JobStatus, Leftover, Measured, PageAddress
from jobs.errors import InvalidInput

__all__ = ["Workspace"]


class Workspace(Block, ABC):
    """Where captures and assets are stored and jobs run. Subclasses: a folder and processes, an Azure ML workspace.

    Every method may raise `WorkspaceUnavailable`. The same call can then be tried again. Methods block, and the tasks
    call them in threads.
    """

    gpu_jobs_at_once: int | None = Field(
        None, ge=1, description="Most GPU jobs at the same time, over all runs of a Prefect server. None: no limit"
    )
    cpu_price_per_hour: float | None = Field(
        None, ge=0, description="Price of an hour on a CPU job's machine, from which costs are computed"
    )
    gpu_price_per_hour: float | None = Field(None, ge=0, description="Price of an hour on a GPU job's machine")
    currency: str = Field("", max_length=8, description="Currency of the prices: EUR, $ …")
    max_cost_per_run: float | None = Field(
        None, ge=0, description="Most that the jobs of one flow run may cost. Needs both prices. None: no limit"
    )
    max_cost_per_month: float | None = Field(
        None,
        ge=0,
        description="Most that all jobs of a month (UTC) may cost. Needs both prices. None: no limit",
    )

    @property
    def has_cost_limit(self) -> bool:
        """Return whether there is a limit on costs. Expenses are recorded only then."""
        return self.max_cost_per_run is not None or self.max_cost_per_month is not None

    def price_per_hour(self, tier: str) -> float | None:
        """Return the price of an hour on the machines of a tier."""
        return self.gpu_price_per_hour if tier == "gpu" else self.cpu_price_per_hour

    def check_cost_limits(self) -> None:
        """Raise `InvalidInput` if there is a limit on costs but a price is missing."""
        if self.has_cost_limit:
            limit = "max_cost_per_month" if self.max_cost_per_run is None else "max_cost_per_run"
            prices = ("cpu_price_per_hour", "gpu_price_per_hour")
            if missing := [price for price in prices if getattr(self, price) is None]:
                raise InvalidInput(
                    f"{limit}: the limit cannot be checked without {' and '.join(missing)}. Set the price of an hour "
                    "in the workspace's block (0 if it costs nothing), or remove the limit."
                )

    def cost(self, asset: Asset) -> float | None:
        """Return what the jobs that made an asset cost, at today's prices; None if a time or a price is unknown."""
        if asset.seconds is None:
            return None
        costs = [(self.price_per_hour(tier), seconds / 3600) for tier, seconds in asset.seconds.items() if seconds]
        return None if any(price is None for price, _ in costs) else sum((price or 0) * hours for price, hours in costs)

    @property
    @abstractmethod
    def identity(self) -> str:
        """Return a name that no other workspace has, for cache keys."""

    @abstractmethod
    def check(self) -> None:
        """Raise `InvalidInput` if the workspace cannot work as configured. It names the field and says what to do."""

    @abstractmethod
    def has_gpu(self) -> bool:
        """Return whether jobs of the tier "gpu" get a CUDA GPU."""

    # captures

    @abstractmethod
    def take_in(self, scene: str, files: Mapping[str, Path], tags: Mapping[str, str]) -> Asset:
        """Register photos or a video (local files by relative path) as the scene's next capture version.

        If a version already has this content, under whatever file names, it is returned and nothing is registered.
        Archived versions do not count.

        Raises:
            InvalidInput: a file vanishes or changes while it is read.
        """

    @abstractmethod
    def dropped(self, scene: str | None = None) -> list[DroppedCapture]:
        """List the drop folder of one scene, or of all scenes. Nothing is downloaded.

        Folders whose names are not valid scene names are included. Files that vanish during the call are left out.
        """

    def capture_with(self, scene: str, content: str) -> Asset | None:
        """Return the capture version with this content fingerprint; None if there is none."""
        return next((asset for asset in self.assets(scene) if asset.provenance.content == content), None)

    def is_capture(self, name: str) -> bool:
        """Return whether the asset of that name is a capture, whatever its name ends with."""
        return any(asset.kind == "capture" for asset in self.assets(name))

    @abstractmethod
    def find_capture(self, dropped: DroppedCapture) -> Asset | None:
        """Return the capture version with exactly this content, under whatever file names; None if it is new.

        An archived version is returned only if no other version has the content.
        """

    @abstractmethod
    def take_in_dropped(self, dropped: DroppedCapture, tags: Mapping[str, str]) -> Asset:
        """Register dropped files, as listed, as the scene's next capture version. The files stay in the drop folder.

        The version keeps its content if the folder changes later. As in `take_in`, content that a version already has
        is not registered again.

        Raises:
            InvalidInput: a file changed or vanished after it was listed.
        """

    # assets

    @abstractmethod
    def scenes(self) -> list[str]:
        """Return the names of the scenes that have a registered asset, sorted.

        If others also register assets there, a scene counts once something was made from its capture.
        """

    @abstractmethod
    def mark(self, asset: Asset, marks: Marks) -> Asset:
        """Replace what people have noted about a model, and return the model with it.

        Raises:
            NotFound: the model no longer exists.
        """

    @abstractmethod
    def assets(self, name: str) -> list[Asset]:
        """Return all registered versions of an asset that are not archived, oldest first."""

    def archived(self, name: str) -> list[Asset]:
        """Return the archived versions of an asset, oldest first. Their versions stay taken.

        Raises:
            InvalidInput: the whole name is archived, so nothing can be registered under it.
        """
        return []

    @abstractmethod
    def find_asset(self, name: str, version: str) -> Asset | None:
        """Return a registered asset; None if it does not exist or is archived."""

    @abstractmethod
    def fetch(self, asset: Asset) -> Path:
        """Return a local folder with the asset's files. They may only be read.

        Raises:
            NotFound: the asset no longer exists.
        """

    def served_at(self) -> str:
        """Return the web address of `assets/`, and of the gallery beside it; "" if no server shows them. May block."""
        return ""

    @abstractmethod
    def read(self, asset: Asset, file: str) -> bytes:
        """Read one small file of an asset, such as a manifest, without fetching the others.

        Raises:
            NotFound: the asset or the file does not exist.
        """

    @abstractmethod
    def size(self, asset: Asset) -> int:
        """Return the bytes of an asset's files.

        Raises:
            NotFound: the asset no longer exists.
        """

    @abstractmethod
    def remove(self, asset: Asset) -> None:
        """Remove an asset and its files for good. Do nothing if it does not exist."""

    def leftovers(self, older_than: float) -> list[Leftover]:
        """Return what remains of work that ended and that nothing needs any more.

        Args:
            older_than: seconds since the last change in it.
        """
        return []

    def remove_leftover(self, leftover: Leftover) -> None:
        """Remove what `leftovers` has returned."""
        raise NotImplementedError

    # jobs

    @abstractmethod
    def find_job(self, name: str) -> JobStatus | None:
        """Return the status of a job; None if there never was one of this name."""

    @abstractmethod
    def submit(self, spec: JobSpec) -> JobStatus:
        """Start a job and return its status. If a job of this name exists, nothing is started.

        Raises:
            NotFound: an input no longer exists.
        """

    @abstractmethod
    def read_log(self, name: str, offset: int) -> tuple[str, int]:
        """Return the whole lines of a job's log from byte `offset`, and the offset of what follows them."""

    @abstractmethod
    def cancel(self, name: str) -> None:
        """End a job with all its processes, and wait until it has ended. Do nothing if it already has."""

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
        """Register a completed job's output as an asset, completely or not at all. A registered one is returned.

        Raises:
            NotFound: the job or its output does not exist.
            InvalidInput: an archived asset has this name and version.
        """

    @abstractmethod
    def poll_seconds(self, waited: float) -> float:
        """Return how long to wait before the next poll of a job that has been followed for `waited` seconds."""

    @abstractmethod
    def reach(self, name: str, port: int, local_port: int | None = None) -> PageAddress:
        """Return how a person opens a page that a running job serves.

        Args:
            name: the job's name.
            port: the port of the job's machine.
            local_port: the port of this machine to use if the address has a command; `port` if not given.

        Raises:
            NotFound: the job does not exist.
            InvalidInput: the job does not run, or its port cannot be reached. The text says what to do.
        """

    def log_metrics(self, job: str, points: Sequence[Measured]) -> None:
        """Send points of a job's curves to the job's own page, if the workspace has such pages.

        Points that any process sent before are left out, so a curve continues after its last step.
        """

    # who waits for a job

    @abstractmethod
    def follow(self, name: str, follower: str) -> None:
        """Note that `follower` (a flow run's ID) waits for a job. Called before it is submitted, and at each poll."""

    @abstractmethod
    def unfollow(self, name: str, follower: str) -> None:
        """Note that `follower` no longer waits for a job. Do nothing if it never did."""

    @abstractmethod
    def followers(self, name: str | None = None) -> dict[str, dict[str, float]]:
        """Return who waits for each job (or the one named), with the seconds since each follower's last note."""

    # what jobs cost, if there is a limit

    @abstractmethod
    def expenses(self, month: str, job: str | None = None) -> list[Expense]:
        """Return the recorded expenses of a month ("2026-11"), or only that of one job."""

    @abstractmethod
    def write_expense(self, expense: Expense) -> None:
        """Record an expense. It replaces the record of the same month and job."""

    @abstractmethod
    def delete_expense(self, expense: Expense) -> None:
        """Delete the record of an expense. Do nothing if there is none."""
