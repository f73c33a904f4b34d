"""The Markdown pages: their commands, options, links and error messages exist, and the README's commands work."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest

from commands.shell import usage
from deployments.command import COMMANDS, OWN_OPTIONS
from jobs import errors
from jobs.options import RenderOptions
from jobs.path.trajectory import generate
from tests import terminal

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / name
    for name in (
        *("README.md", "CONTRIBUTING.md", "trajectories/README.md", "docs/architecture.md", "docs/conventions.md"),
        *("docs/camera-paths.md", "docs/errors.md", "docs/first-contact.md", "docs/good-video.md", "docs/gpu.md"),
        *("docs/metres.md", "docs/photos.md"),
        *("docs/results.md", "docs/service.md", "docs/visits.md", "docs/terminal.md", "CHANGELOG.md"),
    )
]
README = (ROOT / "README.md").read_text()
NOT_OURS = {"401 Unauthorized"}  # a message of Prefect's


def commands(page: Path) -> list[list[str]]:
    """Return the command lines in a page's shell blocks, without comments."""
    blocks = re.findall(r"^( *)```sh\n(.*?)^\1```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for _, block in blocks for line in textwrap.dedent(block).replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def ours(page: Path) -> list[list[str]]:
    """Return the words after `rebel-nerf` of a page's command lines."""
    return [words[1:] for words in commands(page) if words[0].endswith("rebel-nerf")]


def name_of(words: list[str]) -> str:
    return " ".join(words[: 2 if words[0] == "azure" else 1])


@cache
def options_of(name: str) -> set[str]:
    words = [*name.split(), "--help" if name.split()[0] in OWN_OPTIONS else "--help-all"]
    done = subprocess.run(
        [sys.executable, "-m", "deployments.command", *words], cwd=ROOT, capture_output=True, text=True
    )
    return set(re.findall(r"--[a-z][a-z.-]+", done.stdout))


@cache
def texts() -> list[str]:
    """Return every string of the program, with a NUL where an f-string has a value."""
    found = []
    for package in ("blocks", "commands", "deployments", "flows", "jobs", "tasks"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                    found.append("".join(map(str, parts)))
    return found


def is_said(message: str) -> bool:
    """Say whether the program has a string with all parts of a message, whose `…` stand for what varies."""
    parts = [part.strip() for part in message.split("…") if part.strip(" :")]
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    return any(pattern.search(text) for text in texts())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text())
    assert len(links) == len(re.findall(r"\]\((?!https?:)", page.read_text()))
    for target, anchor in links:
        file = (page.parent / target) if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES[:-1], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_in_the_text_exist(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"`((?:blocks|commands|deployments|docs|flows|jobs|tasks|tests|benchmarks)/[\w./]*)`", text))
    named |= set(re.findall(r"-m pytest ([\w./]+)", text))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_table_of_contents_has_every_section() -> None:
    contents = README.partition("\n## ")[0]
    titles = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert titles and all(f"- [{title}](#" in contents for title in titles)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    assert set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", text, re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }
    named = {words[0] for words in map(str.split, re.findall(r"`(?:\.venv/bin/)?rebel-nerf ([^`-][^`]*)`", text))}
    assert named <= {name.split()[0] for name in COMMANDS}


@pytest.mark.parametrize(
    "words", [words for page in PAGES for words in ours(page)], ids=lambda words: " ".join(words)[:60]
)
def test_the_program_accepts_the_command_line(words: list[str]) -> None:
    name = name_of(words)
    assert name in COMMANDS
    before_options = words[: next((number for number, word in enumerate(words) if word.startswith("-")), None)]
    module, given = COMMANDS[name][0], words[len(name.split()) :]
    if module.startswith(("commands.", "flows.")):
        file = ROOT / f"{module.replace('.', '/')}.py"
        usage.parse(usage.command_in(file), given, name)
    assert {word.partition("=")[0] for word in given if word.startswith("--")} <= options_of(" ".join(before_options))


