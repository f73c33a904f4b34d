"""Show how far a stage is in Prefect: a progress artifact, and lines in the run's log."""

from __future__ import annotations

import asyncio
import shlex
import time
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    aupdate_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from blocks import JobSpec, JobStatus, Workspace
from jobs.errors import RebelNerfError
from jobs.report import PageReport, Progress
from tasks.news import News, tell
from tasks.workspace import view_command

__all__ = ["ProgressReporter", "close_page", "show_job", "show_page"]

_SECONDS_BETWEEN_UPDATES = 5.0  # each is a request to the server
_PERCENT_BETWEEN_LINES = 10.0  # of the log, which keeps every line, while the artifact only has the last


class ProgressReporter:
    """Shows one job's progress, under the key of its scene, stage and part. The UI shows a key's latest artifact."""

    def __init__(self, spec: JobSpec) -> None:
        self._key = f"{_about(spec)}-progress"
        self._artifact: UUID | None = None
        self._stage, self._part = spec.stage, spec.part
        self._step = ""
        self._last = self._logged = 0.0
        self._waits = ""

    async def update(self, progress: Progress) -> None:
        """Show a progress line, unless the step has a recent one. A step's first and last lines are always shown.

        The log gets those, and one for each tenth of the step.
        """
        tell(News(self._stage, self._part, progress=progress))
        moved_on = progress.stage != self._step or progress.step == progress.total
        if not moved_on and time.monotonic() - self._last < _SECONDS_BETWEEN_UPDATES:
            return
        self._step, self._last = progress.stage, time.monotonic()
        if moved_on or progress.percent >= self._logged + _PERCENT_BETWEEN_LINES:
            self._logged = progress.percent
            get_run_logger().info("%s", progress)
        await self._show(progress.percent, str(progress))

    async def wait(self, words: str) -> None:
        """Show what the job waits for, in the log, as an artifact and on the terminal, each time that it changes."""
        if words == self._waits:
            return
        self._waits = words
        tell(News(self._stage, self._part, "waiting", words))
        get_run_logger().info("%s %s", self._stage, words)
        await self._show(0.0, f"{self._stage} {words}")

    async def done(self) -> None:
        """Show that the stage has completed."""
        await self._show(100.0, f"{self._stage}: done")

    async def _show(self, percent: float, description: str) -> None:
        if self._artifact is None:
            created = await acreate_progress_artifact(percent, key=self._key, description=description)
            self._artifact = created
        else:
            await aupdate_progress_artifact(self._artifact, progress=percent, description=description)


async def show_job(spec: JobSpec, status: JobStatus) -> None:
    """Show a link to the job's own page, if its workspace has such pages."""
    if status.url.startswith("http"):
        key = f"{_about(spec)}-job"
        await acreate_link_artifact(status.url, link_text=spec.name, key=key, description="The job's own page")


async def show_page(workspace: Workspace, spec: JobSpec, page: PageReport) -> UUID | None:
    """Show how to open a page that a running job serves, as an artifact and in the run's log.

    Returns:
        The artifact's ID, for `close_page`; None if the page cannot be reached.
    """
    try:
        address = await asyncio.to_thread(workspace.reach, spec.name, page.port)
    except RebelNerfError as error:  # a job does not depend on its page
        get_run_logger().info("the %s of job %s cannot be reached: %s", page.page, spec.name, error)
        return None
    command, link = shlex.join(address.command), address.link
    text = f"Run this and leave it running:\n\n```\n{command}\n```\n\n" if command else ""
    made: UUID = await acreate_markdown_artifact(
        f"{text}While the job runs: [{link}]({link})",
        key=f"{spec.scene}-{page.page}",
        description=f"The {page.page} of {spec.name}",
    )
    how = f"{command} and then {link}" if command else link
    get_run_logger().info("the %s of job %s, while it runs: %s", page.page, spec.name, how)
    return made


async def close_page(workspace: Workspace, spec: JobSpec, artifact: UUID) -> None:
    """Replace the link to a page whose job has ended."""
    command = view_command(workspace, spec.scene)
    text = f"Closed, because the job has ended. This opens the finished model:\n\n```\n{command}\n```"
    about = f"Closed: {spec.name} has ended"
    async with get_client() as client:
        await client.update_artifact(artifact, ArtifactUpdate(data=text, description=about))


def _about(spec: JobSpec) -> str:
    return "-".join(filter(None, (spec.scene, spec.stage, spec.part)))
