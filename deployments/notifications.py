"""Notify a webhook of runs that failed, were refused, got worse, finished or are stuck. A part of `rebel-nerf deploy`.

The address is a secret. It is read from REBEL_NERF_WEBHOOK_URL and kept in a block of Prefect's. Slack, Microsoft Teams
and Mattermost show the member `text` of what is sent.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture, ResourceSpecification
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.actions import CallWebhook
from prefect.settings import temporary_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from commands.shell.run import as_command
from flows._ends import REFUSED
from tasks.quality import GOT_WORSE
from tasks.sign_in import client_settings

__all__ = ["VARIABLE", "automations", "set_up"]

VARIABLE = "REBEL_NERF_WEBHOOK_URL"
_BLOCK = "rebel-nerf-notifications"
_FAILED = {"prefect.flow-run.Failed"}
_CRASHED = {"prefect.flow-run.Crashed"}
_AGAIN = {"prefect.flow-run.Scheduled", "prefect.flow-run.Pending", "prefect.flow-run.Running"}
_REFUSED = {f"prefect.flow-run.{REFUSED}"}
_FINISHED = {"prefect.flow-run.Completed"}
_STUCK_HOURS = 12
# A worker that is stopped queues its runs again. They are crashed for a moment, which is no news.
_AGAIN_WITHIN = timedelta(minutes=2)
_SCENES = ResourceSpecification({"prefect.resource.role": "deployment", "prefect.resource.name": "scene"})


def automations(webhook: UUID) -> list[AutomationCore]:
    """Return the automations that call a webhook, given the ID of its block."""
    stuck = EventTrigger(
        posture=Posture.Proactive,
        after={"prefect.flow-run.Running"},
        expect={*_FAILED, *_CRASHED, *_REFUSED, *_FINISHED, "prefect.flow-run.Cancelled", "prefect.flow-run.Suspended"},
        match_related=_SCENES,
        for_each={"prefect.resource.id"},
        within=timedelta(hours=_STUCK_HOURS),
    )
    crashed = EventTrigger(
        posture=Posture.Proactive,
        after=_CRASHED,
        expect=_AGAIN,
        match_related=_SCENES,
        for_each={"prefect.resource.id"},
        within=_AGAIN_WITHIN,
    )
    failed, refused, worse, finished = (
        EventTrigger(expect=expect, match_related=_SCENES) for expect in (_FAILED, _REFUSED, {GOT_WORSE}, _FINISHED)
    )
    return [
        _automation("has failed", failed, "failed: ' ~ flow_run.state.message", webhook),
        _automation("has crashed", crashed, "crashed: ' ~ flow_run.state.message", webhook),
        _automation("was refused", refused, "was refused: ' ~ flow_run.state.message", webhook),
        _automation("got worse", worse, "got worse: ' ~ event.payload.said", webhook),
        _automation("has finished", finished, "finished.'", webhook),
        _automation("is stuck", stuck, f"has been running for {_STUCK_HOURS} hours.'", webhook),
    ]


def _automation(what: str, trigger: EventTrigger, words: str, webhook: UUID) -> AutomationCore:
    text = f"('Scene ' ~ flow_run.name ~ ' {words} ~ ' ' ~ flow_run | ui_url) | tojson"
    payload = f'{{"text": {{{{ {text} }}}}}}'
    return AutomationCore(
        name=f"rebel-nerf: a scene {what}",
        description="Made by rebel-nerf deploy",
        trigger=trigger,
        actions=[CallWebhook(block_document_id=webhook, payload=payload)],
    )


async def set_up(url: SecretStr) -> None:
    """Save the webhook's address, and create or update the automations."""
    block = Webhook(url=url, headers=SecretDict({"Content-Type": "application/json"}))
    webhook: UUID = await block.save(_BLOCK, overwrite=True)
    async with get_client() as client:
        for wanted in automations(webhook):
            there = await client.read_automations_by_name(wanted.name)
            if there:  # the server refuses an update of what its own client sends (Prefect 3.9: 422)
                wanted = wanted.model_copy(update={"enabled": there[0].enabled})
            for old in there:
                await client.delete_automation(old.id)
            await client.create_automation(wanted)
            print(f"automation {wanted.name!r}: {'updated' if there else 'made'}")


def main() -> None:
    """Set up the automations, with the address that the environment has."""
    with as_command(), temporary_settings(client_settings()):
        asyncio.run(set_up(SecretStr(os.environ[VARIABLE])))


if __name__ == "__main__":
    main()
