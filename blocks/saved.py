"""Saved blocks: what is wrong with one, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from jobs.errors import InvalidInput

__all__ = ["loading", "sentences"]


def sentences(error: ValidationError, whole: str = "block") -> str:
    """Field and fault, a line each, without the values: one of them may be a secret. `whole` is where no one field is
    at fault."""
    faults = ((".".join(map(str, e["loc"])) or whole, e["msg"].removeprefix("Value error, ")) for e in error.errors())
    return "\n".join(f"{field}: {fault}" for field, fault in faults)


@contextmanager
def loading(reference: str) -> Iterator[None]:
    """Have a block that is loaded inside say what is wrong with it.

    Raises:
        InvalidInput: there is no such block, or its fields do not go together.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        # Prefect wraps what pydantic says in a RuntimeError; the text of that quotes a part of each value.
        wrong = error if isinstance(error, ValidationError) else error.__cause__
        if isinstance(wrong, ValidationError):
            raise InvalidInput(
                f"block {reference} is saved, but wrong:\n{sentences(wrong)}\n"
                "Correct it in Prefect's UI, under Blocks; a field of a block that it refers to, in that block."
            ) from None
        if isinstance(error, RuntimeError):
            raise
        raise InvalidInput(
            f"no block {reference!r} could be loaded ({error}). See the saved ones with: prefect block ls"
        ) from None
