"""Send Prefect's log to a file instead of the terminal, and this project's warnings to the display."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import prefect
from prefect.logging.handlers import PrefectConsoleHandler

from blocks import LocalWorkspace
from blocks.privacy import make_private
from commands.shell.terminal import Display
from jobs.errors import InvalidInput

__all__ = ["quietly"]

_KEPT = 50  # logs of earlier runs
_OURS = ("prefect.flow_runs", "prefect.task_runs", "prefect.blocks", "prefect.tasks")  # Prefect uses these loggers, too
_OF_PREFECT = Path(prefect.__file__).parent
_FORM = "%(asctime)s | %(levelname)-7s | %(name)s - %(message)s"

for _name in ("EventsWorker", "APILogWorker"):  # threads of Prefect's that warn of what they still do as a command ends
    logging.getLogger(_name).setLevel(logging.ERROR)


@contextmanager
def quietly(display: Display, name: str) -> Iterator[Path]:
    """Write everything that is logged inside to a file, and yield its path. The display gets this project's warnings.

    Args:
        display: shows warnings that this project logs.
        name: the end of the file's name, after the time.

    Raises:
        InvalidInput: the file cannot be written.
    """
    file = _new_file(name)
    root = logging.getLogger()
    loggers = [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    console = {handler for each in loggers for handler in each.handlers if isinstance(handler, PrefectConsoleHandler)}
    written, shown = logging.FileHandler(file, encoding="utf-8"), _Shown(display)
    written.setFormatter(logging.Formatter(_FORM))
    _silence(console)
    root.addHandler(written)
    root.addHandler(shown)
    try:
        yield file
    finally:
        for handler in (written, shown):
            root.removeHandler(handler)
            handler.close()
        for silent in console:
            silent.removeFilter(_nothing)
        atexit.register(_silence, console)  # Prefect logs when the process ends


def _silence(console: Iterable[logging.Handler]) -> None:
    for handler in console:
        handler.addFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _new_file(name: str) -> Path:
    home = LocalWorkspace().folder
    folder = home / "logs"
    try:
        make_private(home)
        folder.mkdir(exist_ok=True)
        for old in sorted(folder.glob("*.log"))[:-_KEPT]:
            old.unlink(missing_ok=True)
        file = folder / f"{datetime.now():%Y%m%d-%H%M%S}-{name}.log"
        file.touch()
    except OSError as error:
        raise InvalidInput(
            f"The log of this run cannot be written to {folder} ({error.strerror}). Set REBEL_NERF_HOME to a folder "
            "that you can write, or show the log with --verbose."
        ) from error
    return file


class _Shown(logging.Handler):
    """Shows this project's warnings. Prefect's own are left out, and so are errors: the command reports them once."""

    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.startswith(_OURS) and record.levelno == logging.WARNING
        if ours and not Path(record.pathname).is_relative_to(_OF_PREFECT):
            self._display.warn(record.getMessage())
