"""Record what jobs cost in a workspace's datastore: one small blob per job, by month."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from blocks.azure.connection import Connection
from blocks.azure.listing import Blob
from blocks.azure.requests import THREADS
from blocks.expense import Expense
from jobs.errors import NotFound

__all__ = ["Expenses"]


class Expenses:
    """The blobs `<folder>/spent/<year-month>/<job>.json`.

    Args:
        connection: the connection to the workspace.
        folder: the datastore's folder for what this program writes.
        known: what was read before, by name and MD5. Most entries of a month never change again.
    """

    def __init__(self, connection: Connection, folder: str, known: dict[tuple[str, bytes | None], Expense]) -> None:
        self._connection, self._folder, self._known = connection, f"{folder}/spent", known

    def read(self, month: str, job: str | None) -> list[Expense]:
        """Return the expenses of a month, or that of one job."""
        prefix = f"{self._folder}/{month}/"
        container = self._connection.store().container

        def read(blob: Blob) -> Expense | None:
            name = prefix + blob.path
            if (name, blob.md5) not in self._known:
                try:
                    self._known[name, blob.md5] = Expense.read(container.read(name), name)
                except NotFound:  # deleted in the meantime
                    return None
            return self._known[name, blob.md5]

        if job is not None:
            try:
                name = f"{prefix}{job}.json"
                return [Expense.read(container.read(name), name)]
            except NotFound:
                return []
        with ThreadPoolExecutor(THREADS) as pool:
            return [expense for expense in pool.map(read, container.blobs(prefix)) if expense]

    def write(self, expense: Expense) -> None:
        content = expense.model_dump_json(indent=2).encode()
        self._connection.store().container.write(f"{self._folder}/{expense.path}", content)

    def delete(self, expense: Expense) -> None:
        self._connection.store().container.delete(f"{self._folder}/{expense.path}")
