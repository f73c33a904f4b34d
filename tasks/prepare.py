import json
from collections.abc import Sequence

from blocks import Asset
from jobs.options import PrepareOptions
from tasks.stage import Plan, stage_task


@stage_task
def prepare(capture: Asset, options: PrepareOptions, frames: Sequence[Asset] = ()) -> Plan:
    """Photos or a video to a dataset: poses and `transforms.json`, in the frame of one of the datasets given."""
    scene = capture.tags["scene"]
    # The scene's first frame before all others; of those, what was photographed last looks most like it.
    references = {f"reference_{n}": asset for n, asset in enumerate([*frames[:1], *frames[1:][-2:][::-1]], 1)}
    given = {str(asset): f"{{inputs.{name}}}" for name, asset in references.items()}
    return Plan(
        scene=scene,
        capture_version=capture.version,
        options=options,
        asset_name=f"{scene}-images-to-nerf-dataset",
        kind="dataset",
        output="dataset",
        inputs={"images": capture},
        references=references,
        arguments=("--reference", json.dumps(given)) if given else (),
        tier="cpu",
        time_limit=12 * 3600,
    )
