"""Notify people of runs that failed, were refused, got worse, finished or are stuck. A part of `rebel-nerf deploy`.

REBEL_NERF_WEBHOOK_URL is the address of a webhook. It is a secret, kept in a block of Prefect's. Slack, Microsoft
Teams and Mattermost show the member `text` of what is sent. REBEL_NERF_NOTIFICATION_BLOCK is a notification block of
Prefect's, such as `sendgrid-email/people`.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture, ResourceSpecification
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events.actions import CallWebhook, SendNotification
from prefect.exceptions import ObjectNotFound
from prefect.settings import temporary_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from commands.shell.run import as_command
from flows._ends import REFUSED
from jobs.errors import InvalidInput
from tasks.quality import GOT_WORSE
from tasks.sign_in import client_settings

__all__ = ["BLOCK", "URL", "automations", "set_up"]

URL = "REBEL_NERF_WEBHOOK_URL"
BLOCK = "REBEL_NERF_NOTIFICATION_BLOCK"
_SAVED = "rebel-nerf-notifications"
_FAILED = {"prefect.flow-run.Failed"}
_CRASHED = {"prefect.flow-run.Crashed"}
_AGAIN = {"prefect.flow-run.Scheduled", "prefect.flow-run.Pending", "prefect.flow-run.Running"}
_REFUSED = {f"prefect.flow-run.{REFUSED}"}
_FINISHED = {"prefect.flow-run.Completed"}
_STUCK_HOURS = 12
# A worker that is stopped queues its runs again. They are crashed for a moment, which is no news.
_AGAIN_WITHIN = timedelta(minutes=2)
_SCENES = ResourceSpecification({"prefect.resource.role": "deployment", "prefect.resource.name": "scene"})


def automations(webhook: UUID | None, notification: UUID | None) -> list[AutomationCore]:
    """Return the automations that call a webhook, send a notification, or both, given the IDs of their blocks."""
    to = webhook, notification
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
        _automation("has failed", failed, "failed: ' ~ flow_run.state.message", *to),
        _automation("has crashed", crashed, "crashed: ' ~ flow_run.state.message", *to),
        _automation("was refused", refused, "was refused: ' ~ flow_run.state.message", *to),
        _automation("got worse", worse, "got worse: ' ~ event.payload.said", *to),
        _automation("has finished", finished, "finished.'", *to),
        _automation("is stuck", stuck, f"has been running for {_STUCK_HOURS} hours.'", *to),
    ]


def _automation(
    what: str, trigger: EventTrigger, words: str, webhook: UUID | None, notification: UUID | None
) -> AutomationCore:
    text = f"('Scene ' ~ flow_run.name ~ ' {words} ~ ' ' ~ flow_run | ui_url)"
    actions: list[CallWebhook | SendNotification] = []
    if webhook:
        actions.append(CallWebhook(block_document_id=webhook, payload=f'{{"text": {{{{ {text} | tojson }}}}}}'))
    if notification:
        subject = f"Scene {{{{ flow_run.name }}}} {what}"
        actions.append(SendNotification(block_document_id=notification, subject=subject, body=f"{{{{ {text} }}}}"))
    return AutomationCore(
        name=f"rebel-nerf: a scene {what}", description="Made by rebel-nerf deploy", trigger=trigger, actions=actions
    )


async def set_up(url: SecretStr | None, block: str) -> None:
    """Save the webhook's address, and create or update the automations.

    Args:
        url: of a webhook, if there is one.
        block: a notification block as BLOCK-TYPE/NAME; "" for none.

    Raises:
        InvalidInput: the notification block does not exist.
    """
    async with get_client() as client:
        notification = await _find(client, block) if block else None
        headers = SecretDict({"Content-Type": "application/json"})
        webhook: UUID | None = await Webhook(url=url, headers=headers).save(_SAVED, overwrite=True) if url else None
        for wanted in automations(webhook, notification):
            there = await client.read_automations_by_name(wanted.name)
            if there:  # the server refuses an update of what its own client sends (Prefect 3.9: 422)
                wanted = wanted.model_copy(update={"enabled": there[0].enabled})
            for old in there:
                await client.delete_automation(old.id)
            await client.create_automation(wanted)
            print(f"automation {wanted.name!r}: {'updated' if there else 'made'}")


async def _find(client: PrefectClient, block: str) -> UUID:
    kind, _, name = block.partition("/")
    try:
        return (await client.read_block_document_by_name(name, kind)).id
    except ObjectNotFound:
        raise InvalidInput(
            f"{BLOCK}={block}: the server has no such block. Create it in the UI, under Blocks, and set {BLOCK} to its "
            "type and name, such as sendgrid-email/people."
        ) from None


def main() -> None:
    """Set up the automations that the environment asks for."""
    url = os.environ.get(URL)
    with as_command(), temporary_settings(client_settings()):
        asyncio.run(set_up(SecretStr(url) if url else None, os.environ.get(BLOCK, "")))


if __name__ == "__main__":
    main()
