"""Plant secrets wherever this project reads them, and search everything that it writes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.notifications import URL
from tasks.view import served_page
from tests.faults.chain import chain_workspace
from tests.faults.rounds import World
from tests.faults.surroundings import Surroundings
from tests.service import ROOT, Service
from tests.tasks.test_choice import put

SAVE = """
import os
from pydantic import SecretStr
from blocks.azure import AzureCredential
AzureCredential(
    method="service principal", tenant_id="00000000-0000-0000-0000-000000000001",
    client_id="00000000-0000-0000-0000-000000000002", client_secret=SecretStr(os.environ["BLOCK_SECRET"]),
).save("planted")
"""
ENVIRONMENT = {
    "AZURE_CLIENT_SECRET": "planted-azure-7d1f",
    "DATABASE_URL": "postgresql://user:planted-database-99c2@host/name",
    "GITHUB_PAT": "planted-token-41ab",
    "MY_OWN_PASSPHRASE": "planted-phrase-e0e0",
    URL: "http://127.0.0.1:9/planted-webhook-5b5b",
}
"""What a scheduler's process may have in its environment."""
BLOCK = "planted-block-c3c3"


def processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").glob("[0-9]*") if int(entry.name) != os.getpid())


def found_in(folder: Path, secrets: set[bytes]) -> list[str]:
    """Return the files below a folder that hold a secret."""
    found = []
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            found += [f"{file}: {secret.decode()}" for secret in secrets if secret in content]
    return found


def seen(secrets: set[bytes], jobs: Path) -> list[str]:
    """Return the processes with a secret on their command line or, if they belong to a job, in their environment."""
    found = []
    for entry in processes():
        try:
            command, inside = (entry / "cmdline").read_bytes(), str(jobs) in str((entry / "cwd").resolve())
            shown = command + ((entry / "environ").read_bytes() if inside else b"")
        except OSError:
            continue
        found += [f"{command!r}: {secret.decode()}" for secret in secrets if secret in shown]
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_no_secret_is_left_anywhere(tmp_path: Path) -> None:
    service = Service(tmp_path / "service")
    service.environment |= ENVIRONMENT
    workspace = chain_workspace(tmp_path / "street")
    (workspace.folder / "seconds").write_text("3")
    try:
        service.start_server()
        service.run("deployments.notifications")
        done = subprocess.run(
            [sys.executable, "-c", SAVE], env={**service.shell, "BLOCK_SECRET": BLOCK}, cwd=ROOT, timeout=120
        )
        assert done.returncode == 0
        password = service.password.partition(":")[2]
        secrets = {text.rpartition("/")[2].encode() for name, text in ENVIRONMENT.items() if name != "DATABASE_URL"}
        secrets |= {b"planted-database-99c2", BLOCK.encode(), password.encode()}
        async with service.client() as client:
            world = World(service, client, tmp_path, Surroundings(tmp_path, tmp_path / "disk"))
            await world.deploy()
            service.restart_worker()
            service.front.record = traffic = bytearray()  # of worker and tests with the server
            run = await world.run("street", workspace.folder)
            shown: list[str] = []
            jobs = 0
            while not (state := (await client.read_flow_run(run.id)).state) or not state.is_final():
                shown += seen(secrets, workspace.folder)
                jobs += any(str(workspace.folder / "jobs") in str(cwd(entry)) for entry in processes())
                await asyncio.sleep(0.3)
            assert state.is_completed() and jobs, "jobs were looked at while they ran"
            assert b"street" in traffic and not [secret for secret in secrets if secret in traffic]
        assert not shown
    finally:
        service.close()
    assert not found_in(workspace.folder, secrets), "captures, assets, job folders and logs"
    # The database with its artifacts, logs and parameters; results; and what server and worker print.
    left = [each for each in found_in(tmp_path / "service", secrets) if "rebel-nerf.toml" not in each]
    assert not left
    kept = tmp_path / "service/prefect/rebel-nerf.toml"
    assert password.encode() in kept.read_bytes() and kept.stat().st_mode & 0o777 == 0o600


def cwd(entry: Path) -> Path | None:
    try:
        return (entry / "cwd").resolve()
    except OSError:
        return None


VIEWER = """#!/bin/sh
env >"$(dirname "$0")/seen"
echo '{"stage": "view", "page": "viewer", "port": 1}'
sleep 60
"""


def test_the_viewer_of_a_model_gets_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in ENVIRONMENT.items():
        monkeypatch.setenv(name, text)
    workspace = chain_workspace(tmp_path / "street")
    Path(workspace.python).write_text(VIEWER)
    put(workspace, "street-nerf", "1-00000001", 0, scene="street")
    put(workspace, "street-images-to-nerf-dataset", "1-00000001", 0, "dataset", scene="street")
    [model], [dataset] = workspace.assets("street-nerf"), workspace.assets("street-images-to-nerf-dataset")
    with served_page(workspace, dataset, model, 1):
        seen = (workspace.folder / "seen").read_text()
    assert "PATH=" in seen and "planted" not in seen


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/log").write_bytes(b"\xff token=planted-x\n")
    assert found_in(tmp_path, {b"planted-x", b"planted-y"}) == [f"{tmp_path}/deep/log: planted-x"]
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path, env={"A": "planted-y"}) as process:
        try:
            assert len(seen({b"planted-y"}, tmp_path)) == 1 and not seen({b"planted-y"}, tmp_path / "deep")
        finally:
            process.kill()
