"""A workspace block on the emulator, as the set-up command would have left it: `from tests.azure_fixtures import …`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Environment
from azure.identity import ClientSecretCredential
from pydantic import SecretStr

from blocks import JobSpec, JobState
from blocks.azure import AzureCredential, AzureMLWorkspace
from blocks.azure.files import md5s
from jobs import code
from jobs.base_options import Options
from tests.azureml.stack import AzureStack
from tests.waiting import until

__all__ = [
    "SketchOptions", "identity_endpoint", "lasting", "photos", "put", "sketch", "stack", "wait", "workspace",
]  # fmt: skip


# Programs that travel with the jobs' code. One takes no time, and one has to be ended.
PROGRAMS = {
    "sketch.py": """
import json, sys
from pathlib import Path
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
output, photos = Path(given["--output"]), int(given["--photos"])
(output / "photos").mkdir(parents=True)
for number in range(photos):
    (output / "photos" / f"{number}.jpg").write_bytes(b"photo %d" % number)
(output / "truth.json").write_text("{}")
print(json.dumps({"stage": "sketch", "done": photos, "total": photos}))
""",
    "lasts.py": """
import time
print("this takes a while", flush=True)
time.sleep(1000)
""",
}


class SketchOptions(Options):
    """Options of the program that takes no time."""

    STAGE: ClassVar[str] = "sketch"
    photos: int


@pytest.fixture
def stack(azure_environment: AzureStack) -> AzureStack:
    client = MLClient(
        ClientSecretCredential(
            azure_environment.tenant, azure_environment.client_id, azure_environment.client_secret
        ),
        azure_environment.subscription, azure_environment.resource_group, azure_environment.workspace,
    )  # fmt: skip
    client.environments.create_or_update(Environment(name="rebel-nerf", version="1", image="ubuntu"))
    return azure_environment


@pytest.fixture
def workspace(stack: AzureStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AzureMLWorkspace:
    """Return a workspace whose jobs can be PROGRAMS, too."""
    copy_to = code.copy_to

    def copy_programs_to(folder: Path, stage: str) -> None:
        copy_to(folder, stage)
        for name, program in PROGRAMS.items():
            (folder / "jobs" / name).write_text(program)

    monkeypatch.setattr(code, "copy_to", copy_programs_to)
    credential = AzureCredential(
        method="service principal",
        tenant_id=stack.tenant,
        client_id=stack.client_id,
        client_secret=SecretStr(stack.client_secret),
    )
    return AzureMLWorkspace(
        credential=credential,
        subscription_id=stack.subscription,
        resource_group=stack.resource_group,
        workspace=stack.workspace,
        cache=tmp_path / "cache",
    )


@pytest.fixture
def identity_endpoint(stack: AzureStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Yield the resources for which a machine with a managed identity requested tokens. Its endpoint issues them."""
    asked: list[str] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            resource = parse_qs(urlsplit(self.path).query)["resource"][0]
            asked.append(resource)
            answer = {"access_token": stack.sign_in.token(resource), "resource": resource, "token_type": "Bearer"}
            content = json.dumps({**answer, "expires_on": str(int(time.time()) + 3600)}).encode()
            self.send_response(200 if self.headers["X-IDENTITY-HEADER"] == "known" else 401)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "known")
        yield asked
        server.shutdown()


def sketch(name: str, **more: object) -> JobSpec:
    """Return a job that writes eight files in place of photos."""
    given = {"family": name, "attempt": 1, "scene": "street", "stage": "sketch", "outputs": ("capture",), "tier": "cpu"}
    return JobSpec.model_validate({**given, "arguments": ("--output", "{outputs.capture}", "--photos", "8"), **more})


def lasting(name: str, **more: object) -> JobSpec:
    """Return a job that prints a line and then sleeps."""
    return sketch(name, stage="lasts", **more)


def wait(workspace: AzureMLWorkspace, job: JobSpec) -> JobState:
    """Return the state in which a job ends, once it has."""

    def ended() -> JobState | None:
        status = workspace.find_job(job.name)
        return status.state if status and status.state.ended else None

    state = until(ended, 120)
    assert state
    return state


def photos(folder: Path, *contents: bytes) -> dict[str, Path]:
    """Write files `0.jpg` … of some content; return them by name."""
    folder.mkdir(exist_ok=True)
    files = {f"{index}.jpg": folder / f"{index}.jpg" for index in range(len(contents))}
    for file, content in zip(files.values(), contents, strict=True):
        file.write_bytes(content)
    return files


def put(workspace: AzureMLWorkspace, files: dict[str, Path], prefix: str) -> None:
    """Upload files to the workspace's datastore, as a person can."""
    workspace._connection.store().container.upload(files, md5s(files), prefix, lambda done, total: None)
