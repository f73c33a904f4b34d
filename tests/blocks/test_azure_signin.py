"""Every way to sign in to Azure ML, and the errors of credentials that fail."""

from __future__ import annotations

import copy
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from pydantic import SecretStr, ValidationError

from blocks.azure import AzureCredential, AzureMLWorkspace
from blocks.azure.credential import Tokens
from jobs.errors import InvalidInput, WorkspaceUnavailable
from tests.azure_fixtures import identity_endpoint, photos, stack, workspace
from tests.azureml.stack import AzureStack
from tests.waiting import until

__all__ = ["identity_endpoint", "stack", "workspace"]


T = TypeVar("T")


def test_a_service_principal_needs_all_of_its_fields() -> None:
    with pytest.raises(ValidationError, match="tenant_id, client_id, client_secret"):
        AzureCredential(method="service principal")


SECRET = "a secret, and a wrong one"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"client_secret": SecretStr(SECRET)}, "client_secret: "),
        ({"tenant_id": "a.b"}, "tenant_id: "),
        ({"client_id": "00000000-0000-0000-0000-000000000000"}, "client_id: "),
        ({"client_secret": None, "certificate": SecretStr("no PEM " + SECRET)}, "certificate: "),
        ({"method": "azure cli"}, "method: "),
    ],
)
def test_a_credential_that_does_not_sign_in(
    workspace: AzureMLWorkspace, change: dict[str, object], field: str, caplog: pytest.LogCaptureFixture
) -> None:
    credential = AzureCredential.model_validate({**dict(workspace.credential), **change})
    workspace = AzureMLWorkspace.model_validate({**dict(workspace), "credential": credential})
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidInput, match=field) as error:
        workspace.check()
    assert SECRET not in f"{error.value} {caplog.text} {workspace!r} {workspace} {credential.model_dump_json()}"
    assert "AADSTS" not in str(error.value)
    assert error.value.__suppress_context__


