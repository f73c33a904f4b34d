"""Answers of the real service: the public test recordings of `azure-ai-ml`, condensed into `recorded/`.

Each file names its origin. The emulator's answers start from these bodies, and its traffic is compared with them.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.azureml.service import Exchange

# Members whose own keys are names that somebody gave.
_FREE = re.compile(
    r"(^|\.)(properties\.(inputs|outputs|services|tags|properties|flavors)"
    r"|additionalInfo|runMetadata\.(inputs|outputs)|runDefinition|values)\b"
)


@cache
def exchanges() -> list[dict[str, Any]]:
    """Return all recorded exchanges: operation, status, names of headers, request, response."""
    files = sorted((Path(__file__).parent / "recorded").glob("*.json"))
    return [exchange for file in files for exchange in json.loads(file.read_text())["exchanges"]]


def properties(operation: str, status: int = 200) -> dict[str, Any]:
    """Return a copy of the `properties` of a recorded answer."""
    [found] = [e for e in exchanges() if (e["operation"], e["status"]) == (operation, status)]
    body = found["response"]
    filled: dict[str, Any] = copy.deepcopy(body["properties"])
    return filled


def differences(log: Iterable[Exchange]) -> list[str]:
    """Return what our answers lack, compared with the recorded ones of the same operation and status."""
    ours: dict[tuple[str, int], list[Exchange]] = {}
    for exchange in log:
        ours.setdefault((exchange.operation, exchange.status), []).append(exchange)
    found = []
    for recorded in exchanges():
        name = f"{recorded['operation']} {recorded['status']}"
        same = ours.get((recorded["operation"], recorded["status"]))
        if not same:
            found.append(f"{name}: never answered")
            continue
        sent = {name for exchange in same for name in exchange.headers}
        missing = {*_keys(recorded["response"])} - {key for exchange in same for key in _keys(exchange.response)}
        missing |= {f"header {header}" for header in recorded["headers"] if header not in sent | {"x-request-time"}}
        found += [f"{name}: no {key}" for key in sorted(missing)]
    return found


def _keys(body: Any, path: str = "") -> Iterator[str]:
    if isinstance(body, dict):
        for key, value in body.items():
            if not _FREE.search(path.rstrip(".")):
                yield path + key
                yield from _keys(value, f"{path}{key}.")
    elif isinstance(body, list) and body:
        yield from _keys(body[0], f"{path[:-1]}[].")
