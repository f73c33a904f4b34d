from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.options import RenderOptions
from jobs.path import reading, trajectory
from jobs.web import plan
from jobs.web.chart import COLOURS

SVG = "{http://www.w3.org/2000/svg}"


def places(svg: str, colour: str, width: str) -> NDArray[np.float64]:
    """Return the positions (N, 2) of the dots of a colour and size, px."""
    styles = [(path.attrib["style"], path.attrib["d"]) for path in ElementTree.fromstring(svg).iter(f"{SVG}path")]
    shapes = [shape for style, shape in styles if f"stroke:{colour};stroke-width:{width};" in style]
    return np.array([[float(x), float(y)] for x, y in re.findall(r"M([\d.-]+) ([\d.-]+)h0", "".join(shapes))])


def test_cameras_are_to_scale(tiny_dataset: Path, tiny_model: Path) -> None:
    capture = reading.read_photos(tiny_dataset, tiny_model)
    path = trajectory.generate("tour", tiny_dataset, tiny_model, RenderOptions(width=64, height=36, seconds=1.0, fps=8))
    svg = plan.draw(capture, path)
    found = places(svg, COLOURS[0], "6")
    assert len(found) == len(capture.centres) == 14
    bar = re.search(r"v6v-3h([\d.]+)v", svg)
    said = re.search(r">([\d.]+) scene units?<", svg)
    assert bar and said
    pixels = float(bar[1]) / float(said[1])
    expected = capture.centres[:, :2] * [pixels, -pixels]
    assert np.ptp(found - expected, axis=0) == pytest.approx([0, 0], abs=0.2)
    [start] = places(svg, COLOURS[1], "10")
    first = np.array(path.camera_path[0].camera_to_world).reshape(4, 4)[:2, 3]
    assert start - found[0] == pytest.approx((first - capture.centres[0, :2]) * [pixels, -pixels], abs=0.2)


def test_one_point_far_away_does_not_shrink_the_rest(tiny_dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    capture = reading.read_photos(tiny_dataset, tiny_model)
    shutil.copytree(tiny_dataset, tmp_path / "dataset")
    file = tmp_path / "dataset/transforms.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "ply_file_path": "points.ply"}))
    header = "ply\nformat ascii 1.0\nelement vertex {}\n" + "".join(f"property float {axis}\n" for axis in "xyz")
    colours = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    rows = [f"{x} 4 1 255 0 0" for x in range(-3, 4)]
    points = tmp_path / "dataset/points.ply"
    points.write_text("\n".join([(header + colours).format(8) + "end_header", *rows, "900 900 1 0 255 0", ""]))
    svg = plan.draw(reading.read_photos(tmp_path / "dataset", tiny_model), None)
    assert len(places(svg, "#ff0000", "2.2")) == 7 and len(places(svg, "#00ff00", "2.2")) == 0
    assert np.ptp(places(svg, COLOURS[0], "6"), axis=0).max() > 50
    assert "camera path" not in svg

    points.write_text("\n".join([header.format(8) + "end_header", *(row[:-8] for row in rows), "900 900 1", ""]))
    found = reading.read_photos(tmp_path / "dataset", tiny_model)
    assert found.points.shape == found.colours.shape == (8, 3) and set(found.colours.flat) == {128.0}
    assert capture.centres.shape == (14, 3)
