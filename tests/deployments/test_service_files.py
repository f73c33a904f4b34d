"""The files by which systemd and Docker run the service."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import CliApp

from deployments.azure.events import Events
from deployments.command import COMMANDS
from deployments.worker import Worker
from tests.service import ROOT

FOLDER = ROOT / "deployments" / "service"
UNITS = sorted(FOLDER.glob("*.service"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_a_unit(unit: Path, tmp_path: Path) -> None:
    program = tmp_path / "rebel-nerf/.venv/bin/rebel-nerf"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for each in UNITS:
        (tmp_path / each.name).write_text(each.read_text().replace("%h", str(tmp_path)))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "rebel-nerf" in line]
    assert not ours, ours


def assert_accepted(command: list[str]) -> None:
    """Assert that a command exists, and that worker and relay have the options of a command line."""
    assert " ".join(command[: 2 if command[0] == "azure" else 1]) in COMMANDS
    if command[0] == "worker":
        assert CliApp.run(Worker, cli_args=command[1:]).metrics_port == 9464
    if command[0] == "azure":
        assert CliApp.run(Events, cli_args=command[2:]).port == 8081


def test_units_run_commands_that_exist_and_jobs_outlive_the_worker() -> None:
    assert {unit.stem for unit in UNITS} == {"rebel-nerf-relay", "rebel-nerf-server", "rebel-nerf-worker"}
    for unit in UNITS:
        parsed = configparser.ConfigParser(interpolation=None, strict=False)
        parsed.optionxform = str  # type: ignore[assignment, method-assign]
        parsed.read(unit)
        program, *command = parsed["Service"]["ExecStart"].split()
        assert program.endswith(".venv/bin/rebel-nerf")
        assert_accepted(command)
        assert parsed["Service"]["UMask"] == "0077"
        if "worker" in unit.stem:
            assert parsed["Service"]["KillMode"] == "process"


@pytest.fixture
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return content


def test_the_containers_run_commands_that_exist(compose: dict[str, Any]) -> None:
    for name in ("server", "worker", "relay"):
        program, *command = compose["services"][name]["command"]
        assert program == "rebel-nerf"
        assert_accepted(command)
        build = compose["services"][name]["build"]
        context = (FOLDER / build["context"]).resolve()
        assert context == ROOT and (context / build["dockerfile"]).is_file()


def test_no_container_is_open_to_the_network_or_has_a_password_of_its_own(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    for service in compose["services"].values():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable or "AUTH" in variable or variable.endswith("_KEY"):
                assert "${" in value, f"{variable} is written down"


def test_the_container_has_the_libraries_that_the_job_image_has() -> None:
    """Both install the same packages of Python; that of Azure ML has been built."""

    def libraries(dockerfile: Path) -> set[str]:
        lines = dockerfile.read_text().replace("\\\n", " ").splitlines()
        return {word for line in lines if "apt-get install" in line for word in line.split() if word.startswith("lib")}

    ours = libraries(FOLDER / "Dockerfile")
    assert libraries(ROOT / "deployments/azure/Dockerfile") <= ours and {"libgl1", "libgomp1"} <= ours
