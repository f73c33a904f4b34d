"""A workspace's record of what a job costs."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from jobs.errors import InvalidInput

__all__ = ["Expense"]


class Expense(BaseModel):
    """What one job costs: the expected cost when it is submitted, and the real cost after it has ended.

    Args:
        job: the job's name. Each job has one record.
        month: the calendar month, in UTC, in which it was submitted: "2026-11".
        run: the flow run that submitted it.
        scene, stage, tier: what the job is for, and which kind of machine it needs.
        options: the hash of the stage's options, as in an asset's tag.
        work: how much there is to do, in the stage's own unit; None if unknown.
        submitted: when it was recorded, just before the job was submitted, with its time zone.
        price_per_hour: of the job's machine at that time.
        expected_seconds: how long the job was expected to run.
        seconds: how long it ran, without time in a queue; None until the job has ended.
        completed: whether it ended with a result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    month: str
    run: str
    scene: str
    stage: str
    tier: str
    options: str = ""
    work: float | None = None
    submitted: datetime
    price_per_hour: float
    expected_seconds: float
    seconds: float | None = None
    completed: bool = False

    @classmethod
    def read(cls, content: bytes, file: str) -> Self:
        """Read a record.

        Raises:
            InvalidInput: it is damaged; names the file.
        """
        try:
            return cls.model_validate_json(content)
        except ValueError:
            raise InvalidInput(
                f"{file} is no longer a record of what a job costs. Delete it: the job then no longer counts."
            ) from None

    @property
    def cost(self) -> float:
        """Return the cost, in the currency of the price. Until the job has ended, it is the expected cost."""
        return self.price_per_hour * (self.expected_seconds if self.seconds is None else self.seconds) / 3600

    @property
    def path(self) -> str:
        """Return the path of the record, below the folder of all records."""
        return f"{self.month}/{self.job}.json"
