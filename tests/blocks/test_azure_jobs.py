"""Jobs of an Azure ML workspace: submitted, followed, cancelled, interrupted, and their assets."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blocks import JobSpec, JobState
from blocks.azure import AzureMLWorkspace
from blocks.azure.status import node_lost
from jobs.errors import InvalidInput, NotFound
from tests.azure_fixtures import lasting, photos, put, sketch, stack, wait, workspace
from tests.azureml.stack import AzureStack
from tests.waiting import until

__all__ = ["stack", "workspace"]


def start(workspace: AzureMLWorkspace, stack: AzureStack, job: JobSpec) -> None:
    workspace.submit(job)
    stack.wait(job.name, "Running")


def test_a_model_is_a_model_and_links_to_its_job(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    job = sketch("atrium-sketch-1-beef", scratch=("checkpoints",))
    put(workspace, photos(tmp_path / "a", b"one"), "rebel-nerf/scratch/atrium-sketch-1-beef/checkpoints/")
    workspace.submit(job)
    assert wait(workspace, job) is JobState.COMPLETED
    with pytest.raises(NotFound, match="video"):
        workspace.register(job, "video", "atrium-video", "1-beef", "video", {})
    model = workspace.register(job, "capture", "atrium-nerf", "1-beef", "model", {"x" * 120: "y" * 1200})
    assert (model.kind, model.version, model.number) == ("model", "1-beef", 1)
    assert workspace.find_asset("atrium-nerf", "1-beef") == model
    assert workspace.assets("atrium-nerf") == [model]
    assert workspace.client.models.get("atrium-nerf", "1").job_name == job.name
    assert (workspace.fetch(model) / "truth.json").is_file()
    assert workspace._connection.store().container.blobs("rebel-nerf/scratch/atrium-sketch-1-beef/") == []
    # and is an input of other jobs
    seen = sketch("atrium-sketch-1-feed", inputs={"model": model}, tags={"scene": "atrium"})
    workspace.submit(seen)
    assert wait(workspace, seen) is JobState.COMPLETED


def test_an_input_that_is_gone(workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path) -> None:
    asset = workspace.take_in("gone", photos(tmp_path / "a", b"one"), {})
    stack.delete_blobs(asset.uri)
    with pytest.raises(NotFound, match="gone:1"):
        workspace.submit(sketch("gone-sketch-1", inputs={"images": asset}))
    with pytest.raises(NotFound, match="gone:1"):
        workspace.fetch(asset)
    stack.delete_asset("data", "gone", "1")
    assert workspace.find_asset("gone", "1") is None
    with pytest.raises(NotFound, match="gone:1"):
        workspace.submit(sketch("gone-sketch-1", inputs={"images": asset}))


def test_the_message_of_a_failed_job(workspace: AzureMLWorkspace) -> None:
    job = sketch("street-nothing-1", stage="nothing")
    workspace.submit(job)
    assert wait(workspace, job) is JobState.FAILED
    status = workspace.find_job(job.name)
    assert status is not None and "exited with status code 1" in status.reason
    assert "No module named jobs.nothing" in workspace.read_log(job.name, 0)[0]


def test_a_cancelled_job_ends(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    job = lasting("street-sketch-2")
    start(workspace, stack, job)
    workspace.cancel(job.name)
    status = workspace.find_job(job.name)
    assert status is not None and status.state is JobState.CANCELED
    assert not stack.running
    workspace.cancel(job.name)  # again: nothing happens
    workspace.cancel("never-was")


def test_a_time_limit(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    job = lasting("street-sketch-3", time_limit=1)
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
    job = sketch(f"street-{name.replace('_', '-')}", stage=name)
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
    job = lasting(f"street-lost-{kind.replace('_', '-')}")
    with stack.faults.add(kind, job.name, after=0.5):
        start(workspace, stack, job)
        assert wait(workspace, job) is JobState.INTERRUPTED
    status = workspace.find_job(job.name)
    assert status is not None and re.search(said, status.reason)
    workspace.cancel(job.name)


def test_a_job_that_begins_again_on_another_node_has_a_log_of_its_own(
    workspace: AzureMLWorkspace, stack: AzureStack
) -> None:
    job = lasting("street-sketch-4")
    start(workspace, stack, job)
    offset = 0
    while not offset:
        text, offset = workspace.read_log(job.name, 0)
    assert text == "this takes a while\n"
    with stack.faults.add("preempt", job.name, times=1):
        until(lambda: stack.jobs[job.name].attempts == 2)
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
        workspace.submit(sketch("street-sketch-5"))
    assert list(stack.jobs).count("street-sketch-5-1") == 1
    other = AzureMLWorkspace.model_validate({**dict(workspace), "environment": "rebel-nerf:1"})
    assert other.submit(sketch("street-sketch-5", time_limit=99)).name == "street-sketch-5-1"


def test_two_submit_at_once(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    with ThreadPoolExecutor(3) as pool:
        jobs = [sketch("street-sketch-6", time_limit=limit) for limit in (600, 601, 602)]
        assert {status.name for status in pool.map(workspace.submit, jobs)} == {"street-sketch-6-1"}
    assert stack.wait("street-sketch-6-1").attempts == 1


def test_a_cluster_without_quota_is_named(
    workspace: AzureMLWorkspace, stack: AzureStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.azure.status._LONG_QUEUED_SECONDS", 0.0)
    job = sketch("street-poor")
    with stack.faults.add("quota", job.name):
        workspace.submit(job)
        stack.wait(job.name, "Queued")
        until(lambda: "cpu-cluster gets no node" in status_of(workspace, job))
        assert "quota" in status_of(workspace, job)
    workspace.cancel(job.name)


def status_of(workspace: AzureMLWorkspace, job: JobSpec) -> str:
    status = workspace.find_job(job.name)
    assert status is not None
    return status.reason


def test_no_more_requests_than_promised(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    job = lasting("street-polled")
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
    job = lasting("street-viewed", tier="gpu")
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
    with pytest.raises(InvalidInput, match="canceled"):
        workspace.tunnel(job.name, 7008, 7007)


def test_the_link_to_the_viewer_if_the_port_is_closed(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    closed = stack._workspaces[stack.workspace].computes["gpu-cluster"].body["properties"]["properties"]
    closed["remoteLoginPortPublicAccess"] = "Disabled"
    try:
        for key in (None, "ssh-ed25519 AAAA me"):
            with_key = AzureMLWorkspace.model_validate({**dict(workspace), "ssh_public_key": key})
            job = lasting(f"street-closed-{bool(key)}".lower(), tier="gpu")
            start(with_key, stack, job)
            assert bool(
                stack.jobs[job.name].request.get("services") and "ssh" in stack.jobs[job.name].request["services"]
            ) == bool(key)
            if key is None:
                with pytest.raises(InvalidInput, match="ssh_public_key"):
                    with_key.tunnel(job.name, 7008, 7007)
            else:
                command = with_key.tunnel(job.name, 7008, 7007)
                assert "deployments.azure.ssh_proxy wss://ssh-street-closed-true-1." in " ".join(command)
            with_key.cancel(job.name)
    finally:
        closed["remoteLoginPortPublicAccess"] = "Enabled"
