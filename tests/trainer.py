"""A workspace whose training jobs are real processes that report a given PSNR."""

from __future__ import annotations

from pathlib import Path

from blocks import Asset, LocalWorkspace

__all__ = ["trainer", "visit"]

# Stands in for `python -m jobs.train --dataset … --model …`. The dataset's only file has the PSNR that it reports.
_JOB = """#!/bin/sh
echo "$2" >>"$(dirname "$0")/started"
while [ $# -gt 1 ]; do
  case "$1" in --dataset) dataset="$2";; --model) model="$2";; --max-num-iterations) steps="$2";; esac
  shift
done
sleep 1
for file in made config.yml dataparser_transforms.json model.json; do echo made >"$model/$file"; done
echo '{"stage": "train", "result": {"psnr": '"$(cat "$dataset/photo.jpg")"', "image_size": 96, "steps": '"$steps"'}}'
"""


def trainer(root: Path) -> LocalWorkspace:
    """Return the workspace in a folder."""
    program = root / "python"
    program.write_text(_JOB)
    program.chmod(0o755)
    return LocalWorkspace(
        root=root, python=str(program), cpu_price_per_hour=1.0, gpu_price_per_hour=3600.0, currency="EUR"
    )


def visit(workspace: LocalWorkspace, capture: int, psnr: float, scene: str = "street") -> Asset:
    """Register a visit to a scene, and return the asset that stands in for its dataset. Models of it have that PSNR."""
    photo = workspace.folder / "photo.jpg"
    photo.write_text(f"{psnr}")
    asset = workspace.take_in(scene, {"photo.jpg": photo}, {})
    return asset.model_copy(update={"tags": {**asset.tags, "capture_version": str(capture)}})
