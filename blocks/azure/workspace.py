"""An Azure ML workspace: its datastore, its registries of assets, and its clusters."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, StringConstraints, model_validator

from blocks.azure.assets import Assets
from blocks.azure.cleanup import Leftovers
from blocks.azure.connection import Connection, naming
from blocks.azure.container import Moved
from blocks.azure.credential import ARM_SCOPE, AzureCredential, Guid
from blocks.azure.errors import plain_errors
from blocks.azure.expenses import Expenses
from blocks.azure.jobs import SERVERLESS, Jobs, port_open
from blocks.azure.metrics import Metrics
from blocks.azure.sizes import has_cuda
from blocks.azure.status import Known
from blocks.expense import Expense
from blocks.marks import Marks
from blocks.records import Asset, AssetKind, DroppedCapture, JobSpec, JobStatus, Leftover, Measured, PageAddress
from blocks.retries import SIGN_IN
from blocks.workspace import Workspace
from jobs.environment import FOR_PREFECT
from jobs.errors import InvalidInput, WorkspaceUnavailable
from jobs.program import typed

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

__all__ = ["AzureMLWorkspace"]

_FOR_SSH = rf"{FOR_PREFECT}|SSH_\w+|(AZURE|IDENTITY|MSI)_\w+"
"""What ssh needs, and the program that connects it with a job's ssh service, which signs in to Azure."""

