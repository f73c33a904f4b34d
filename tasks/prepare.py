from blocks import Asset
from jobs.options import PrepareOptions
from tasks.stage import Plan, stage_task


@stage_task
def prepare(capture: Asset, options: PrepareOptions) -> Plan:
    """Photos or a video to a dataset: poses and `transforms.json`."""
    scene = capture.tags["scene"]
    return Plan(
        scene=scene,
        capture_version=capture.version,
        options=options,
        asset_name=f"{scene}-images-to-nerf-dataset",
        kind="dataset",
        output="dataset",
        inputs={"images": capture},
        tier="cpu",
        time_limit=12 * 3600,
    )
