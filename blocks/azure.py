"""An Azure ML workspace as a workspace: its datastore, its registries of assets, and its clusters."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import re
import shlex
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from prefect.blocks.core import Block
from pydantic import Field, PrivateAttr, SecretStr, StringConstraints, model_validator

from blocks.azure_errors import plain_errors
from blocks.azure_sizes import has_cuda
from blocks.azure_transfer import Blob, Container, Moved, md5s
from blocks.workspace import (
    Asset,
    AssetKind,
    DroppedCapture,
    DroppedFile,
    JobSpec,
    JobState,
    JobStatus,
    Workspace,
    content_fingerprint,
)
from jobs import code, media
from jobs.errors import InvalidInput, NotFound, WorkspaceUnavailable

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential

__all__ = ["AzureCredential", "AzureMLWorkspace"]

_LOGS = "workspaceartifactstore"  # the datastore where the service itself puts what jobs print
_SCOPE = "https://management.azure.com/.default"

# https://learn.microsoft.com/python/api/azure-ai-ml/azure.ai.ml.entities.job
_STATES = {
    "Running": JobState.RUNNING,
    "Finalizing": JobState.RUNNING,
    "CancelRequested": JobState.RUNNING,
    "Completed": JobState.COMPLETED,
    "Failed": JobState.FAILED,
    "Canceled": JobState.CANCELED,
    "NotResponding": JobState.INTERRUPTED,
    "Paused": JobState.INTERRUPTED,
}  # all others are on the way to Running
_NODE_LOST = re.compile(r"preempt|evict|node .*(lost|unusable|unhealthy)|NodeFailure|heartbeat", re.IGNORECASE)

_MOST_TAGS, _LONGEST_KEY, _LONGEST_VALUE = 50, 100, 1000
_LONG_QUEUED_SECONDS = 300.0  # after which the cluster is asked why
_KIND = "kind"  # the tag that tells an asset's kind

Guid = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
ClusterName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9-]{1,31}$")]
FolderName = Annotated[str, StringConstraints(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$")]


class _Shared:
    """What copies of a block share and no copy outside this process gets: connections, and what is known of jobs."""

    def __init__(self) -> None:
        self.credential: TokenCredential | None = None
        self.threads = threading.local()
        self.moved: Moved = lambda done, total: None
        self.containers: dict[str, tuple[str, Container]] = {}
        self.ports: dict[str, bool] = {}  # whether the ssh port of a cluster is open, which never changes
        self.asked: dict[str, float] = {}  # when the cluster of a queued job was asked about
        self.queued: dict[str, str] = {}  # and why the job waits

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self

    def __reduce__(self) -> tuple[type[_Shared], tuple[()]]:
        return _Shared, ()


class AzureCredential(Block):
    """How to sign in to Azure; several workspaces can share it.

    Secrets leave it only for Azure's sign-in; neither jobs nor logs ever see them.
    """

    _block_type_name = "rebel-nerf Azure credential"
    _block_type_slug = "rebel-nerf-azure-credential"
    _description = "Signs in to Azure: by managed identity, the Azure CLI, or a service principal."

    method: Literal["managed identity", "azure cli", "service principal"] = Field(
        "azure cli",
        description="managed identity: of the machine that runs flows; azure cli: who did `az login` there; "
        "service principal: tenant, client, and a secret or certificate",
    )
    tenant_id: str | None = Field(None, description="of the service principal: the directory's ID or domain")
    client_id: Guid | None = Field(
        None, description="of the service principal, or of a user-assigned managed identity: the application's ID"
    )
    client_secret: SecretStr | None = Field(None, description="of the service principal: the secret's value")
    certificate: SecretStr | None = Field(
        None, description="of the service principal, instead of a secret: certificate and private key as PEM text"
    )
    certificate_password: SecretStr | None = Field(None, description="of the certificate's private key, if it has one")

    _shared: _Shared = PrivateAttr(default_factory=lambda: _Shared())

    @model_validator(mode="after")
    def _complete(self) -> AzureCredential:
        if self.method == "service principal":
            missing = [name for name in ("tenant_id", "client_id") if not getattr(self, name)]
            if not (self.client_secret or self.certificate):
                missing.append("client_secret (or certificate)")
            if missing:
                raise ValueError(f"a service principal needs {', '.join(missing)}")
        return self

    def sign_in(self) -> TokenCredential:
        """The SDKs' credential. Nothing is asked of Azure yet. Copies of this block share it, and so its tokens."""
        if self._shared.credential is None:
            self._shared.credential = self._make()
        return self._shared.credential

    def _make(self) -> TokenCredential:
        from azure.identity import (
            AzureCliCredential,
            CertificateCredential,
            ClientSecretCredential,
            ManagedIdentityCredential,
        )

        _quiet("azure.identity")
        if self.method == "managed identity":
            return ManagedIdentityCredential(client_id=self.client_id)
        if self.method == "azure cli":
            return AzureCliCredential(tenant_id=self.tenant_id or "")
        assert self.tenant_id and self.client_id
        if self.client_secret:
            return ClientSecretCredential(self.tenant_id, self.client_id, self.client_secret.get_secret_value())
        assert self.certificate
        password = self.certificate_password
        try:
            return CertificateCredential(
                self.tenant_id,
                self.client_id,
                certificate_data=self.certificate.get_secret_value().encode(),
                password=password.get_secret_value() if password else None,
            )
        except ValueError as error:
            raise InvalidInput(
                f"certificate: it is not PEM text with a certificate and its private key ({error}), "
                "or certificate_password is wrong."
            ) from None


