"""A webhook on this machine hears of scenes that fail and finish."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.states import Completed, Failed, Running

from deployments.notifications import VARIABLE, automations
from tests.service import Service


@pytest.fixture
def heard() -> Iterator[tuple[str, list[str]]]:
    """The address of a webhook, and the texts that were sent to it."""
    texts: list[str] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a-secret-path", texts
        server.shutdown()


def test_each_automation_is_for_scenes_alone() -> None:
    made = automations(uuid4())
    assert len({each.name for each in made}) == 3
    for each in made:
        assert each.trigger.model_dump()["match_related"]["prefect.resource.name"] == "scene"


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_webhook_hears_of_scenes_that_fail_and_finish(tmp_path: Path, heard: tuple[str, list[str]]) -> None:
    address, texts = heard
    service = Service(tmp_path / "service")
    service.environment[VARIABLE] = address
    try:
        service.start_server()
        said = service.run("deployments.notifications")
        assert said.count("made") == 3 and "a-secret-path" not in said
        assert service.run("deployments.notifications").count("updated") == 3
        async with service.client() as client:
            scene, other = [await deployment(client, name) for name in ("scene", "captures")]
            message = 'InvalidInput: scene "street": 2 photos\nare too few'
            await end(client, other, "ignored", Failed(message="not a scene"))
            await end(client, scene, "street", Failed(message=message))
            await end(client, scene, "mill", Completed())
            deadline = time.monotonic() + 120
            while len(texts) < 2:
                assert time.monotonic() < deadline, (texts, service.log("server"))
                await asyncio.sleep(0.2)
            await asyncio.sleep(3)  # nothing else comes
    finally:
        service.close()
    finished, failed = sorted(texts)
    assert failed.startswith(f"Scene street failed: {message}") and "/runs/flow-run/" in failed
    assert finished.startswith("Scene mill finished.") and len(texts) == 2
    assert "a-secret-path" not in service.log("server")


async def deployment(client: PrefectClient, name: str) -> UUID:
    return await client.create_deployment(await client.create_flow_from_name(f"flow-{name}"), name)


async def end(client: PrefectClient, of: UUID, name: str, state: object) -> None:
    run = await client.create_flow_run_from_deployment(of, name=name)
    await client.set_flow_run_state(run.id, Running(), force=True)
    await client.set_flow_run_state(run.id, state, force=True)  # type: ignore[arg-type]
