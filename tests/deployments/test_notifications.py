"""A webhook and a notification block hear of scenes that fail and finish."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.states import Crashed, Failed, Running, Scheduled

from deployments.notifications import BLOCK, URL, automations
from tasks.quality import GOT_WORSE
from tests.service import ROOT, Service

# Saves a notification block for the address that it is given, as a person does in the UI.
SAVE = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock
data = {"subject": "{{subject}}", "body": "{{body}}"}
CustomWebhookNotificationBlock(name="people", url=sys.argv[1], json_data=data).save("people")
"""


@pytest.fixture
def heard() -> Iterator[tuple[str, list[str], list[tuple[str, str]]]]:
    """Yield the address of a webhook, the texts that were sent to it, and the subjects and texts that a block sent."""
    texts: list[str] = []
    mails: list[tuple[str, str]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "text" in sent:
                texts.append(sent["text"])
            else:
                mails.append((sent["subject"], sent["body"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a-secret-path", texts, mails
        server.shutdown()


def test_each_automation_is_for_scenes_alone() -> None:
    made = automations(uuid4(), uuid4())
    assert len({each.name for each in made}) == 6
    for each in made:
        trigger = each.trigger.model_dump()
        of_scenes = trigger["match_related"].get("prefect.resource.name") == "scene"
        assert of_scenes or trigger["expect"] == {GOT_WORSE}


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_people_hear_what_became_of_scenes(
    tmp_path: Path, heard: tuple[str, list[str], list[tuple[str, str]]]
) -> None:
    address, texts, mails = heard
    service, root = Service(tmp_path / "service"), tmp_path / "home"
    root.mkdir()
    service.environment |= {URL: address, BLOCK: "custom-webhook/people"}
    try:
        service.start_server()
        service.run("deployments.worker", "--pool-only")
        service.restart_worker()
        with pytest.raises(AssertionError, match=r"custom-webhook/people.*Create it in the UI"):
            service.run("deployments.notifications")
        subprocess.run([sys.executable, "-c", SAVE, address], env=service.shell, cwd=ROOT, check=True, timeout=120)
        said = service.run("deployments.notifications")
        assert said.count("made") == 6 and "a-secret-path" not in said
        assert service.run("deployments.notifications").count("updated") == 6
        async with service.client() as client:
            fails, other = [await deployment(client, name) for name in ("scene", "captures")]
            message = "JobFailed: the disk\nis full"
            await end(client, other, "ignored", Failed(message="not a scene"))
            await end(client, fails, "street", Failed(message=message))
            await end(client, fails, "lost", Crashed(message="its machine is gone"))
            again = await end(client, fails, "put back", Crashed(message="its worker stopped"))
            later = datetime.now(timezone.utc) + timedelta(days=1)
            await client.set_flow_run_state(again, Scheduled(scheduled_time=later), force=True)
            # Those that this project decides are real runs of a real worker.
            await run(client, "nerf", scene="mill", root=str(root), seconds=0)
            await run(client, "two_models", scene="quay", root=str(root))
            deadline = time.monotonic() + 300
            while len(texts) < 5 or len(mails) < 5:
                assert time.monotonic() < deadline, (texts, mails, service.log("worker"), service.log("server"))
                await asyncio.sleep(0.2)
            await asyncio.sleep(15)  # nothing else comes
    finally:
        service.close()
    assert len(texts) == 5, texts
    assert sorted(text for _, text in mails) == sorted(texts)
    assert {(subject, text.split()[1]) for subject, text in mails} == {
        ("Scene lost has crashed", "lost"),
        ("Scene mill was refused", "mill"),
        ("Scene quay has finished", "quay"),
        ("Scene quay got worse", "quay"),
        ("Scene street has failed", "street"),
    }
    crashed, refused, finished, worse, failed = sorted(texts)
    assert finished.startswith("Scene quay finished.")
    assert worse.startswith("Scene quay got worse: PSNR is 2.5 dB below that of 1-")
    assert refused.startswith("Scene mill was refused: InvalidInput: scene mill: no time")
    assert failed.startswith(f"Scene street failed: {message}")
    assert crashed.startswith("Scene lost crashed: its machine is gone")
    assert all("/runs/flow-run/" in text for text in texts)
    assert "a-secret-path" not in service.log("server") + service.log("worker")


async def deployment(client: PrefectClient, name: str, of: str = "") -> UUID:
    """Return a deployment; its flow is in `tests/deployments/scenes.py` if a name is given."""
    flow = await client.create_flow_from_name(of or f"flow-{name}")
    entrypoint = f"tests/deployments/scenes.py:{of}" if of else None
    return await client.create_deployment(flow, name, entrypoint=entrypoint, work_pool_name="rebel-nerf")


async def run(client: PrefectClient, of: str, **parameters: object) -> None:
    await client.create_flow_run_from_deployment(await deployment(client, "scene", of), parameters=parameters)


async def end(client: PrefectClient, of: UUID, name: str, state: object) -> UUID:
    run = await client.create_flow_run_from_deployment(of, name=name)
    await client.set_flow_run_state(run.id, Running(), force=True)
    await client.set_flow_run_state(run.id, state, force=True)  # type: ignore[arg-type]
    return run.id
