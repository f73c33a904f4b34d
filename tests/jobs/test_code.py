from __future__ import annotations

from pathlib import Path

import pytest

from jobs import code
from jobs.options import PrepareOptions, TrainOptions
from tests.test_rooms import imported


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project whose `jobs/` holds one program."""
    (tmp_path / "project" / "jobs" / "__pycache__").mkdir(parents=True)
    (tmp_path / "project" / "jobs" / "train.py").touch()
    monkeypatch.setattr(code, "_JOBS", tmp_path / "project" / "jobs")
    return tmp_path / "project"


@pytest.mark.parametrize("package", ["nerfstudio", "nerfstudio/nerfstudio"])
def test_a_nerfstudio_of_the_users_own_travels_and_counts(project: Path, tmp_path: Path, package: str) -> None:
    without = [TrainOptions().fingerprint(), PrepareOptions().fingerprint()]
    (project / package / ".git").mkdir(parents=True)
    (project / package / "__init__.py").write_text("mine = 1")
    code.copy_to(tmp_path / "shipped", "train")
    assert sorted(str(file.relative_to(tmp_path / "shipped")) for file in (tmp_path / "shipped").rglob("*")) == [
        "jobs",
        "jobs/train.py",
        "nerfstudio",
        "nerfstudio/__init__.py",
    ]
    own = [TrainOptions().fingerprint(), PrepareOptions().fingerprint()]
    assert own[0] != without[0] and own[1] == without[1]
    (project / package / "__init__.py").write_text("mine = 2")
    assert TrainOptions().fingerprint() != own[0]


def test_without_one_only_the_jobs_travel(project: Path, tmp_path: Path) -> None:
    code.copy_to(tmp_path / "shipped", "train")
    assert [file.name for file in (tmp_path / "shipped").iterdir()] == ["jobs"]
    assert code.own_nerfstudio_fingerprint() == ""


@pytest.mark.parametrize(("stage", "travels"), [("train", False), ("page", False), ("check", True), ("facade", True)])
def test_the_demo_travels_only_with_jobs_that_draw_it(stage: str, travels: bool, tmp_path: Path) -> None:
    code.copy_to(tmp_path, stage)
    shipped = {str(file.relative_to(tmp_path / "jobs")) for file in (tmp_path / "jobs").rglob("*.py")}
    assert {"train.py", "path/trajectory.py", "facade.py", "demo/street.py"} - shipped == (
        set() if travels else {"facade.py", "demo/street.py"}
    )


def test_no_other_job_imports_the_demo() -> None:
    jobs = Path(code.__file__).parent
    files = [file for file in jobs.rglob("*.py") if file.name != "facade.py" and file.parent.name != "demo"]
    demo = {"jobs.demo", "jobs.facade"}
    assert not [file for file in files if any(name.startswith(tuple(demo)) for name in imported(file))]
    assert any(name.startswith("jobs.demo") for name in imported(jobs / "facade.py")), "the test sees no import"


def test_packages_of_pip_are_not_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site-packages" / "nerfstudio").mkdir(parents=True)
    (tmp_path / "site-packages" / "nerfstudio" / "__init__.py").touch()
    monkeypatch.setattr(code, "_JOBS", tmp_path / "site-packages" / "jobs")
    assert code.own_nerfstudio() is None
