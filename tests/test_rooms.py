"""Data flows one way: what each package may import, as `jobs/__init__.py` and docs/architecture.md say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACT = {
    "base_options",
    "camera_path",
    "code",
    "environment",
    "errors",
    "manifest",
    "media",
    "methods",
    "names",
    "opening",
    "options",
    "profiles",
    "program",
    "report",
    "text",
    "validation",
}
SHARED_ROOMS = {"metric", "path", "web"}
NO_PART_OF_IT: dict[str, set[str]] = {
    "jobs": {"commands", "flows", "tasks", "blocks", "deployments", "prefect", "azure"},
    "blocks": {"commands", "flows", "tasks", "deployments", "torch", "nerfstudio"},
    "tasks": {"commands", "flows", "deployments", "azure", "torch", "nerfstudio"},
    "flows": {"deployments", "azure", "torch", "nerfstudio"},
    "commands": {"deployments", "azure", "torch", "nerfstudio"},
}


def imported(file: Path) -> set[str]:
    """Return the names of the modules that a file imports anywhere, as `jobs.report` for `from jobs import report`."""
    return names_in(ast.parse(file.read_text()))


def names_in(module: ast.Module) -> set[str]:
    """Return the names of the modules that a part of a file imports."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} if node.module != "jobs" else {f"jobs.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", ["commands", "flows", "tasks", "blocks", "deployments"])
def test_the_scheduler_imports_only_the_contract_of_jobs(package: str) -> None:
    found = {(name, file) for file in (ROOT / package).rglob("*.py") for name in imported(file)}
    of_jobs = [(name, file) for name, file in found if name.startswith("jobs.")]
    assert of_jobs
    for name, file in of_jobs:
        assert name.split(".")[1] in CONTRACT | SHARED_ROOMS, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", NO_PART_OF_IT)
def test_data_flows_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        wrong = {name for name in imported(file) if name.split(".")[0] in NO_PART_OF_IT[package]}
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


def test_flows_import_commands_only_to_be_started_from_a_shell() -> None:
    files = list((ROOT / "flows").rglob("*.py"))
    assert any(name.split(".")[0] == "commands" for file in files for name in imported(file))
    for file in files:
        module = ast.parse(file.read_text())
        module.body = [part for part in module.body if not isinstance(part, ast.If)]  # if __name__ == "__main__"
        wrong = {name for name in names_in(module) if name.split(".")[0] == "commands"}
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


STARTS = re.compile(
    r"subprocess\.\w+|os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*|fork\w*)|\w+\.(create_subprocess_\w+|open_process"
    r"|run_process)|pty\.\w+"
)
"""What starts a program."""
INHERITS = {"blocks/supervisor.py"}
"""Programs that are started with the allow list themselves, and cannot import it."""


def starts_without(module: ast.Module) -> list[str]:
    """Return the calls that start a program with another environment than `jobs.environment` gives."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module in ("subprocess", "pty"):
            found += [alias.name for alias in node.names if not alias.name[0].isupper() or alias.name == "Popen"]
        if isinstance(node, ast.Call) and STARTS.fullmatch(ast.unparse(node.func)):
            given = next((ast.unparse(each.value) for each in node.keywords if each.arg == "env"), "")
            if not re.search(r"\bchild_environment\(", given):
                found.append(f"line {node.lineno}: {ast.unparse(node.func)}")
    return found


def test_every_child_process_gets_the_allowed_variables_only() -> None:
    for package in NO_PART_OF_IT | {"deployments": set()}:
        files = list((ROOT / package).rglob("*.py"))
        assert files
        for file in files:
            if str(file.relative_to(ROOT)) not in INHERITS:
                wrong = starts_without(ast.parse(file.read_text()))
                assert not wrong, f"{file.relative_to(ROOT)}: {wrong}: give env=child_environment()"


@pytest.mark.parametrize(
    "line",
    [
        "subprocess.run(['ssh'])",
        "subprocess.Popen(['ssh'], env={**os.environ})",
        "subprocess.check_output(['ssh'], env=settings)",
        "from subprocess import run",
        "os.system('ssh')",
        "os.execv('/bin/ssh', [])",
        "await asyncio.create_subprocess_exec('ssh')",
    ],
)
def test_a_child_process_with_all_variables_is_found(line: str) -> None:
    assert starts_without(ast.parse(f"async def f():\n {line}"))
    assert not starts_without(ast.parse("subprocess.run(['ssh'], env=child_environment() | {'A': '1'})"))


def test_every_package_is_installed() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = [
        file.parent
        for top in ("commands", "flows", "tasks", "blocks", "deployments", "jobs")
        for file in (ROOT / top).rglob("__init__.py")
    ]
    assert set(settings["packages"]) == {str(folder.relative_to(ROOT)).replace("/", ".") for folder in packages}
