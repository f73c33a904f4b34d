"""How far a stage is, as it shows in Prefect: an artifact that moves, and lines in the run's log."""

from __future__ import annotations

import time
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from jobs.report import Progress

__all__ = ["ProgressReporter"]

# Each update is a request to the server and each log line costs it 2.4 ms of CPU; people look every few seconds.
_SECONDS_BETWEEN_UPDATES = 5.0


class ProgressReporter:
    """Shows one stage's progress. The artifact's key is the scene and stage: the UI keeps its latest."""

    def __init__(self, scene: str, stage: str) -> None:
        self._key = f"{scene}-{stage}-progress"
        self._artifact: UUID | None = None
        self._stage = stage
        self._step = ""
        self._last = 0.0

    async def update(self, progress: Progress) -> None:
        """Show a progress line, unless one of the same step was shown just now; a step's first and last always are."""
        moved_on = progress.stage != self._step or progress.step == progress.total
        if not moved_on and time.monotonic() - self._last < _SECONDS_BETWEEN_UPDATES:
            return
        self._step, self._last = progress.stage, time.monotonic()
        get_run_logger().info("%s", progress)
        await self._show(progress.percent, str(progress))

    async def done(self) -> None:
        """Show that the stage is through."""
        await self._show(100.0, f"{self._stage}: done")

    async def _show(self, percent: float, description: str) -> None:
        if self._artifact is None:
            created = await acreate_progress_artifact(percent, key=self._key, description=description)
            self._artifact = created
        else:
            await aupdate_progress_artifact(self._artifact, progress=percent, description=description)
