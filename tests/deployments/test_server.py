"""This machine's Prefect server lets nobody in but its user, who does not notice."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import prefect
import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
    temporary_settings,
)

from flows.nerf import nerf
from jobs.errors import InvalidInput, ServerUnavailable
from tasks import check_server
from tasks.sign_in import client_settings, password_file, server_settings, sign_in_settings
from tests.service import ROOT, Service

FOREIGN = "http://evil.example"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"), first_start=True)
    try:
        address = service.environment.pop("PREFECT_API_URL")  # a person who starts a server has set none
        service.start_server()
        service.environment["PREFECT_API_URL"] = address
        yield service
    finally:
        service.close()


def blocks_of(service: Service, **headers: str) -> httpx.Response:
    """Return the server's answer to a request for all blocks with their secrets."""
    url = f"{service.url}/block_documents/filter"
    return httpx.post(url, json={"include_secrets": True}, headers=headers, timeout=60)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def test_blocks_are_read_with_the_password_only(service: Service) -> None:
    assert blocks_of(service).status_code == 401
    assert blocks_of(service, Authorization=basic("rebel-nerf:")).status_code == 401
    assert blocks_of(service, Authorization=basic(service.password)).status_code == 200
    settings = httpx.get(f"{service.url.removesuffix('/api')}/ui-settings").json()
    assert settings["auth"] == "BASIC", "the UI asks for it"
    assert settings["api_url"] == f"http://127.0.0.1:{service.port}/api", "the UI calls the server that it comes from"


@pytest.mark.parametrize(("origin", "lets"), [(FOREIGN, False), ("null", False), ("http://localhost", True)])
def test_only_the_uis_own_pages_may_ask(service: Service, origin: str, lets: bool) -> None:
    origin += f":{service.port}" if lets else ""
    signed_in = {"Authorization": basic(service.password), "Origin": origin}
    answer = blocks_of(service, **signed_in)
    assert answer.headers.get("access-control-allow-origin") == (origin if lets else None)
    asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = httpx.options(f"{service.url}/block_documents/filter", headers=asking)
    assert answer.headers.get("access-control-allow-origin") == (origin if lets else None)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("quay-2", ""), ("Quay", "letters, digits and hyphens"), ("quay-nerf", "another ending"), (2, "2 is not")],
)
def test_the_form_says_in_words_what_a_scenes_name_must_be(service: Service, name: object, wrong: str) -> None:
    asked = {"schema": nerf.parameters.model_dump(mode="json"), "values": {"scene": name}}
    user = {"Authorization": basic(service.password)}
    answer = httpx.post(f"{service.url}/ui/schemas/validate", json=asked, headers=user, timeout=60).json()
    said = [error for each in answer["errors"] for error in each["errors"]]
    assert len(said) == bool(wrong) and all(wrong in each and "[" not in each for each in said)


def test_a_second_server_is_refused_in_one_line(service: Service) -> None:
    command = [sys.executable, "-m", "deployments.server", "--port", str(service.port)]
    done = subprocess.run(command, cwd=ROOT, env=service.environment, capture_output=True, text=True, timeout=120)
    [line] = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 1 and f"127.0.0.1:{service.port}" in line


def test_files_of_the_server_are_private(service: Service) -> None:
    assert service.prefect_home.stat().st_mode & 0o777 == 0o700
    files = [path for path in service.prefect_home.rglob("*") if path.is_file()]
    assert {"prefect.db", "rebel-nerf.toml"} <= {file.name for file in files}
    assert [file.name for file in files if file.stat().st_mode & 0o077] == []


@pytest.mark.parametrize(
    "command",
    [
        ("flows.clean_up",),
        ("commands.list", "--workspace", "rebel-nerf-local-workspace/x"),
        ("deployments.worker",),
    ],
    ids=lambda command: command[0],
)
def test_a_wrong_password_is_reported_in_one_line(service: Service, command: tuple[str, ...]) -> None:
    wrong = {**service.environment, "PREFECT_API_AUTH_STRING": "rebel-nerf:wrong"}
    ended = subprocess.run([sys.executable, "-m", *command], env=wrong, cwd=ROOT, capture_output=True, text=True)
    [said] = (ended.stdout + ended.stderr).strip().splitlines()
    assert ended.returncode == 1 and "401 Unauthorized" in said and service.url in said


