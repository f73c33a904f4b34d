"""An Azure ML workspace, through the real SDKs, on the emulator; its jobs and its blobs are real."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.mgmt.core.exceptions import ARMErrorFormat
from pydantic import SecretStr, ValidationError

from blocks import JobSpec, JobState
from blocks.azure import AzureCredential, AzureMLWorkspace
from blocks.azure.credential import Tokens
from blocks.azure.errors import plain_errors, translate
from blocks.azure.status import node_lost
from jobs import code
from jobs.errors import InvalidInput, NotFound, WorkspaceUnavailable
from tests.azure_fixtures import identity_endpoint, stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["identity_endpoint", "stack", "workspace"]

T = TypeVar("T")


def facade(name: str, attempt: int = 1, **more: object) -> JobSpec:
    given = {"family": name, "scene": "street", "stage": "facade", "outputs": ("capture",), "tier": "cpu"}
    size = ("--photos", "8", "--width", "64", "--height", "48")
    arguments = ("--output", "{outputs.capture}", *size)
    return JobSpec.model_validate({**given, "arguments": arguments, "attempt": attempt, **more})


def wait(workspace: AzureMLWorkspace, job: JobSpec, seconds: float = 120) -> JobState:
    deadline = time.monotonic() + seconds
    while not (status := workspace.find_job(job.name)) or not status.state.ended:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)
    return status.state


def test_a_workspace_that_is_in_order(workspace: AzureMLWorkspace) -> None:
    workspace.check()
    assert workspace.has_gpu()


def test_a_job_runs_to_its_end_and_its_output_becomes_an_asset(workspace: AzureMLWorkspace) -> None:
    job = facade("street-facade-1-abcd")
    assert workspace.find_job(job.name) is None
    submitted = workspace.submit(job)
    assert submitted.url.startswith("https://ml.azure.com/runs/street-facade-1-abcd-1")
    assert workspace.submit(job).name == job.name
    state = wait(workspace, job)
    text, offset = workspace.read_log(job.name, 0)
    assert state is JobState.COMPLETED, text
    assert '{"stage"' in text and text.endswith("\n")
    assert workspace.read_log(job.name, offset) == ("", offset)

    with pytest.raises(NotFound, match="no longer has the output 'video'"):
        workspace.output_sizes(job.name, "video")
    sizes = workspace.output_sizes(job.name, "capture")
    assert sizes["truth.json"] > 0 and len([name for name in sizes if name.startswith("photos/")]) == 8
    asset = workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {"scene": "street"})
    assert (asset.kind, asset.tags) == ("dataset", {"scene": "street"})
    assert workspace.find_asset("street-photos", "1-abcd") == asset
    assert workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {}) == asset
    assert workspace.assets("street-photos") == [asset]
    folder = workspace.fetch(asset)
    assert len(list((folder / "photos").glob("*.jpg"))) == 8
    assert (folder / "truth.json").is_file()
    assert workspace.fetch(asset) == folder


# fields


@pytest.mark.parametrize("block", [AzureCredential, AzureMLWorkspace])
def test_every_field_says_what_it_is(block: type[AzureCredential] | type[AzureMLWorkspace]) -> None:
    assert all(field.description for field in block.model_fields.values())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subscription_id", "mine"),
        ("resource_group", ""),
        ("workspace", "x"),
        ("gpu_cluster", "gpu cluster"),
        ("environment", "a:b:c"),
        ("captures", "../x"),
        ("ssh_public_key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ],
)
def test_a_wrong_field_is_named_when_the_block_is_created(workspace: AzureMLWorkspace, field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field):
        AzureMLWorkspace.model_validate({**workspace.model_dump(), "credential": workspace.credential, field: value})


def test_a_service_principal_needs_all_of_its_fields() -> None:
    with pytest.raises(ValidationError, match=r"tenant_id, client_id, client_secret \(or certificate\)"):
        AzureCredential(method="service principal")


SECRET = "a secret, and a wrong one"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client_secret": SecretStr(SECRET)}, "client_secret: Azure does not know this secret"),
        ({"tenant_id": "a.b"}, "tenant_id: there is no such tenant"),
        ({"client_id": "00000000-0000-0000-0000-000000000000"}, "client_id: there is no such application"),
        ({"client_secret": None, "certificate": SecretStr("no PEM " + SECRET)}, "certificate: it is not PEM text"),
        ({"method": "azure cli"}, "method: "),
    ],
)
def test_a_credential_that_does_not_sign_in(
    workspace: AzureMLWorkspace, change: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    credential = AzureCredential.model_validate({**dict(workspace.credential), **change})
    workspace = AzureMLWorkspace.model_validate({**dict(workspace), "credential": credential})
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidInput, match=said) as error:
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
    """An `az` that is signed in, on the path; the file in which it notes for what it was asked for a token. It takes as
    many seconds as $AZ_TAKES says."""
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
    changed = {"credential": AzureCredential(), "datastore": "identityblobstore"}
    workspace = AzureMLWorkspace.model_validate({**dict(workspace), **changed})
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
    with pytest.raises(WorkspaceUnavailable, match="job never-was: .*the Azure CLI gave no token within 1 s"):
        workspace.find_job("never-was")
    monkeypatch.setenv("AZ_TAKES", "0")
    assert workspace.find_job("never-was") is None


class Source:
    """Gives tokens of some lifetime, each after it was let to."""

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.lifetime, self.fails = lifetime, False
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
        eventually(asked_once)
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workspace", "other"),
        ("resource_group", "other"),
        ("subscription_id", "00000000-0000-0000-0000-000000000000"),
        ("cpu_cluster", "nowhere"),
        ("gpu_cluster", "nowhere"),
        ("environment", "nothing"),
        ("environment", "rebel-nerf:99"),
        ("datastore", "nothing"),
    ],
)
def test_a_field_that_names_nothing(workspace: AzureMLWorkspace, field: str, value: str) -> None:
    wrong = AzureMLWorkspace.model_validate({**dict(workspace), field: value})
    with pytest.raises(InvalidInput, match=f"{field}: there is no"):
        wrong.check()


def test_a_missing_role(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    with stack.faults.add("forbidden"), pytest.raises(InvalidInput, match="lacks a role.*AzureML Data Scientist"):
        workspace.check()
    with (
        stack.faults.add("forbidden", "PUT .*/jobs/"),
        pytest.raises(InvalidInput, match="submitting job barred-1.*lacks a role"),
    ):
        workspace.submit(facade("barred"))


@pytest.mark.parametrize(
    ("kind", "meaning", "words"),
    [
        ("linked", "Managed Identity Operator", "LinkedAuthorizationFailed.*userAssignedIdentities/assign/action"),
        ("forbidden", "lacks a role.*AzureML Data Scientist", "AuthorizationFailed.*jobs/write"),
    ],
)
def test_a_refusal_is_reported_with_its_reason(
    workspace: AzureMLWorkspace, stack: AzureStack, kind: str, meaning: str, words: str
) -> None:
    with (
        stack.faults.add(kind, "PUT .*/jobs/"),
        pytest.raises(InvalidInput, match=f"submitting job barred-1: .*{meaning}.*Azure says: .*{words}") as error,
    ):
        workspace.submit(facade("barred"))
    assert ("lacks a role" in str(error.value)) == (kind == "forbidden")


@pytest.mark.parametrize(
    ("kind", "meaning", "words"),
    [
        (
            "keyless",
            "neither account keys nor signatures.*--system-datastores-auth-mode identity",
            "Key based authentication is not permitted on this storage account. .KeyBasedAuthenticationNotPermitted, "
            "HTTP 403",
        ),
        (
            "firewall",
            "network rules",
            "This request is not authorized to perform this operation. .AuthorizationFailure",
        ),
        ("read_only_sas", "lacks a role on the storage account.*Storage Blob Data Contributor", "PermissionMismatch"),
    ],
)
def test_a_refusal_of_storage_is_reported_with_its_reason(
    workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path, kind: str, meaning: str, words: str
) -> None:
    given = photos(tmp_path / "a", b"one")
    with stack.faults.add(kind), pytest.raises(InvalidInput, match=f"{meaning}.*Azure says: .*{words}") as error:
        workspace.take_in("barred", given, {})
    assert "sig=" not in str(error.value) and "Data Scientist" not in str(error.value)


@pytest.mark.parametrize(("kind", "meaning"), [("keyless", "neither account keys"), ("firewall", "network rules")])
def test_a_refusal_met_by_the_sdk_is_reported_with_its_reason(
    workspace: AzureMLWorkspace, stack: AzureStack, kind: str, meaning: str
) -> None:
    job = facade(kind, files={"new.txt": str(time.time_ns())})  # else the SDK finds the code uploaded
    with stack.faults.add(kind), pytest.raises(InvalidInput, match=f"submitting job {kind}-1: .*{meaning}.*Azure says"):
        workspace.submit(job)


def test_a_refusal_that_the_sdk_wraps_in_a_bare_exception(
    workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path
) -> None:
    from azure.ai.ml.entities import BuildContext, Environment

    (tmp_path / "Dockerfile").write_text(f"FROM ubuntu\n# {time.time_ns()}")
    environment = Environment(name="keyless", version="1", build=BuildContext(path=tmp_path))
    with (
        stack.faults.add("keyless"),
        pytest.raises(InvalidInput, match="environment: the storage account accepts neither account keys"),
        plain_errors("environment"),
    ):
        workspace.client.environments.create_or_update(environment)


def test_a_policy_that_denies_a_cluster_is_named(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    from azure.ai.ml.entities import AmlCompute

    policy = "Deny-MachineLearning-Compute-SubnetId"
    cluster = AmlCompute(name="denied", size="Standard_DS2_v2")
    meaning = f"a policy of your organization forbids it.*«{policy}» \\(assignment «Company guardrails»\\)"
    words = f"Azure says: .*RequestDisallowedByPolicy.*was disallowed by policy.*{policy}"
    with (
        stack.faults.add("policy", policy),
        pytest.raises(InvalidInput, match=f"cluster denied: {meaning}.*{words}"),
        plain_errors("cluster denied"),
    ):
        workspace.client.compute.begin_create_or_update(cluster).result()


def test_a_policy_is_named_however_much_azure_says_of_it() -> None:
    fault = ARMErrorFormat(
        {
            "code": "Failed",
            "message": "x" * 5000 + " sig=secret",
            "details": [
                {
                    "code": "RequestDisallowedByPolicy",
                    "message": "no",
                    "additionalInfo": [{"type": "PolicyViolation", "info": {"policyDefinitionName": "Deny-All"}}],
                }
            ],
        }
    )
    error = HttpResponseError("no")
    error.error, error.status_code = fault, 200  # as at the end of a long-running operation
    said = str(translate(error, "cluster gpu"))
    assert "cluster gpu: a policy of your organization" in said and "Policy: «Deny-All»." in said
    assert len(said) < 2000


def test_blocks_can_be_copied_and_sent_elsewhere(workspace: AzureMLWorkspace) -> None:
    workspace.check()
    assert copy.deepcopy(workspace).client is workspace.client
    other = pickle.loads(pickle.dumps(workspace))
    assert other.client is not workspace.client
    other.check()


def test_the_sdk_is_imported_when_it_is_used() -> None:
    program = "import blocks, sys; assert not {'azure.ai', 'azure.identity', 'azure.storage'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


# captures


def photos(folder: Path, *contents: bytes) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    files = {f"{index}.jpg": folder / f"{index}.jpg" for index in range(len(contents))}
    for file, content in zip(files.values(), contents, strict=True):
        file.write_bytes(content)
    return files


def test_captures_are_versions_of_their_content(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    first = workspace.take_in("square", photos(tmp_path / "a", b"one", b"two"), {"source": "a"})
    assert (first.version, first.kind) == ("1", "capture")
    assert first.tags["scene"] == "square" and first.tags["source"] == "a"
    assert workspace.take_in("square", photos(tmp_path / "b", b"two", b"one"), {}) == first
    second = workspace.take_in("square", photos(tmp_path / "c", b"three"), {})
    assert second.version == "2"
    assert workspace.assets("square") == [first, second]
    assert (workspace.fetch(first) / "1.jpg").read_bytes() == b"two"
    assert workspace.read(first, "1.jpg") == b"two"
    with pytest.raises(NotFound, match="square:1 has no file 2.jpg"):
        workspace.read(first, "2.jpg")
    assert workspace.dropped("square") == []


def test_photos_uploaded_by_hand_are_taken_in(workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path) -> None:
    workspace.take_in("market", photos(tmp_path / "a", b"one"), {})
    put(workspace, photos(tmp_path / "b", b"two", b"three"), "captures/market/2026-11/")
    put(workspace, {"notes.txt": tmp_path / "b" / "0.jpg", ".part.jpg": tmp_path / "b" / "0.jpg"}, "captures/market/")
    [dropped] = workspace.dropped("market")
    assert dropped.files.keys() == {"2026-11/0.jpg", "2026-11/1.jpg"} and dropped.size == len(b"two" + b"three")
    assert workspace.find_capture(dropped) is None
    asset = workspace.take_in_dropped(dropped, {"source": "by hand"})
    assert (asset.version, asset.tags["content"]) == ("2", dropped.content)
    assert workspace.take_in_dropped(dropped, {}) == asset == workspace.find_capture(dropped)
    put(workspace, photos(tmp_path / "c", b"four"), "captures/market/new/")
    [grown] = workspace.dropped("market")
    assert workspace.find_capture(grown) is None
    gone = replace(dropped.files["2026-11/0.jpg"], checksum="of one that is gone")
    with pytest.raises(InvalidInput, match="market.*changed since it was listed"):
        workspace.take_in_dropped(replace(dropped, files={**dropped.files, "gone.jpg": gone}), {})
    folder = workspace.fetch(asset)
    assert {file.read_bytes() for file in folder.rglob("*.jpg")} == {b"two", b"three"}, "a version does not grow"


def test_the_same_photos_under_other_names_are_the_same_version(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    workspace = workspace.model_copy(update={"captures": "places"})
    first = workspace.take_in("bazaar", photos(tmp_path / "a", b"one", b"two"), {})
    put(workspace, {"x.jpg": tmp_path / "a" / "1.jpg", "y.JPG": tmp_path / "a" / "0.jpg"}, "places/bazaar/")
    [dropped] = workspace.dropped("bazaar")
    assert workspace.find_capture(dropped) == first


def test_the_content_and_age_of_all_folders(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    workspace = workspace.model_copy(update={"captures": "all"})
    put(workspace, photos(tmp_path / "a", b"one"), "all/a & b/ä +%/")
    time.sleep(1.5)
    put(workspace, photos(tmp_path / "b", b"one"), "all/")
    put(workspace, photos(tmp_path / "b", b"one"), "all/town/")
    container = workspace._connection.store()[1]
    container._client.get_blob_client("all/town/tour.mov").stage_block("YQ==", b"begun")
    found = {each.scene: each for each in workspace.dropped()}
    assert found.keys() == {"a & b", "0.jpg", "town"}
    assert found["a & b"].files.keys() == {"ä +%/0.jpg"}
    assert found["a & b"].age > found["town"].age >= 0
    assert found["town"].uploading == ("tour.mov",) and found["town"].files.keys() == {"0.jpg"}
    assert not found["a & b"].uploading


@pytest.mark.parametrize("datastore", [None, "identityblobstore"])
def test_copies_within_the_store(workspace: AzureMLWorkspace, datastore: str | None, tmp_path: Path) -> None:
    workspace = workspace.model_copy(update={"datastore": datastore})
    container = workspace._connection.store()[1]
    put(workspace, photos(tmp_path / "a", b"one", b"", b"three"), "from/a + ü/")
    listed = container.blobs("from/")
    container.copy("from/", listed, "to/")
    copied = container.blobs("to/")
    assert [(blob.path, blob.md5) for blob in copied] == [(blob.path, blob.md5) for blob in listed]
    container.copy("from/", listed, "to/")
    assert [blob.etag for blob in container.blobs("to/")] == [blob.etag for blob in copied], "what is there is kept"
    container.write("from/a + ü/0.jpg", b"another")
    with pytest.raises(InvalidInput, match="it changed while it was read"):
        container.copy("from/", listed, "elsewhere/")
    container._client.delete_blob("from/a + ü/0.jpg")
    with pytest.raises(NotFound, match="from/a . ü/0.jpg"):
        container.copy("from/", listed, "elsewhere/")


def put(workspace: AzureMLWorkspace, files: dict[str, Path], prefix: str) -> None:
    from blocks.azure.files import md5s

    workspace._connection.store()[1].upload(files, md5s(files), prefix, lambda done, total: None)


def test_a_capture_registered_by_hand(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Data

    put(workspace, photos(tmp_path / "a", b"one", b"two"), "captures/old-town/1/")
    path = "azureml://datastores/workspaceblobstore/paths/captures/old-town/1"
    workspace.client.data.create_or_update(Data(name="old-town", version="1", path=path, type="uri_folder"))
    [asset] = workspace.assets("old-town")
    assert asset.kind == "capture" and asset.tags["scene"] == "old-town"
    assert workspace.take_in("old-town", photos(tmp_path / "b", b"two", b"one"), {}).version == "1"
    [dropped] = workspace.dropped("old-town")
    assert workspace.find_capture(dropped) == asset
    put(workspace, photos(tmp_path / "c", b"three"), "captures/old-town/2/")
    [dropped] = workspace.dropped("old-town")
    assert workspace.find_capture(dropped) is None
    later = workspace.take_in_dropped(dropped, {})
    assert {file.name for file in workspace.fetch(later).rglob("*.jpg")} == {"0.jpg"}, "what is registered is left out"
    assert workspace.find_capture(dropped) == later


# jobs and assets


def test_a_model_is_a_model_and_links_to_its_job(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    job = facade("atrium-facade-1-beef", scratch=("checkpoints",))
    put(workspace, photos(tmp_path / "a", b"one"), "rebel-nerf/scratch/atrium-facade-1-beef/checkpoints/")
    workspace.submit(job)
    assert wait(workspace, job) is JobState.COMPLETED
    with pytest.raises(NotFound, match="no longer has the output 'video'"):
        workspace.register(job, "video", "atrium-video", "1-beef", "video", {})
    model = workspace.register(job, "capture", "atrium-nerf", "1-beef", "model", {"x" * 120: "y" * 1200})
    assert (model.kind, model.version, model.number) == ("model", "1-beef", 1)
    assert workspace.find_asset("atrium-nerf", "1-beef") == model
    assert workspace.assets("atrium-nerf") == [model]
    assert workspace.client.models.get("atrium-nerf", "1").job_name == job.name
    assert (workspace.fetch(model) / "truth.json").is_file()
    assert workspace._connection.store()[1].blobs("rebel-nerf/scratch/atrium-facade-1-beef/") == []
    # and is an input of other jobs
    seen = facade("atrium-facade-1-feed", inputs={"model": model}, tags={"scene": "atrium"})
    workspace.submit(seen)
    assert wait(workspace, seen) is JobState.COMPLETED


def test_an_input_that_is_gone(workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path) -> None:
    asset = workspace.take_in("gone", photos(tmp_path / "a", b"one"), {})
    stack.delete_blobs(asset.uri)
    with pytest.raises(NotFound, match="asset gone:1 is archived or no longer in"):
        workspace.submit(facade("gone-facade-1", inputs={"images": asset}))
    with pytest.raises(NotFound, match="asset gone:1"):
        workspace.fetch(asset)
    stack.delete_asset("data", "gone", "1")
    assert workspace.find_asset("gone", "1") is None
    with pytest.raises(NotFound, match="asset gone:1 is archived or no longer in"):
        workspace.submit(facade("gone-facade-1", inputs={"images": asset}))


def test_the_message_of_a_failed_job(workspace: AzureMLWorkspace) -> None:
    job = facade("street-nothing-1", stage="nothing")
    workspace.submit(job)
    assert wait(workspace, job) is JobState.FAILED
    status = workspace.find_job(job.name)
    assert status is not None and "exited with status code 1" in status.reason
    assert "No module named jobs.nothing" in workspace.read_log(job.name, 0)[0]


# Of a job that lasts: it says a line, and then sleeps.
LONG = ("--output", "{outputs.capture}", "--seconds", "1000")
LASTS = """
import sys, time
print("this takes a while", flush=True)
time.sleep(float(sys.argv[-1]))
"""


@pytest.fixture(autouse=True)
def _lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `python -m jobs.lasts` be a program in every job's code."""
    copy = code.copy_to

    def copy_to(folder: Path, stage: str) -> None:
        copy(folder, stage)
        (folder / "jobs" / "lasts.py").write_text(LASTS)

    monkeypatch.setattr(code, "copy_to", copy_to)


