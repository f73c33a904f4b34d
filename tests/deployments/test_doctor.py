"""`rebel-nerf doctor` on a machine that works, and on ones that do not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks import LocalWorkspace
from deployments.health import assets, machine
from deployments.health.finding import Finding, Level, run_checks
from jobs.errors import InvalidInput
from tests.processes import free_port
from tests.service import ROOT, Service


def doctor(environment: dict[str, str], *arguments: str) -> tuple[int, dict[str, str]]:
    """Run the doctor. Return its exit status, and the text of each check by the check's name."""
    command = [sys.executable, "-m", "deployments.command", "doctor", *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    said: dict[str, str] = {}
    name = ""
    for line in done.stdout.splitlines():
        if line.startswith(tuple(level.value + " " for level in Level)):
            name = line[9:24].strip()
        said[name] = f"{said.get(name, '')}{line}\n"
    assert not done.stderr or done.returncode, done.stderr
    return done.returncode, {**said, "errors": done.stderr}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    homes = {"REBEL_NERF_HOME": str(tmp_path / "home"), "PREFECT_HOME": str(tmp_path / "prefect")}
    # A server of the machine itself is not looked at.
    homes["PREFECT_SERVER_API_PORT"] = str(free_port())
    return {**kept, **homes, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def test_a_fresh_set_up_is_well(environment: dict[str, str]) -> None:
    status, said = doctor(environment)
    assert status == 0, said
    names = ("Python", "packages", "job packages", "GPU", "compiler", "disk", "permissions", "clock", "server")
    assert list(said)[: len(names)] == list(names)
    assert said["server"].startswith("ok") and said["workspace"].startswith("ok")


def test_each_fault_is_reported_with_its_remedy(environment: dict[str, str], tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}/api"
    (tmp_path / "home").write_text("a file where the folder should be")
    status, said = doctor({**environment, "PREFECT_API_URL": address})
    assert status == 1
    assert said["server"].startswith("WRONG") and address in said["server"] and "rebel-nerf server" in said["server"]
    assert "work pool" not in said, "without a server there is nothing to ask"
    assert said["permissions"].startswith("WRONG") and "Choose another root" in said["permissions"]
    assert "Something is wrong." in said["workspace"]


def test_a_damaged_password_is_a_line_among_others(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "rebel-nerf.toml").write_text("active =")
    status, said = doctor(environment)
    assert status == 1
    assert said["Python"].startswith("ok") and said["disk"]
    assert said["password"].startswith("WRONG") and "rebel-nerf.toml" in said["password"]


@pytest.mark.parametrize("package", ["prefect", "pydantic", "azure"])
def test_a_package_that_is_missing_is_said_in_one_line(
    environment: dict[str, str], tmp_path: Path, package: str
) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module named {package}', name='{package}')")
    status, said = doctor({**environment, "PYTHONPATH": str(tmp_path)})
    assert status == 1 and len(said["errors"].splitlines()) == 1
    assert f"No module named {package}" in said["errors"] and "make clean" in said["errors"]


def test_options_that_do_not_fit_together_are_refused(environment: dict[str, str]) -> None:
    status, said = doctor(environment, "--repair")
    assert status == 1 and "go with --assets" in said["errors"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "service")
    try:
        service.start_server()
        yield service
    finally:
        service.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_service_step_by_step(service: Service) -> None:
    status, said = doctor(service.environment)
    assert status == 1 and said["server"].startswith("ok") and said["password"].startswith("ok"), said
    assert said["work pool"].startswith("WRONG") and "rebel-nerf deploy" in said["work pool"]
    assert said["worker"].startswith("WRONG") and said["deployments"].startswith("WRONG")

    service.deploy()
    service.restart_worker()
    status, said = doctor(service.environment)
    assert status == 0, said
    for name in ("work pool", "worker", "deployments", "blocks"):
        assert said[name].startswith("ok"), said

    service.run("prefect", "work-pool", "pause", "rebel-nerf")
    status, said = doctor({**service.environment, "PREFECT_API_AUTH_STRING": "rebel-nerf:wrong"})
    assert status == 1 and "refused the password" in said["password"], said
    status, said = doctor(service.environment)
    assert status == 1 and "paused" in said["work pool"], said


def test_requirements_that_are_not_met_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, needs in (("needy", "pillow<1\nRequires-Dist: middle"), ("middle", "not-there>=2")):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {needs}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = sorted(machine.unmet_requirements("needy"))
    assert len(found) == 2 and found[0] == "middle needs not-there>=2, which is not installed"
    assert found[1].startswith("needy needs pillow<1, and ")
    assert not list(machine.unmet_requirements())


def test_the_interpreter_of_the_jobs_is_looked_into(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')  # has no packages
    bare.chmod(0o755)
    checks = dict(machine.checks(LocalWorkspace(root=tmp_path / "home", python=str(bare))))
    found = checks["job packages"]()
    assert found.level is Level.WRONG and "nerfstudio is not installed" in found.text and str(bare) in found.remedy
    checks = dict(machine.checks(LocalWorkspace(root=tmp_path / "home", python="no-such-python")))
    assert checks["job packages"]().level is Level.WRONG


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "pycolmap.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    found = dict(machine.checks(LocalWorkspace(root=tmp_path / "home", python=str(python))))["job packages"]()
    assert found.level is Level.WRONG and "pycolmap cannot be loaded: libGL.so.1" in found.text


def test_damaged_assets_are_reported_and_set_aside(tmp_path: Path) -> None:
    workspace = LocalWorkspace(root=tmp_path / "home", python="true")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("1.jpg", "2.jpg"):
        (photos / name).write_text(name)
    taken = workspace.take_in("street", {name: photos / name for name in ("1.jpg", "2.jpg")}, {})
    assert assets.check_assets(workspace, whole=True, repair=False) == Finding.ok(
        "1 assets are intact by their checksums"
    )
    photo = workspace.fetch(taken) / "2.jpg"
    photo.write_text("2.jpG")
    assert assets.check_assets(workspace, whole=False, repair=False).level is Level.OK
    found = assets.check_assets(workspace, whole=True, repair=False)
    assert found.level is Level.WRONG and "street:1: 2.jpg" in found.text and photo.is_file()
    assert "--whole --repair" in found.remedy, "without --whole, it would not be found again"
    found = assets.check_assets(workspace, whole=True, repair=True)
    assert found.level is Level.WARNING and "Set aside as" in found.text and not photo.exists()
    assert assets.check_assets(workspace, whole=True, repair=False).level is Level.OK
    again = workspace.take_in("street", {name: photos / name for name in ("1.jpg", "2.jpg")}, {})
    assert again.version == "2", "a version's number is never used twice"


def test_a_check_that_fails_itself_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> Finding:
        raise InvalidInput("there is no such block")

    def broken() -> Finding:
        raise ZeroDivisionError("by chance")

    checks = [("first", refused), ("second", broken), ("third", lambda: Finding.warning("two\nlines", "do this"))]
    assert run_checks(checks) is Level.WRONG
    said = capsys.readouterr().out
    assert "WRONG    first          there is no such block" in said and "ZeroDivisionError: by chance" in said
    assert f"warning  third          two\n{'':24}lines\n{'':24}→ do this\n" in said
