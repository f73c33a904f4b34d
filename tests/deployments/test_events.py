"""Uploads start by themselves: Azure Event Grid's requests, as Microsoft documents them, on a real Prefect server."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events.schemas.events import Event, Resource
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks.azure import AzureMLWorkspace
from deployments.azure.common import run
from deployments.azure.events import KEY, Events, Relay, main
from tests.azure_fixtures import stack, workspace
from tests.azureml.stack import AzureStack
from tests.processes import free_port
from tests.service import Service
from tests.waiting import async_until, until

__all__ = ["stack", "workspace"]


ROOT = Path(__file__).resolve().parents[2]


DEPLOYMENTS = (ROOT / "prefect.yaml").read_text()


README = (ROOT / "deployments/azure/README.md").read_text()


SECRET = "f00dfeed" * 4


CHANGED = "rebel-nerf.capture.changed"


REFERENCE = "rebel-nerf-azure-ml/azure"


# https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema
HANDSHAKE = r"""[
  {
    "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
    "topic": "/subscriptions/xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "subject": "",
    "data": {
      "validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6",
      "validationUrl": "https://rp-eastus2.eventgrid.azure.net:553/eventsubscriptions/myeventsub/validate?id=0000000000-0000-0000-0000-00000000000000&t=2022-10-28T04:23:35.1981776Z&apiVersion=2018-05-01-preview&token=1A1A1A1A"
    },
    "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
    "eventTime": "2022-10-28T04:23:35.1981776Z",
    "metadataVersion": "1",
    "dataVersion": "1"
  }
]"""


# https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage: Event Grid's schema, then CloudEvents
CREATED = r"""[{
  "topic": "/subscriptions/{subscription-id}/resourceGroups/Storage/providers/Microsoft.Storage/storageAccounts/my-storage-account",
  "subject": "/blobServices/default/containers/test-container/blobs/new-file.txt",
  "eventType": "Microsoft.Storage.BlobCreated",
  "eventTime": "2017-06-26T18:41:00.9584103Z",
  "id": "831e1650-001e-001b-66ab-eeb76e069631",
  "data": {
    "api": "PutBlockList",
    "clientRequestId": "6d79dbfb-0e37-4fc4-981f-442c9ca65760",
    "requestId": "831e1650-001e-001b-66ab-eeb76e000000",
    "eTag": "\"0x8D4BCC2E4835CD0\"",
    "contentType": "text/plain",
    "contentLength": 524288,
    "blobType": "BlockBlob",
    "url": "https://my-storage-account.blob.core.windows.net/testcontainer/new-file.txt",
    "sequencer": "00000000000004420000000000028963",
    "storageDiagnostics": {
      "batchId": "b68529f3-68cd-4744-baa4-3c0498ec19f0"
    }
  },
  "dataVersion": "",
  "metadataVersion": "1"
}]"""  # noqa: E501


RENAMED = r"""[{
  "source": "/subscriptions/{subscription-id}/resourceGroups/Storage/providers/Microsoft.Storage/storageAccounts/my-storage-account",
  "subject": "/blobServices/default/containers/my-file-system/blobs/my-renamed-file.txt",
  "type": "Microsoft.Storage.BlobRenamed",
  "time": "2017-06-26T18:41:00.9584103Z",
  "id": "831e1650-001e-001b-66ab-eeb76e069631",
  "data": {
    "api": "RenameFile",
    "clientRequestId": "6d79dbfb-0e37-4fc4-981f-442c9ca65760",
    "requestId": "831e1650-001e-001b-66ab-eeb76e000000",
    "destinationUrl": "https://my-storage-account.dfs.core.windows.net/my-file-system/my-renamed-file.txt",
    "sourceUrl": "https://my-storage-account.dfs.core.windows.net/my-file-system/my-original-file.txt",
    "sequencer": "00000000000004420000000000028963",
    "storageDiagnostics": {
    "batchId": "b68529f3-68cd-4744-baa4-3c0498ec19f0"
    }
  },
  "specversion": "1.0"
}]"""  # noqa: E501


class Sender:
    """Event Grid, as far as a relay sees it: real HTTP, and bodies like the documented ones."""

    def __init__(self, port: int, workspace: AzureMLWorkspace) -> None:
        self.port = port
        self.account, self.container, self.folder = workspace.dropped_in()

    def __call__(
        self, body: str | None, target: str = f"/?code={SECRET}", method: str = "POST", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request. Return the status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, target, body, {name.replace("_", "-"): told for name, told in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def about(self, path: str, sample: str = CREATED, account: str = "", container: str = "") -> dict[str, Any]:
        """Return a documented event of another blob, by default in the workspace's own account and container."""
        [event] = json.loads(sample)
        source = "topic" if "topic" in event else "source"
        event[source] = event[source].replace("my-storage-account", account or self.account)
        event["subject"] = f"/blobServices/default/containers/{container or self.container}/blobs/{path}"
        told: dict[str, Any] = event
        return told