def start(workspace: AzureMLWorkspace, stack: AzureStack, job: JobSpec) -> None:
    workspace.submit(job)
    stack.wait(job.name, "Running")


def test_cancel(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    job = facade("street-facade-2", stage="lasts", arguments=LONG)
    start(workspace, stack, job)
    workspace.cancel(job.name)
    status = workspace.find_job(job.name)
    assert status is not None and status.state is JobState.CANCELED
    assert not stack.running
    workspace.cancel(job.name)  # again: nothing happens
    workspace.cancel("never-was")


def test_a_time_limit(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    job = facade("street-facade-3", stage="lasts", arguments=LONG, time_limit=1)
    start(workspace, stack, job)
    assert wait(workspace, job) is JobState.FAILED
    status = workspace.find_job(job.name)
    assert status is not None and "time limit of 1 s" in status.reason


PREEMPTED = (
    "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted. Check if the run has failed or "
    "restarted. Reason: Received pre-emption warning signal"
)


@pytest.mark.parametrize(
    ("lost", "code", "message"),
    [
        # https://github.com/microsoft/MLOpsPython/issues/346
        # https://github.com/Azure/MachineLearningNotebooks/issues/1242
        (True, "UserError", PREEMPTED),
        (True, "UserError", PREEMPTED.replace(". ", ".\n", 1).replace(" Reason", "\tReason")),
        # no public report: names and sentences in the same form
        (True, "ServiceError", "AzureMLCompute job failed.\nNodeUnusable: The node of this job became unusable."),
        (True, "ServiceError", "The node tvmps_0_p of this job was lost."),
        (True, "PreemptionError", "The job's compute node was taken."),
        # https://github.com/Azure/MachineLearningNotebooks/issues/1360
        (
            False,
            "UserError",
            "AzureMLCompute job failed. JobFailed: Submitted script failed with a non-zero exit code; see the driver "
            "log file for details. \tReason: Job failed with non-zero exit Code",
        ),
        # https://github.com/getindata/kedro-azureml/issues/6
        (
            False,
            "ServiceError",
            "AzureMLCompute job failed.\nOrchestrateJobError: Failed to execute command group with error Got "
            "CommonRuntimeJobError from executing command: \nDocker container `x-execution-wrapper` failed with status "
            "code `1` due to response error: \nNone",
        ),
        # https://github.com/Azure/MachineLearningNotebooks/issues/906
        (False, "UserError", "AzureMLCompute cluster deal-uat does not exist"),
        # what a job prints is quoted, whatever it is
        (False, "UserError", f"Execution failed. User process 'bash' exited with status code 1. Error: {PREEMPTED}"),
        (False, "UserError", "Execution failed. User process 'bash' exited with status code 1. Error: node lost"),
        (False, "ServiceError", "AzureMLCompute job failed.\nJobFailed: Reason: it says PreemptionError: preempted"),
        (False, "ServiceError", "The container failed:\nthe node was lost"),
        (False, "UserError", ""),
        (False, "", ""),
    ],
)
def test_the_loss_of_a_node_is_distinguished_from_a_failure(lost: bool, code: str, message: str) -> None:
    assert node_lost(code, message) is lost


@pytest.mark.parametrize("name", ["preempted", "node_lost"])
def test_a_failed_job_that_speaks_of_preemption(workspace: AzureMLWorkspace, name: str) -> None:
    job = facade(f"street-{name.replace('_', '-')}", stage=name)
    workspace.submit(job)
    assert wait(workspace, job) is JobState.FAILED
    status = workspace.find_job(job.name)
    assert status is not None and f"No module named jobs.{name}" in status.reason


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("preemption_error", "UserError: .*PreemptionError: .*pre-empted"),
        ("not_responding", "no longer responds"),
    ],
)
def test_a_lost_node_is_an_interruption(workspace: AzureMLWorkspace, stack: AzureStack, kind: str, said: str) -> None:
    job = facade(f"street-lost-{kind.replace('_', '-')}", stage="lasts", arguments=LONG)
    with stack.faults.add(kind, job.name, after=0.5):
        start(workspace, stack, job)
        assert wait(workspace, job) is JobState.INTERRUPTED
    status = workspace.find_job(job.name)
    assert status is not None and re.search(said, status.reason)
    workspace.cancel(job.name)