def test_a_server_that_is_not_prefects_or_of_another_version_is_named(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_settings({PREFECT_API_URL: service.url, PREFECT_API_AUTH_STRING: service.password}):
        check_server()
        monkeypatch.setattr(prefect, "__version__", "2.20.0")
        with pytest.raises(ServerUnavailable, match=r"this is Prefect 2\.20\.0"):
            check_server()
        ui = service.url.removesuffix("/api")
        with (
            temporary_settings({PREFECT_API_URL: ui}),
            pytest.raises(ServerUnavailable, match=f"{ui} .* not a Prefect"),
        ):
            check_server()


@pytest.mark.timeout(900)
def test_worker_commands_and_deployments_sign_in_by_themselves(service: Service, tmp_path: Path) -> None:
    service.deploy()
    service.start_worker()
    watched = service.run("prefect", "deployment", "run", "clean-up/jobs", "--watch")
    assert "Nothing to do" in watched
    assert "look for jobs" not in service.log("worker"), "housekeeping that goes well is no news"
    service.run("flows.clean_up")
    secret = service.password.partition(":")[2]
    for name in ("server", "worker"):
        assert secret not in service.log(name)
        assert secret not in Path(f"/proc/{service.pid(name)}/cmdline").read_text()
    assert secret not in Path(f"/proc/{service.pid('worker')}/environ").read_text()
    service.end("worker")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with temporary_settings({PREFECT_HOME: tmp_path / "prefect", PREFECT_API_URL: "http://127.0.0.1:4200/api"}):
        yield tmp_path / "prefect"


def test_the_password_is_created_once(home: Path) -> None:
    # Each caller has the settings of this test, and all of them come at once.
    program = (
        "from tasks.sign_in import client_settings as s; print(*(found.get_secret_value() for found in s().values()))"
    )
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": "http://127.0.0.1:4200/api"}

    def ask(_: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    with ThreadPoolExecutor() as pool:
        said = set(pool.map(ask, range(2)))
    [value] = client_settings().values()
    assert said == {value.get_secret_value() + "\n"}
    assert password_file().stat().st_mode & 0o777 == 0o600
    assert [file.name for file in home.iterdir() if "rebel-nerf" in file.name] == ["rebel-nerf.toml"]
    assert server_settings(4300) == {
        PREFECT_SERVER_API_AUTH_STRING: value,
        PREFECT_SERVER_CORS_ALLOWED_ORIGINS: ",".join(
            f"http://{host}" for host in ("127.0.0.1:4200", "127.0.0.1:4300", "localhost:4300")
        ),
    }


def test_a_password_created_by_another_process_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one comes after this one has seen that there is none, and before it has written its own."""
    monkeypatch.setattr(secrets, "token_urlsafe", lambda size: "the others")
    [others] = client_settings().values()
    content = password_file().read_text()
    password_file().unlink()

    def meanwhile(size: int) -> str:
        password_file().write_text(content)
        return "our own"

    monkeypatch.setattr(secrets, "token_urlsafe", meanwhile)
    assert list(client_settings().values()) == [others] and password_file().read_text() == content


@pytest.mark.parametrize(
    "own",
    [
        {PREFECT_API_URL: "https://prefect.example.org/api"},
        {PREFECT_API_URL: "http://127.0.0.1.example.org:4200/api"},
        {PREFECT_API_KEY: "pnu_1"},
        {PREFECT_API_AUTH_STRING: "me:mine"},
    ],
)
def test_the_password_goes_nowhere_else_and_what_the_user_set_stays(home: Path, own: dict[Any, Any]) -> None:
    with temporary_settings(own):
        assert client_settings() == sign_in_settings() == {}
        assert not password_file().exists()


def test_a_users_own_password_is_that_of_server_and_clients(home: Path) -> None:
    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: "me:mine"}):
        [own] = client_settings().values()
        assert own.get_secret_value() == "me:mine" and PREFECT_SERVER_API_AUTH_STRING not in server_settings()
    with temporary_settings({PREFECT_API_AUTH_STRING: "me:mine"}):
        assert server_settings()[PREFECT_SERVER_API_AUTH_STRING].get_secret_value() == "me:mine"
    with temporary_settings({PREFECT_SERVER_CORS_ALLOWED_ORIGINS: FOREIGN}):
        assert PREFECT_SERVER_CORS_ALLOWED_ORIGINS not in server_settings()


def test_a_server_that_prefect_starts_for_a_command_is_shut_too(home: Path) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        settings = sign_in_settings()
    assert settings[PREFECT_SERVER_API_AUTH_STRING] == settings[PREFECT_API_AUTH_STRING]
    assert FOREIGN not in settings[PREFECT_SERVER_CORS_ALLOWED_ORIGINS] != "*"


@pytest.mark.parametrize("content", ["", "[profiles", "[profiles]\nrebel-nerf = 1", "[profiles.rebel-nerf]"])
def test_a_damaged_password_says_what_to_do(home: Path, content: str) -> None:
    client_settings()
    password_file().write_text(content)
    with pytest.raises(InvalidInput, match=r"rebel-nerf\.toml "):
        client_settings()
