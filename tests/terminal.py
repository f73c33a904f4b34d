"""Record what commands print for `docs/terminal.md`: `python -m tests.terminal`.

With `--demo`, the demo is recorded, too. The README then shows its lines, figures and pictures
(`tests/illustrations.py`).

A block of that page has commands, each after `$ `. This program runs them as a person would, with an empty home folder,
and puts what they print below them. `tests/test_readme.py` checks that the page has what they print today.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["DEMO", "PAGE", "README", "ROOT", "environment", "printed", "quick", "quoting", "recorded"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/terminal.md"
README = ROOT / "README.md"
_BLOCK = re.compile(r"^```\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
DEMO = "rebel-nerf demo"  # in a terminal; `rebel-nerf demo 2>&1 | cat` is without one
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def recorded(page: str) -> dict[str, str]:
    """Return what a page says that commands print, by command."""
    parts = [part for block in _BLOCK.findall(page) for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return {command: text for command, _, text in (part.partition("\n") for part in parts)}


def quick() -> list[str]:
    """Return the page's commands that take seconds."""
    return [command for command in recorded(PAGE.read_text()) if not command.startswith(DEMO)]


def printed(command: str, home: Path) -> str:
    """Run a command line as a person whose home folder is `home`, and return what it prints.

    Paths and times are those of an example.
    """
    run = _in_a_terminal if command == DEMO else _piped
    text = run(command, environment(home), home).replace(str(home), "/home/you")
    return re.sub(r"\d{8}-\d{6}-", "20261129-202438-", text).strip("\n") + "\n"


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a person with that home folder, and make the folder."""
    (home / "Pictures/town-hall").mkdir(parents=True, exist_ok=True)
    (home / "bin").mkdir(exist_ok=True)
    program = home / "bin/rebel-nerf"  # this project's files, wherever pip installed it from
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deployments.command "$@"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "REBEL_NERF_"))}
    own = {"HOME": str(home), "PYTHONPATH": str(ROOT), "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "COLUMNS": "100"}
    return {**kept, **own}


def quoting(readme: str, demo: str) -> str:
    """Return the README with the lines and figures of a recorded demo."""
    training, _, end = demo.partition("\n…\n")
    lines = end.partition("\n\n")[2]
    figures = re.search(r"([\d.]+) dB on held-out photos: good, in (.+)", lines)
    assert figures, lines
    for pattern, text in (
        (r"(?<=^```\n)✓  photos.*?(?=^```$)", f"{training}\n"),
        (r"(?<=^```\n)facade: .*?(?=^```$)", lines),
        (r"PSNR is [\d.]+ dB on held-out photos", f"PSNR is {figures[1]} dB on held-out photos"),
        (r"The whole run\ntook [^,]+,", f"The whole run\ntook {figures[2]},"),
    ):
        found = re.findall(pattern, readme, re.MULTILINE | re.DOTALL)
        assert len(found) == 1, f"{pattern} occurs {len(found)} times in the README"
        readme = readme.replace(found[0], text)
    return readme


def _piped(command: str, environment: dict[str, str], home: Path) -> str:
    done = subprocess.run(
        command, shell=True, env=environment, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def _in_a_terminal(command: str, environment: dict[str, str], home: Path) -> str:
    """Return two pictures of the screen: in the middle of the training, and at the end."""
    own, other = pty.openpty()
    with subprocess.Popen(
        command, shell=True, env={**environment, "TERM": "xterm"}, cwd=home, stdin=other, stdout=other, stderr=other
    ):
        os.close(other)
        shown = b""
        with suppress(OSError):  # at the program's end
            while part := os.read(own, 65536):
                shown += part
    os.close(own)
    text = shown.decode().replace("\r\n", "\n").replace("\r", "\n")
    screens = [_ESCAPES.sub("", screen) for screen in re.split(r"(?:\x1b\[2K\x1b\[1A)+", text)]
    plain = ["\n".join(map(str.rstrip, screen.strip("\n").splitlines())) for screen in screens]
    training = [screen for screen in plain if re.search(r"train .*left", screen)]
    return f"{training[len(training) // 2]}\n…\n{plain[-1]}"


def main() -> None:
    """Record the page's commands again."""
    for command, before in recorded(PAGE.read_text()).items():
        if command.startswith(DEMO) and "--demo" not in sys.argv:
            continue
        with tempfile.TemporaryDirectory() as home:
            text = printed(command, Path(home))
            print(f"$ {command}\n{text}", flush=True)
            PAGE.write_text(PAGE.read_text().replace(f"$ {command}\n{before}", f"$ {command}\n{text}"))
            if command == DEMO:
                README.write_text(quoting(README.read_text(), text))
                from tests.illustrations import photograph_demo  # it needs a browser, and this module

                photograph_demo(Path(home))


if __name__ == "__main__":
    main()
