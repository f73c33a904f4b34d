"""Send what a job measures to the job's own page."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping

from prefect import get_run_logger

from blocks import Measured, Workspace
from jobs.report import Progress

__all__ = ["Curves"]

_SECONDS_BETWEEN_POINTS = 10.0
_SECONDS_BETWEEN_POSTS = 60.0


class Curves:
    """Sends what one job measures to its workspace, once a minute and at the end.

    The points are chosen by the job's own clock, so everyone who reads the same log chooses the same ones.
    """

    def __init__(self, workspace: Workspace, job: str) -> None:
        self._workspace, self._job = workspace, job
        self._points: list[Measured] = []
        self._newest: dict[str, float] = {}
        self._posted = time.monotonic()
        self._failed = False

    def add(self, progress: Progress) -> None:
        """Add a point, unless the curve has a recent one. A curve's last point is always added."""
        if not progress.metrics or progress.time is None:
            return
        curve = progress.stage.partition(":")[2]
        soon = progress.time - self._newest.get(curve, -math.inf) < _SECONDS_BETWEEN_POINTS
        if progress.step == progress.total or not soon:
            self._newest[curve] = progress.time
            self._points.append(
                Measured(curve=curve, step=progress.step, time=progress.time, values=dict(progress.metrics))
            )

    async def end(self, result: Mapping[str, str | int | float]) -> None:
        """Send the remaining points, and the figures of the result as "result/…"."""
        figures = {name: float(value) for name, value in result.items() if isinstance(value, (int, float))}
        if figures:
            at = max(self._newest.values(), default=time.time())
            self._points.append(Measured(curve="result", step=0, time=at, values=figures))
        await self._post()

    async def post(self) -> None:
        """Send the new points, if a minute has passed since the last time."""
        if time.monotonic() - self._posted > _SECONDS_BETWEEN_POSTS:
            await self._post()

    async def _post(self) -> None:
        self._posted = time.monotonic()
        if not self._points:
            return
        try:
            await asyncio.to_thread(self._workspace.log_metrics, self._job, self._points)
            self._points = []
        except Exception as error:  # a job does not depend on its curves
            if not self._failed:
                get_run_logger().warning("the curves of job %s cannot be sent at the moment: %s", self._job, error)
            self._failed = True
