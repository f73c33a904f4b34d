"""The emulator, through the real SDK and over the proxy."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.ai.ml import Input, MLClient, Output, command
from azure.ai.ml.entities import (
    AmlCompute,
    AmlComputeSshSettings,
    BuildContext,
    Data,
    Environment,
    SshJobService,
)
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import CertificateCredential, ClientSecretCredential, EnvironmentCredential
from azure.storage.blob import ContainerClient

from tests.azureml.stack import AzureStack
from tests.waiting import until

_OUT = "azureml://datastores/workspaceblobstore/paths/jobs/{}/out"


Submit = Callable[..., Any]


pytestmark = pytest.mark.slow  # of the emulator, not of the product; `test_emulator_jobs.py` has the essentials


@pytest.fixture
def stack(azure_environment: AzureStack) -> AzureStack:
    return azure_environment


@pytest.fixture
def client(stack: AzureStack) -> MLClient:
    return MLClient(EnvironmentCredential(), stack.subscription, stack.resource_group, stack.workspace)


@pytest.fixture
def submit(client: MLClient, tmp_path: Path) -> Submit:
    """Submit a bash script in a code folder as a job of a name."""

    def run(name: str, script: str, **settings: Any) -> Any:
        code = tmp_path / "code"
        code.mkdir(exist_ok=True)
        (code / "run.sh").write_text(script)
        defaults: dict[str, Any] = {
            "command": "bash run.sh ${{outputs.out}}",
            "environment": client.environments.create_or_update(
                Environment(name="nerf", version="1", image="ubuntu")
            ).id,
            "compute": "cpu-cluster",
            "outputs": {"out": Output(type="uri_folder", mode="rw_mount", path=_OUT.format(name))},
            "experiment_name": "scene",
            "code": str(code),
        }
        return client.jobs.create_or_update(command(name=name, **{**defaults, **settings}))

    return run


def blobs(client: MLClient, stack: AzureStack, store: str = "workspaceblobstore") -> ContainerClient:
    """Open a datastore as a client of the service does: over the proxy, with the SAS of its secrets."""
    name = client.datastores.get(store).container_name
    secret = client.datastores._list_secrets(store, expirable_secret=True)
    url = f"https://{stack.account}.blob.core.windows.net"
    return ContainerClient(url, name, credential=secret.sas_token, retry_total=0)


def log(client: MLClient, stack: AzureStack, name: str) -> str:
    store = blobs(client, stack, "workspaceartifactstore")
    return store.download_blob(f"ExperimentRun/dcid.{name}/user_logs/std_log.txt", encoding="utf-8").readall()


def run_details(client: MLClient, name: str) -> Any:
    return client.jobs._runs_operations.get_run_details(name)


def test_a_wrong_secret_tenant_or_client_is_named(stack: AzureStack) -> None:
    right = (stack.tenant, stack.client_id, stack.client_secret)
    for at, wrong, code in (
        (2, "wrong", "AADSTS7000215"),
        (1, stack.tenant, "AADSTS700016"),
        (0, "a.b", "AADSTS90002"),
    ):
        credential = ClientSecretCredential(*[wrong if place == at else part for place, part in enumerate(right)])
        with pytest.raises((ClientAuthenticationError, ValueError), match=code if at else None):
            credential.get_token("https://management.azure.com/.default")


def test_a_certificate_signs_in(stack: AzureStack) -> None:
    path = str(stack.client_certificate)
    token = CertificateCredential(stack.tenant, stack.client_id, path).get_token("https://ml.azure.com/.default")
    assert token.expires_on > time.time()


def test_a_bearer_and_an_api_version_are_required(stack: AzureStack, client: MLClient) -> None:
    url = f"https://management.azure.com/subscriptions/{stack.subscription}/resourceGroups/{stack.resource_group}"
    url += f"/providers/Microsoft.MachineLearningServices/workspaces/{stack.workspace}"
    assert requests.get(url, timeout=9).status_code == 401
    token = EnvironmentCredential().get_token("https://management.azure.com/.default").token
    headers = {"Authorization": f"Bearer {token}"}
    for version, status in (("2024-10-01-preview", 200), ("1999-01-01", 400), ("", 400)):
        assert requests.get(url, params={"api-version": version}, headers=headers, timeout=9).status_code == status
    assert requests.get(f"{url}/x?api-version=2024-10-01", headers=headers, timeout=9).status_code == 404
    assert "unrouted: GET" in stack.failures.pop()


def test_no_other_host_is_reached(stack: AzureStack) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        requests.get("https://example.com", timeout=9)
    assert stack.refused[-1] == "example.com:443"


def test_missing_assets_are_reported_as_missing(stack: AzureStack, client: MLClient) -> None:
    assert client.workspaces.get(stack.workspace).location == stack.location
    for place in (
        ("0", stack.resource_group, stack.workspace),
        (stack.subscription, "other", stack.workspace),
        (stack.subscription, stack.resource_group, "other"),
    ):
        with pytest.raises(ResourceNotFoundError):
            MLClient(EnvironmentCredential(), *place).workspaces.get(place[2])
    for get in (client.data.get, client.models.get, client.environments.get):
        with pytest.raises(ResourceNotFoundError):
            get("nothing", version="1")
    with pytest.raises(ResourceNotFoundError):
        client.jobs.get("nothing")
    with pytest.raises(ResourceNotFoundError):
        client.compute.get("nothing")


def test_blobs_go_up_and_come_down_with_the_datastores_sas(stack: AzureStack, client: MLClient) -> None:
    assert client.datastores.get_default().name == "workspaceblobstore"
    store = blobs(client, stack)
    content = b"photo" * 100_000
    store.upload_blob("captures/a.jpg", content, overwrite=True)
    assert store.download_blob("captures/a.jpg").readall() == content
    assert [blob.name for blob in store.list_blobs("captures/")] == ["captures/a.jpg"]


def test_data_assets_are_versioned_and_immutable(stack: AzureStack, client: MLClient) -> None:
    def data(path: str, **settings: Any) -> Data:
        return Data(name="street", path=_OUT.format(path), type="uri_folder", **settings)

    first = client.data.create_or_update(data("a", version="1", tags={"scene": "street"}))
    assert first.path.startswith("azureml://subscriptions/") and first.path.endswith("/paths/jobs/a/out/")
    assert client.data.create_or_update(data("b")).version == "2"
    assert {asset.version for asset in client.data.list("street")} == {"1", "2"}
    assert client.data.get("street", label="latest").version == "2"
    assert client.data.create_or_update(data("a", version="1", tags={"scene": "s"})).tags == {"scene": "s"}
    with pytest.raises(Exception, match="paths"):
        client.data.create_or_update(data("c", version="1"))
    stack.delete_asset("data", "street", "2")
    with pytest.raises(ResourceNotFoundError):
        client.data.get("street", version="2")


def test_lists_come_in_pages(client: MLClient) -> None:
    for number in range(1, 12):
        client.data.create_or_update(Data(name="many", version=str(number), path=_OUT.format("a"), type="uri_folder"))
    assert len(list(client.data.list("many"))) == 11


def test_environments_are_images_or_build_contexts(client: MLClient, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM ubuntu")
    for version, settings in (("1", {"image": "ubuntu"}), ("2", {"build": BuildContext(path=tmp_path)})):
        made = client.environments.create_or_update(Environment(name="image", version=version, **settings))
        assert client.environments.get("image", label="latest").version == version
    assert made.build and "LocalUpload" in str(made.build.path)
    with pytest.raises(HttpResponseError, match="immutable"):
        client.environments.create_or_update(Environment(name="image", version="1", image="debian"))


def test_tags_have_limits(client: MLClient) -> None:
    for tags in ({"k" * 101: "v"}, {"k": "v" * 1001}, {str(number): "v" for number in range(51)}):
        with pytest.raises(HttpResponseError, match="tags"):
            client.data.create_or_update(Data(name="x", path=_OUT.format("x"), type="uri_folder", tags=tags))


def test_the_log_and_mounted_outputs_appear_while_it_runs(stack: AzureStack, client: MLClient, submit: Submit) -> None:
    submit("live", "echo first; echo ckpt > $1/a; while [ ! -e $1/b ]; do sleep 0.1; done; rm $1/a; sleep 1; exit 3")
    stack.wait("live", "Running")
    store = blobs(client, stack)
    until(lambda: list(store.list_blob_names(name_starts_with="jobs/live/out/")) == ["jobs/live/out/a"])
    assert log(client, stack, "live") == "first\n"
    details = run_details(client, "live")
    assert requests.get(details.log_files["user_logs/std_log.txt"], timeout=9).text == "first\n"
    (stack.folder / f"jobs/{stack.workspace}/live/1/outputs/out/b").write_text("go on")
    until(lambda: list(store.list_blob_names(name_starts_with="jobs/live/out/")) == ["jobs/live/out/b"])
    assert stack.wait("live").status == "Failed"
    details = run_details(client, "live")
    assert details.error.error.code == "UserError" and "exited with status code 3" in details.error.error.message


def test_jobs_are_listed_by_tag(stack: AzureStack, client: MLClient, submit: Submit) -> None:
    for number in range(7):
        submit(f"listed-{number}", "true", tags={"flow": "a" if number else "b"})
    assert {job.name for job in client.jobs.list(tag="flow=a")} == {f"listed-{number}" for number in range(1, 7)}


def test_a_name_is_one_job_forever(stack: AzureStack, submit: Submit) -> None:
    submit("once", "sleep 0.5")
    assert submit("once", "sleep 0.5").name == "once"
    with pytest.raises(HttpResponseError, match="already exists"):
        submit("once", "sleep 0.6")
    assert stack.wait("once").attempts == 1


def test_a_cancelled_job_ends(stack: AzureStack, client: MLClient, submit: Submit) -> None:
    submit("stopped", "sleep 600 & sleep 600")
    stack.wait("stopped", "Running")
    client.jobs.begin_cancel("stopped").result()
    assert client.jobs.get("stopped").status == "Canceled"
    assert stack.jobs["stopped"] not in stack.running


def test_a_time_limit_ends_a_job(stack: AzureStack, submit: Submit) -> None:
    submit("slow", "sleep 600", timeout=1)
    assert stack.wait("slow").status == "Canceled"


def test_a_cluster_has_so_many_nodes(stack: AzureStack, client: MLClient, submit: Submit) -> None:
    stack.ssh_at("127.0.0.1", 50000)
    submit(
        "node-1", "sleep 600", compute="gpu-cluster", services={"ssh": SshJobService(ssh_public_keys="ssh-rsa AAAA")}
    )
    stack.wait("node-1", "Running")
    submit("node-2", "true", compute="gpu-cluster")
    stack.wait("node-2", "Queued")
    [node] = client.compute.list_nodes("gpu-cluster")
    assert (node.__dict__["publicIpAddress"], node.port, node.__dict__["runId"]) == ("127.0.0.1", 50000, "node-1")
    assert node.public_ip_address is None  # defect 8 of the SDK: the names are the wire's
    assert client.jobs.show_services("node-1", 0)["ssh"].status == "Running"
    assert client.jobs.get("node-2").status == "Queued"
    client.jobs.begin_cancel("node-1").result()
    assert stack.wait("node-2").status == "Completed"


def test_clusters(client: MLClient) -> None:
    ssh = AmlComputeSshSettings(admin_username="me", ssh_key_value="ssh-rsa AAAA")
    wanted = AmlCompute(
        name="extra", size="Standard_NC4as_T4_v3", min_instances=0, max_instances=2, tier="low_priority",
        idle_time_before_scale_down=1800, ssh_public_access_enabled=True, ssh_settings=ssh,
    )  # fmt: skip
    made = client.compute.begin_create_or_update(wanted).result()
    assert (made.provisioning_state, made.tier, made.max_instances) == ("Succeeded", "low_priority", 2)
    assert {"cpu-cluster", "gpu-cluster", "extra"} <= {cluster.name for cluster in client.compute.list()}
    sizes = {size.name: size for size in client.compute.list_sizes()}
    assert sizes["Standard_NC4as_T4_v3"].gpus == 1
    with pytest.raises(HttpResponseError, match="supported"):
        client.compute.begin_create_or_update(AmlCompute(name="extra2", size="Standard_Z1")).result()


def test_an_unknown_cluster_is_refused(submit: Submit) -> None:
    with pytest.raises(HttpResponseError, match=r"Unknown compute target 'nowhere'\.") as error:
        submit("lost", "true", compute="nowhere")
    assert error.value.status_code == 400


def test_a_deleted_input_is_refused(submit: Submit) -> None:
    with pytest.raises(HttpResponseError, match="not found"):
        submit("lost", "true", inputs={"photos": Input(type="uri_folder", path="azureml:gone:1")})


def test_vanished_blobs_fail_the_job(stack: AzureStack, client: MLClient, submit: Submit) -> None:
    blobs(client, stack).upload_blob("captures/vanished/a.txt", b"a", overwrite=True)
    path = "azureml://datastores/workspaceblobstore/paths/captures/vanished/"
    assert stack.delete_blobs(path) == 1
    submit("vanished", "true", command="ls ${{inputs.photos}}", inputs={"photos": Input(type="uri_folder", path=path)})
    assert "stream was not found" in str(stack.wait("vanished").error)


def test_throttling_and_outages_are_survived_by_the_sdks_own_retries(stack: AzureStack, client: MLClient) -> None:
    with (
        stack.faults.add("throttle", "GET .*/datastores", times=1) as throttle,
        stack.faults.add("unavailable", times=1),
    ):
        began = time.monotonic()
        assert client.datastores.get_default()
        assert throttle.hits == 1 and time.monotonic() - began >= 1
    with stack.faults.add("delay", "datastores", seconds=1):
        began = time.monotonic()
        assert client.datastores.get_default() and time.monotonic() - began >= 1


def test_a_missing_role_is_403(stack: AzureStack, client: MLClient, submit: Submit) -> None:
    with stack.faults.add("forbidden", "PUT .*/jobs/"), pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        submit("barred", "true")


def test_a_sas_expires(stack: AzureStack, client: MLClient) -> None:
    with stack.faults.add("expired_sas", seconds=2):
        store = blobs(client, stack)
    store.upload_blob("sas.txt", b"in time", overwrite=True)
    time.sleep(2.5)
    with pytest.raises(HttpResponseError) as error:
        store.download_blob("sas.txt")
    assert error.value.status_code == 403


def test_a_busy_storage_and_a_proxy_that_refuses(stack: AzureStack, client: MLClient) -> None:
    store = blobs(client, stack)
    with stack.faults.add("storage_busy"), pytest.raises(HttpResponseError, match="ServerBusy"):
        store.upload_blob("busy.txt", b"0", overwrite=True)
    with stack.faults.add("refuse", "blob", times=1), pytest.raises(AzureError):
        blobs(client, stack).upload_blob("busy.txt", b"0", overwrite=True)
    assert blobs(client, stack).upload_blob("busy.txt", b"0", overwrite=True)


@pytest.mark.parametrize("kind", ["cut", "truncate"])
def test_transfers_break_in_the_middle(stack: AzureStack, client: MLClient, kind: str) -> None:
    content = hashlib.sha256(b"").digest() * 100_000
    blobs(client, stack).upload_blob("broken", content, overwrite=True)
    store = blobs(client, stack)
    with stack.faults.add(kind, "blob", after=1_000_000) as fault, pytest.raises(AzureError):
        store.download_blob("broken").readall()
    assert fault.hits
    assert blobs(client, stack).download_blob("broken").readall() == content


def test_a_slow_host_limits_the_rate(stack: AzureStack, client: MLClient) -> None:
    with stack.faults.add("slow", "blob", rate=1e6):
        began = time.monotonic()
        blobs(client, stack).upload_blob("slow", b"0" * 1_000_000, overwrite=True)
        assert time.monotonic() - began > 0.9


def test_a_preempted_job_resumes_from_its_checkpoint(stack: AzureStack, client: MLClient, submit: Submit) -> None:
    stack.faults.add("preempt", "again", times=1, after=1.5)
    submit("again", "ls; touch here; echo found: $(ls $1); [ -e $1/step ] && exit; echo 1 > $1/step; sleep 600")
    job = stack.wait("again")
    assert (job.status, job.attempts, job.statuses.count("Running")) == ("Completed", 2, 2)
    assert log(client, stack, "again") == "run.sh\nfound: step\n"


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("preemption_error", "Failed", "UserError"), ("not_responding", "NotResponding", "NotResponding")],
)
def test_a_node_is_lost(stack: AzureStack, client: MLClient, submit: Submit, kind: str, status: str, code: str) -> None:
    name = kind.replace("_", "-")
    stack.faults.add(kind, name, after=0.5)
    submit(name, "sleep 600")
    stack.wait(name)
    assert client.jobs.get(name).status == status
    assert run_details(client, name).error.error.code == code
    assert stack.jobs[name] not in stack.running


def test_without_quota_a_job_stays_queued(stack: AzureStack, client: MLClient, submit: Submit) -> None:
    with stack.faults.add("quota", "poor"):
        submit("poor", "true")
        stack.wait("poor", "Queued")
        time.sleep(0.5)
        assert client.jobs.get("poor").status == "Queued"
        cluster = client.compute._operation.get(stack.resource_group, stack.workspace, "cpu-cluster")
        assert "ClusterCoreQuotaReached" in str(cluster.as_dict())
    assert stack.wait("poor").status == "Completed"
