"""Errors for people: they name the scene, and appear in Prefect's log as sentences without a stack trace."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.errors import InvalidInput, RebelNerfError

__all__ = ["naming"]


@contextmanager
def naming(scene: str) -> Iterator[None]:
    """Add the scene to an InvalidInput that is raised inside."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"scene {scene}: {error}") from None


def _without_stack_trace(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], RebelNerfError):
        record.msg, record.args, record.exc_info = str(record.exc_info[1]), None, None
    return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_without_stack_trace)
