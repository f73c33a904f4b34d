"""Give a run that was cancelled, or whose input was refused, a state that says so."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar, get_type_hints

from prefect import State, get_run_logger
from prefect.states import Cancelled, Failed

from jobs.errors import BudgetExceeded, GateRefused, InvalidInput, RunCancelled
from tasks.plain_errors import REFUSED

__all__ = ["REFUSED", "with_plain_ends"]

P = ParamSpec("P")
R = TypeVar("R")


def with_plain_ends(flow: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R | State[R]]]:
    """Wrap the function of a flow, so that its runs end in these states. Decorate the result with `@flow`."""

    @functools.wraps(flow)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R | State[R]:
        try:
            return await flow(*args, **kwargs)
        except RunCancelled as error:
            return Cancelled(message=str(error))
        except (BudgetExceeded, GateRefused, InvalidInput) as error:
            get_run_logger().error("%s", error, exc_info=error)
            return Failed(name=REFUSED, message=f"{type(error).__name__}: {error}", data=error)

    # Prefect reads the types of parameters from the wrapper, and would look their names up in this module.
    run.__annotations__ = get_type_hints(flow, include_extras=True)
    run.__signature__ = inspect.signature(flow, eval_str=True)  # type: ignore[attr-defined]
    return run