ClusterName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9-]{1,31}$")]
IdentityId = Annotated[
    str,
    StringConstraints(
        pattern=r"(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ManagedIdentity/"
        r"userAssignedIdentities/[\w-]+$"
    ),
]
FolderName = Annotated[str, StringConstraints(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$")]


class _Shared:
    """What copies of a block share within a process: connections, and what is known about jobs."""

    def __init__(self) -> None:
        self.connections: dict[tuple[str | None, ...], Connection] = {}
        self.moved: Moved = lambda done, total: None
        self.known = Known()
        self.expenses: dict[tuple[str, bytes | None], Expense] = {}
        self.metrics: dict[str, Metrics] = {}

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self

    def __reduce__(self) -> tuple[type[_Shared], tuple[()]]:
        return _Shared, ()


class AzureMLWorkspace(Workspace):
    """Captures, assets and jobs in an Azure ML workspace.

    In its default datastore, `captures/<scene>/` is where people upload photos by hand; `rebel-nerf/` holds what this
    program uploads and what jobs write. Captures, datasets and videos are data assets. Models are custom models
    with the versions 1, 2, 3 …; our own version of a model is a tag.
    """

    _block_type_name = "rebel-nerf Azure ML workspace"
    _block_type_slug = "rebel-nerf-azure-ml"
    _description = "An Azure ML workspace: captures in its datastore, jobs on its clusters, assets in its registries."

    credential: AzureCredential = Field(default_factory=AzureCredential, description="Block with which to sign in")
    subscription_id: Guid = Field(description="ID of the subscription, from: az account show --query id")
    resource_group: str = Field(min_length=1, max_length=90, description="Resource group of the workspace")
    workspace: str = Field(min_length=3, max_length=33, description="Name of the Azure ML workspace")
    cpu_cluster: ClusterName = Field(
        "cpu-cluster",
        description="Cluster for CPU jobs. Name the GPU cluster to find poses on a GPU, or `serverless`: see cpu_size",
    )
    gpu_cluster: ClusterName = Field(
        "gpu-cluster", description="Cluster that trains and renders, or `serverless`: see gpu_size"
    )
    cpu_size: str | None = Field(None, description="VM size of CPU jobs if cpu_cluster is `serverless`")
    gpu_size: str | None = Field(None, description="VM size of GPU jobs if gpu_cluster is `serverless`")
    serverless_tier: Literal["spot", "standard"] = Field(
        "spot", description="Tier of serverless jobs. Azure can take spot machines away. Standard machines cost more"
    )
    job_identity: IdentityId | Guid | None = Field(
        None,
        description="User-assigned managed identity that jobs run as: its resource ID or its client ID. Storage "
        "without account keys needs it. Clusters must have it, for serverless jobs the workspace",
    )
    environment: str = Field(
        "rebel-nerf",
        pattern=r"^[\w.-]+(:[\w.-]+)?$",
        description="Environment of jobs: name or name:version. Without a version, the latest",
    )
    datastore: str | None = Field(None, description="Blob datastore to use. None: the workspace's default")
    captures: FolderName = Field(
        "captures", description="Folder of the datastore for photos uploaded by hand, with one folder a scene"
    )
    folder: FolderName = Field("rebel-nerf", description="Folder of the datastore for everything else")
    ssh_public_key: str | None = Field(
        None,
        pattern="^(ssh-|ecdsa-)",
        description="Public key whose owner can connect to running jobs, to open the viewer of a training",
    )
    cache: Path = Field(Path("~/.cache/rebel-nerf"), description="Local folder for downloaded assets")

    _shared: _Shared = PrivateAttr(default_factory=lambda: _Shared())

    @model_validator(mode="after")
    def _sized(self) -> AzureMLWorkspace:
        for tier in ("cpu", "gpu"):
            if getattr(self, f"{tier}_cluster") == SERVERLESS and not getattr(self, f"{tier}_size"):
                raise ValueError(f"{tier}_cluster is {SERVERLESS}, so {tier}_size must name a VM size")
        return self

    @property
    def identity(self) -> str:
        return f"azureml-{self.subscription_id}-{self.resource_group}-{self.workspace}".lower()

    def on_transfer(self, moved: Moved) -> None:
        """Call a function as bytes move in transfers, with the bytes done and the total."""
        self._shared.moved = moved

    def check(self) -> None:
        self.check_cost_limits()
        self.check_sign_in()
        with plain_errors(f"workspace {self.workspace}"):
            self._connection.client.workspaces.get(self.workspace)
        for field in ("cpu_cluster", "gpu_cluster"):
            self._check_cluster(field)
        self.check_environment()
        self._connection.store()

    def check_environment(self) -> None:
        """Raise `InvalidInput` unless the environment of jobs is registered."""
        with naming(
            f"environment: there is no environment {self.environment!r} in {self.workspace}. "
            f"Make it with: {typed('azure setup')}"
        ):
            self._jobs.environment_id()

    def check_storage(self) -> str:
        """Write a small file to the datastore, delete it, and return the datastore's name.

        Raises:
            InvalidInput: the storage refuses it.
        """
        name, container = self._connection.store()
        probe = f"{self.folder}/probes/{uuid.uuid4().hex}"
        container.write(probe, b"written by rebel-nerf doctor")
        container.delete(probe)
        return name

    def check_sign_in(self) -> None:
        """Raise an error for people if the credential gets no token."""

        def sign_in() -> None:
            with plain_errors("credential"):
                self.credential.sign_in().get_token(ARM_SCOPE)

        SIGN_IN.run(sign_in, lambda error: isinstance(error, WorkspaceUnavailable))

    def _check_cluster(self, field: str) -> None:
        name = getattr(self, field)
        if name == SERVERLESS:
            return
        with (
            naming(f"{field}: there is no cluster {name!r} in {self.workspace}. Make it with: {typed('azure setup')}"),
            plain_errors(field),
        ):
            found = self._connection.client.compute.get(name)
        state, self._shared.known.ports[name] = found.provisioning_state, port_open(found)
        if state == "Failed":
            raise InvalidInput(f"{field}: cluster {name} could not be created. The studio's Compute page says why.")

    def has_gpu(self) -> bool:
        if self.gpu_cluster == SERVERLESS:
            return has_cuda(self.gpu_size or "")
        with plain_errors(f"gpu_cluster {self.gpu_cluster}"):
            return has_cuda(self._connection.client.compute.get(self.gpu_cluster).size or "")

    @property
    def client(self) -> MLClient:
        """Return the SDK's client of this thread."""
        return self._connection.client

    @property
    def _connection(self) -> Connection:
        given = (self.subscription_id, self.resource_group, self.workspace, self.datastore, self.folder)
        if given not in self._shared.connections:
            self._shared.connections[given] = Connection(self.credential, *given)
        return self._shared.connections[given]

    @property
    def _downloaded(self) -> Path:
        return self.cache.expanduser().absolute() / hashlib.sha256(self.identity.encode()).hexdigest()[:16]

    @property
    def _assets(self) -> Assets:
        return Assets(self._connection, self.captures, self.folder, self._downloaded, self._shared.moved)

    @property
    def _leftovers(self) -> Leftovers:
        return Leftovers(self._connection, self._assets, self.folder, self._downloaded, self.find_job)

    @property
    def _jobs(self) -> Jobs:
        return Jobs(self, self._connection, self._assets, self._shared.known)

    @property
    def _expenses(self) -> Expenses:
        return Expenses(self._connection, self.folder, self._shared.expenses)

    # captures

    def take_in(self, scene: str, files: Mapping[str, Path], tags: Mapping[str, str]) -> Asset:
        return self._assets.take_in(scene, files, tags)

    def dropped(self, scene: str | None = None) -> list[DroppedCapture]:
        return self._assets.dropped(scene)

    def dropped_in(self) -> tuple[str, str, str]:
        """Return where people upload photos: storage account, container, and the folder of the scenes' folders."""
        return self._assets.dropped_in()

    def find_capture(self, dropped: DroppedCapture) -> Asset | None:
        return self._assets.find_capture(dropped)

    def take_in_dropped(self, dropped: DroppedCapture, tags: Mapping[str, str]) -> Asset:
        return self._assets.take_in_dropped(dropped, tags)

    # assets

    def scenes(self) -> list[str]:
        return self._assets.scenes(self.is_capture)

    def mark(self, asset: Asset, marks: Marks) -> Asset:
        return self._assets.mark(asset, marks)

    def assets(self, name: str) -> list[Asset]:
        return self._assets.versions(name)

    def archived(self, name: str) -> list[Asset]:
        return self._assets.archived(name)

    def find_asset(self, name: str, version: str) -> Asset | None:
        return self._assets.find(name, version)

    def fetch(self, asset: Asset) -> Path:
        return self._assets.fetch(asset)

    def size(self, asset: Asset) -> int:
        return self._assets.size(asset)

    def remove(self, asset: Asset) -> None:
        self._assets.remove(asset)

    def damage(self, asset: Asset, whole: bool) -> str:
        """Return what is wrong with an asset's files; see `Assets.damage`."""
        return self._assets.damage(asset, whole)

    def repair(self, asset: Asset) -> str:
        """Repair what `damage` has found; see `Assets.repair`."""
        return self._assets.repair(asset)

    def leftovers(self, older_than: float) -> list[Leftover]:
        return list(self._leftovers.find(older_than))

    def remove_leftover(self, leftover: Leftover) -> None:
        self._leftovers.remove(leftover)

    def read(self, asset: Asset, file: str) -> bytes:
        return self._assets.read(asset, file)

    # jobs

    def find_job(self, name: str) -> JobStatus | None:
        return self._jobs.find(name)

    def submit(self, spec: JobSpec) -> JobStatus:
        return self._jobs.submit(spec)

    def read_log(self, name: str, offset: int) -> tuple[str, int]:
        return self._jobs.read_log(name, offset)

    def follow(self, name: str, follower: str) -> None:
        self._jobs.follow(name, follower)

    def unfollow(self, name: str, follower: str) -> None:
        self._jobs.unfollow(name, follower)

    def followers(self, name: str | None = None) -> dict[str, dict[str, float]]:
        return self._jobs.followers(name)

    def expenses(self, month: str, job: str | None = None) -> list[Expense]:
        return self._expenses.read(month, job)

    def write_expense(self, expense: Expense) -> None:
        self._expenses.write(expense)

    def delete_expense(self, expense: Expense) -> None:
        self._expenses.delete(expense)

    def log_metrics(self, job: str, points: Sequence[Measured]) -> None:
        metrics = self._shared.metrics.setdefault(job, Metrics(self._connection, self.folder, job))
        metrics.log(points)

    def reach(self, name: str, port: int, local_port: int | None = None) -> PageAddress:
        local = local_port or port
        command = tuple(self.tunnel(name, port, local))
        return PageAddress(link=f"http://localhost:{local}", command=command, variables=_FOR_SSH)

    def tunnel(self, name: str, port: int, local_port: int) -> list[str]:
        """Return the ssh command that forwards a port of this machine to one of a running job; see `Jobs.tunnel`."""
        return self._jobs.tunnel(name, port, local_port)

    def cancel(self, name: str) -> None:
        self._jobs.cancel(name)

    def output_sizes(self, job: str, output: str) -> dict[str, int]:
        return self._jobs.output_sizes(job, output)

    def register(
        self, spec: JobSpec, output: str, name: str, version: str, kind: AssetKind, tags: Mapping[str, str]
    ) -> Asset:
        return self._jobs.register(spec, output, name, version, kind, tags)

    def poll_seconds(self, waited: float) -> float:
        return 15.0 if waited < 60 else 30.0