@contextmanager
def relayed(workspace: AzureMLWorkspace, client: SyncPrefectClient) -> Iterator[Sender]:
    port = free_port()
    with Relay(("127.0.0.1", port), workspace, REFERENCE, SecretStr(SECRET), client) as relay:
        thread = threading.Thread(target=relay.serve_forever)
        thread.start()
        try:
            yield Sender(port, workspace)
        finally:
            relay.shutdown()
            thread.join()


@pytest.fixture
def send(prefect_server: None, workspace: AzureMLWorkspace) -> Iterator[Sender]:
    """Yield a relay on the session's server."""
    with get_client(sync_client=True) as client, relayed(workspace, client) as sender:
        yield sender


def heard(client: SyncPrefectClient, event: str = CHANGED, since: datetime | None = None) -> list[Resource]:
    """Return the resources of the events that the server has, in the order in which they occurred."""
    asked: dict[str, Any] = {"event": {"name": [event]}, "order": "ASC"}
    if since:
        asked["occurred"] = {"since": since.isoformat()}
    found = client.request("POST", "/events/filter", json={"filter": asked, "limit": 50}).json()["events"]
    return [Event.model_validate(each).resource for each in found]


def test_only_photos_of_scenes_in_the_own_container_are_reported(
    send: Sender, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = datetime.now(timezone.utc)
    ignored = [
        json.loads(CREATED)[0],
        send.about("captures/foreign-container/1.jpg", container="test-container"),
        send.about("captures/foreign-account/1.jpg", account="my-storage-account"),
        send.about("captures/no-photo/notes.txt"),
        send.about("captures/hidden/.thumbnails/1.jpg"),
        send.about("captures/Not A Name/1.jpg"),
        send.about("captures/wall-nerf/1.jpg"),
        send.about("captures/1.jpg"),
        send.about("rebel-nerf/captures/own/0a1b/1.jpg"),
        send.about("captures-old/other-folder/1.jpg"),
        send.about("captures/deleted/1.jpg") | {"eventType": "Microsoft.Storage.BlobDeleted"},
    ]
    for event in ignored:
        assert send(json.dumps([event]))[0] == 200
    several = [*ignored, *(send.about(f"captures/{scene}/sub/{n}.JPG") for scene in ("b-b", "a-a") for n in range(5))]
    assert send(json.dumps(several))[0] == 200
    one = json.dumps(send.about("captures/c-c/tour.mp4", RENAMED))  # CloudEvents come one by one
    status, _, _ = send(one, "/", Authorization=f"Bearer {SECRET}", Content_Type="application/cloudevents+json")
    assert status == 200
    with get_client(sync_client=True) as client:
        until(lambda: any(each["scene"] == "c-c" for each in heard(client, since=begun)))
        found = heard(client, since=begun)
    assert [dict(each.root) for each in found] == [
        {"prefect.resource.id": f"rebel-nerf.capture.{scene}", "scene": scene, "workspace": REFERENCE}
        for scene in ("a-a", "b-b", "c-c")
    ]
    assert SECRET not in "".join(capfd.readouterr())


def test_the_handshakes(send: Sender) -> None:
    status, _, body = send(HANDSHAKE, aeg_event_type="SubscriptionValidation")
    assert (status, json.loads(body)) == (200, {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"})
    status, headers, _ = send(None, method="OPTIONS", WebHook_Request_Origin="eventgrid.azure.net")
    assert (status, headers["WebHook-Allowed-Origin"]) == (200, "eventgrid.azure.net")
    assert headers["WebHook-Allowed-Rate"] == "*" and "POST" in headers["Allow"]
    assert send(None, method="OPTIONS")[0] == 400


def test_wrong_keys_and_bodies_are_refused(send: Sender, capfd: pytest.CaptureFixture[str]) -> None:
    begun = datetime.now(timezone.utc)
    good = json.dumps([send.about("captures/refused/1.jpg")])
    wrong = [f"/?code={SECRET[:-1]}", f"/?code={SECRET}x", "/?code=", "/", f"/?key={SECRET}", "/?code=%FF%C3%A9"]
    for target in wrong:
        for body in (good, HANDSHAKE):
            status, _, answer = send(body, target)
            assert (status, answer) == (401, b"")
        status, headers, _ = send(None, target, "OPTIONS", WebHook_Request_Origin="eventgrid.azure.net")
        assert status == 401 and "WebHook-Allowed-Origin" not in headers
    assert send(good, "/", Authorization="Bearer wrong")[0] == send(good, "/", Authorization="Bearer")[0] == 401
    for body in ("", "{", "[1]", '"text"', '[{"subject": "x"}]', '[{"eventType": 1}]', "\x00"):
        assert send(body)[0] == 400
    connection = http.client.HTTPConnection("127.0.0.1", send.port, timeout=60)
    connection.putrequest("POST", f"/?code={SECRET}")
    connection.putheader("Content-Length", str(100 << 20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert send(json.dumps([send.about("captures/taken/1.jpg")]))[0] == 200
    with get_client(sync_client=True) as client:
        until(lambda: bool(heard(client, since=begun)))
        assert [each["scene"] for each in heard(client, since=begun)] == ["taken"]
    assert SECRET[:-1] not in "".join(capfd.readouterr())


def test_a_server_that_is_down(workspace: AzureMLWorkspace, capfd: pytest.CaptureFixture[str]) -> None:
    client = SyncPrefectClient(f"http://127.0.0.1:{free_port()}/api")
    with relayed(workspace, client) as send:
        assert send(json.dumps([send.about("captures/facade/1.jpg")]))[0] == 503
        assert send(json.dumps([send.about("captures/facade/notes.txt")]))[0] == 200, "there is nothing to be told"
        assert send(HANDSHAKE)[0] == 200
    said = "".join(capfd.readouterr())
    assert "did not get the events of facade" in said and SECRET not in said


@pytest.mark.parametrize(
    ("arguments", "key", "told"),
    [
        ([], SECRET, "block: give the name of a saved block"),
        (["--block", "azure"], SECRET, "PREFECT_API_URL is not set"),
        (["--block", "azure", "--port", "0"], SECRET, "port: "),
        (["--block", "azure"], "short", f"${KEY} holds no key of at least 16 characters"),
        (["--block", "azure"], SECRET, "127.0.0.1:9/api does not answer"),
    ],
)
def test_missing_settings_are_refused(
    arguments: list[str], key: str, told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY, key)
    server = None if "PREFECT_API_URL" in told else "http://127.0.0.1:9/api"
    with temporary_settings({PREFECT_API_URL: server}), pytest.raises(SystemExit) as end:
        run(Events, main, arguments)
    said = capfd.readouterr().err
    assert told in said and end.value.code == (2 if told == "port: " else 1)
    assert key not in said or key == "short"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    try:
        service.start_server()
        yield service
    finally:
        service.close()


@contextmanager
def process(service: Service, stack: AzureStack, workspace: AzureMLWorkspace, log: Path) -> Iterator[Sender]:
    """Start the relay as a person does, wait until it answers, and yield a sender."""
    port = free_port()
    options = ["--block", "azure", "--port", str(port), "--key-block", "key"]
    environment = {**service.environment, **stack.environment}
    with log.open("w") as output:
        relay = subprocess.Popen(
            [sys.executable, "-m", "deployments.azure.events", *options],
            env=environment, cwd=ROOT, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        until(lambda: "Listening on" in log.read_text() or relay.poll() is not None)
        assert relay.poll() is None, log.read_text()
        yield Sender(port, workspace)
    finally:
        relay.send_signal(signal.SIGINT)
        relay.wait(60)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # three starts of a server, and a deployment, on a machine that may be busy
async def test_thousands_of_blobs_start_one_run(
    service: Service, stack: AzureStack, workspace: AzureMLWorkspace, tmp_path: Path
) -> None:
    # The project's own deployments, but that wait is shorter.
    short = DEPLOYMENTS.replace("within: 900", "within: 20")
    assert short != DEPLOYMENTS
    (tmp_path / "prefect.yaml").write_text(short)
    service.run("deployments.worker", "--pool-only")
    service.run("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(tmp_path / "prefect.yaml"))
    with temporary_settings({PREFECT_API_URL: service.url, PREFECT_API_AUTH_STRING: service.password}):
        await workspace.save("azure")
        await Secret(value=SECRET).save("key")
    log = tmp_path / "relay.log"
    async with service.client() as client:
        deployment = await client.read_deployment_by_name("reprocess/captures")

        async def runs(scene: str) -> list[FlowRun]:
            found = await client.read_flow_runs()
            of_events = [run for run in found if run.deployment_id == deployment.id and not run.auto_scheduled]
            return [run for run in of_events if run.parameters.get("scenes") == [scene]]

        async def started(scene: str) -> None:
            await async_until(lambda: runs(scene), 180, lambda: service.log("server") + log.read_text())

        with process(service, stack, workspace, log) as send:
            for number in range(100):
                assert send(json.dumps([send.about(f"captures/town-hall/{number}.jpg")]))[0] == 200
            await started("town-hall")
            assert send(json.dumps([send.about("captures/barn/1.jpg", RENAMED)]))[0] == 200
            await started("barn")  # by then, a second run of the other would have been there, too
            [only] = await runs("town-hall")
            assert only.parameters == {
                "enabled": True,
                "workspaces": [REFERENCE],
                "scenes": ["town-hall"],
                "settle_minutes": 14,
            }
            service.end("server")
            assert send(json.dumps([send.about("captures/attic/1.jpg")]))[0] == 503
            service.start_server()
            assert send(json.dumps([send.about("captures/attic/1.jpg")]))[0] == 200
            await started("attic")
    assert SECRET not in log.read_text() + service.log("server")


@pytest.mark.usefixtures("prefect_server")
def test_a_plain_webhook_as_the_readme_has_it(tmp_path: Path) -> None:
    [command] = re.findall(r"^(curl .*?)^```", README, re.M | re.S)
    scene = f"scene-{uuid.uuid4().hex[:8]}"
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_PROXY": "*"}
    environment |= {"PREFECT_API_URL": PREFECT_API_URL.value() or "", "PREFECT_API_AUTH_STRING": "rebel-nerf:secret"}
    done = subprocess.run(
        ["bash", "-c", command.replace("town-hall", scene)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    with get_client(sync_client=True) as client:
        uploaded = "rebel-nerf.capture.uploaded"
        until(lambda: any(each["scene"] == scene for each in heard(client, uploaded)))
        [resource] = [each for each in heard(client, uploaded) if each["scene"] == scene]
    assert dict(resource.root) == {
        "prefect.resource.id": f"rebel-nerf.capture.{scene}", "scene": scene, "workspace": REFERENCE
    }  # fmt: skip
