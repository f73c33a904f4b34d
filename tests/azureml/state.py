"""The state of an emulated workspace."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from dataclasses import dataclass, field

from tests.azureml.bodies import Json, not_found, now
from tests.azureml.runner import Cluster, Job, JobError
from tests.azureml.service import Refusal
from tests.azureml.storage import Storage

SINGULAR = {"data": "Data", "models": "Model", "environments": "Environment", "codes": "Code"}
URI = {"data": "dataUri", "models": "modelUri", "codes": "codeUri"}


@dataclass
class Container:
    """What all versions of an asset share."""

    archived: bool = False
    last_number: int = 0
    """The highest number of any version, deleted ones included."""
    deleted: dict[str, str] = field(default_factory=dict)
    """The times at which versions were deleted."""


class Workspace:
    """The state of one workspace, which also resolves its URIs."""

    def __init__(self, base: str, name: str, location: str, workspace_id: str, storage: Storage) -> None:
        self.base, self.name, self.location, self.storage = base, name, location, storage
        self.id = workspace_id
        self.lock = threading.RLock()
        self.assets: dict[str, dict[str, dict[str, Json]]] = {kind: {} for kind in SINGULAR}
        self.containers: dict[tuple[str, str], Container] = defaultdict(Container)
        self.jobs: dict[str, Job] = {}
        self.computes: dict[str, Cluster] = {}
        self.serverless: dict[str, Cluster] = {}
        """What serverless jobs run on, by VM size."""
        self.pending: dict[str, str] = {}
        self.changed: Json = {}
        """Properties that a PATCH gave it."""

    def asset(self, kind: str, name: str, version: str) -> Json:
        """Return an asset's body, or raise if there is none."""
        try:
            return self.assets[kind][name][version]
        except KeyError:
            what = SINGULAR[kind]
            raise not_found(f"{what}NotFound", f"{what} version not found. {name}:{version}") from None

    def is_archived(self, kind: str, name: str, version: str) -> bool:
        """Return whether listings leave a version out.

        learn.microsoft.com/cli/azure/ml/data, archive: hidden from list queries by default, but still usable;
        "archiving a data asset container will archive all versions of the data asset under that given name".
        """
        return self.containers[kind, name].archived or self.assets[kind][name][version]["properties"]["isArchived"]

    def delete(self, kind: str, name: str, version: str) -> None:
        """Delete a version; its container stays."""
        del self.assets[kind][name][version]
        self.containers[kind, name].deleted[version] = now()

    def asset_uri(self, arm_id: str) -> str:
        """Return the URI of an asset's content."""
        kind, name, _, version = arm_id.split("/")[-4:]
        uri: str = self.asset(kind, name, version)["properties"][URI[kind]]
        return uri

    def long_form(self, uri: str) -> str:
        """Return a URI in the form in which the service keeps it, which names the workspace and the datastore."""
        if uri.startswith("https://"):
            return uri
        container, path = self.locate(uri)
        datastore = next(name for name, its in self.storage.containers.items() if its == container)
        where = self.base.split("/")
        place = f"subscriptions/{where[2]}/resourcegroups/{where[4]}/workspaces/{self.name}"
        return f"azureml://{place}/datastores/{datastore}/paths/{path}"

    def locate(self, uri: str) -> tuple[str, str]:
        """Return the container, and the path in it, that a URI stands for."""
        if uri.startswith("/subscriptions/"):
            try:
                return self.locate(self.asset_uri(uri))
            except Refusal as gone:
                raise JobError("UserError", f"{gone} ({uri})") from gone
        if uri.startswith(f"{self.storage.url}/"):
            container, _, path = uri.removeprefix(f"{self.storage.url}/").partition("/")
            return container, path
        if found := re.fullmatch(r"azureml://(?:.*/)?jobs/([^/]+)/outputs/([^/]+)(?:/paths/(.*))?/?", uri):
            job = self.jobs.get(found[1])
            if job is None or found[2] not in {*job.request["outputs"], "default", "artifacts"}:
                raise not_found("RunNotFound", f"Job {found[1]} or its output {found[2]} was not found.")
            if found[2] in job.request["outputs"]:
                container, path = self.locate(job.output_uri(found[2]))
            else:
                container, path = self.storage.containers["workspaceartifactstore"], job.artifacts
            return container, f"{path.rstrip('/')}/{found[3] or ''}"
        found = re.fullmatch(r"azureml://(?:.*/workspaces/([^/]+)/)?datastores/([^/]+)/(?:paths/)?(.*)", uri, re.I)
        if not found or (found[1] or self.name) != self.name or found[2] not in self.storage.containers:
            raise Refusal(400, "UserError", f"The uri {uri} is not of a datastore of workspace {self.name}.")
        return self.storage.containers[found[2]], found[3]
