"""Read saved blocks, and explain what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.blocks.core import Block
from pydantic import ValidationError

from jobs.errors import InvalidInput
from jobs.validation import complaints

__all__ = ["loading", "saved_name"]


@contextmanager
def loading(reference: str) -> Iterator[None]:
    """Turn errors of a block that is loaded inside into errors for people.

    Raises:
        InvalidInput: there is no such block, or its fields do not go together.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        # Prefect wraps pydantic's error in a RuntimeError, whose text quotes a part of each value.
        wrong = error if isinstance(error, ValidationError) else error.__cause__
        if isinstance(wrong, ValidationError):
            lines = "\n".join(complaints(wrong, "block"))
            raise InvalidInput(
                f"block {reference} is saved, but wrong:\n{lines}\n"
                "Correct it in Prefect's UI, under Blocks. A field with a dot is in a block that this one refers to."
            ) from None
        if isinstance(error, RuntimeError):
            raise
        raise InvalidInput(
            f"no block {reference!r} could be loaded ({error}). See the saved ones with: prefect block ls"
        ) from None


def saved_name(block: Block) -> str | None:
    """Return the name under which a block is saved; None if it is not. Prefect has no public attribute for it."""
    return block._block_document_name
