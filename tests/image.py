"""Build the job image's Dockerfile without Docker, each stage as a folder: `python -m tests.image FOLDER NAME=BASE …`.

The instructions are read from the Dockerfile itself. A base image is replaced by a folder with the same distribution,
for example one that `debootstrap --variant=minbase --components=main,universe noble BASE` made; NAME is a part of the
image's name. Each stage is an overlay on the stage below, so its own folder in FOLDER/<stage>/layer holds what Docker's
layers would. Needs root on Linux. What is finished is kept: a stage that failed goes on with its next instruction.

What this cannot show: that Docker and NVIDIA's images are as expected, and anything that needs a GPU.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deployments" / "azure"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CERTIFICATES = "/run/certificates.pem"


@dataclass
class Stage:
    """One `FROM` of a Dockerfile, and the instructions up to the next."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def stages(dockerfile: str) -> list[Stage]:
    """Return the stages in their order; those without a name are called by their number."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.M)
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, *named = re.split(r"\s+AS\s+", rest)
            found.append(Stage(named[0] if named else str(len(found)), base))
        elif word in ("ENV", "RUN", "COPY"):
            found[-1].instructions.append((word, rest))
        elif word:
            raise ValueError(f"the Dockerfile has {word}, which this program does not know")
    return found


class Build:
    """A build in a folder.

    Args:
        folder: where the stages are made.
        bases: the folders that stand for base images, by a part of the image's name.
        context: the folder that is sent to the build.
    """

    def __init__(self, folder: Path, bases: dict[str, Path], context: Path) -> None:
        self._folder, self._bases, self._context = folder.resolve(), bases, context
        self._made: dict[str, tuple[list[Path], dict[str, str]]] = {}

    def run(self, wanted: list[Stage]) -> None:
        """Build the stages in turn."""
        for stage in wanted:
            self._build(stage)

    def _build(self, stage: Stage) -> None:
        below, environment = self._made.get(stage.base) or ([self._base(stage.base)], {})
        place = self._folder / stage.name
        layer, done = place / "layer", place / "done.json"
        for folder in (layer, place / "work", place / "root"):
            folder.mkdir(parents=True, exist_ok=True)
        finished = json.loads(done.read_text()) if done.exists() else []
        environment = dict(environment)
        layers = [layer, *below]
        with _mounted(place / "root", below, layer, place / "work") as root:
            for index, (word, rest) in enumerate(stage.instructions):
                if word == "ENV":
                    environment |= _variables(rest, environment)
                if finished[index : index + 1] == [rest]:
                    continue
                if word != "ENV":
                    print(f"[{stage.name}] {word} {rest}", flush=True)
                    self._copy(root, rest) if word == "COPY" else _run(root, rest, environment)
                finished[index:] = [rest]
                done.write_text(json.dumps(finished))
        self._made[stage.name] = layers, environment
        print(f"[{stage.name}] its layer: {_size(layer) / 1e9:.2f} GB", flush=True)

    def _base(self, image: str) -> Path:
        return next(folder.resolve() for name, folder in self._bases.items() if name in image)

    def _copy(self, root: Path, given: str) -> None:
        *sources, target = given.split()
        if option := re.fullmatch("--from=(.+)", sources[0]):
            layers, _ = self._made[option[1]]
            work = self._folder / "from"
            with _read(work, layers) as source:
                for name in sources[1:]:
                    _copy_into(source / name.lstrip("/"), root / target.lstrip("/"), target.endswith("/"))
            return
        for name in sources:
            found = next(path for path in (self._context / name, ROOT / name) if path.exists())
            _copy_into(found, root / target.lstrip("/"), target.endswith("/"))


def _variables(given: str, known: dict[str, str]) -> dict[str, str]:
    known = {"PATH": _PATH, **known}
    pairs = (pair.split("=", 1) for pair in given.split())
    return {name: re.sub(r"\$(\w+)", lambda found: known[found[1]], value) for name, value in pairs}


def _copy_into(source: Path, target: Path, inside: bool) -> None:
    """Copy as COPY does: a folder's content, or a file."""
    (target if inside or source.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
    what = [f"{source}/."] if source.is_dir() else [str(source)]
    subprocess.run(["cp", "--archive", *what, str(target)], check=True)


def _run(root: Path, command: str, environment: dict[str, str]) -> None:
    """Run a shell command in the stage, with the network of this machine and its certificate authorities."""
    authorities = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    (root / "run").mkdir(exist_ok=True)
    shutil.copy(authorities, root / _CERTIFICATES.lstrip("/"))
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    whole = {"PATH": _PATH, "HOME": "/root", "PIP_CERT": _CERTIFICATES, **environment}
    if jobs := os.environ.get("MAX_JOBS"):
        whole["MAX_JOBS"] = jobs
    with ExitStack() as stack:
        for kind, at in (("proc", "proc"), ("devtmpfs", "dev"), ("tmpfs", "dev/shm")):
            stack.enter_context(_mount(["-t", kind, kind, str(root / at)], root / at))
        subprocess.run(["chroot", str(root), "/bin/sh", "-c", command], env=whole, check=True, stdin=subprocess.DEVNULL)


@contextmanager
def _mounted(root: Path, below: list[Path], layer: Path, work: Path) -> Iterator[Path]:
    options = f"lowerdir={':'.join(map(str, below))},upperdir={layer},workdir={work}"
    with _mount(["-t", "overlay", "overlay", "-o", options, str(root)], root):
        yield root


@contextmanager
def _read(root: Path, layers: list[Path]) -> Iterator[Path]:
    root.mkdir(exist_ok=True)
    with _mount(["-t", "overlay", "overlay", "-o", f"lowerdir={':'.join(map(str, layers))}", str(root)], root):
        yield root


@contextmanager
def _mount(arguments: list[str], at: Path) -> Iterator[None]:
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *arguments], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)  # what failed can have left processes there


def _size(folder: Path) -> int:
    return int(subprocess.run(["du", "-sb", folder], check=True, capture_output=True, text=True).stdout.split()[0])


if __name__ == "__main__":
    given = dict(pair.split("=", 1) for pair in sys.argv[2:])
    Build(Path(sys.argv[1]), {name: Path(folder) for name, folder in given.items()}, FOLDER).run(
        stages((FOLDER / "Dockerfile").read_text())
    )