def test_a_certificate_signs_in(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    credential = AzureCredential(
        method="service principal",
        tenant_id=stack.tenant,
        client_id=stack.client_id,
        certificate=SecretStr(stack.client_certificate.read_text()),
    )
    AzureMLWorkspace.model_validate({**dict(workspace), "credential": credential}).check()


def test_a_managed_identity_signs_in(workspace: AzureMLWorkspace, identity_endpoint: list[str]) -> None:
    credential = AzureCredential(method="managed identity")
    AzureMLWorkspace.model_validate({**dict(workspace), "credential": credential}).check()
    assert identity_endpoint


@pytest.fixture
def az(stack: AzureStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an `az` that is signed in on the PATH. Return the file in which it records the resources of tokens.

    It takes as many seconds as $AZ_TAKES says.
    """
    asked, tokens = tmp_path / "asked", tmp_path / "tokens"
    tokens.mkdir()
    for resource in ("https://management.azure.com", "https://storage.azure.com"):
        token = {"accessToken": stack.sign_in.token(resource), "expires_on": int(time.time()) + 3600}
        told = {**token, "expiresOn": "", "subscription": stack.subscription, "tenant": stack.tenant}
        (tokens / resource.rpartition("/")[2]).write_text(json.dumps({**told, "tokenType": "Bearer"}))
    program = tmp_path / "bin" / "az"
    program.parent.mkdir()
    lines = ["#!/bin/sh", 'while [ "$1" != --resource ]; do shift; done', f'echo "$2" >> {asked}']
    program.write_text("\n".join([*lines, "sleep ${AZ_TAKES:-0}", f'exec cat {tokens}/"$(basename "$2")"', ""]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return asked


def test_the_azure_cli_signs_in_once_for_many_blobs(workspace: AzureMLWorkspace, az: Path, tmp_path: Path) -> None:
    workspace = by_cli(workspace)
    workspace.check()
    before = az.read_text().count("storage")
    capture = workspace.take_in("by-cli", photos(tmp_path / "many", *(b"%d" % index for index in range(20))), {})
    assert len(list(workspace.fetch(capture).iterdir())) == 20
    assert az.read_text().count("storage") - before <= 1


def by_cli(workspace: AzureMLWorkspace) -> AzureMLWorkspace:
    return AzureMLWorkspace.model_validate(
        {**dict(workspace), "credential": AzureCredential(), "datastore": "identityblobstore"}
    )


def at_once(calls: int, call: Callable[[], T]) -> list[T]:
    together = threading.Barrier(calls)
    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(lambda _: (together.wait(), call())[1], range(calls)))


def test_threads_share_one_call_of_a_slow_azure_cli(
    workspace: AzureMLWorkspace, az: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZ_TAKES", "1")
    workspace = by_cli(workspace)
    assert at_once(6, lambda: workspace.find_job("never-was")) == [None] * 6
    at_once(6, lambda: copy.deepcopy(workspace).dropped())
    assert sorted(az.read_text().split()) == ["https://management.azure.com", "https://storage.azure.com"]


@pytest.mark.slow
def test_an_azure_cli_that_takes_longer_than_the_sdk_waits_by_default(
    workspace: AzureMLWorkspace, az: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 s were seen; azure-identity gives up after 10 s."""
    monkeypatch.setenv("AZ_TAKES", "12")
    assert by_cli(workspace).find_job("never-was") is None


def test_an_azure_cli_that_is_too_slow_passes(
    workspace: AzureMLWorkspace, az: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.azure.credential._AZ_SECONDS", 1)
    monkeypatch.setenv("AZ_TAKES", "60")
    workspace = by_cli(workspace)
    with pytest.raises(WorkspaceUnavailable, match="never-was.* Azure CLI"):
        workspace.find_job("never-was")
    monkeypatch.setenv("AZ_TAKES", "0")
    assert workspace.find_job("never-was") is None


class Source:
    """Gives a token with a lifetime when `let` is set."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.lifetime, self.fails = 3600.0, False
        self.let = threading.Event()
        self.let.set()

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        self.asked.append((*scopes, *filter(None, options.values())))
        assert self.let.wait(30)
        if self.fails:
            raise ClientAuthenticationError("no")
        return AccessToken(str(len(self.asked)), int(time.time() + self.lifetime))


def test_a_token_is_kept_until_shortly_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    source, now = Source(), time.time()
    tokens = Tokens(source)

    def at(seconds: float, *scopes: str, **options: Any) -> str:
        monkeypatch.setattr(time, "time", lambda: now + seconds)
        return tokens.get_token(*scopes, **options).token

    assert [at(0, "a"), at(0, "b"), at(1, "a", enable_cae=True), at(3400, "a"), at(3400, "b")] == [
        "1",
        "2",
        "1",
        "1",
        "2",
    ]
    assert [at(3500, "a"), at(3500, "a"), at(3500, "a", tenant_id="t")] == ["3", "3", "4"]
    assert at(3500, "a", claims="prove it") == "5", "a challenge is answered with a new token"
    assert at(3500, "a") == "5", "which then counts"
    source.lifetime = 60  # as from a cache, part-used
    assert [at(9000, "a"), at(9020, "a"), at(9040, "a")] == ["6", "6", "7"]


def test_threads_share_a_failure_and_the_next_request_tries_again() -> None:
    source = Source()
    source.let.clear()
    source.fails = True
    tokens = Tokens(source)

    def ask() -> str:
        try:
            return tokens.get_token("a").token
        except ClientAuthenticationError as error:
            return str(error)

    def asked_once() -> bool:
        with tokens._lock:
            return len(source.asked) == 1

    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask) for _ in range(6)]
        until(asked_once)
        time.sleep(0.2)  # the others come to wait
        source.let.set()
        assert [each.result() for each in asking] == ["no"] * 6
    assert len(source.asked) == 1
    source.fails = False
    assert ask() == "2"


def test_no_managed_identity_here(workspace: AzureMLWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")  # where nothing answers
    credential = AzureCredential(method="managed identity")
    with pytest.raises(InvalidInput, match="method: "):
        AzureMLWorkspace.model_validate({**dict(workspace), "credential": credential}).check()


@pytest.mark.parametrize("method", ["service principal", "managed identity"])
def test_a_datastore_without_keys_is_opened_with_the_credential(
    workspace: AzureMLWorkspace, stack: AzureStack, identity_endpoint: list[str], tmp_path: Path, method: str
) -> None:
    credential = AzureCredential.model_validate({**dict(workspace.credential), "method": method})
    changed = {"credential": credential, "datastore": "identityblobstore"}
    workspace = AzureMLWorkspace.model_validate({**dict(workspace), **changed})
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    capture = workspace.take_in(f"by-{method.partition(' ')[0]}", {"photo.jpg": tmp_path / "photo.jpg"}, {})
    assert (workspace.fetch(capture) / "photo.jpg").read_bytes() == b"a photo"
    assert "datastores/identityblobstore" in capture.uri
    assert any("storage" in resource for resource in identity_endpoint) == (method == "managed identity")


@pytest.mark.parametrize("kind", ["refuse", "cut"])
def test_a_sign_in_that_is_not_reached_is_no_wrong_secret(
    workspace: AzureMLWorkspace, stack: AzureStack, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with (
        stack.faults.add(kind, "login"),
        pytest.raises(WorkspaceUnavailable, match="^credential: "),
    ):
        workspace.check()
    with stack.faults.add(kind, "login", times=1):
        workspace.check()