class AzureMLWorkspace(Workspace):
    """Captures, assets and jobs in an Azure ML workspace.

    In its default datastore, `captures/<scene>/` is where people upload photos by hand; `rebel-nerf/` holds what this
    program uploads and what jobs write. Captures, datasets and videos are data assets, models are custom models.
    """

    _block_type_name = "rebel-nerf Azure ML workspace"
    _block_type_slug = "rebel-nerf-azure-ml"
    _description = "An Azure ML workspace: captures in its datastore, jobs on its clusters, assets in its registries."

    credential: AzureCredential = Field(default_factory=AzureCredential, description="a block of its own")
    subscription_id: Guid = Field(description="the subscription's ID: az account show --query id")
    resource_group: str = Field(min_length=1, max_length=90, description="the group that the workspace is in")
    workspace: str = Field(min_length=3, max_length=33, description="the Azure ML workspace's name")
    cpu_cluster: ClusterName = Field("cpu-cluster", description="runs what needs no GPU; may be the GPU cluster")
    gpu_cluster: ClusterName = Field("gpu-cluster", description="trains and renders")
    environment: str = Field(
        "rebel-nerf", pattern=r"^[\w.-]+(:[\w.-]+)?$", description="of jobs: its name, or name:version; latest if none"
    )
    datastore: str | None = Field(None, description="a blob datastore; None: the workspace's default")
    captures: FolderName = Field(
        "captures", description="folder of the datastore with a folder per scene for photos uploaded by hand"
    )
    folder: FolderName = Field("rebel-nerf", description="folder of the datastore for all else")
    ssh_public_key: str | None = Field(
        None, pattern="^(ssh-|ecdsa-)", description="lets its owner into running jobs, for the viewer of a training job"
    )
    cache: Path = Field(Path("~/.cache/rebel-nerf"), description="local folder for what is downloaded")

    _shared: _Shared = PrivateAttr(default_factory=lambda: _Shared())

    @property
    def identity(self) -> str:
        return f"azureml-{self.subscription_id}-{self.resource_group}-{self.workspace}".lower()

    def on_transfer(self, moved: Moved) -> None:
        """Have a function called as bytes go up or down, with how many are done and of how many."""
        self._shared.moved = moved

    def check(self) -> None:
        self._check_sign_in()
        with plain_errors(f"workspace {self.workspace}"):
            self.client.workspaces.get(self.workspace)
        for field in ("cpu_cluster", "gpu_cluster"):
            self._check_cluster(field)
        with _named(f"environment: there is no environment {self.environment!r} in {self.workspace}. {_SET_UP}"):
            self._environment_id()
        self._store()

    def _check_sign_in(self) -> None:
        for wait in (1.0, 4.0, 0.0):  # the SDK tries everything again but this
            try:
                with plain_errors("credential"):
                    self.credential.sign_in().get_token(_SCOPE)
                return
            except WorkspaceUnavailable:
                if not wait:
                    raise
                time.sleep(wait)

    def _check_cluster(self, field: str) -> None:
        name = getattr(self, field)
        with _named(f"{field}: there is no cluster {name!r} in {self.workspace}. {_SET_UP}"), plain_errors(field):
            found = self.client.compute.get(name)
        state, self._shared.ports[name] = found.provisioning_state, _port_open(found)
        if state == "Failed":
            raise InvalidInput(f"{field}: cluster {name} could not be made; the studio's Compute page says why.")

    def has_gpu(self) -> bool:
        with plain_errors(f"gpu_cluster {self.gpu_cluster}"):
            return has_cuda(self.client.compute.get(self.gpu_cluster).size or "")

    # captures

    def take_in(self, scene: str, files: Mapping[str, Path], tags: Mapping[str, str]) -> Asset:
        sums = md5s(files)
        content = content_fingerprint(md5.hex() for md5 in sums.values())
        if known := self.capture_with(scene, content):
            return known
        path = self._taken(scene, content)
        name, container = self._store()
        container.upload(files, sums, path, self._shared.moved)
        return self._put_capture(scene, content, _uri(name, path), tags)

    def dropped(self, scene: str | None = None) -> list[DroppedCapture]:
        prefix, found = f"{self.captures}/", defaultdict[str, list[Blob]](list)
        for blob in self._store()[1].blobs(prefix + (f"{scene}/" if scene else ""), uncommitted=True):
            name, _, path = f"{scene or ''}/{blob.path}".removeprefix("/").partition("/")
            if media.is_media(path or name):
                found[name].append(replace(blob, path=path))
        return [_dropped(name, blobs) for name, blobs in found.items()]

    def find_capture(self, dropped: DroppedCapture) -> Asset | None:
        return self._find_capture(dropped, self.assets(dropped.scene))

    def _find_capture(self, dropped: DroppedCapture, versions: list[Asset]) -> Asset | None:
        left = self._left(dropped, versions)
        contents = {dropped.content, left.content}
        same = (asset for asset in versions if asset.tags.get("content") in contents)
        # What lies in folders that are registered where they are is known, too.
        return next(same, None if left.files or not versions else versions[-1])

    def take_in_dropped(self, dropped: DroppedCapture, tags: Mapping[str, str]) -> Asset:
        scene, versions = dropped.scene, self.assets(dropped.scene)
        if known := self._find_capture(dropped, versions):
            return known
        left = self._left(dropped, versions)
        name, container = self._store()
        blobs = [blob for blob in container.blobs(self._drop(scene)) if blob.path in left.files]
        if _dropped(scene, blobs).files != left.files:
            raise InvalidInput(f"scene {scene}: {self._drop(scene)} has changed since it was listed. Wait for its end.")
        path = self._taken(scene, left.content)
        container.copy(self._drop(scene), blobs, path)
        return self._put_capture(scene, left.content, _uri(name, path), tags)

    def _left(self, dropped: DroppedCapture, versions: list[Asset]) -> DroppedCapture:
        """What is in no folder that a person registered where it was uploaded."""
        prefix = self._drop(dropped.scene)
        taken = tuple(path for asset in versions if (path := self._path(asset.uri)).startswith(prefix))
        files = {path: file for path, file in dropped.files.items() if not (prefix + path).startswith(taken)}
        return replace(dropped, files=files)

    def _drop(self, scene: str) -> str:
        return f"{self.captures}/{scene}/"

    def _taken(self, scene: str, content: str) -> str:
        """Apart from where people upload: a folder that is registered must not grow."""
        return f"{self.folder}/captures/{scene}/{content[:16]}/"

    def _put_capture(self, scene: str, content: str, uri: str, tags: Mapping[str, str]) -> Asset:
        while True:
            versions = self.assets(scene)
            if known := next((asset for asset in versions if asset.tags.get("content") == content), None):
                return known
            number = 1 + max((int(asset.version) for asset in versions if asset.version.isdigit()), default=0)
            taken = {**tags, "scene": scene, "content": content}
            self._put_asset("data", scene, str(number), "capture", taken, uri)

    # assets

    def assets(self, name: str) -> list[Asset]:
        found = [asset for registry in _registries(name) for asset in self._versions(registry, name)]
        return sorted((self._completed(asset) for asset in found), key=lambda asset: asset.created)

    def find_asset(self, name: str, version: str) -> Asset | None:
        from azure.core.exceptions import ResourceNotFoundError

        for registry in _registries(name):
            with plain_errors(f"asset {name}:{version}"):
                try:
                    return self._completed(_asset(getattr(self.client, registry).get(name, version)))
                except ResourceNotFoundError:
                    continue
        return None

    def fetch(self, asset: Asset) -> Path:
        final = self._cache() / "assets" / asset.name / asset.version
        if final.is_dir():
            return final
        container = self._container(asset.uri)
        part = final.with_name(f".{asset.version}.part")
        part.mkdir(parents=True, exist_ok=True)
        with (final.parent / f".{asset.version}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.is_dir():
                try:
                    container.download(self._path(asset.uri), part, self._shared.moved)
                except NotFound as error:
                    raise NotFound(f"asset {asset}: {error} Run the stage that makes it again.") from None
                part.rename(final)
        return final

    def read(self, asset: Asset, file: str) -> bytes:
        try:
            return self._container(asset.uri).read(self._path(asset.uri) + file)
        except NotFound:
            raise NotFound(f"asset {asset} has no file {file}.") from None

    def _versions(self, registry: str, name: str) -> list[Asset]:
        from azure.core.exceptions import ResourceNotFoundError

        with plain_errors(f"versions of {name}"):
            try:
                return [_asset(entity) for entity in getattr(self.client, registry).list(name)]
            except ResourceNotFoundError:
                return []

    def _completed(self, asset: Asset) -> Asset:
        """A capture that a person registered by hand gets the tags that others have from the start."""
        if asset.kind != "capture" or "content" in asset.tags:
            return asset
        blobs = self._container(asset.uri).blobs(self._path(asset.uri))
        content = content_fingerprint(_checksum(blob) for blob in blobs if media.is_media(blob.path))
        tags = {**asset.tags, "scene": asset.name, "content": content}
        return asset.model_copy(update={"tags": tags})

    def _put_asset(
        self, registry: str, name: str, version: str, kind: AssetKind, tags: Mapping[str, str], uri: str
    ) -> Asset:
        """Register; if that version exists, it is left alone and returned."""
        from azure.ai.ml.entities import Data, Model
        from azure.core.exceptions import HttpResponseError

        made: dict[str, Any] = {"name": name, "version": version, "path": uri, "tags": _fitted({**tags, _KIND: kind})}
        entity = Model(**made, type="custom_model") if registry == "models" else Data(**made, type="uri_folder")
        with plain_errors(f"registering {name}:{version}"):
            try:
                return _asset(getattr(self.client, registry).create_or_update(entity))
            except HttpResponseError as error:
                if not _exists(error):
                    raise
        asset = self.find_asset(name, version)
        assert asset is not None
        return asset

    # jobs

    def find_job(self, name: str) -> JobStatus | None:
        from azure.core.exceptions import ResourceNotFoundError

        with plain_errors(f"job {name}"):
            try:
                job = self.client.jobs.get(name)
            except ResourceNotFoundError:
                return None
        return self._status(job)

    def submit(self, spec: JobSpec) -> JobStatus:
        from azure.core.exceptions import HttpResponseError, ResourceExistsError

        if status := self.find_job(spec.name):
            return status
        for asset in spec.inputs.values():
            container = self._container(asset.uri)
            if self.find_asset(asset.name, asset.version) is None or not container.blobs(self._path(asset.uri), most=1):
                raise NotFound(f"asset {asset} is not in {self.workspace} any more. Run the stage that makes it again.")
        self._end_silent(spec)
        with tempfile.TemporaryDirectory() as folder, plain_errors(f"submitting job {spec.name}"):
            programs = Path(folder) / "code"
            _copy_code(spec, programs)
            try:
                job = self.client.jobs.create_or_update(self._command(spec, programs))
            except ResourceExistsError:
                if status := self.find_job(spec.name):
                    return status
                # The SDK names code by its content and goes on with no upload that was cut: give it other content.
                (programs / ".again").write_text(str(time.time_ns()))
                job = self.client.jobs.create_or_update(self._command(spec, programs))
            except HttpResponseError as error:
                if not _exists(error):
                    raise
                job = self.client.jobs.get(spec.name)
        return self._status(job)

    def read_log(self, name: str, offset: int) -> tuple[str, int]:
        log = f"ExperimentRun/dcid.{name}/user_logs/std_log.txt"
        _, container = self._open(_LOGS)
        try:
            content = container.read(log, offset)
            if not content and offset and container.blobs(log)[0].size < offset:  # the job began anew elsewhere
                offset, content = 0, container.read(log)
        except (NotFound, IndexError):
            return "", offset
        whole = content[: content.rfind(b"\n") + 1]
        return whole.decode(errors="replace"), offset + len(whole)

    def cancel(self, name: str) -> None:
        from azure.core.exceptions import HttpResponseError

        status = self.find_job(name)
        if status is None or status.state.ended:
            return
        with plain_errors(f"cancelling job {name}"):
            try:
                self.client.jobs.begin_cancel(name).wait()
            except HttpResponseError:
                status = self.find_job(name)
                if status is None or status.state.ended:  # it ended by itself meanwhile
                    return
                raise
        while (status := self.find_job(name)) and not status.state.ended:
            time.sleep(3)

    def register(
        self, spec: JobSpec, output: str, name: str, version: str, kind: AssetKind, tags: Mapping[str, str]
    ) -> Asset:
        if asset := self.find_asset(name, version):
            return asset
        datastore, container = self._store()
        path = self._output(spec, output)
        if not container.blobs(path, most=1):
            raise NotFound(f"job {spec.name} has no output {output!r} any more in {datastore}/{path}.")
        if kind == "model":  # by its job, to which the studio then links
            registry, uri = "models", f"azureml://jobs/{spec.name}/outputs/{output}"
        else:
            registry, uri = "data", _uri(datastore, path)
        asset = self._put_asset(registry, name, version, kind, tags, uri)
        container.delete(self._scratch(spec, ""))
        return asset

    def poll_seconds(self, waited: float) -> float:
        return 15.0 if waited < 60 else 30.0

    def follow(self, name: str, follower: str) -> None:
        self._store()[1].write(f"{self.folder}/followers/{name}/{follower}", b"")

    def unfollow(self, name: str, follower: str) -> None:
        self._store()[1].delete(f"{self.folder}/followers/{name}/{follower}")

    def followers(self, name: str | None = None) -> dict[str, dict[str, float]]:
        prefix = f"{self.folder}/followers/"
        found: dict[str, dict[str, float]] = {}
        for blob in self._store()[1].blobs(f"{prefix}{name}/" if name else prefix):
            job, _, follower = f"{name or ''}/{blob.path}".removeprefix("/").partition("/")
            found.setdefault(job, {})[follower] = blob.age
        return found

    def reach(self, name: str, port: int) -> str:
        return f"{shlex.join(self.tunnel(name, port))}\nhttp://localhost:{port}"

    def tunnel(self, name: str, port: int = 7007) -> list[str]:
        """The ssh command that brings a running job's port (the viewer's) to the same port of this machine.

        By the cluster's own ssh port where it is public, else by the job's ssh service, through Azure's proxy.

        Raises:
            NotFound: there is no such job.
            InvalidInput: it does not run, or neither way is open; says how to open one.
        """
        status = self.find_job(name)
        if status is None:
            raise NotFound(f"job {name} is not in {self.workspace}.")
        if status.state is not JobState.RUNNING:
            raise InvalidInput(f"job {name} is {status.state.value.lower()}: it can be looked into while it runs.")
        forward = ["ssh", "-N", "-L", f"{port}:localhost:{port}"]
        with plain_errors(f"job {name}"):
            cluster = (self.client.jobs.get(name).compute or "").rpartition("/")[2]
            for node in map(vars, self.client.compute.list_nodes(cluster)):
                # The SDK (1.35.2) leaves the attributes that it documents empty, and keeps the service's own names.
                job, address = (node.get(key) or node.get(other) for key, other in _NODE_NAMES)
                if job == name and address and node.get("port"):
                    settings = getattr(self.client.compute.get(cluster), "ssh_settings", None)
                    user = getattr(settings, "admin_username", None) or "azureuser"
                    return [*forward, f"{user}@{address}", "-p", str(node["port"])]
            services = self.client.jobs.show_services(name) or {}
        endpoints = [(service.properties or {}).get("ProxyEndpoint") for service in services.values()]
        proxy = next(filter(None, endpoints), None)
        if proxy is None:
            raise InvalidInput(
                f"job {name}: its cluster {cluster} has no public ssh port and the job no ssh service. "
                "Set ssh_public_key in the workspace's block, and the next job has one."
            )
        through = shlex.join([sys.executable, "-m", "deployments.azure.ssh_proxy", proxy])
        return [*forward, "-o", f"ProxyCommand={through}", f"azureuser@{proxy.rpartition('/')[2]}"]

    def _command(self, spec: JobSpec, programs: Path) -> Any:
        """The job as the SDK takes it."""
        from azure.ai.ml import Input, Output, command
        from azure.ai.ml.entities import SshJobService

        def place(group: str, name: str) -> str:
            if group == "files":
                return f"files/{name}"
            return f"${{{{{'inputs' if group == 'inputs' else 'outputs'}.{name}}}}}"

        datastore, _ = self._store()
        cluster = self.gpu_cluster if spec.tier == "gpu" else self.cpu_cluster
        arguments = " ".join(_quoted(argument) for argument in spec.resolve(place))
        environment = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": ".", "DO_NOT_TRACK": "1"}
        job = command(
            name=spec.name,
            display_name=spec.name,
            experiment_name=spec.scene,
            tags=_fitted({**spec.tags, "attempt": str(spec.attempt)}),
            code=str(programs),
            command=f"python -m jobs.{spec.stage} {arguments}",
            environment=self._environment_id(),
            environment_variables=environment,
            compute=cluster,
            inputs={
                name: Input(
                    type="custom_model" if asset.kind == "model" else "uri_folder",
                    path=f"azureml:{asset.name}:{asset.version}",
                    mode="download",
                )
                for name, asset in spec.inputs.items()
            },
            outputs={
                # Written on the node's own disk and uploaded whole: a video's header is written last.
                **{
                    name: Output(type="uri_folder", path=_uri(datastore, self._output(spec, name)), mode="upload")
                    for name in spec.outputs
                },
                **{
                    name: Output(type="uri_folder", path=_uri(datastore, self._scratch(spec, name)), mode="rw_mount")
                    for name in spec.scratch
                },
            },
            services={"ssh": SshJobService(ssh_public_keys=self.ssh_public_key)} if self._closed(cluster) else None,
            shm_size="8g",
        )
        job.set_limits(timeout=spec.time_limit)
        return job

    def _closed(self, cluster: str) -> bool:
        """Whether somebody has a key, and a job's own ssh service is the only way in: the cluster's port is closed."""
        if not self.ssh_public_key:
            return False
        if cluster not in self._shared.ports:  # as `check` has not looked
            self._shared.ports[cluster] = _port_open(self.client.compute.get(cluster))
        return not self._shared.ports[cluster]

    def _output(self, spec: JobSpec, name: str) -> str:
        return f"{self.folder}/jobs/{spec.name}/{name}/"

    def _scratch(self, spec: JobSpec, name: str) -> str:
        return f"{self.folder}/scratch/{spec.family}/{name}{'/' if name else ''}"

    def _environment_id(self) -> str:
        """The environment, by ARM id and not by name: the SDK would ask for the latest at each use."""
        name, _, version = self.environment.partition(":")
        with plain_errors(f"environment {self.environment}"):
            environments = self.client.environments
            found = environments.get(name, version) if version else environments.get(name, label="latest")
        return str(found.id)

    def _end_silent(self, spec: JobSpec) -> None:
        """See that no earlier attempt, off the air but perhaps alive, writes to the same scratch folder."""
        from azure.core.exceptions import AzureError

        if spec.attempt == 1 or not spec.scratch:
            return
        before = f"{spec.family}-{spec.attempt - 1}"
        with plain_errors(f"job {before}"):
            try:
                if self.client.jobs.get(before).status == "NotResponding":
                    self.client.jobs.begin_cancel(before)
            except AzureError:
                return

    def _status(self, job: Any) -> JobStatus:
        state = _STATES.get(job.status, JobState.QUEUED)
        studio = (job.services or {}).get("Studio")
        reason, seconds = "", 0.0
        if state.ended:
            state, reason, seconds = self._end(job, state)
        elif state is JobState.QUEUED:
            reason = self._why_queued(job)
        url = studio.endpoint if studio else ""
        return JobStatus(name=job.name, state=state, reason=reason, url=url, seconds=seconds)

    def _end(self, job: Any, state: JobState) -> tuple[JobState, str, float]:
        """What run history says about a job's end, and how long it ran: the job's own body has no word about it."""
        if job.status == "NotResponding":
            return state, "its node does not respond any more", 0.0
        with plain_errors(f"job {job.name}"):
            details = self.client.jobs._runs_operations.get_run_details(job.name)
        error = details.error.error if details.error else None
        words = f"{error.code}: {error.message}" if error else ""
        limit, began, ended = getattr(job.limits, "timeout", None), details.start_time_utc, details.end_time_utc
        seconds = (ended - began).total_seconds() if began and ended else 0.0
        if state is JobState.COMPLETED:
            return state, "", seconds
        if limit and seconds >= limit:
            return JobState.FAILED, f"over its time limit of {limit} s", seconds
        if state is JobState.CANCELED:
            return state, "cancelled", seconds
        if error and error.code != "UserError" and _NODE_LOST.search(words):  # a UserError quotes the job's log
            return JobState.INTERRUPTED, words, seconds
        return state, words or "it failed without a word; see its log", seconds

    def _why_queued(self, job: Any) -> str:
        """Why a job waits for long: what its cluster says, asked every five minutes."""
        now = time.monotonic()
        if now - self._shared.asked.setdefault(job.name, now) > _LONG_QUEUED_SECONDS:
            self._shared.asked[job.name] = now
            cluster = job.compute.rpartition("/")[2]
            with plain_errors(f"cluster {cluster}"):  # the SDK's own Compute leaves its errors out
                found: Any = self.client.compute._operation.get(self.resource_group, self.workspace, cluster)
            errors = found.properties.properties.errors
            said = "; ".join(str(entry.error.message or entry.error.code) for entry in errors or [])
            self._shared.queued[job.name] = f"cluster {cluster} gets no node: {said}" if said else ""
        return self._shared.queued.get(job.name, "")

    # the service

    @property
    def client(self) -> MLClient:
        """The SDK's client, one a thread: whether threads may share one is not said."""
        client: MLClient | None = getattr(self._shared.threads, "client", None)
        if client is None:
            from azure.ai.ml import MLClient

            _quiet("azure.ai.ml")
            client = self._shared.threads.client = MLClient(
                self.credential.sign_in(),
                self.subscription_id,
                self.resource_group,
                self.workspace,
                enable_telemetry=False,
                retry_total=4,  # 12 s in all: longer faults are the tasks' to wait out
            )
        return client

    def _store(self) -> tuple[str, Container]:
        """The datastore's name and container."""
        return self._open(self.datastore or "")

    def _container(self, uri: str) -> Container:
        return self._open(self._datastore(uri))[1]

    def _datastore(self, uri: str) -> str:
        return self._place(uri)[0]

    def _path(self, uri: str) -> str:
        """The blobs' prefix, which ends with a slash."""
        return self._place(uri)[1].rstrip("/") + "/"

    def _place(self, uri: str) -> tuple[str, str]:
        """The datastore and path of an asset's URI; a model that was registered from a job may be told by that job."""
        if found := re.fullmatch(r"azureml://(?:.*/)?jobs/([^/]+)/outputs/([^/]+)(?:/paths)?/?", uri):
            return self._store()[0], f"{self.folder}/jobs/{found[1]}/{found[2]}"
        if found := re.fullmatch(r"azureml://(?:.*/)?datastores/([^/]+)/paths/(.+)", uri):
            return found[1], found[2]
        raise InvalidInput(f"{uri} is in no datastore of the workspace. Register a folder of a blob datastore.")

    def _open(self, name: str) -> tuple[str, Container]:
        """A datastore by name, "" for the default."""
        if name in self._shared.containers:
            return self._shared.containers[name]
        datastores = self.client.datastores
        with (
            _named(f"datastore: there is no datastore {name!r} in {self.workspace}."),
            plain_errors(f"datastore {name or '(default)'}"),
        ):
            found: Any = datastores.get(name) if name else datastores.get_default()
            if getattr(found, "container_name", None) is None:
                raise InvalidInput(f"datastore: {found.name} is no blob datastore. Choose one of type Azure Blob.")
            by_identity = type(found.credentials).__name__ == "NoneCredentialConfiguration"

        def signature() -> str:
            with plain_errors(f"datastore {found.name}"):
                fresh: Any = self.client.datastores.get(found.name, include_secrets=True)
            return str(getattr(fresh.credentials, "sas_token", None) or fresh.credentials.account_key)

        url = f"{found.protocol}://{found.account_name}.blob.{found.endpoint}"
        container = Container(url, found.container_name, self.credential.sign_in() if by_identity else signature)
        self._shared.containers[name] = self._shared.containers[found.name] = (found.name, container)
        return found.name, container

    def _cache(self) -> Path:
        return self.cache.expanduser().absolute() / hashlib.sha256(self.identity.encode()).hexdigest()[:16]


_NODE_NAMES = (("run_id", "runId"), ("public_ip_address", "publicIpAddress"))
_SET_UP = "Make it with: python -m deployments.azure.setup"


@contextmanager
def _named(message: str) -> Iterator[None]:
    """What is not found inside is a field that names nothing."""
    try:
        yield
    except NotFound:
        raise InvalidInput(message) from None


def _quiet(logger: str) -> None:
    """Keep an SDK's log from people: it calls answers errors that were expected, and repeats what it raises."""
    quiet = logging.getLogger(logger)
    quiet.handlers, quiet.propagate = [logging.NullHandler()], False


def _port_open(cluster: Any) -> bool:
    return bool(getattr(cluster, "ssh_public_access_enabled", False))


def _registries(name: str) -> tuple[str, ...]:
    return ("models", "data") if name.endswith("-nerf") else ("data",)


def _asset(entity: Any) -> Asset:
    """An asset from the SDK's data or model; without a kind, it is a capture that a person registered."""
    tags = dict(entity.tags or {})
    kind = tags.pop(_KIND, "model" if type(entity).__name__ == "Model" else "capture")
    created = entity.creation_context.created_at if entity.creation_context else None
    if isinstance(created, str):
        created = datetime.fromisoformat(created.replace("Z", "+00:00"))
    return Asset(
        name=entity.name,
        version=entity.version,
        kind=kind,
        tags=tags,
        uri=entity.path,
        created=created or datetime.fromtimestamp(0, timezone.utc),
    )


def _uri(datastore: str, path: str) -> str:
    return f"azureml://datastores/{datastore}/paths/{path}"


def _checksum(blob: Blob) -> str:
    return blob.md5.hex() if blob.md5 else f"{blob.size} {blob.etag}"


def _dropped(scene: str, blobs: list[Blob]) -> DroppedCapture:
    return DroppedCapture(
        scene=scene,
        files={blob.path: DroppedFile(blob.size, _checksum(blob)) for blob in blobs if blob.committed},
        age=min((blob.age for blob in blobs), default=0.0),
        uploading=tuple(blob.path for blob in blobs if not blob.committed),
    )


def _fitted(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as many and as long as Azure takes them."""
    return {key[:_LONGEST_KEY]: value[:_LONGEST_VALUE] for key, value in list(tags.items())[-_MOST_TAGS:]}


def _exists(error: Any) -> bool:
    """Whether the service says that a job or version of that name is there, and cannot be changed."""
    return bool(re.search(r"already exist|immutable|cannot be (changed|updated)", str(error), re.IGNORECASE))


def _quoted(argument: str) -> str:
    """For the shell; what Azure replaces (`${{inputs.x}}`) stays as it is, the rest of the argument is quoted."""
    parts = re.split(r"(\$\{\{\w+\.\w+\}\})", argument)
    return "".join(part if index % 2 else shlex.quote(part) if part else "" for index, part in enumerate(parts)) or "''"


def _copy_code(spec: JobSpec, folder: Path) -> None:
    """What a job needs to run: its programs, and its small files."""
    code.copy_to(folder)
    (folder / ".amlignore").write_text("__pycache__\n")  # what others ignore is shipped
    for name, text in spec.files.items():
        file = folder / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
