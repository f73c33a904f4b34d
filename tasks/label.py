"""Name and tag a flow run, so that people find it among others."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger
from prefect.client.orchestration import get_client

from jobs.base_options import Options
from jobs.profiles import Profile
from tasks.wanted import current_run

__all__ = ["label_run", "special_words"]

SCENES = "scenes"
"""The tag of all runs for a scene; those that keep the service in order have `housekeeping` (`prefect.yaml`)."""

_MOST_WORDS = 4  # more would not fit into Prefect's list of runs
_WORDS = {
    "method": "{}",
    "max_num_iterations": "{:,} steps",
    "max_image_size": "photos of {} px",
    "model_size": "{} model",
    "long_side": "{} px",
    "width": "{} px wide",
    "height": "{} px high",
    "seconds": "{:g} s",
    "fps": "{:g} frames/s",
    "start": "from the {} model",
}
"""How options are called in the name of a run. Others have their own names."""


async def label_run(scene: str, workspace: str, version: str | int | None, *special: str) -> None:
    """Name this flow run by its scene and what is special about it, and add the scene, version and workspace as tags.

    Args:
        scene: the scene's name.
        workspace: the reference of the workspace.
        version: of the capture or the model; None if it is not known.
        special: words on what distinguishes it from other runs of the scene; empty ones are left out.
    """
    run = current_run()
    if run is None:
        return
    tags = [SCENES, f"scene:{scene}", f"workspace:{workspace}", *([f"version:{version}"] if version else [])]
    try:
        async with get_client() as client:
            known = (await client.read_flow_run(run)).tags
            name = " · ".join([scene, *filter(None, special)])
            await client.update_flow_run(run, name=name, tags=[*known, *(tag for tag in tags if tag not in known)])
    except Exception as error:  # a name is not worth a failed run
        get_run_logger().warning("scene %s: this run could not be named: %s", scene, error)


def special_words(profile: Profile, *stages: Options) -> list[str]:
    """Return words on what was chosen: the profile, and each option that does not have its default."""
    words: list[str] = [] if profile == "auto" else [profile]
    for options in stages:
        for name, value in options.model_dump(mode="json", exclude_defaults=True).items():
            words.append(_option_words(name, value))
    left_out = len(words) - _MOST_WORDS
    return words if left_out <= 0 else [*words[:_MOST_WORDS], f"{left_out} more option{'s' if left_out > 1 else ''}"]


def _option_words(name: str, value: object) -> str:
    """Return words on an option, such as "3,000 steps" or "loop"."""
    if name == "camera_path":
        return Path(str(value)).stem
    if form := _WORDS.get(name):
        return form.format(value)
    plain = name.replace("_", " ")
    if isinstance(value, dict) or value is True:
        return plain
    return f"{plain} {', '.join(map(str, value)) if isinstance(value, list) else value}"
