"""The whole emulator: sign-in, ARM, run history, a job runner, and blob storage, behind a proxy."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.azureml import assets, computes, history, jobs, mlflow  # noqa: F401 – their routes
from tests.azureml.arm import Arm
from tests.azureml.azurite import Azurite
from tests.azureml.faults import Faults
from tests.azureml.proxy import Proxy
from tests.azureml.runner import ENDED, Cluster, Job, Runner
from tests.azureml.service import Answer, Exchange, Request, Service
from tests.azureml.signin import SignIn
from tests.azureml.state import Workspace
from tests.azureml.storage import Storage
from tests.azureml.tls import write_certificates

# https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes. The words of a keyless account:
# https://github.com/Azure/AI-Landing-Zones/issues/64.
_STORAGE_FAULTS = {
    "storage_busy": (503, "ServerBusy", "The server is busy."),
    "keyless": (
        403, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account."
    ),
    "firewall": (403, "AuthorizationFailure", "This request is not authorized to perform this operation."),
}  # fmt: skip
_CLUSTERS = {"cpu-cluster": ("Standard_DS3_v2", 2), "gpu-cluster": ("Standard_NC4as_T4_v3", 1)}


class AzureStack:
    """A subscription with a resource group, workspaces, and their clusters. It runs until `close`.

    `environment` is all that a client needs: proxy, certificate authority, and a service principal's secret.
    `faults` injects faults. `requests` counts requests by operation ("PUT {ws}/jobs/*"), `log` has them all,
    `failures` lists what must not happen (an unrouted request, an error in the emulator), and `refused` the hosts that
    the proxy refused. `sign_in.lifetime` is the lifetime of tokens, and `pace` the time that a job spends in each state
    on its way, in seconds. `python` is the jobs' interpreter, in a folder where it is called `python`: by default
    $REBEL_NERF_JOB_PYTHON, else the one that runs the tests.

    Args:
        folder: for certificates, logs and the jobs' working folders; made if it is not there.
        workspaces: their names; all share the storage account.
        clusters: name to (VM size, most nodes), the same in each workspace, with their ssh ports open.
    """

    def __init__(
        self,
        folder: Path,
        workspaces: tuple[str, ...] = ("nerf-workspace",),
        clusters: dict[str, tuple[str, int]] | None = None,
        pace: float = 0.05,
    ) -> None:
        self.folder, self.pace = folder, pace
        self.python = os.environ.get("REBEL_NERF_JOB_PYTHON") or sys.executable
        self.subscription, self.resource_group = str(uuid.uuid4()), "nerf-group"
        self.workspace, self.location, self.account = workspaces[0], "westeurope", "nerfstorage"
        self.clusters = tuple(clusters or _CLUSTERS)
        self.faults = Faults()
        certificates = folder / "certificates"
        write_certificates(certificates)
        self.client_certificate = certificates / "client.pem"
        self.sign_in = SignIn(certificates)
        self.tenant, self.client_id = self.sign_in.tenant, self.sign_in.client_id
        self.client_secret = self.sign_in.client_secret
        self._azurite = Azurite(self.account, certificates, folder / "azurite.log")
        self.blobs = self._azurite.client
        self._base = f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
        self._base += "/providers/Microsoft.MachineLearningServices/workspaces"
        self._sizes = clusters or _CLUSTERS
        self._workspaces: dict[str, Workspace] = {}
        for name in workspaces:
            self._add(name)
        self.arm = Arm(self._base, self._workspaces, self.tenant, self.faults, self._start)
        self._service = Service(certificates, self.faults, self._answer)
        self._proxy = Proxy(self._route, self.faults)
        self._runners: list[Runner] = []
        self.proxy_url = f"http://127.0.0.1:{self._proxy.server_port}"
        authority = str(certificates / "ca.pem")
        self.environment = {
            "HTTPS_PROXY": self.proxy_url,
            "NO_PROXY": "localhost,127.0.0.1",
            "REQUESTS_CA_BUNDLE": authority,
            "SSL_CERT_FILE": authority,
            "AZURE_TENANT_ID": self.tenant,
            "AZURE_CLIENT_ID": self.client_id,
            "AZURE_CLIENT_SECRET": self.client_secret,
        }

    def __enter__(self) -> AzureStack:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every job and service."""
        self.faults.clear()
        for runner in self._runners:
            runner.job.cancelled.set()
        for runner in self._runners:
            runner.join(10)
        for server in (self._proxy, self._service):
            server.shutdown()
            server.server_close()
        self._azurite.close()

    def renew(self) -> None:
        """Go on in a new, empty workspace, so that tests meet nothing that others left."""
        self.workspace = f"nerf-workspace-{len(self._workspaces) + 1}"
        self._add(self.workspace)

    def _add(self, name: str) -> None:
        identity = str(uuid.uuid4())
        storage = Storage(self._azurite, identity)
        self._workspaces[name] = ws = Workspace(f"{self._base}/{name}", name, self.location, identity, storage)
        for cluster, (size, nodes) in self._sizes.items():
            ws.computes[cluster] = _cluster(size, nodes, self.location)

    # what the tests look at

    @property
    def log(self) -> list[Exchange]:
        return self._service.log

    @property
    def requests(self) -> Counter[str]:
        return Counter(exchange.operation for exchange in self.log)

    @property
    def failures(self) -> list[str]:
        return self._service.failures

    @property
    def refused(self) -> list[str]:
        return self._proxy.refused

    @property
    def jobs(self) -> dict[str, Job]:
        """Return the jobs of the first workspace, by name."""
        return self._workspaces[self.workspace].jobs

    @property
    def running(self) -> list[Job]:
        """Return the jobs with a live process."""
        return [job for job in self.jobs.values() if job.process and job.process.poll() is None]

    def wait(self, job: str, *statuses: str, timeout: float = 300) -> Job:
        """Wait until a job has one of the statuses, or has ended if none are given; return it."""
        deadline = time.monotonic() + timeout
        while job not in self.jobs or self.jobs[job].status not in (statuses or ENDED):
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job} is {self.jobs[job].status if job in self.jobs else 'unknown'}")
            time.sleep(0.02)
        return self.jobs[job]

    def assets(self, kind: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the bodies of "data", "models", "environments", or "codes" by name and version."""
        return self._workspaces[self.workspace].assets[kind]

    def delete_blobs(self, uri: str) -> int:
        """Delete the blobs that a datastore URI or asset id stands for; return how many there were."""
        ws = self._workspaces[self.workspace]
        return ws.storage.delete(*ws.locate(uri))

    def delete_asset(self, kind: str, name: str, version: str) -> None:
        """Delete a version of "data", "models" or "environments", as a person in the studio can."""
        self._workspaces[self.workspace].delete(kind, name, version)

    def ssh_at(self, host: str, port: int) -> None:
        """Set the address and ssh port of the first node of each cluster."""
        self.arm.node_address = (host, port)

    # inside

    def _route(self, host: str) -> int | None:
        if host == f"{self.account}.blob.core.windows.net":
            faulty = any(self.faults.take(kind, host, count=False) for kind in _STORAGE_FAULTS)
            return self._service.server_port if faulty else self._azurite.port
        if host in ("management.azure.com", "login.microsoftonline.com", f"{self.location}.api.azureml.ms"):
            return int(self._service.server_port)
        return None

    def _answer(self, request: Request) -> Answer:
        if request.host == "login.microsoftonline.com":
            return self.sign_in.answer(request)
        if request.host.endswith(".blob.core.windows.net"):
            kinds = (kind for kind in _STORAGE_FAULTS if self.faults.take(kind, request.host, count=False))
            self.faults.take(kind := next(kinds, "storage_busy"), request.host)
            status, code, message = _STORAGE_FAULTS[kind]
            message += f"\nRequestId:{uuid.uuid4()}\nTime:{time.strftime('%Y-%m-%dT%H:%M:%S.0000000Z', time.gmtime())}"
            text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
            return Answer(text.encode(), status, {"x-ms-error-code": code, "Connection": "close"})
        if request.path == "/discovery":  # open to all
            hosts = ("api", "experimentation", "history", "hyperdrive", "modelmanagement", "pipelines")
            return Answer(dict.fromkeys(hosts, f"https://{self.location}.api.azureml.ms"))
        self.sign_in.check(request)
        if request.host == "management.azure.com":
            self._service.check_arm(request)
        elif not request.path.startswith(("/history/", "/data/", "/mlflow/")):
            raise self._service.unrouted(request)
        answer = self.arm.answer(request)
        if answer is None:
            raise self._service.unrouted(request)
        return answer

    def _start(self, job: Job) -> None:
        folder = self.folder / "jobs" / job.workspace.name / job.name
        runner = Runner(job, job.workspace.storage, self.faults, folder, self.proxy_url, self.pace, self.python)
        self._runners.append(runner)
        runner.start()


def _cluster(size: str, nodes: int, location: str) -> Cluster:
    scale = {"minNodeCount": 0, "maxNodeCount": nodes, "nodeIdleTimeBeforeScaleDown": "PT30M"}
    inner = {"vmSize": size, "vmPriority": "LowPriority", "scaleSettings": scale, "osType": "Linux"}
    inner |= {"remoteLoginPortPublicAccess": "Enabled", "userAccountCredentials": {"adminUserName": "azureuser"}}
    body = {"location": location, "properties": {"computeType": "AmlCompute", "properties": inner}}
    return Cluster(body, time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()))
