from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["tests.azureml.plugin"]

# A home of its own: no test reads or writes a person's blocks, runs or results.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real Prefect server, on a database and results of its own."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small capture of the built-in street front: `photos/` and `truth.json`."""
    from jobs.facade import render_capture

    folder = tmp_path_factory.mktemp("street")
    render_capture(folder, photos=14, width=480, height=270)
    return folder
