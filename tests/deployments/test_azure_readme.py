"""The commands of deployments/azure/README.md, run on the emulator in their order; those of other programs are not."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tests.azureml.stack import AzureStack
from tests.deployments.conftest import Command

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "deployments/azure/README.md").read_text()
OTHERS = {"--permanently-delete", "--from", "--to"}  # of az and caddy

# What each of our programs says where there are no photos, no model and no training yet: it took the options, found the
# workspace by its block, and looked.
ANSWERS = {
    "flows.nerf": (1, "town-hall"),
    "flows.render": (1, "town-hall-nerf"),
    "flows.viewer": (1, "town-hall-nerf"),
    "deployments.azure.transfer download": (1, "there is no asset town-hall-video"),
    "deployments.azure.transfer upload": (0, "town-hall:1: azureml://"),
}


def commands() -> list[list[str]]:
    """Our own command lines among the page's shell blocks, with variables and all."""
    blocks = re.findall(r"^( *)```sh\n(.*?)^\1```", README, re.MULTILINE | re.DOTALL)
    lines = (line for _, block in blocks for line in textwrap.dedent(block).replace("\\\n", " ").splitlines())
    return [shlex.split(line)[2:] for line in lines if line.startswith("python -m ")]


@pytest.fixture
def environment(stack: AzureStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that the page has its reader set."""
    group = f"/subscriptions/{stack.subscription}/resourceGroups/{stack.resource_group}"
    identity = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/nerf-jobs"
    for name, value in {
        "JOB_IDENTITY": identity,
        "REBEL_NERF_EVENTS_KEY": "k" * 64,
        "PREFECT_API_AUTH_STRING": "rebel-nerf:secret",
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "REBEL_NERF_HOME": str(tmp_path / "home"),
        "PYTHONUNBUFFERED": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("prefect_server")
def test_the_commands_do_what_the_page_says(
    stack: AzureStack, command: Command, environment: dict[str, str], street: Path, tmp_path: Path
) -> None:
    photos = Path(environment["HOME"], "Pictures", "town-hall")
    photos.mkdir(parents=True)
    ran = []
    for module, *given in commands():
        arguments = [os.path.expanduser(os.path.expandvars(argument)) for argument in given]
        name = f"{module} {given[0]}" if module.endswith("transfer") else module
        ran.append(name)
        if module == "deployments.azure.setup":
            stack._workspaces[stack.workspace].computes.clear()  # so that each makes its clusters
            status, said = command("setup", *arguments, "--no-deploy")
            assert status == 0 and "python -m flows.nerf --scene" in said, said
            continue
        line = [sys.executable, "-m", module, *arguments]
        if module == "deployments.azure.events":
            with subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as relay:
                assert relay.stdout and "Listening on 127.0.0.1:8081" in relay.stdout.readline()
                relay.terminate()
            continue
        if name.endswith("upload"):
            shutil.copytree(street / "photos", photos, dirs_exist_ok=True)
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        said = done.stdout + done.stderr
        assert (done.returncode, ANSWERS[name][1] in said) == (ANSWERS[name][0], True), said
        assert "Traceback" not in said and "usage:" not in said, said
    assert set(ran) == {*ANSWERS, "deployments.azure.setup", "deployments.azure.events"} and not stack.failures


def test_every_option_on_the_page_exists() -> None:
    known = set(OTHERS)
    for module in ("deployments.azure.setup", "deployments.azure.events", "flows.nerf", "flows.render", "flows.viewer"):
        done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
        known |= set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    told = {option for text in re.findall(r"`([^`\n]+)`", README) for option in re.findall(r"--[a-z][a-z-]+", text)}
    assert told - known == set()
    assert {"--no-smoke-test", "--job-identity", "--subnet", "--no-public-ip", "--image-build-cluster"} <= told


def test_links_within_the_page_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors
