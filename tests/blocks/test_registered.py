"""Register the block types on a server, so that people can create blocks in its UI."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from blocks import LocalWorkspace
from blocks.azure import AzureCredential, AzureMLWorkspace


@pytest.mark.usefixtures("prefect_server")
async def test_one_command_registers_every_block() -> None:
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value() or "", "COLUMNS": "200"}
    command = [sys.executable, "-m", "prefect", "block", "register", "-m", "blocks"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    kinds = (AzureCredential, AzureMLWorkspace, LocalWorkspace)
    assert "registered 3 blocks" in ended.stdout and all(kind.get_block_type_name() in ended.stdout for kind in kinds)
    async with get_client() as client:
        known = {kind.slug for kind in await client.read_block_types()}
    assert known >= {kind.get_block_type_slug() for kind in kinds}
