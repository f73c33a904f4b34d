"""End a run that notices its own cancellation as Cancelled, not as Failed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar, get_type_hints

from prefect import State
from prefect.states import Cancelled

from jobs.errors import RunCancelled

__all__ = ["cancellable"]

P = ParamSpec("P")
R = TypeVar("R")


def cancellable(flow: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R | State[R]]]:
    """Return the function with this behaviour, to be decorated with `@flow`."""

    @functools.wraps(flow)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R | State[R]:
        try:
            return await flow(*args, **kwargs)
        except RunCancelled as error:
            return Cancelled(message=str(error))

    # Prefect reads the types of parameters from the wrapper, and would look their names up in this module.
    run.__annotations__ = get_type_hints(flow, include_extras=True)
    run.__signature__ = inspect.signature(flow, eval_str=True)  # type: ignore[attr-defined]
    return run