@pytest.mark.slow
def test_options_in_the_text_exist() -> None:
    text = "\n".join(
        page.read_text() for page in PAGES if page.name not in ("CHANGELOG.md", "CONTRIBUTING.md", "terminal.md")
    )
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    told = {option for text in quoted for option in re.findall(r"(?<![\w-])--[a-z][a-z.-]+", text)}
    unknown = told - {"--help", "--help-all"}
    quick = [name for name in COMMANDS if COMMANDS[name][0].startswith(("commands.", "flows."))]
    for name in dict.fromkeys([*quick, "doctor", *COMMANDS]):
        if unknown and COMMANDS[name][0]:
            unknown -= options_of(name)
    assert told and not unknown


def test_the_program_says_the_messages_of_the_table() -> None:
    pages = (README, (ROOT / "docs/errors.md").read_text())
    table = "".join(page.partition("| message | what to do |")[2].partition("\n\n")[0] for page in pages)
    messages = [
        re.sub(rf"^({'|'.join(errors.__all__)})\b:? *", "", m) for m in re.findall(r"^\| `([^`]+)`", table, re.M)
    ]
    assert len(messages) > 20
    assert not [message for message in messages if not is_said(message) and message not in NOT_OURS]
    assert not is_said("the moon … is made of cheese")


@pytest.fixture
def project(tiny_dataset: Path, tiny_model: Path, tmp_path: Path) -> Path:
    """Return a copy of the project, beside a home with a model of the scene town-hall and a path from the viewer."""
    for package in ("blocks", "commands", "deployments", "flows", "jobs", "tasks"):
        shutil.copytree(ROOT / package, tmp_path / "project" / package, ignore=shutil.ignore_patterns("__pycache__"))
    made_of = {"dataset": "town-hall-images-to-nerf-dataset:1-c0ffee00", "scene": "town-hall", "capture_version": "1"}
    for kind, name, source in (
        ("dataset", "town-hall-images-to-nerf-dataset", tiny_dataset),
        ("model", "town-hall-nerf", tiny_model),
    ):
        folder = tmp_path / "home/.rebel-nerf/assets" / name / "1-c0ffee00"
        shutil.copytree(source, folder)
        about = {"name": name, "version": folder.name, "kind": kind, "tags": made_of, "checksums": {}, "number": 3}
        (folder / "asset.json").write_text(json.dumps({**about, "created": "2026-01-01T00:00:00+00:00"}))
    path = generate("tour", tiny_dataset, tiny_model, RenderOptions().with_profile("preview"))
    for place in ("Downloads", ".rebel-nerf/assets/town-hall-video/1-c0ffee00"):
        (tmp_path / "home" / place).mkdir(parents=True)
        path.write(tmp_path / "home" / place / "camera_path.json")
    return tmp_path / "project"


ANSWERS = {
    "list": "town-hall",
    "pin": "is shown by model 3",
    "note": "model 3",
    "path": "Render it with: ",
}
"""What the README's quick commands say. The tests of flows and commands run the others, which take minutes."""


@pytest.mark.slow
def test_the_quick_commands_work(project: Path) -> None:
    home = project.parent / "home"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "REBEL_NERF_"))
    }
    environment |= {"HOME": str(home), "PYTHONPATH": str(project)}
    ran = set()
    for words in ours(ROOT / "README.md"):
        if words[0] not in ANSWERS:
            continue
        given = [re.sub(r"^~", str(home), word).replace("1-…", "1-c0ffee00") for word in words]
        if words[0] == "path":  # the pages use the file in several ways; here, each may replace the one before
            given.append("--replace")
        command = [sys.executable, "-m", "deployments.command", *given]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
        said = done.stdout + done.stderr
        assert done.returncode == 0 and ANSWERS[words[0]] in said, f"{' '.join(given)}: {said}"
        ran.add(words[0])
    assert ran == set(ANSWERS)
    assert (project / "trajectories/town-hall/walk.json").is_file()


@pytest.mark.parametrize("command", terminal.quick())
def test_the_terminal_page_has_what_commands_print_today(command: str, tmp_path: Path) -> None:
    assert terminal.printed(command, tmp_path) == terminal.recorded(terminal.PAGE.read_text())[command]


def test_the_readme_shows_the_recorded_demo() -> None:
    assert terminal.quoting(README, terminal.recorded(terminal.PAGE.read_text())[terminal.DEMO]) == README
