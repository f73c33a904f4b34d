"""Find the poses of a capture."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from blocks import Asset
from blocks.provenance import reference
from jobs.names import asset_name
from jobs.options import PrepareOptions
from tasks.stage import Plan, Stage

T = TypeVar("T")

_NONE: Mapping[str, Sequence[Asset]] = MappingProxyType({})


@Stage
def prepare(capture: Asset, options: PrepareOptions, scene_frames: Mapping[str, Sequence[Asset]] = _NONE) -> Plan:
    """Make a dataset of photos or a video: poses and `transforms.json`, in a given scene frame or a new one."""
    scene = capture.scene
    references: dict[str, Asset] = {}
    given: dict[str, list[str]] = {}
    # Order: the scene's first scene frame, then its newest. Within a frame: the dataset that began it, whose poses are
    # exact, then the newest, whose photos look most like the capture.
    for frame in _ends(list(scene_frames)) if options.frame != "new" else []:
        for dataset in _ends(scene_frames[frame]):
            name = reference(len(references) + 1)
            references[name] = dataset
            given.setdefault(frame, []).append(f"{{inputs.{name}}}")
    arguments = ["--reference", json.dumps(given)] if given else []
    if left_out := capture.tags.get("left_out"):
        arguments += ["--left-out", left_out]
    return Plan(
        scene=scene,
        capture_version=capture.version,
        options=options,
        asset_name=asset_name(scene, "dataset"),
        kind="dataset",
        output="dataset",
        must_have=("transforms.json", "dataset.json"),
        inputs={"images": capture},
        references=references,
        arguments=tuple(arguments),
        tier="cpu",
        time_limit=12 * 3600,
    )


def _ends(items: Sequence[T]) -> list[T]:
    """Return the first item and the last."""
    return [*items[:1], *items[1:][-1:]]
