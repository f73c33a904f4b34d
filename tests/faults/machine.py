"""What can happen to the machine in a round: it is lost, loses its power, gets another time, or has a full disk."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blocks.supervisor import unlocked
from tests.faults.power_loss import SYNCS, lose_power
from tests.faults.verdict import all_ended, jobs_of
from tests.processes import supervisor_of

if TYPE_CHECKING:
    from tests.faults.strikes import Kind, Round

__all__ = ["strike_machine"]

_HOURS = 25  # by which a clock is set; more than a job's time limit
_OTHER_TIME_SECONDS = 5.0
_FULL_SECONDS = 3.0


async def strike_machine(kind: Kind, this: Round) -> bool:
    """Run the flow, and let something happen to the machine; whether it met anything."""
    strikes = {"power loss": _power, "machine": _machine, "clock": _clock, "disk full": _full}
    return await strikes[kind](this)


async def _power(this: Round) -> bool:
    """End every process at once, and empty the files that were not flushed to the disk; the server is elsewhere."""
    await this.start()
    scene, assets = this.name, this.workspace.folder / "assets"
    await this.until(lambda: assets.exists() and bool(this.workspace.assets(f"{scene}-first")))
    await asyncio.sleep(this.moment / 2)
    struck = await this.world.is_under_way(this.name)
    this.world.service.end("worker", signal.SIGKILL)
    await _kill_jobs(this)
    lose_power(this.workspace.folder, Path(this.world.service.environment[SYNCS]))
    this.world.service.restart_worker()
    return struck


async def _machine(this: Round) -> bool:
    """End every process at once, the server too. The disk is intact."""
    await this.start_and_wait()
    struck = await this.world.is_under_way(this.name)
    for name in ("server", "worker"):
        this.world.service.end(name, signal.SIGKILL)
    await _kill_jobs(this)
    this.world.service.start_server()
    this.world.service.restart_worker()
    return struck


async def _kill_jobs(this: Round) -> None:
    for job in jobs_of(this.workspace):
        if process := supervisor_of(this.workspace.folder / "jobs" / job):
            os.kill(process, signal.SIGKILL)
        if (group := this.group(job)) and not unlocked(this.workspace.folder / "jobs" / job / "alive"):
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
    await this.until(lambda: all_ended(this.workspace))


async def _clock(this: Round) -> bool:
    """Set the clock of server, worker and jobs by a day, ahead or back, and put it right after some seconds."""
    await this.start_and_wait()
    struck = await this.world.is_under_way(this.name)
    ahead = int(1000 * this.moment) % 2 == 0
    this.world.surroundings.set_clock(3600 * (_HOURS if ahead else -_HOURS))
    await asyncio.sleep(_OTHER_TIME_SECONDS)
    this.world.surroundings.set_clock(0)
    return struck


async def _full(this: Round) -> bool:
    """Fill the disk of the workspace for some seconds."""
    await this.start_and_wait()
    struck = await this.world.is_under_way(this.name)
    this.world.surroundings.fill_disk()
    await asyncio.sleep(_FULL_SECONDS)
    this.world.surroundings.fill_disk(False)
    return struck