def test_a_job_that_begins_again_on_another_node_has_a_log_of_its_own(
    workspace: AzureMLWorkspace, stack: AzureStack
) -> None:
    job = facade("street-facade-4", stage="lasts", arguments=LONG)
    start(workspace, stack, job)
    offset = 0
    while not offset:
        text, offset = workspace.read_log(job.name, 0)
    assert text == "this takes a while\n"
    with stack.faults.add("preempt", job.name, times=1):
        eventually(lambda: stack.jobs[job.name].attempts == 2)
    stack.wait(job.name, "Running")
    while not workspace.read_log(job.name, 0)[0]:
        time.sleep(0.1)
    assert workspace.read_log(job.name, offset) == ("", offset), "as long as the first one's, so nothing is new"
    # Whoever has read more of the first node's log than the second one has is told the second's from its beginning.
    assert workspace.read_log(job.name, 10 * offset) == (text, offset)
    workspace.cancel(job.name)


def test_a_lost_submission_is_repeated(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    workspace.check()
    with (
        stack.faults.add("unavailable", "PUT .*/jobs/", times=2),
        stack.faults.add("throttle", "PUT .*/codes/", times=1),
    ):
        workspace.submit(facade("street-facade-5"))
    assert list(stack.jobs).count("street-facade-5-1") == 1
    other = AzureMLWorkspace.model_validate({**dict(workspace), "environment": "rebel-nerf:1"})
    assert other.submit(facade("street-facade-5", time_limit=99)).name == "street-facade-5-1"


def test_two_submit_at_once(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    with ThreadPoolExecutor(3) as pool:
        jobs = [facade("street-facade-6", time_limit=limit) for limit in (600, 601, 602)]
        assert {status.name for status in pool.map(workspace.submit, jobs)} == {"street-facade-6-1"}
    assert stack.wait("street-facade-6-1").attempts == 1


def test_a_cluster_without_quota_is_named(
    workspace: AzureMLWorkspace, stack: AzureStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.azure.status._LONG_QUEUED_SECONDS", 0.0)
    job = facade("street-poor")
    with stack.faults.add("quota", job.name):
        workspace.submit(job)
        stack.wait(job.name, "Queued")
        eventually(lambda: "cpu-cluster gets no node" in status_of(workspace, job))
        assert "quota" in status_of(workspace, job)
    workspace.cancel(job.name)


def status_of(workspace: AzureMLWorkspace, job: JobSpec) -> str:
    status = workspace.find_job(job.name)
    assert status is not None
    return status.reason


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


@pytest.mark.parametrize("kind", ["unavailable", "throttle"])
def test_a_service_that_does_not_answer(
    workspace: AzureMLWorkspace, stack: AzureStack, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.check()
    with stack.faults.add(kind, times=2):
        assert workspace.find_job("nothing") is None
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with stack.faults.add(kind), pytest.raises(WorkspaceUnavailable, match="job nothing: Azure does not answer"):
        workspace.find_job("nothing")


@pytest.mark.parametrize("kind", ["refuse", "cut"])
def test_a_sign_in_that_is_not_reached_is_no_wrong_secret(
    workspace: AzureMLWorkspace, stack: AzureStack, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with (
        stack.faults.add(kind, "login"),
        pytest.raises(WorkspaceUnavailable, match="credential: Azure does not answer"),
    ):
        workspace.check()
    with stack.faults.add(kind, "login", times=1):
        workspace.check()


def test_a_proxy_that_refuses_or_cuts(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    workspace.check()
    for kind in ("refuse", "cut"):
        with stack.faults.add(kind, "management", times=1):
            assert workspace.find_job("nothing") is None


def test_no_more_requests_than_promised(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    job = facade("street-polled", stage="lasts", arguments=LONG)
    start(workspace, stack, job)
    workspace.read_log(job.name, 0)
    before = sum(stack.requests.values())
    for _ in range(4):
        workspace.find_job(job.name)
        workspace.read_log(job.name, 0)
    assert sum(stack.requests.values()) - before == 4
    assert [workspace.poll_seconds(waited) for waited in (0.0, 59.0, 61.0, 1e5)] == [15.0, 15.0, 30.0, 30.0]
    workspace.cancel(job.name)


def test_the_link_to_the_viewer(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    job = facade("street-viewed", stage="lasts", arguments=LONG, tier="gpu")
    with pytest.raises(NotFound):
        workspace.tunnel(job.name, 7008, 7007)
    stack.ssh_at("20.1.2.3", 50000)
    workspace = workspace.model_copy(update={"ssh_public_key": "ssh-ed25519 AAAA me"})
    workspace.check()
    asked = stack.requests["GET {ws}/computes/*"]
    start(workspace, stack, job)
    assert stack.requests["GET {ws}/computes/*"] == asked, "what the check has seen is not asked again"
    assert "ssh" not in (stack.jobs[job.name].request.get("services") or {})
    command = workspace.tunnel(job.name, 7008, 7007)
    assert command == ["ssh", "-N", "-L", "7007:localhost:7008", "azureuser@20.1.2.3", "-p", "50000"]
    workspace.cancel(job.name)
    with pytest.raises(InvalidInput, match="is canceled"):
        workspace.tunnel(job.name, 7008, 7007)


def test_the_link_to_the_viewer_if_the_port_is_closed(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    closed = stack._workspaces[stack.workspace].computes["gpu-cluster"].body["properties"]["properties"]
    closed["remoteLoginPortPublicAccess"] = "Disabled"
    try:
        for key in (None, "ssh-ed25519 AAAA me"):
            with_key = AzureMLWorkspace.model_validate({**dict(workspace), "ssh_public_key": key})
            job = facade(f"street-closed-{bool(key)}".lower(), stage="lasts", arguments=LONG, tier="gpu")
            start(with_key, stack, job)
            assert bool(
                stack.jobs[job.name].request.get("services") and "ssh" in stack.jobs[job.name].request["services"]
            ) == bool(key)
            if key is None:
                with pytest.raises(InvalidInput, match="Set ssh_public_key"):
                    with_key.tunnel(job.name, 7008, 7007)
            else:
                command = with_key.tunnel(job.name, 7008, 7007)
                assert "deployments.azure.ssh_proxy wss://ssh-street-closed-true-1." in " ".join(command)
            with_key.cancel(job.name)
    finally:
        closed["remoteLoginPortPublicAccess"] = "Enabled"


def test_who_waits_for_a_job(workspace: AzureMLWorkspace) -> None:
    for job, run in (("street-1", "a"), ("street-1", "b"), ("street-11", "a")):
        workspace.follow(job, run)
    workspace.follow("street-1", "a")  # again, at each poll
    found = {job: ages for job, ages in workspace.followers().items() if job.startswith("street-1")}
    assert {job: set(ages) for job, ages in found.items()} == {"street-1": {"a", "b"}, "street-11": {"a"}}
    assert all(-2 < age < 60 for ages in found.values() for age in ages.values())
    workspace.unfollow("street-1", "a")
    workspace.unfollow("street-1", "never there")
    assert {job: set(ages) for job, ages in workspace.followers("street-1").items()} == {"street-1": {"b"}}
    for job, run in (("street-1", "b"), ("street-11", "a")):
        workspace.unfollow(job, run)
    assert not workspace.followers().keys() & {"street-1", "street-11"}


def test_no_secret_reaches_a_job(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    workspace.submit(facade("street-secret"))
    said = "".join(f"{exchange.operation}{exchange.request}" for exchange in stack.log if "/jobs" in exchange.operation)
    assert stack.client_secret not in said
    assert "sig=" not in said


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), WorkspaceUnavailable),
        (ConnectionResetError("cut"), WorkspaceUnavailable),
        (ssl.SSLCertVerificationError("self-signed certificate"), InvalidInput),
        (ValueError("no such folder"), InvalidInput),
    ],
)
def test_a_fault_wrapped_by_the_sdk_is_reported_by_its_cause(cause: Exception, expected: type[Exception]) -> None:
    """As when the connection breaks while a job's code is uploaded."""
    from azure.ai.ml.exceptions import AssetException

    with pytest.raises(expected, match="submitting job a-1: .*Error with code"), plain_errors("submitting job a-1"):
        raise AssetException(f"Error with code: {cause}", "Error getting code asset") from cause
