"""Errors that are meant for people reach Prefect's log as sentences, without the stack of frames beneath them."""

import logging

from jobs.errors import RebelNerfError


def _without_frames(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], RebelNerfError):
        record.msg, record.args, record.exc_info = str(record.exc_info[1]), None, None
    return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_without_frames)
