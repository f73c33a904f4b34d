"""Data flows one way: what each package may import, as `jobs/__init__.py` and docs/architecture.md say."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACT = {
    "base_options",
    "camera_path",
    "code",
    "errors",
    "manifest",
    "media",
    "methods",
    "names",
    "options",
    "profiles",
    "program",
    "report",
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
    """Names of the modules that a file imports anywhere, as `jobs.report` for `from jobs import report`."""
    return names_in(ast.parse(file.read_text()))


def names_in(module: ast.Module) -> set[str]:
    """Names of the modules that a part of a file imports."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} if node.module != "jobs" else {f"jobs.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", ["commands", "flows", "tasks", "blocks", "deployments"])
def test_the_scheduler_imports_only_the_contract_of_jobs(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        for name in imported(file):
            if name.startswith("jobs."):
                assert name.split(".")[1] in CONTRACT | SHARED_ROOMS, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", NO_PART_OF_IT)
def test_data_flows_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        wrong = {name for name in imported(file) if name.split(".")[0] in NO_PART_OF_IT[package]}
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


def test_flows_import_commands_only_to_be_started_from_a_shell() -> None:
    for file in (ROOT / "flows").rglob("*.py"):
        module = ast.parse(file.read_text())
        module.body = [part for part in module.body if not isinstance(part, ast.If)]  # if __name__ == "__main__"
        wrong = {name for name in names_in(module) if name.split(".")[0] == "commands"}
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


def test_every_package_is_installed() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = [
        file.parent
        for top in ("commands", "flows", "tasks", "blocks", "deployments", "jobs")
        for file in (ROOT / top).rglob("__init__.py")
    ]
    assert set(settings["packages"]) == {str(folder.relative_to(ROOT)).replace("/", ".") for folder in packages}
