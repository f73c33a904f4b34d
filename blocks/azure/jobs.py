"""Submit, follow and register jobs: commands on a workspace's clusters."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks.azure.assets import Assets
from blocks.azure.connection import Connection, datastore_uri
from blocks.azure.errors import plain_errors
from blocks.azure.listing import Blob
from blocks.azure.status import Known, Statuses
from blocks.azure.tags import cut_to_limits, is_name_taken
from blocks.records import Asset, AssetKind, JobSpec, JobState, JobStatus
from blocks.saved import saved_name
from jobs import code
from jobs.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from blocks.azure.workspace import AzureMLWorkspace

__all__ = ["SERVERLESS", "Jobs", "port_open"]

SERVERLESS = "serverless"
"""Given instead of a cluster's name: Azure chooses a machine of the size that the job names.

https://learn.microsoft.com/azure/machine-learning/how-to-use-serverless-compute
"""

_LOGS = "workspaceartifactstore"  # the datastore to which the service itself writes what jobs print

_LONGEST_DESCRIPTION = 5000  # https://learn.microsoft.com/azure/machine-learning/resource-limits-capacity

_NODE_NAMES = (("run_id", "runId"), ("public_ip_address", "publicIpAddress"))


class Jobs:
    """Jobs of a workspace.

    Args:
        workspace: the workspace's block: clusters, environment, key.
        connection: the connection to the workspace.
        assets: what is registered in it.
        known: what earlier calls found out.
    """

    def __init__(self, workspace: AzureMLWorkspace, connection: Connection, assets: Assets, known: Known) -> None:
        self._workspace, self._connection, self._assets, self._known = workspace, connection, assets, known
        self._statuses = Statuses(connection, known)

    def find(self, name: str) -> JobStatus | None:
        from azure.core.exceptions import ResourceNotFoundError

        with plain_errors(f"job {name}"):
            try:
                job = self._connection.client.jobs.get(name)
            except ResourceNotFoundError:
                return None
        return self._statuses.read(job)

    def submit(self, spec: JobSpec) -> JobStatus:
        from azure.core.exceptions import HttpResponseError, ResourceExistsError

        if status := self.find(spec.name):
            return status
        for asset in spec.inputs.values():
            container = self._connection.container(asset.uri)
            if not self._assets.is_there(asset) or not container.blobs(self._connection.path(asset.uri), most=1):
                raise NotFound(
                    f"asset {asset.title} is archived or no longer in {self._workspace.workspace}. "
                    "Restore it in the studio, or run the stage that makes it again."
                )
        self._end_silent(spec)
        with tempfile.TemporaryDirectory() as folder, plain_errors(f"submitting job {spec.name}"):
            programs = Path(folder) / "code"
            _copy_code(spec, programs)
            try:
                job = self._connection.client.jobs.create_or_update(self._command(spec, programs))
            except ResourceExistsError:
                if status := self.find(spec.name):
                    return status
                # The SDK names code by its content, and does not resume an upload that was cut: change the content.
                (programs / ".again").write_text(str(time.time_ns()))
                job = self._connection.client.jobs.create_or_update(self._command(spec, programs))
            except HttpResponseError as error:
                if not is_name_taken(error):
                    raise
                job = self._connection.client.jobs.get(spec.name)
        return self._statuses.read(job)

    def read_log(self, name: str, offset: int) -> tuple[str, int]:
        log = f"ExperimentRun/dcid.{name}/user_logs/std_log.txt"
        container = self._connection.open(_LOGS).container
        try:
            content = container.read(log, offset)
            if not content and offset and container.blobs(log)[0].size < offset:  # restarted on another node
                offset, content = 0, container.read(log)
        except (NotFound, IndexError):
            return "", offset
        whole = content[: content.rfind(b"\n") + 1]
        return whole.decode(errors="replace"), offset + len(whole)

    def cancel(self, name: str) -> None:
        from azure.core.exceptions import HttpResponseError

        status = self.find(name)
        if status is None or status.state.ended:
            return
        with plain_errors(f"cancelling job {name}"):
            try:
                self._connection.client.jobs.begin_cancel(name).wait()
            except HttpResponseError:
                status = self.find(name)
                if status is None or status.state.ended:  # it has just ended by itself
                    return
                raise
        while (status := self.find(name)) and not status.state.ended:
            time.sleep(3)

    def output_sizes(self, job: str, output: str) -> dict[str, int]:
        return {blob.path: blob.size for blob in self._output_blobs(job, output)}

    def register(
        self, spec: JobSpec, output: str, name: str, version: str, kind: AssetKind, tags: Mapping[str, str]
    ) -> Asset:
        if asset := self._assets.find(name, version):
            return asset
        datastore, container = self._connection.store()
        self._output_blobs(spec.name, output, most=1)
        path = datastore_uri(datastore, self._output(spec.name, output))
        # Register a model by its job, so that the studio links to the job.
        of_job = f"azureml://jobs/{spec.name}/outputs/{output}"
        asset = self._assets.register(name, version, kind, tags, of_job if kind == "model" else path)
        container.delete(self._scratch(spec, ""))
        return asset

    def follow(self, name: str, follower: str) -> None:
        self._connection.store().container.write(f"{self._workspace.folder}/followers/{name}/{follower}", b"")

    def unfollow(self, name: str, follower: str) -> None:
        self._connection.store().container.delete(f"{self._workspace.folder}/followers/{name}/{follower}")

    def followers(self, name: str | None = None) -> dict[str, dict[str, float]]:
        prefix = f"{self._workspace.folder}/followers/"
        found: dict[str, dict[str, float]] = {}
        for blob in self._connection.store().container.blobs(f"{prefix}{name}/" if name else prefix):
            job, _, follower = f"{name or ''}/{blob.path}".removeprefix("/").partition("/")
            found.setdefault(job, {})[follower] = blob.age
        return found

    def tunnel(self, name: str, port: int, local_port: int) -> list[str]:
        """Return the ssh command that forwards a port of this machine to one of a running job (the viewer's).

        It goes to the cluster's ssh port if that is public, else through the job's ssh service.

        Raises:
            NotFound: there is no such job.
            InvalidInput: the job does not run, or neither is open. The text says what to do.
        """
        status = self.find(name)
        if status is None:
            raise NotFound(f"job {name} is not in {self._workspace.workspace}.")
        if status.state is not JobState.RUNNING:
            raise InvalidInput(f"job {name} is {status.state.value.lower()}: a page can be opened only while it runs.")
        forward = ["ssh", "-N", "-L", f"{local_port}:localhost:{port}"]
        with plain_errors(f"job {name}"):
            cluster = (self._connection.client.jobs.get(name).compute or SERVERLESS).rpartition("/")[2]
            nodes = [] if cluster == SERVERLESS else self._connection.client.compute.list_nodes(cluster)
            for node in map(vars, nodes):
                # The SDK (1.35.2) leaves its documented attributes empty, and keeps those with the service's own names.
                job, address = (node.get(key) or node.get(other) for key, other in _NODE_NAMES)
                if job == name and address and node.get("port"):
                    settings = getattr(self._connection.client.compute.get(cluster), "ssh_settings", None)
                    user = getattr(settings, "admin_username", None) or "azureuser"
                    return [*forward, f"{user}@{address}", "-p", str(node["port"])]
            services = self._connection.client.jobs.show_services(name) or {}
        service = next((each for each in services.values() if (each.type or "").upper() == "SSH"), None)
        if service is None:
            raise InvalidInput(
                f"job {name}: its cluster {cluster} has no public ssh port, and the job has no ssh service. "
                "Set ssh_public_key in the workspace's block, so that the next job has one."
            )
        proxy = (service.properties or {}).get("ProxyEndpoint")
        if service.status != "Running" or not proxy:
            state = ", ".join(filter(None, (service.status or "of unknown status", service.error)))
            raise InvalidInput(
                f"job {name}: its ssh service is {state}, not Running. It takes up to two minutes after the job's "
                "start. Try again then."
            )
        block = saved_name(self._workspace)
        through = [sys.executable, "-m", "deployments.azure.ssh_proxy", proxy, *([block] if block else [])]
        # Each job has a new host and a new key, so there is none to compare with. TLS authenticates the host.
        unknown = ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={os.devnull}"]
        # ssh replaces %h and similar sequences in the command.
        return [
            *forward,
            *unknown,
            "-o",
            f"ProxyCommand={shlex.join(through).replace('%', '%%')}",
            "azureuser@azureml-job",
        ]

    def _command(self, spec: JobSpec, programs: Path) -> Any:
        """Return the job for the SDK."""
        from azure.ai.ml import Input, Output, command
        from azure.ai.ml.entities import SshJobService

        def kept(path: str, mode: str) -> Output:
            return Output(type="uri_folder", path=datastore_uri(datastore, path), mode=mode)

        def place(group: str, name: str) -> str:
            if group == "files":
                return f"files/{name}"
            return f"${{{{{'inputs' if group == 'inputs' else 'outputs'}.{name}}}}}"

        datastore = self._connection.store().name
        cluster = getattr(self._workspace, f"{spec.tier}_cluster")
        serverless = cluster == SERVERLESS
        key = self._workspace.ssh_public_key
        arguments = " ".join(_quoted(argument) for argument in spec.resolve(place))
        environment = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": ".", "DO_NOT_TRACK": "1"}
        job = command(
            name=spec.name,
            display_name=spec.name,
            experiment_name=spec.scene,
            description=spec.description[:_LONGEST_DESCRIPTION] or None,
            tags=cut_to_limits({**spec.tags, "attempt": str(spec.attempt)}),
            code=str(programs),
            command=f"python -m jobs.{spec.stage} {arguments}",
            environment=self.environment_id(),
            environment_variables=environment,
            compute=None if serverless else cluster,
            instance_type=getattr(self._workspace, f"{spec.tier}_size") if serverless else None,
            job_tier=self._workspace.serverless_tier if serverless else None,
            identity=_identity(self._workspace.job_identity),
            inputs={
                name: Input(
                    type="custom_model" if asset.kind == "model" else "uri_folder",
                    path=f"azureml:{asset.name}:{asset.number or asset.version}",
                    mode="download",
                )
                for name, asset in spec.inputs.items()
            },
            outputs={
                # Outputs are written to the node's disk and uploaded at the end: the header of a video is written last.
                **{name: kept(self._output(spec.name, name), "upload") for name in spec.outputs},
                **{name: kept(self._scratch(spec, name), "rw_mount") for name in spec.scratch},
            },
            services={"ssh": SshJobService(ssh_public_keys=key)} if key and not self._port_is_open(cluster) else None,
            shm_size="8g",
        )
        job.set_limits(timeout=spec.time_limit)
        return job

    def _port_is_open(self, cluster: str) -> bool:
        """Return whether the cluster's own ssh port is open. If not, only a job's ssh service leads to the job."""
        if cluster == SERVERLESS:
            return False
        if cluster not in self._known.ports:  # `check` has not run
            self._known.ports[cluster] = port_open(self._connection.client.compute.get(cluster))
        return self._known.ports[cluster]

    def _output_blobs(self, job: str, output: str, most: int | None = None) -> list[Blob]:
        """List the files of a job's output, or the first `most`; raise NotFound if there is none."""
        datastore, container = self._connection.store()
        path = self._output(job, output)
        if not (found := container.blobs(path, most=most)):
            raise NotFound(f"job {job} no longer has the output {output!r} in {datastore}/{path}.")
        return found

    def _output(self, job: str, name: str) -> str:
        return f"{self._workspace.folder}/jobs/{job}/{name}/"

    def _scratch(self, spec: JobSpec, name: str) -> str:
        return f"{self._workspace.folder}/scratch/{spec.family}/{name}{'/' if name else ''}"

    def environment_id(self) -> str:
        """Return the environment's ARM id. With a name, the SDK would look up the latest version at each use."""
        name, _, version = self._workspace.environment.partition(":")
        with plain_errors(f"environment {self._workspace.environment}"):
            environments = self._connection.client.environments
            found = environments.get(name, version) if version else environments.get(name, label="latest")
        return str(found.id)

    def _end_silent(self, spec: JobSpec) -> None:
        """Cancel the previous attempt if it does not respond: it may still write to the same scratch folder."""
        from azure.core.exceptions import AzureError

        if spec.attempt == 1 or not spec.scratch:
            return
        before = f"{spec.family}-{spec.attempt - 1}"
        with plain_errors(f"job {before}"):
            try:
                if self._connection.client.jobs.get(before).status == "NotResponding":
                    self._connection.client.jobs.begin_cancel(before)
            except AzureError:
                return


def _identity(given: str | None) -> Any:
    """Return the managed identity that a job runs as; None for the cluster's own identity, or the service's token."""
    from azure.ai.ml.entities import ManagedIdentityConfiguration

    if given is None:
        return None
    by = "resource_id" if given.startswith("/") else "client_id"
    return ManagedIdentityConfiguration(**{by: given})


def port_open(cluster: Any) -> bool:
    return bool(getattr(cluster, "ssh_public_access_enabled", False))


def _quoted(argument: str) -> str:
    """Quote an argument for the shell, except for what Azure replaces (`${{inputs.x}}`)."""
    parts = re.split(r"(\$\{\{\w+\.\w+\}\})", argument)
    return "".join(part if index % 2 else shlex.quote(part) if part else "" for index, part in enumerate(parts)) or "''"


def _copy_code(spec: JobSpec, folder: Path) -> None:
    """Copy what a job needs to run: its programs and its small files."""
    code.copy_to(folder, spec.stage)
    (folder / ".amlignore").write_text("__pycache__\n")  # the SDK would leave out what .gitignore names
    for name, text in spec.files.items():
        file = folder / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
