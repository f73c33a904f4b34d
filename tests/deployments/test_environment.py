"""The job environment: what the lock says, and whether every job runs in it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import Field
from pydantic_settings import CliApp

from deployments.azure.image import FILES
from jobs.base_options import Options
from jobs.options import CompareOptions, ExportOptions, PrepareOptions, RenderOptions
from tests import image, job_environment

ROOT = Path(__file__).resolve().parents[2]
LOCK = job_environment.LOCK.read_text()
IMAGE = {"python_version": "3.12", "python_full_version": "3.12.3", "sys_platform": "linux"}


def locked() -> dict[str, str]:
    """Return the version of each package in the lock; pycolmap's with CUDA under pycolmap's own name."""
    versions = dict(re.findall(r"^([\w.-]+)==(\S+)$", LOCK, re.M))
    return {**versions, "pycolmap": versions.pop("pycolmap-cuda12")}


def wanted(environment: dict[str, str] = IMAGE) -> Iterator[Requirement]:
    """Yield the requirements of pyproject.toml for the scheduler and the jobs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["local"]]):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield requirement


def test_the_lock_lies_within_the_projects_ranges() -> None:
    checked = set()
    for requirement in wanted():
        if requirement.name in locked():
            assert requirement.specifier.contains(locked()[requirement.name]), requirement
            checked.add(requirement.name)
    assert checked >= {"av", "nerfstudio", "numpy", "pycolmap", "pydantic", "pydantic-settings", "pyyaml", "torch"}


def test_the_lock_has_all_that_jobs_import_and_nothing_of_the_schedulers() -> None:
    by_import = metadata.packages_distributions()
    for file in sorted((ROOT / "jobs").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for root in {name.partition(".")[0] for name in names} - {"jobs", "tinycudann", *sys.stdlib_module_names}:
                found = {canonicalize_name(name) for name in by_import[root]}
                assert found & set(locked()), f"{file.name} imports {root}, which the lock does not have"
    assert not {"prefect", "azure-ai-ml", "azure-identity", "opencv-python", "jupyterlab"} & set(locked())


def test_the_build_is_sent_all_that_the_dockerfile_copies_and_numbered_by_what_stays_in_the_image() -> None:
    dockerfile = (ROOT / "deployments" / "azure" / "Dockerfile").read_text()
    copies = [rest.split() for stage in image.stages(dockerfile) for word, rest in stage.instructions if word == "COPY"]
    copied = [source for *sources, _ in copies if not sources[0].startswith("--from") for source in sources]
    numbered = {file.name for file in FILES}
    assert {"Dockerfile", *copied} == {*numbered, "jobs"}
    assert all(file.is_file() for file in FILES)
    assert ":latest" not in dockerfile and "docker.io" not in dockerfile


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_no_version_is_allowed_that_fails(python: str) -> None:
    """Up to pydantic-settings 2.15 tuples cannot be given, nor, from pydantic 2.14 on, anything."""
    ranges = {each.name: each.specifier for each in wanted({**IMAGE, "python_version": python})}
    assert not any(ranges["pydantic-settings"].contains(version) for version in ("2.11.0", "2.15.0", "2.17.0"))
    assert not ranges["pydantic"].contains("2.15.0"), "the next one may break pydantic-settings again"
    assert not ranges["av"].contains("16.1.0"), "it has no ColorPrimaries"


@pytest.mark.parametrize(
    "options",
    [
        PrepareOptions(min_registered_share=0.25),
        RenderOptions(outputs=("accumulation", "depth"), fps=29.97),
        ExportOptions(forms=("mesh",)),
        CompareOptions(then_label="a b's"),
    ],
    ids=lambda options: options.STAGE,
)
def test_the_versions_that_are_installed_write_and_read_a_command_line(options: Options) -> None:
    assert CliApp.run(type(options), cli_args=list(CliApp.serialize(options))) == options


def test_the_versions_that_are_installed_read_what_is_given_twice_and_as_json() -> None:
    class Job(Options):
        shards: tuple[Path, ...] = ()
        places: dict[str, tuple[Path, ...]] = Field({})

    job = CliApp.run(Job, cli_args=["--shards", "/a", "--shards", "/b", "--places", '{"b": ["/c"]}'])
    assert (job.shards, job.places) == ((Path("/a"), Path("/b")), {"b": (Path("/c"),)})
    assert CliApp.run(Job, cli_args=["--shards", "/a"]).shards == (Path("/a"),)


def check(python: Path | str, folder: Path, *options: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Run `jobs.check` with the code of a job alone. Return its exit status, steps by name, and output."""
    code, report = folder / "code", folder / "report"
    code.mkdir(exist_ok=True)
    if not (code / "jobs").exists():
        (code / "jobs").symlink_to(ROOT / "jobs")
    command = [python, "-m", "jobs.check", "--output", report, *options]
    done = subprocess.run(command, cwd=code, capture_output=True, text=True)
    steps = json.loads((report / "check.json").read_text())
    return done.returncode, {step["step"]: step for step in steps}, done.stdout + done.stderr


def test_the_check_names_a_module_that_cannot_be_imported_and_looks_at_the_rest(tmp_path: Path) -> None:
    """jobs.web.chart takes the process with it, jobs.web.plan fails."""
    pytest.importorskip("nerfstudio")
    code = tmp_path / "code" / "jobs"
    code.mkdir(parents=True)
    for file in ("__init__", "check", "probes", "report", "environment", "errors", "text", "model"):
        (code / f"{file}.py").write_text((ROOT / "jobs" / f"{file}.py").read_text())
    (code / "web").mkdir()
    (code / "web" / "chart.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    (code / "web" / "plan.py").write_text("import av.there_is_no_such_module\n")
    (code / "page.py").write_text("if __name__ == \"__main__\":\n    raise SystemExit('broken')\n")
    status, steps, said = check(sys.executable, tmp_path, "--no-run", "--require", "compiler")
    assert status == 1
    assert steps["video"]["state"] == "ok" and steps["modules"]["state"] == "FAILED", said
    for words in (
        "jobs.web.chart (ended by SIGSEGV",
        "jobs.web.plan (ModuleNotFoundError",
        "jobs.page --help (RuntimeError",
    ):
        assert words in steps["modules"]["text"], said
    assert "jobs.report" not in steps["modules"]["text"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_job_runs_in_the_job_environment(job_python: Path, tmp_path: Path) -> None:
    status, steps, said = check(job_python, tmp_path, "--require", "pycolmap")
    assert status == 0, said
    stages = {"capture", "prepare", "scale", "train", "render", "shard", "join", "compare", "export", "changes", "page"}
    assert {name for name, step in steps.items() if step["state"] == "ok"} >= {*stages, "modules", "video", "torch"}
    listed = subprocess.run([job_python, "-m", "pip", "check"], capture_output=True, text=True).stdout
    conflicts = [line for line in listed.splitlines() if "which is not installed" not in line]
    assert not conflicts or conflicts == ["No broken requirements found."], "beside what is left out, all fits"
