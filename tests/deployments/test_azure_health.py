"""What `rebel-nerf doctor --workspace` says of an Azure ML workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.azure import AzureMLWorkspace
from deployments.azure import health
from deployments.azure.quota import Quota
from deployments.health.finding import Level, run_checks
from tests.azure_fixtures import stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]


def look(workspace: AzureMLWorkspace, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return the text of each check."""
    run_checks(health.checks(workspace))
    said: dict[str, str] = {}
    name = ""
    for line in capsys.readouterr().out.splitlines():
        if line.startswith(tuple(level.value + " " for level in Level)):
            name = line[9:24].strip()
        said[name] = f"{said.get(name, '')}{line}\n"
    return said


def test_a_workspace_that_works(workspace: AzureMLWorkspace, capsys: pytest.CaptureFixture[str]) -> None:
    said = look(workspace, capsys)
    assert not [line for line in said.values() if line.startswith("WRONG")], said
    names = ["Azure sign-in", "Azure ML", "roles", "storage", "CPU cluster", "GPU cluster", "quota", "image", "ssh"]
    assert list(said) == [*names, "cost limits"]
    assert "service principal" in said["Azure sign-in"] and said["ssh"].startswith("warning")


def test_each_fault_is_reported_with_its_remedy(
    workspace: AzureMLWorkspace, stack: AzureStack, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = workspace.model_copy(update={"cpu_cluster": "no-such", "environment": "rebel-nerf:no-such"})
    with stack.faults.add("keyless", "blob"):
        said = look(broken, capsys)
    assert said["CPU cluster"].startswith("WRONG") and "rebel-nerf azure setup" in said["CPU cluster"]
    assert said["image"].startswith("WRONG") and "no-such" in said["image"]
    assert said["storage"].startswith("WRONG") and "az role assignment create" in said["storage"]
    assert said["Azure ML"].startswith("ok"), "each check stands alone"


def test_the_quota_that_is_left_is_shown_and_too_little_for_one_node_is_wrong(
    workspace: AzureMLWorkspace, stack: AzureStack, capsys: pytest.CaptureFixture[str]
) -> None:
    said = look(workspace, capsys)["quota"]
    low_priority = "vCPUs left (Total Cluster Low Priority Regional vCPUs); a node needs 4"
    assert said.startswith("ok") and f"gpu-cluster: 100 of 100 {low_priority}" in said
    with stack.faults.add("no_quota", "Low Priority"):
        said = look(workspace, capsys)["quota"]
    assert said.startswith("WRONG") and f"gpu-cluster: 0 of 0 {low_priority}" in said and "Request quota" in said
    with stack.faults.add("no_quota", "NCASv3_T4"):  # of what counts, the scarcest is named
        left = Quota(workspace).left("Standard_NC4as_T4_v3", low_priority=False)
    assert str(left) == "0 of 0 vCPUs left (Standard NCASv3_T4 Family Cluster Dedicated vCPUs); a node needs 4"
    with stack.faults.add("forbidden", "GET .*/usages"):
        said = look(workspace, capsys)["quota"]
    assert said.startswith("ok") and "could not be read" in said, "that takes a role on the subscription"


def test_a_missing_role_comes_with_the_command_that_gives_it(
    workspace: AzureMLWorkspace, stack: AzureStack, capsys: pytest.CaptureFixture[str]
) -> None:
    with stack.faults.add("forbidden", "GET .*/jobs"):
        said = look(workspace, capsys)
    assert said["roles"].startswith("WRONG") and "AzureML Data Scientist" in said["roles"]


def test_assets_without_files_and_damaged_copies_are_found_and_put_right(
    workspace: AzureMLWorkspace, tmp_path: Path
) -> None:
    name, container = workspace._connection.store()
    for kind, count in (("video", 1), ("page", 2)):
        for number in range(count):
            path = f"rebel-nerf/jobs/quay-{kind}-{number}/{kind}/"
            container.write(f"{path}file", kind.encode())
            uri = f"azureml://datastores/{name}/paths/{path}"
            workspace._assets.register(f"quay-{kind}", f"1-0{number}", kind, {"scene": "quay"}, uri)  # type: ignore[arg-type]
    photo = tmp_path / "1.jpg"
    photo.write_bytes(b"a photo")
    capture = workspace.take_in("quay", {"1.jpg": photo}, {})
    [video], (page, _) = workspace.assets("quay-video"), workspace.assets("quay-page")
    assert health.check_assets(workspace, whole=True, repair=False).text == "4 assets have all their files"

    copy = workspace.fetch(video) / "file"
    copy.write_bytes(b"vidoe")
    container.delete(workspace._connection.path(page.uri))
    container.delete(workspace._connection.path(capture.uri))
    found = health.check_assets(workspace, whole=False, repair=False)
    assert found.level is Level.WRONG and f"{page}: none of its files is left" in found.text
    assert str(video) not in found.text, "only --whole reads the copy"
    found = health.check_assets(workspace, whole=True, repair=False)
    assert f"{video}: the downloaded {copy} differs" in found.text

    found = health.check_assets(workspace, whole=True, repair=True)
    assert found.level is Level.WRONG and "Give your own copy of them" in found.text
    assert workspace.assets("quay-page") != [] and page not in workspace.assets("quay-page")
    assert (workspace.fetch(video) / "file").read_bytes() == b"video"
    workspace._assets.remove(capture)
    assert health.check_assets(workspace, whole=True, repair=False).level is Level.OK
