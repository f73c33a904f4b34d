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
from jobs.options import ChangesOptions
from jobs.visits.record import Changes


def test_the_job_writes_its_record_and_its_points(tiny_dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The model is a fog, but the photos are the same: nothing has changed."""
    given = ["--then", tiny_dataset, "--older", tiny_model, "--now", tiny_dataset, "--newer", tiny_model]
    options = ["--changes", tmp_path, "--photos", "6", "--image-size", "96"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as log:
        patch.setattr(sys, "argv", ["changes", *map(str, given), *map(str, options)])
        changes.main()
    record = Changes.model_validate_json((tmp_path / "changes.json").read_text())
    assert record.unit == "square units" and record.changes == () and 0 < record.compared <= 1
    points, colours = ply.read_points(tmp_path / "changes.ply")
    assert len(points) > 50 and (colours == colours[0]).all()
    assert json.loads((tmp_path / "manifest.json").read_text())["options"] == {"photos": 6, "image_size": 96}
    [result] = [each for each in map(report.parse, log.getvalue().splitlines()) if isinstance(each, report.Result)]
    assert result.result["changes"] == 0 and str(result.result["changed"]).startswith("nothing larger than")


def test_a_repainted_photo_is_a_change_that_pictures_show(tiny_dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    now = Path(shutil.copytree(tiny_dataset, tmp_path / "now"))
    for photo in (now / "photos").iterdir():
        with Image.open(photo) as image:
            red, green, blue = image.convert("RGB").split()
        width, height = red.size
        box = (width // 3, height // 3, 2 * width // 3, 2 * height // 3)
        blue.paste(red.crop(box), box)
        red.paste(0, box)
        Image.merge("RGB", (red, green, blue)).save(photo)
    options = ChangesOptions(photos=6, image_size=96)
    both = (tiny_dataset, tiny_model), (now, tiny_model)
    record = changes.changes(options, *both, tmp_path / "changes")
    assert record.changes and record.pictures
    with Image.open(tmp_path / "changes" / record.pictures[0]) as picture:
        assert max(picture.size) == 960
    assert len({tuple(each) for each in ply.read_points(tmp_path / "changes" / "changes.ply")[1].tolist()}) > 1
