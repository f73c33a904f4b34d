"""Say in plain words what pydantic found wrong."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

__all__ = ["complaints", "first_complaint", "key_of"]


def complaints(error: ValidationError, whole: str = "") -> list[str]:
    """Return "field: what is wrong" for each wrong field, without its value, which may be a secret.

    Args:
        error: what pydantic raised.
        whole: the name to use for an error that is not about a single field; "" for no name.
    """
    found = error.errors(include_url=False, include_input=False)
    named = ((key_of(each["loc"]) or whole, each["msg"].removeprefix("Value error, ")) for each in found)
    return [f"{key}: {message}" if key else message for key, message in named]


def first_complaint(error: ValidationError) -> str:
    """Return the first wrong field and what is wrong with it, without a full stop."""
    return complaints(error)[0].removesuffix(".")


def key_of(location: Iterable[int | str]) -> str:
    """Return a field's place in a JSON value: `camera_path[3].fov` for ("camera_path", 3, "fov")."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")
