from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobs.radiance  # noqa: F401 – before any test imports nerfstudio, which then starts without torch's compiler

pytest_plugins = ["tests.azureml.plugin"]

# A separate home, so that no test reads or writes a person's blocks, runs or results.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# Several processes share the cores. With more threads in each, most would spin while they wait for a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if not shutil.which("nvidia-smi"):  # without a GPU, kernels run in Triton's interpreter: it asks when it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")


# Folders and files by how long they take: quick ones come last, so that no process is left with a long file.
LONGEST_FIRST = (
    *("flows", "commands", "faults", "deployments", "tasks", "blocks", "azureml"),
    *("jobs/test_train.py", "jobs/test_captures.py", "jobs/test_prepare.py", "jobs/sfm", "jobs"),
)


def pytest_collection() -> None:
    """Import all tests without a garbage collector, which would take a quarter of the time and find nothing."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Never look for garbage among the million objects that the imports made: they live until the end."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files in the order of LONGEST_FIRST, unless the order is to be random."""
    if config.pluginmanager.hasplugin("randomly"):
        return
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(tests)
        return next((n for n, path in enumerate(LONGEST_FIRST) if file.is_relative_to(path)), len(LONGEST_FIRST))

    items.sort(key=place)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Yield a real Prefect server, on a database and results of its own.

    Each process has one: what tests do at the same time, to deployments and blocks of the same names, does not mix.
    """
    from prefect import results
    from prefect.settings import PREFECT_API_SSL_CERT_FILE, temporary_settings
    from prefect.testing import utilities

    from tests.azureml.tls import write_certificates
    from tests.made_once import prefect_database

    folder = tmp_path_factory.mktemp("prefect")
    # Each of Prefect's clients reads the authorities that it trusts, all 140 by default, though this server has no TLS.
    write_certificates(folder / "certificates")
    one = {PREFECT_API_SSL_CERT_FILE: str(folder / "certificates/ca.pem")}
    shutil.copyfile(prefect_database(), folder / "prefect-test.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utilities, "mkdtemp", lambda: str(folder))  # where the harness has its database
        # It opens a connection for every run and closes none. It would find what the server has: no default storage.
        patch.setattr(results, "_read_server_default_result_storage_block_id", lambda: None)
        with temporary_settings(one), utilities.prefect_test_harness(server_startup_timeout=180):
            yield


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small capture of the built-in street front: `photos/` and `truth.json`."""
    from tests import made_once

    return Path(shutil.copytree(made_once.street(), tmp_path_factory.mktemp("street"), dirs_exist_ok=True))


@pytest.fixture(scope="session")
def tiny_dataset(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built-in street front with its true poses as a dataset, in metres."""
    folder = tmp_path_factory.mktemp("tiny") / "dataset"
    shutil.copytree(street, folder)
    (folder / "truth.json").rename(folder / "transforms.json")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_dataset: Path) -> Path:
    """Return a nerfacto that was trained on `tiny_dataset` for a few steps: a fog in the colours of the street."""
    pytest.importorskip("nerfstudio")
    from tests import made_once

    return Path(shutil.copytree(made_once.tiny_model(), tiny_dataset.parent / "model"))


@pytest.fixture(scope="session")
def job_python() -> Path:
    """Return the interpreter of the job environment, with exactly what its lock lists."""
    from tests import job_environment

    base = job_environment.find_python()
    if base is None:
        pytest.skip(job_environment.NONE)
    return job_environment.make(base)
