"""Render the section of a scene's page about metres: the scale with its error, the checks, and what was not used."""

from __future__ import annotations

from markupsafe import Markup

from jobs.metric.scene import SceneInMetres, in_metres, percent
from jobs.web.templates import environment

__all__ = ["section"]

_TEMPLATE = """\
<h2>Metres</h2>
<p><b>{{ words }}</b></p>
{% if facts %}<div class="scroll"><table>
{% for name, value in facts.items() %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}</table></div>{% endif %}
{% for warning in warnings %}<p class="warning">{{ warning }}</p>
{% endfor %}
"""


def section(metres: SceneInMetres | None) -> Markup:
    """Return the section; empty if nobody measured anything.

    It says whether the place is known, but not where it is, because people send pages to others.
    """
    if metres is None:
        return Markup("")
    text = (
        environment().from_string(_TEMPLATE).render(words=metres.words, facts=_facts(metres), warnings=metres.warnings)
    )
    return Markup(text)


def _facts(metres: SceneInMetres) -> dict[str, str]:
    facts = {}
    if metres.scale:
        low, high = metres.scale.interval
        facts["95 % interval"] = f"{low:.5g} to {high:.5g} m per scene unit"
    if metres.pick_error is not None:
        facts["picked points"] = f"exact to {in_metres(metres.pick_error)} (median standard error)"
    if metres.registration_error:
        facts["registration"] = f"adds {percent(metres.registration_error)} (standard error)"
    if (check := metres.worst_check) is not None:
        facts[f"worst of {len(metres.checks)} held-out checks"] = check.words
    elif metres.scale:
        facts["held-out check"] = "none: only one thing was measured"
    facts["up"] = f"within {metres.up.error:.1f}° (standard error)"
    if (place := metres.place) is not None and place.bearing is not None and place.bearing_error is not None:
        facts["north"] = f"known within {place.bearing_error:.1f}° (standard error)"
    return facts
