"""The `rebel-nerf` commands of deployments/azure/README.md, run on the emulator in their order."""

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

from deployments.command import COMMANDS
from tests.azureml.stack import AzureStack
from tests.deployments.conftest import Command
from tests.processes import helps

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "deployments/azure/README.md").read_text()
OTHERS = {"--permanently-delete", "--from", "--to"}  # of az and caddy

# Exit status and words of each command where there are no photos, no model and no training yet: it has read its
# options, found the workspace by its block, and looked.
ANSWERS = {
    "run": (1, "town-hall"),
    "render": (1, "town-hall-nerf"),
    "view": (1, "town-hall-nerf"),
    "azure transfer download": (1, "there is no asset town-hall-video"),
    "azure transfer upload": (0, "town-hall:1: azureml://"),
}


def commands() -> list[list[str]]:
    """Return the words of our own command lines in the page's shell blocks, variables included."""
    blocks = re.findall(r"^( *)```sh\n(.*?)^\1```", README, re.MULTILINE | re.DOTALL)
    lines = (line for _, block in blocks for line in textwrap.dedent(block).replace("\\\n", " ").splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith("rebel-nerf ")]


def named(words: list[str]) -> tuple[str, list[str]]:
    """Split the words of a command line into the command's name and its options."""
    count = next((index for index, word in enumerate(words) if word.startswith("--")), len(words))
    return " ".join(words[:count]), words[count:]


@pytest.fixture
def environment(stack: AzureStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the variables that the page has its reader set."""
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
    # Set-up first: the page opens with the command that it leads to.
    for words in sorted(commands(), key=lambda words: words[:2] != ["azure", "setup"]):
        words = [os.path.expanduser(os.path.expandvars(word)) for word in words]
        name, arguments = named(words)
        ran.append(name)
        if name == "azure setup":
            stack._workspaces[stack.workspace].computes.clear()  # so that each makes its clusters
            status, said = command("setup", *arguments, "--no-deploy")
            assert status == 0 and "rebel-nerf run --scene" in said, said
            continue
        line = [sys.executable, "-m", "deployments.command", *words]
        if name == "azure events":
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
    assert set(ran) == {*ANSWERS, "azure setup", "azure events"} and not stack.failures


def test_every_option_on_the_page_exists() -> None:
    known = set(OTHERS)
    names = ("run", "render", "view", "azure setup", "azure events")
    for said in helps(*(COMMANDS[name][0] for name in names)).values():
        known |= set(re.findall(r"--[a-z][a-z-]+", said))
    told = {option for text in re.findall(r"`([^`\n]+)`", README) for option in re.findall(r"--[a-z][a-z-]+", text)}
    assert told - known == set()
    assert {"--no-smoke-test", "--job-identity", "--subnet", "--no-public-ip", "--image-build-cluster"} <= told


def test_links_within_the_page_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors
