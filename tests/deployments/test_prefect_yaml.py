"""The deployments of `prefect.yaml`: their forms, parameters, triggers and schedules."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from jinja2 import Environment
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events import DeploymentEventTrigger, DeploymentTriggerTypes
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.events import Event, Resource
from prefect.server.schemas.schedules import CronSchedule as ServedCronSchedule
from pydantic import TypeAdapter

ROOT = Path(__file__).resolve().parents[2]


DEPLOYMENTS = (ROOT / "prefect.yaml").read_text()


README = (ROOT / "deployments/azure/README.md").read_text()
CHANGED = "rebel-nerf.capture.changed"


def deployed() -> Iterator[tuple[dict[str, Any], Flow[..., Any]]]:
    """Yield each deployment, and its flow."""
    for each in yaml.safe_load(DEPLOYMENTS)["deployments"]:
        path, _, name = each["entrypoint"].partition(":")
        yield each, getattr(importlib.import_module(".".join(Path(path).with_suffix("").parts)), name)


def texts(value: Any) -> Iterator[str]:
    """Yield all texts in a JSON value, except the names of keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def test_nothing_that_a_run_form_shows_is_taken_for_html() -> None:
    found = list(deployed())
    assert len(found) == 5
    for each, flow in found:
        shown = [each["description"], flow.description or "", *texts(flow.parameters.model_dump(mode="json"))]
        assert len(shown) > 5
        assert [text for text in shown if "<" in text or ">" in text] == [], flow.name


def triggers() -> Iterator[tuple[DeploymentEventTrigger, Flow[..., Any]]]:
    parse = TypeAdapter[DeploymentTriggerTypes](DeploymentTriggerTypes).validate_python
    for each, flow in deployed():
        for trigger in each.get("triggers", []):
            parsed = parse({"name": each["name"], **trigger})
            assert isinstance(parsed, DeploymentEventTrigger)
            yield parsed, flow


def test_the_parameters_of_deployments_and_triggers_are_those_of_the_flow() -> None:
    event = Event(event=CHANGED, resource=Resource({"prefect.resource.id": "x", "scene": "yard", "workspace": "local"}))

    def rendered(value: Any) -> Any:
        """Render a template as a server does with the event that fired."""
        if isinstance(value, list):
            return [rendered(each) for each in value]
        return Environment().from_string(value).render(event=event) if isinstance(value, str) else value

    for each, flow in deployed():
        assert set(each.get("parameters", {})) <= set(flow.parameters.properties)
    found = list(triggers())
    assert any(trigger.parameters for trigger, _ in found)
    for trigger, flow in found:
        given = {name: rendered(value) for name, value in (trigger.parameters or {}).items()}
        checked = flow.validate_parameters(given)
        assert {name: checked[name] for name in given} == given
        if given:
            assert (given["workspaces"], given["scenes"]) == (["local"], ["yard"])


def test_a_run_starts_at_the_event_of_the_readmes_webhook() -> None:
    [announced] = re.findall(r'"event": "([^"]+)"', README)
    assert announced in {name for trigger, _ in triggers() for name in trigger.expect}


def test_one_trigger_waits_until_nothing_more_is_heard() -> None:
    proactive = [trigger for trigger, _ in triggers() if trigger.posture is Posture.Proactive]
    [waiting] = [trigger for trigger in proactive if CHANGED in trigger.expect]
    assert waiting.after == waiting.expect == {CHANGED}
    assert waiting.for_each == {"prefect.resource.id"}
    settle = timedelta(minutes=(waiting.parameters or {})["settle_minutes"])
    assert timedelta(minutes=10) < settle < waiting.within, "what the run finds has settled; what is newer waits"


def test_the_schedules() -> None:
    found = [schedule for each, _ in deployed() for schedule in each.get("schedules", [])]
    kinds = [CronSchedule if "cron" in schedule else IntervalSchedule for schedule in found]
    parsed = [kind.model_validate(schedule) for kind, schedule in zip(kinds, found, strict=True)]
    assert CronSchedule(cron="*/15 * * * *", timezone="UTC") in parsed


@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24"])
async def test_hours_are_those_of_the_clock_on_the_wall_also_when_it_is_put_forward_or_back(day: str) -> None:
    told = re.search(r'cron "(.+)", timezone "(.+)"', DEPLOYMENTS)
    assert told
    berlin, begin = ZoneInfo(told[2]), datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(told[2]))
    end = begin + timedelta(days=3)
    dates = await ServedCronSchedule(cron=told[1], timezone=told[2]).get_dates(500, start=begin, end=end)
    local = [datetime.fromtimestamp(date.timestamp(), berlin) for date in dates]
    moments = (begin.astimezone(timezone.utc) + timedelta(minutes=15) * n for n in range(3 * 96 + 8))
    clock = [moment.astimezone(berlin) for moment in moments]
    wanted = [at.replace(tzinfo=None) for at in clock if at < end and at.hour <= 5]
    assert [at.replace(tzinfo=None) for at in local if at < end] == sorted(set(wanted)), "and an hour twice but once"
    assert len({at.utcoffset() for at in local}) == 2
    midnights = {date.astimezone(timezone.utc).hour for date, at in zip(dates, local, strict=True) if at.hour == 0}
    assert midnights == {22, 23}
