"""The command `rebel-nerf`, as people type it."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from commands.shell import usage
from deployments import command
from deployments.command import COMMANDS
from deployments.completion import complete
from jobs.program import typed


def run(*arguments: str, folder: Path | None = None) -> tuple[int, str, str]:
    command = [str(Path(sys.executable).with_name("rebel-nerf")), *arguments]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=environment)
    return done.returncode, done.stdout, done.stderr


def test_help_fits_a_screen_and_names_every_command() -> None:
    status, said, _ = run("--help")
    assert status == 0 and len(said.splitlines()) <= 30 and max(map(len, said.splitlines())) <= 100
    assert all(f"  {name}  " in said for name in COMMANDS)
    assert run()[1] == said


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    status, said, errors = run("rendr", "--scene", "facade")
    assert (status, said) == (2, "") and re.search("Did you mean `.*rebel-nerf render`", errors)
    status, _, errors = run("azure", "set-up")
    assert status == 2 and re.search("Did you mean `.*rebel-nerf azure setup`", errors)
    status, _, errors = run("train", "nerfacto")
    assert status == 2 and re.search("Did you mean `.*rebel-nerf run`", errors)
    status, _, errors = run("azure")
    assert status == 2 and "rebel-nerf azure transfer`" in errors


def test_a_suggested_command_works_where_the_program_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    program = [".venv/bin/python", "-m", "deployments.command"]
    environment = {**os.environ, "PYTHONPATH": str(Path(command.__file__).parents[1])}

    def answered(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(line, shell=True, capture_output=True, text=True, cwd=tmp_path, env=environment)

    said = answered(shlex.join([*program, "list", "--scen", "facade"])).stderr
    suggested = said.partition("All options: ")[2].strip()
    assert suggested == ".venv/bin/rebel-nerf list --help-all"
    assert answered(suggested).stdout.startswith("usage: rebel-nerf list")
    monkeypatch.setenv("PATH", f"{tmp_path}/.venv/bin:/usr/bin:/bin")
    assert typed("list") == "rebel-nerf list"


def test_a_command_is_its_program() -> None:
    status, said, _ = run("path", "--help")
    assert status == 0 and said.startswith("usage: rebel-nerf path") and "--scene" in said


OURS = [name for name in COMMANDS if name not in ("deploy", *command.OWN_OPTIONS)]


@pytest.mark.parametrize("name", [*OURS, "azure transfer upload", "azure transfer download"])
def test_the_help_of_a_command_fits_a_screen(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(option: str) -> str:
        monkeypatch.setattr(sys, "argv", ["rebel-nerf", *name.split(), option])
        with pytest.raises(SystemExit) as end:  # in this process, because 60 others would take half a minute
            command.main()
        said, errors = capsys.readouterr()
        assert (end.value.code, errors) == (0, "")
        return said

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(usage, "started_as", "")
    said = shown("--help")
    assert said.startswith(f"usage: rebel-nerf {name}")
    assert len(said.splitlines()) <= 45 and max(map(len, said.splitlines())) <= 100
    for text in (said, shown("--help-all")):
        assert not re.search("lambda|factory|ifdef|undefined|required|default: None", text)


@pytest.mark.parametrize("name", [name for name in OURS if COMMANDS[name][0].startswith("deployments.")])
def test_the_options_of_a_program_are_read_without_importing_it(name: str) -> None:
    module = importlib.import_module(COMMANDS[name][0])
    early = usage.command_in(command.file_of(COMMANDS[name][0]))
    late = getattr(module, early.__name__)
    assert {name: repr(field) for name, field in early.model_fields.items()} == {
        name: repr(field) for name, field in late.model_fields.items()
    }
    assert early.__doc__ == late.__doc__ and early.__doc__


def test_deploy_has_no_options(tmp_path: Path) -> None:
    assert run("deploy", "--help", folder=tmp_path)[0] == 0
    assert run("deploy", "--all", folder=tmp_path)[0] == 2


def test_deploy_asks_for_the_projects_folder(tmp_path: Path) -> None:
    status, _, errors = run("deploy", folder=tmp_path)
    assert status == 1 and "no prefect.yaml" in errors


@pytest.mark.parametrize("name", [name for name in COMMANDS if COMMANDS[name][0]])
def test_every_command_has_its_program(name: str) -> None:
    spec = importlib.util.find_spec(COMMANDS[name][0])
    assert spec and spec.origin and '__name__ == "__main__"' in Path(spec.origin).read_text()


def test_a_command_without_a_flow_runs_and_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path))
    status, said, errors = run("page", "--scene", "facade", "--no-browser")
    assert (status, said) == (1, "") and errors.strip().startswith("NotFound: scene facade: no facade-nerf in")
    status, said, errors = run("list")
    assert (status, errors) == (0, "") and said.startswith(f"There is no scene in {tmp_path} yet.")
    status, _, errors = run("list", "--scen", "facade")
    [line] = errors.splitlines()
    assert status == 2 and re.search("--scen: did you mean --scene. All options: .*rebel-nerf list --help-all$", line)


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("rebel-nerf re", ["render", "reprocess"]),
        ("rebel-nerf azure ", ["events", "setup", "transfer"]),
        ("rebel-nerf run --render.cam", ["--render.camera-path", "--render.camera-type"]),
        ("rebel-nerf run --scene facade --profile f", ["full"]),
        ("rebel-nerf run --train.appearance per", ["per-photo"]),
        ("rebel-nerf run --images ", []),
        ("rebel-nerf export --export.re", ["--export.reach", "--export.resolution"]),
        ("rebel-nerf view --browser --mod", ["--model-version"]),
        ("rebel-nerf nonsense ", []),
    ],
)
def test_completion_offers_commands_options_and_values(line: str, candidates: list[str]) -> None:
    assert complete(line) == candidates


def test_a_shell_gets_one_candidate_a_line() -> None:
    shell = {**os.environ, "COMP_LINE": "rebel-nerf vi --scene", "COMP_POINT": "13"}  # the cursor is behind "vi"
    command = [str(Path(sys.executable).with_name("rebel-nerf")), "completion", "rebel-nerf", "vi", "rebel-nerf"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=shell)
    assert done.stdout == "view\n", done.stderr
    assert 'complete -o default -C "rebel-nerf completion" rebel-nerf' in run("completion")[1]
