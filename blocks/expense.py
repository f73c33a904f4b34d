"""What a job costs, as the workspace's record of expenses has it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

__all__ = ["Expense"]


class Expense(BaseModel):
    """What one job costs: as expected when it was submitted, and as it came to once its end was seen.

    Args:
        job: the job's name; there is one entry a job.
        month: the calendar month, in UTC, in which it was submitted: "2026-11".
        run: the flow run that submitted it.
        scene, stage, tier: what the job is for, and which kind of machine it takes.
        options: hash of the stage's options, as in the tag of an asset.
        work: how much there is to do, in the stage's own unit; None where that is not known.
        submitted: when it was entered, just before the job was submitted, with its time zone.
        price_per_hour: of the job's machine at that time.
        expected_seconds: how long the job was expected to run.
        seconds: how long it ran, queueing not counted; None until its end was seen.
        completed: whether it ended with its result.
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

    @property
    def cost(self) -> float:
        """In the currency of its price; as expected, until the job's end was seen."""
        return self.price_per_hour * (self.expected_seconds if self.seconds is None else self.seconds) / 3600

    @property
    def path(self) -> str:
        """Where the record has it: a file's path below the record's folder."""
        return f"{self.month}/{self.job}.json"
