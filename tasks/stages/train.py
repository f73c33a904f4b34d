"""Train a model."""

from blocks import Asset
from jobs.names import asset_name
from jobs.options import TrainOptions
from tasks.scene_frame import scene_frame_of
from tasks.stage import Gate, Plan, Stage


@Stage
def train(dataset: Asset, options: TrainOptions, gate: Gate | None = None) -> Plan:
    """Train a model on a dataset."""
    scene = dataset.scene
    return Plan(
        scene=scene,
        capture_version=dataset.capture_version,
        options=options,
        asset_name=asset_name(scene, "model"),
        kind="model",
        output="model",
        must_have=("config.yml", "dataparser_transforms.json", "model.json"),
        inputs={"dataset": dataset},
        scratch=("checkpoints",),
        arguments=("--frame", scene_frame_of(dataset)),
        time_limit=24 * 3600,
        work=options.max_num_iterations,
        gate=gate,
    )
