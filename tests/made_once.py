"""What many tests need and takes seconds to make: made once a machine, and again when what makes it has changed.

It lies in `build/tests/`, under a name with a checksum of the programs and versions that it depends on. Nothing there
is handed to a test directly: a test gets a copy, so that no test sees what another one did to it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.demo.raster import Scene
    from jobs.demo.street import Visit

__all__ = ["TINY_TRAINING", "drawn", "locked", "made_once", "prefect_database", "scene", "street", "tiny_model"]

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "build" / "tests"
TINY_TRAINING = ("--max-num-iterations=30", "--model-size=small", "--max-image-size=96", "--rays-per-batch=256")
"""The options of `tiny_model`."""


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock among all processes of this machine."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_once(name: str, depends: Iterable[Path], packages: Iterable[str], make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled, by this process or by an earlier one.

    Args:
        name: what is in it.
        depends: files and folders of Python programs that decide its content.
        packages: installed packages whose versions decide it.
        make: fills a folder that is empty.
    """
    files = sorted(file for place in depends for file in ([place] if place.is_file() else place.rglob("*.py")))
    known = hashlib.sha256()
    for file in files:
        known.update(f"{file.relative_to(ROOT)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    for package in packages:
        known.update(f"{package} {metadata.version(package)}\n".encode())
    folder = BUILT / f"{name}-{known.hexdigest()[:16]}"
    with locked(BUILT / f"{name}.lock"):
        if not folder.exists():
            for old in BUILT.glob(f"{name}-*"):
                shutil.rmtree(old)
            part = folder.with_name(f"{folder.name}.part")
            part.mkdir()
            make(part)
            part.rename(folder)
    return folder


def drawn(name: str, draw: Callable[[Path], object], *programs: Path) -> Path:
    """Return a folder that `draw` has filled with views of the built-in street front. `programs` decide them, too."""
    depends = [ROOT / "jobs" / "facade.py", ROOT / "jobs" / "demo", Path(__file__), *programs]
    return made_once(name, depends, ["numpy", "pillow"], draw)


def street(visit: Visit = "1", photos: int = 14) -> Path:
    """Return a small capture of a visit to the built-in street front: `photos/` and `truth.json`."""
    from jobs.facade import cameras, photograph

    def draw(folder: Path) -> None:
        photograph(scene(visit), cameras(photos, 480, 270, visit), folder)

    return drawn(f"street_{visit}_{photos}", draw)


def scene(visit: Visit = "1") -> Scene:
    """Return the built-in street front at a visit, lit, as fine as photos of 480 px show it."""
    from jobs.facade import street

    def build(folder: Path) -> None:
        (folder / "scene.pickle").write_bytes(pickle.dumps(street(480, visit)))

    built: Scene = pickle.loads((drawn(f"scene_{visit}", build) / "scene.pickle").read_bytes())
    return built


def tiny_model() -> Path:
    """Return the model folder of a nerfacto that was trained on the street for a moment: a fog in its colours."""

    def make(folder: Path) -> None:
        dataset = folder / "dataset"
        shutil.copytree(street(), dataset)
        (dataset / "truth.json").rename(dataset / "transforms.json")
        places = ["--dataset", dataset, "--model", folder / "model", "--checkpoints", folder / "checkpoints"]
        command = [sys.executable, "-W", "ignore", "-m", "jobs.train", *map(str, places), *TINY_TRAINING]
        # On one thread, as in tests: sums depend on how they are divided.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=300)
        shutil.rmtree(dataset)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    return made_once("model", [ROOT / "jobs", Path(__file__)], ["nerfstudio", "numpy", "torch"], make) / "model"


def prefect_database() -> Path:
    """Return the database of a Prefect server that has started once and knows nothing: a second start is quicker."""

    def make(folder: Path) -> None:
        url = f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
            env={**kept, "PREFECT_HOME": str(folder), "PREFECT_SERVER_DATABASE_CONNECTION_URL": url},
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip

    packages = ["aiosqlite", "alembic", "prefect", "sqlalchemy"]
    return made_once("prefect", [Path(__file__)], packages, make) / "prefect.db"
