"""The job that finds changes, on a real nerfacto."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("nerfstudio")

from jobs import changes, ply, report
from jobs.options import TrainOptions
from jobs.train import train
from jobs.visits.record import Changes


def test_nothing_has_changed_between_the_same_photos(tiny_dataset: Path, tmp_path: Path) -> None:
    model, output = tmp_path / "model", tmp_path / "changes"
    trained = TrainOptions(max_num_iterations=150, model_size="small", max_image_size=96, rays_per_batch=512)
    train(trained, tiny_dataset, model, tmp_path / "checkpoints")  # long enough to have surfaces
    given = ["--then", tiny_dataset, "--older", model, "--now", tiny_dataset, "--newer", model]
    options = ["--changes", output, "--photos", "14", "--image-size", "96"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as log:
        patch.setattr(sys, "argv", ["changes", *map(str, given), *map(str, options)])
        changes.main()
    record = Changes.model_validate_json((output / "changes.json").read_text())
    assert record.unit == "square units" and record.changes == () and 0 < record.compared <= 1
    points, colours = ply.parse_points((output / "changes.ply").read_bytes(), "changes.ply")
    assert len(points) > 50 and (colours == colours[0]).all()
    assert json.loads((output / "manifest.json").read_text())["options"] == {"photos": 14, "image_size": 96}
    [result] = [each for each in map(report.parse, log.getvalue().splitlines()) if isinstance(each, report.Figures)]
    with Image.open(output / "poster.jpg") as poster, Image.open(output / record.pictures[0]) as picture:
        assert poster.size == picture.size == (960, 540)
    assert result.result["changes"] == 0 and str(result.result["changed"]).startswith("nothing larger than")
