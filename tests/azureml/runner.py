"""Runs jobs as local process groups, with inputs from blob storage and outputs to it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceModifiedError

from tests.azureml.faults import Faults
from tests.azureml.storage import Storage

if TYPE_CHECKING:
    from tests.azureml.state import Workspace

ENDED = ("Completed", "Failed", "Canceled", "NotResponding")
_SECONDS_BETWEEN_SYNCS = 0.25


class JobError(Exception):
    """The reason why a job fails: the code and message of `details.error`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Cluster:
    """An AmlCompute: its body, and the jobs on its nodes."""

    body: dict[str, Any]
    created: str
    nodes: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] | None = None
    failed: str | None = None
    """The code of the error with which its creation failed."""
    change: threading.Condition = field(default_factory=threading.Condition)

    @property
    def most_nodes(self) -> int:
        most: int = self.body["properties"]["properties"]["scaleSettings"]["maxNodeCount"]
        return most


@dataclass
class Job:
    """A submitted command. `request` holds the body's properties, `attempts` counts the starts of its process."""

    name: str
    request: dict[str, Any]
    workspace: Workspace
    created: str
    status: str = "Starting"
    error: JobError | None = None
    warning: str = ""
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    process: subprocess.Popen[bytes] | None = None
    statuses: list[str] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def artifacts(self) -> str:
        """Return the folder of its logs and `outputs/` in the artifact store."""
        return f"ExperimentRun/dcid.{self.name}"

    @property
    def cluster(self) -> Cluster:
        if target := self.request.get("computeId"):
            return self.workspace.computes[target.rpartition("/")[2]]
        return self.workspace.serverless[self.request["resources"]["instanceType"].lower()]

    def output_uri(self, name: str) -> str:
        """Return the URI of an output: its own path, else the service's default."""
        uri = self.request["outputs"][name].get("uri")
        return (uri or "azureml://datastores/workspaceblobstore/paths/azureml/${{name}}/" + name).replace(
            "${{name}}", self.name
        )


class _Restart(Exception):
    """The job lost its node, and starts again."""


