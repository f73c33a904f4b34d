"""Errors for people: they name the scene, and appear in Prefect's log once, as sentences without a stack trace."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.errors import InvalidInput, RebelNerfError, RunCancelled

__all__ = ["REFUSED", "naming"]

REFUSED = "Refused"
"""The name of the state of a run that would fail again with the same input. Its type is FAILED."""

_FINISHED = "Finished in state "
_EXPLAINED = ("Failed", REFUSED, "Crashed", "Cancel", "Suspended", "Running")
"""States whose reason has its own line of the log, or that a person requested. A suspended run's task stays Running."""

_LOGGED = "_rebel_nerf_logged"


@contextmanager
def naming(scene: str) -> Iterator[None]:
    """Add the scene to an InvalidInput that is raised inside."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"scene {scene}: {error}") from None


def _once_in_plain_words(record: logging.LogRecord) -> bool:
    """Shorten an error of this project to its text, and leave out what the log already has.

    Prefect logs an error for the task that raised it and for the flow, and repeats its text after "Finished in state".
    Here, the first line stays an error. The lines about states are information, and so is a cancellation.
    """
    if record.levelno != logging.ERROR:
        return True
    if record.exc_info and (error := record.exc_info[1]):
        if hasattr(error, _LOGGED):
            return False
        setattr(error, _LOGGED, True)
        if isinstance(error, RebelNerfError):
            record.msg, record.args, record.exc_info = str(error), None, None
        if isinstance(error, RunCancelled):
            record.levelno, record.levelname = logging.INFO, "INFO"
    elif (text := record.getMessage()).startswith(_FINISHED) and text.removeprefix(_FINISHED).startswith(_EXPLAINED):
        record.msg, record.args = text.partition("(")[0], None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_once_in_plain_words)
