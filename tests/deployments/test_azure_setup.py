"""The commands for people, on the emulator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.azure.sizes import GPU_SIZES, LEAST_CAPABILITY, find, has_cuda, refusal
from deployments.azure import common, transfer
from tests.azure_fixtures import identity_endpoint
from tests.azureml.stack import AzureStack
from tests.deployments.conftest import Command
from tests.processes import helps
from tests.waiting import until

__all__ = ["identity_endpoint"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("prefect_server")
def test_set_up_creates_missing_things_once(
    empty_workspace: AzureStack, command: Command, street: Path, tmp_path: Path
) -> None:
    stack = empty_workspace
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAA me\n")
    writes = ("PUT {ws}/computes/*", "PUT {ws}/environments/*/versions/*")

    def made() -> list[int]:
        return [stack.requests[write] - count for write, count in before.items()]

    before = {write: stack.requests[write] for write in writes}
    status, said = command("setup", "--dry-run", "--name", "once", "--ssh-public-key", str(key))
    assert status == 0, said
    assert said.count("would be created") == 4 and "ssh port open" in said
    assert made() == [0, 0]

    for count in ("2 of 2", "none"):
        status, said = command("setup", "--name", "once", "--ssh-public-key", str(key), "--no-deploy")
        assert status == 0, said
        assert made() == [2, 1], count
    assert said.count(": exists") == 5, "blocks, too"
    cluster = common.AzureOptions().open().client.compute.get("gpu-cluster")
    assert (cluster.size, cluster.tier, cluster.min_instances, cluster.max_instances) == (
        "STANDARD_NC4AS_T4_V3", "low_priority", 0, 1,
    )  # fmt: skip
    assert cluster.ssh_public_access_enabled and cluster.idle_time_before_scale_down == 300

    # The saved block serves the other commands.
    photos = ("--scene", "square", "--images", str(street / "photos"))
    status, said = command("transfer", "upload", "--block", "once", *photos, AZURE_CLIENT_SECRET="")
    assert status == 0 and "The server has the event" in said, said
    assert told_of("square") == ["rebel-nerf-azure-ml/once"]
    assert not stack.failures


def told_of(scene: str) -> list[str]:
    """Return the workspace of each upload to this scene that the server has an event of, once it has one."""

    def places() -> list[str]:
        with get_client(sync_client=True) as client:
            chosen = {"event": {"name": ["rebel-nerf.capture.uploaded"]}}
            answer = client.request("POST", "/events/filter", json={"filter": chosen})
        told = [event["resource"] for event in answer.json()["events"]]
        return [resource["workspace"] for resource in told if resource["scene"] == scene]

    return until(places)


@pytest.mark.usefixtures("prefect_server")
def test_set_up_keeps_what_it_does_not_decide(stack: AzureStack, command: Command, tmp_path: Path) -> None:
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 BBBB me\n")
    clusters = ("--gpu-cluster", "gpu-kept", "--cpu-cluster", "cpu-kept", "--no-deploy")
    status, said = command("setup", "--name", "kept", *clusters, "--credential-name", "kept-sign-in")
    assert status == 0, said
    saved = common.load("kept")
    assert saved.credential._block_document_name == "kept-sign-in"
    own = {
        "gpu_jobs_at_once": 3,
        "currency": "EUR",
        "datastore": "identityblobstore",
        "captures": "places",
        "folder": "mine",
        "environment": "rebel-nerf:old",
    }
    changed = saved.model_copy(update={**own, "cache": tmp_path / "cache"})
    changed.save("kept", overwrite=True)

    # By its name and without a secret: only the environment is of another version, and the key is new.
    for place in ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_ML_WORKSPACE"):
        less = {"AZURE_CLIENT_SECRET": "", place: ""}
        status, said = command("setup", "--block", "kept", "--no-deploy", "--ssh-public-key", str(key), **less)
        assert status == 0 and f"workspace {stack.workspace}: exists" in said, said
    assert "blocks: exists" in said
    assert "Its ssh port is closed, which cannot be changed" in said
    again = common.load("kept")
    assert again.environment == saved.environment and again.ssh_public_key == "ssh-ed25519 BBBB me"
    kept = set(own) - {"environment"} | {"cache", "gpu_cluster", "cpu_cluster", "workspace", "subscription_id"}
    assert again.model_dump(include=kept) == changed.model_dump(include=kept)
    assert again.credential.method == "service principal"
    assert again.credential._block_document_name == "kept-sign-in"


@pytest.mark.usefixtures("prefect_server")
def test_set_up_makes_a_work_pool_and_deployments(command: Command) -> None:
    given = ("setup", "--name", "deploys", "--gpu-cluster", "gpu-deploys", "--cpu-cluster", "cpu-deploys")
    server = {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    wanted = {each["name"] for each in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    with get_client(sync_client=True) as client:
        try:
            status, said = command(*given, **server)
            assert status == 0 and "work pool: created" in said and "deployments: created" in said, said
            made = client.read_deployments()
            assert {each.name for each in made} == wanted
            assert {each.work_pool_name for each in made} == {client.read_work_pool("rebel-nerf").name}
            status, said = command(*given, **server)
            assert status == 0 and "work pool: exists" in said and "deployments: exists" in said, said
            client.delete_deployment(made[0].id)
            status, said = command(*given, "--dry-run", **server)
            assert "work pool: exists" in said and "deployments: would be created" in said
        finally:  # other tests share the server
            for each in client.read_deployments():
                client.delete_deployment(each.id)


@pytest.mark.usefixtures("prefect_server")
def test_set_up_signs_in_as_the_machine(stack: AzureStack, command: Command, identity_endpoint: list[str]) -> None:
    clusters = ("--gpu-cluster", "gpu-machine", "--cpu-cluster", "cpu-machine", "--no-deploy")
    place = ("--managed-identity", "--datastore", "identityblobstore")
    status, said = command("setup", "--name", "machine", *clusters, *place)
    assert status == 0 and identity_endpoint, said
    saved = common.load("machine")
    assert (saved.credential.method, saved.credential.client_id) == ("managed identity", stack.client_id)
    assert saved.credential.client_secret is None and saved.datastore == "identityblobstore"
    status, said = command("setup", "--name", "machine", *clusters, "--datastore", "nowhere")
    assert status == 1 and "datastore: there is no datastore 'nowhere'" in said, said
    assert common.load("machine").datastore == "identityblobstore"


@pytest.mark.usefixtures("prefect_server")
def test_set_up_reports_a_cluster_of_another_tier(stack: AzureStack, command: Command, tmp_path: Path) -> None:
    clusters = ("--name", "tier", "--gpu-cluster", "gpu-dear", "--cpu-cluster", "cpu-dear", "--no-deploy")
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAA me\n")
    status, said = command("setup", *clusters, "--dedicated", "--ssh-public-key", str(key), "--no-ssh-port")
    assert status == 0 and said.count("ssh port closed)") == 4, said
    assert common.load("tier").ssh_public_key == "ssh-ed25519 AAAA me"
    status, said = command("setup", *clusters)
    assert status == 1 and "cpu-dear exists with tier dedicated, not low_priority" in said
    assert "keep it with --dedicated" in said and "az ml compute delete --name cpu-dear" in said


@pytest.mark.usefixtures("prefect_server")
def test_set_up_names_the_role_that_is_missing(stack: AzureStack, command: Command) -> None:
    scope = f"--scope /subscriptions/{stack.subscription}/resourceGroups/{stack.resource_group}"
    for operation, role in (
        ("GET .*/workspaces/[^/]+$", "AzureML Data Scientist"),
        ("PUT .*/computes/", "AzureML Compute Operator"),
    ):
        with stack.faults.add("forbidden", operation):
            status, said = command("setup", "--name", "role", "--gpu-cluster", "gpu-role", "--no-deploy")
        assert status == 1 and "az ml workspace create" not in said, said
        line = f'az role assignment create --assignee "{stack.client_id}" --role "{role}" {scope}'
        assert line in said
    with stack.faults.add("forbidden", "/vmSizes"):
        status, said = command("setup", "--name", "role", "--gpu-cluster", "gpu-role", "--no-deploy", "--dry-run")
    assert status == 0 and "VM sizes of westeurope: not checked" in said, said


@pytest.mark.usefixtures("prefect_server")
def test_a_wrongly_saved_block_is_reported_by_its_fields(stack: AzureStack, command: Command) -> None:
    secret = "a-secret-that-nobody-may-see"
    workspace = common.AzureOptions().open()
    workspace.credential.save("wrong", overwrite=True)
    workspace.save("wrong", overwrite=True)
    with get_client(sync_client=True) as client:
        data = {"method": "service principal", "client_id": stack.client_id, "client_secret": secret}
        wrong = BlockDocumentUpdate(data=data, merge_existing_data=False)
        assert workspace.credential._block_document_id
        client.request(
            "PATCH",
            "/block_documents/{id}",
            path_params={"id": workspace.credential._block_document_id},
            json=wrong.model_dump(mode="json", include={"data", "merge_existing_data"}),
        )
    for words in (("transfer", "download", "--asset", "x", "--to", "x"), ("setup", "--dry-run")):
        status, said = command(*words, "--block", "wrong")
        assert status == 1 and "rebel-nerf-azure-ml/wrong is saved, but wrong" in said, said
        assert "credential: a service principal needs tenant_id" in said
        assert secret[:8] not in said and "Traceback" not in said
    program = [sys.executable, "-m", "flows.nerf", "--scene", "x", "--workspace", "rebel-nerf-azure-ml/wrong"]
    server = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    done = subprocess.run(program, cwd=ROOT, env=server, capture_output=True, text=True)
    assert done.returncode == 1 and "credential: a service principal needs tenant_id" in done.stderr, done.stderr
    assert secret[:8] not in done.stdout + done.stderr and "pydantic" not in done.stdout + done.stderr


@pytest.mark.usefixtures("prefect_server")
def test_set_up_says_what_is_wrong(stack: AzureStack, command: Command) -> None:
    def refused(*arguments: str, **environment: str) -> str:
        status, said = command("setup", "--dry-run", *arguments, **environment)
        assert status in (1, 2) and "Traceback" not in said, said
        return said

    assert "client_secret: Azure does not know this secret" in refused(AZURE_CLIENT_SECRET="wrong")
    lines = refused("--workspace", "other")
    assert f"az ml workspace create --name other --resource-group {stack.resource_group}" in lines
    said = refused("--gpu-size", "Standard_NC6s_v3")
    assert "compute capability 7.0; training needs 7.5" in said
    assert "Standard_NC4as_T4_v3" in said and "NC6s_v3 (NVIDIA V100, 16 GB)," not in said
    assert "no NVIDIA GPU" in refused("--gpu-size", "Standard_NV8as_v4")
    assert "westeurope has no Standard_NC64as_T4_v3" in refused("--gpu-size", "Standard_NC64as_T4_v3")
    assert "other exists with size" in refused("--gpu-cluster", "other")
    assert "subscription_id" in refused("--subscription", "mine")
    assert "ssh_public_key: " in refused("--ssh-public-key", "/nowhere")


def test_a_command_is_a_program() -> None:
    for module, said in helps(*(f"deployments.azure.{name}" for name in ("setup", "transfer", "events"))).items():
        assert said.startswith("usage: ") and "--" in said, module


def test_a_capture_goes_up_and_comes_down(command: Command, street: Path, tmp_path: Path) -> None:
    for _ in range(2):
        status, said = command("transfer", "upload", "--scene", "lane", "--images", str(street / "photos"))
        assert status == 0, said
        assert "lane:1: azureml://" in said
    status, said = command("transfer", "download", "--asset", "lane", "--to", str(tmp_path / "down"))
    assert status == 0, said
    photos = {file.name: file.read_bytes() for file in (street / "photos").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "down").rglob("*.jpg")} == photos
    status, said = command("transfer", "download", "--asset", "no-video", "--to", str(tmp_path / "x"))
    assert (status, "there is no asset no-video" in said) == (1, True)


def test_a_download_replaces_no_existing_folder(stack: AzureStack, command: Command, tmp_path: Path) -> None:
    before = len(stack.log)
    status, said = command("transfer", "download", "--asset", "lane", "--to", str(tmp_path))
    assert status == 1 and f"to: {tmp_path} already exists" in said and "Traceback" not in said
    assert len(stack.log) == before


def test_an_upload_is_kept_if_the_server_is_gone(
    stack: AzureStack, command: Command, street: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the server is away: what is uploaded to is told by the options.
    monkeypatch.setattr(transfer.Upload, "open", lambda self: common.AzureOptions().open())
    photos = ("--scene", "alley", "--images", str(street / "photos"))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        status, said = command("transfer", "upload", "--block", "azure", *photos)
    assert status == 1 and "alley:1: azureml://" in said
    assert "The upload is complete, but Prefect's server did not get the event" in said and "Traceback" not in said


# sizes


def test_the_table_of_sizes() -> None:
    assert len({size.name.lower() for size in GPU_SIZES}) == len(GPU_SIZES)
    t4 = find("standard_nc4as_t4_v3")
    assert t4 and (t4.capability, t4.memory, t4.fits) == (LEAST_CAPABILITY, 16, True)
    assert has_cuda("STANDARD_NC6S_V3") and not has_cuda("Standard_NV8as_v4") and not has_cuda("Standard_D4s_v3")
    assert has_cuda("Standard_ND99_X1000_v9")
    assert refusal("Standard_NC4as_T4_v3", []) is None
    assert "none; take a workspace in another region" in str(refusal("Standard_D4s_v3", []))
    small = find("Standard_NV6ads_A10_v5")
    assert small and not small.fits and "too little memory" in str(refusal(small.name, []))
    assert "NV6ads" not in str(refusal("Standard_D4s_v3", None)) and "NV12ads" in str(refusal("Standard_D4s_v3", None))
    assert "ARM" in str(refusal("Standard_ND128isr_NDR_GB200_v6", []))