class Runner(threading.Thread):
    """Runs one job from Starting to its end."""

    def __init__(
        self, job: Job, storage: Storage, faults: Faults, folder: Path, proxy: str, pace: float, python: str
    ) -> None:
        super().__init__(name=job.name, daemon=True)
        self.job, self._storage, self._faults = job, storage, faults
        self._folder, self._proxy, self._pace, self._python = folder, proxy, pace, python
        self._synced: dict[str, dict[str, tuple[int, int]]] = {}
        self._seen: dict[str, dict[str, tuple[int, int]]] = {}
        self._logged = 0

    def run(self) -> None:
        job = self.job
        try:
            for status in ("Starting", "Preparing"):
                self._enter(status)
            while True:
                self._wait_for_node()
                job.attempts += 1
                try:
                    self._attempt(self._folder / str(job.attempts))
                    break
                except _Restart:
                    continue
                finally:
                    self._leave_node()
            self._enter("Finalizing")
            end = "Completed"
        except JobError as error:
            job.error, end = error, "NotResponding" if error.code == "NotResponding" else "Failed"
        except InterruptedError as reason:
            job.warning, end = str(reason), "Canceled"
        except Exception as error:  # the emulator's own fault, or storage going down under it
            job.error, end = JobError("ServiceError", repr(error)), "Failed"
        job.ended = time.time()
        job.status = end
        job.statuses.append(end)

    def _enter(self, status: str) -> None:
        self.job.status = status
        self.job.statuses.append(status)
        if self.job.cancelled.wait(self._pace):
            raise InterruptedError

    def _wait_for_node(self) -> None:
        job, cluster = self.job, self.job.cluster
        with cluster.change:
            cluster.waiting.append(job.name)
        try:
            self._enter("Queued")
            while not job.cancelled.is_set():
                with cluster.change:
                    if self._faults.take("quota", job.name, count=False):
                        message = (
                            "Operation results in exceeding quota limits of Core. Maximum allowed: 0, Current in use: 0"
                        )
                        cluster.errors = [{"error": {"code": "ClusterCoreQuotaReached", "message": message}}]
                    elif len(cluster.nodes) < cluster.most_nodes and cluster.waiting[0] == job.name:
                        cluster.errors = None
                        cluster.nodes.append(job.name)
                        return
                    cluster.change.wait(0.1)
            raise InterruptedError
        finally:
            with cluster.change:
                cluster.waiting.remove(job.name)

    def _leave_node(self) -> None:
        with self.job.cluster.change:
            self.job.cluster.nodes.remove(self.job.name)
            self.job.cluster.change.notify_all()

    def _attempt(self, folder: Path) -> None:
        """Run the command once: fetch its inputs, follow it, and store its outputs."""
        job = self.job
        shutil.rmtree(folder, ignore_errors=True)
        work = folder / "wd"
        work.mkdir(parents=True)
        self._enter("Running")
        job.started = job.started or time.time()
        if code := job.request.get("codeId"):
            self._fetch(job.workspace.asset_uri(code), work, "code")
        command = self._command(folder)
        log, self._logged = folder / "std_log.txt", 0
        self._log_blob().create_append_blob()
        with log.open("wb") as stream:
            job.process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=work,
                env=self._environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            status = self._follow(job.process, log)
        finally:
            _kill(job.process, signal.SIGKILL)
        if status:
            last = " ".join(log.read_text(errors="replace").splitlines()[-5:])
            raise JobError(
                "UserError",
                f"Execution failed. User process 'bash' exited with status code {status}. Please check log file "
                f"'user_logs/std_log.txt' for error details. Error: {last}",
            )

    def _follow(self, process: subprocess.Popen[bytes], log: Path) -> int:
        """Store logs and mounted outputs until the process has ended; return its exit status."""
        job, began, outputs = self.job, time.monotonic(), log.parent / "outputs"
        limit = _seconds((job.request.get("limits") or {}).get("timeout"))
        while process.poll() is None:
            running = time.monotonic() - began
            if self._faults.take("preempt", job.name, running):
                raise _Restart
            if self._faults.take("preemption_error", job.name, running):
                # https://github.com/microsoft/MLOpsPython/issues/346
                raise JobError(
                    "UserError",
                    "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted. Check if the run "
                    "has failed or restarted. Reason: Received pre-emption warning signal.",
                )
            if self._faults.take("not_responding", job.name, running):
                raise JobError("NotResponding", "The compute node stopped sending heartbeats.")
            if job.cancelled.is_set() or (limit and running > limit):
                _kill(process, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                self._sync_log(log)
                self._sync_mounts(outputs, last=True)
                raise InterruptedError(
                    "" if job.cancelled.is_set() else f"The job exceeded its time limit of {limit:g} s."
                )
            self._sync_log(log)
            self._sync_mounts(outputs)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_BETWEEN_SYNCS)
        self._sync_log(log)
        self._sync_mounts(outputs, last=True)
        artifacts = self._storage.containers["workspaceartifactstore"]
        for name in ("outputs", "logs"):
            kept = log.parent / "wd" / name
            self._storage.upload(artifacts, f"{job.artifacts}/{name}", kept, list(_stamps(kept)))
        if process.returncode == 0:
            for name, output in job.request["outputs"].items():
                if output.get("mode") == "Upload":
                    container, prefix = job.workspace.locate(job.output_uri(name))
                    self._storage.upload(container, prefix, outputs / name, list(_stamps(outputs / name)))
        return process.returncode

    def _command(self, folder: Path) -> str:
        """Fetch the inputs; return the command with `${{inputs.x}}` and `${{outputs.x}}` replaced."""
        job, places = self.job, dict[str, str]()
        for name, given in (job.request.get("inputs") or {}).items():
            if given["jobInputType"] == "literal":
                places[f"inputs.{name}"] = given["value"]
            else:
                place = self._fetch(given["uri"], folder / "inputs" / name, f"input {name}")
                places[f"inputs.{name}"] = str(place)
        for name, output in job.request["outputs"].items():
            place = folder / "outputs" / name
            place.mkdir(parents=True)
            places[f"outputs.{name}"] = str(place)
            if output.get("mode") != "Upload":
                self._storage.download(*job.workspace.locate(job.output_uri(name)), place)
                self._synced[name] = self._seen[name] = _stamps(place)

        def optional(part: re.Match[str]) -> str:
            return part[1] if all(name in places for name in _PLACEHOLDER.findall(part[1])) else ""

        command = re.sub(r"\$\[\[(.*?)\]\]", optional, job.request["command"], flags=re.DOTALL)
        return _PLACEHOLDER.sub(lambda found: places[found[1]], command)

    def _fetch(self, uri: str, folder: Path, what: str) -> Path:
        place = self._storage.download(*self.job.workspace.locate(uri), folder)
        if place is None:
            raise JobError(
                "UserError",
                f"Failed to mount or download {what}: StreamAccessException was caused by NotFoundException. "
                f"The requested stream was not found. Please make sure the request uri is correct: {uri}",
            )
        return place

    def _environment(self, folder: Path) -> dict[str, str]:
        """Return a node's environment: no credentials, and no network but the proxy, which refuses everything."""
        kept = {
            name: os.environ[name]
            for name in ("LANG", "TZ", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
            if name in os.environ
        }
        path = os.pathsep.join([str(Path(self._python).parent), os.environ["PATH"]])
        home = folder / "home"
        home.mkdir()
        proxies = {f"{scheme}_PROXY": self._proxy for scheme in ("HTTP", "HTTPS")}
        run = {"AZUREML_RUN_ID": self.job.name, "AZUREML_EXPERIMENT_NAME": self.job.request["experimentName"]}
        return {
            "PATH": path,
            "HOME": str(home),
            **kept,
            **proxies,
            **run,
            **(self.job.request["environmentVariables"] or {}),
        }

    def _log_blob(self) -> Any:
        container = self._storage.open(self._storage.containers["workspaceartifactstore"])
        return container.get_blob_client(f"{self.job.artifacts}/user_logs/std_log.txt")

    def _sync_log(self, log: Path) -> None:
        with log.open("rb") as stream:
            stream.seek(self._logged)
            while block := stream.read(1 << 20):
                # A try that went through without an answer has moved the end: the next is then one too many.
                with suppress(ResourceModifiedError):
                    self._log_blob().append_block(block, appendpos_condition=self._logged)
                self._logged += len(block)

    def _sync_mounts(self, outputs: Path, last: bool = False) -> None:
        """Store the files that have not changed since the last call, as a mount stores a file when it is closed."""
        for name, stored in self._synced.items():
            now, before = _stamps(outputs / name), self._seen[name]
            ready = [file for file, at in now.items() if stored.get(file) != at and (last or before.get(file) == at)]
            container, prefix = self.job.workspace.locate(self.job.output_uri(name))
            self._storage.upload(container, prefix, outputs / name, ready)
            for gone in set(stored) - set(now):
                self._storage.delete(container, f"{prefix}/{gone}")
                del stored[gone]
            stored.update({file: now[file] for file in ready})
            self._seen[name] = now


_PLACEHOLDER = re.compile(r"\$\{\{\s*((?:inputs|outputs)\.\w+)\s*\}\}")


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            stat = file.stat()
            if file.is_file():
                found[str(file.relative_to(folder))] = (stat.st_mtime_ns, stat.st_size)
    return found


def _kill(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    if number == signal.SIGKILL:
        process.wait()


def _seconds(duration: str | None) -> float | None:
    """Return the length of an ISO 8601 duration of days, hours, minutes, and seconds."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", duration or "")
    if not found:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
