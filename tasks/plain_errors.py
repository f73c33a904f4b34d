"""Errors for people: they name the scene, and appear in Prefect's log once, as sentences without a stack trace."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.errors import InvalidInput, RebelNerfError, RunCancelled

__all__ = ["naming"]

_FINISHED = "Finished in state "
_REPEATED = ("Failed", "Crashed", "Cancel", "Suspended", "Running")  # their text was logged with the error, if any
_INTENDED = ("Cancel", "Suspended", "Running")  # a person requested it; the task of a suspended run stays Running


@contextmanager
def naming(scene: str) -> Iterator[None]:
    """Add the scene to an InvalidInput that is raised inside."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"scene {scene}: {error}") from None


def _in_plain_words(record: logging.LogRecord) -> bool:
    """Shorten an error of this project to its text, and remove the copy of the text from the message about the state.

    What a person requested, such as a cancellation, is logged as information.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RebelNerfError):
        record.msg, record.args, record.exc_info = str(error), None, None
    if record.levelno == logging.ERROR and isinstance(record.msg, str):
        state = record.msg.removeprefix(_FINISHED) if record.msg.startswith(_FINISHED) else ""
        cancelled = isinstance(error, RunCancelled) or RunCancelled.__name__ in state or state.startswith(_INTENDED)
        if state.startswith(_REPEATED):
            record.msg = f"{_FINISHED}{state.partition('(')[0]}"
        if cancelled:
            record.levelno, record.levelname = logging.INFO, "INFO"
    return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_in_plain_words)
