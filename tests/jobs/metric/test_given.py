"""Measurements that people wrote, and files that nobody should have written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InvalidInput
from jobs.metric.control import read_control
from jobs.metric.given import Given, read_scale

ENDS = {name: [{"photo": f"{k}.jpg", "x": 1.5, "y": 2.0} for k in range(2)] for name in ("from", "to")}
DOOR: dict[str, Any] = {"name": "door", "metres": 2.01, **ENDS}


def written(folder: Path, content: Any) -> Path:
    file = folder / "scale.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_a_file_is_read_as_it_is_written_again(tmp_path: Path) -> None:
    given = read_scale(written(tmp_path, {"lengths": [DOOR], "markers": {"metres": 0.2}, "pick_accuracy": 1.0}))
    assert given.lengths[0].metres == 2.01 and len(given.lengths[0].end) == 2
    assert given.markers and given.markers.family == "DICT_APRILTAG_36h11"
    assert Given.model_validate_json(given.model_dump_json(by_alias=True)) == given


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSON"),
        ('{"lengths": [{"name": "a", "metres": NaN}]}', "NaN"),
        ("[" * 100_000, "JSON"),
        ([], "dictionary"),
        ({"lengths": [{**DOOR, "metres": 0}]}, r"lengths, entry 1 \('door'\), metres: .* 0"),
        ({"lengths": [{**DOOR, "metres": 1e300}]}, "metres: .* 100000"),
        ({"lengths": [DOOR, {**DOOR, "colour": 1}]}, r"lengths, entry 2 \('door'\), colour: "),
        ({"lengths": [{**DOOR, "to": ENDS["to"][:1]}]}, r"entry 1 \('door'\), to: "),
        ({"lengths": [{**DOOR, "to": [ENDS["to"][0]] * 2}]}, "0.jpg"),
        ({"lengths": [DOOR, DOOR]}, "'door'"),
        ({"lengths": [{**DOOR, "name": "a\x1b[31m"}]}, "control characters"),
        ({"lengths": [{**DOOR, "from": [{"photo": "../../etc/passwd", "x": 1, "y": 1}] * 2}]}, "folder"),
        ({"lengths": [{**DOOR, "from": [{"photo": "/etc/passwd", "x": 1, "y": 1}] * 2}]}, "folder"),
        ({"lengths": [{**DOOR, "from": [{"photo": "a.jpg", "x": -1, "y": 1}] * 2}]}, "from, entry 1, x: "),
        ({"areas": [{"name": "shop", "corners": [ENDS["to"]] * 2}]}, r"areas, entry 1 \('shop'\), corners: .* 3 "),
        ({"areas": [{"name": "shop", "corners": [ENDS["to"]] * 3}] * 2}, "'shop'"),
        ({"markers": {"metres": 0.2, "family": "__class__"}}, "markers, family: "),
        ({"lengths": [DOOR] * 1001}, "lengths: .* 1000 "),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_entry(tmp_path: Path, content: Any, words: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(InvalidInput, match=words) as refused:
        read_scale(file)
    assert str(refused.value).startswith(str(file)) and len(str(refused.value)) < 500
    assert "\x1b" not in str(refused.value)


def test_what_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    (file := tmp_path / "scale.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_scale(file)
    file.write_bytes(b" " * 4_000_001)
    with pytest.raises(InvalidInput, match="4 MB"):
        read_scale(file)
    with pytest.raises(InvalidInput, match=str(tmp_path)):
        read_scale(tmp_path)


@pytest.mark.timeout(60)
def test_a_link_or_pipe_in_place_of_the_file_is_not_opened(tmp_path: Path) -> None:
    secret = written(tmp_path, {"lengths": [DOOR]}).rename(tmp_path / "secret")
    assert read_scale(secret).lengths
    (tmp_path / "scale.json").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe")
    for file in ("scale.json", "pipe"):
        with pytest.raises(InvalidInput, match=f"{file} cannot be read"):
            read_scale(tmp_path / file)


def test_photos_must_be_in_the_capture(tmp_path: Path) -> None:
    given = read_scale(written(tmp_path, {"lengths": [DOOR]}))
    given.check_photos(["a/0.jpg", "1.jpg"], "scale.json")
    with pytest.raises(InvalidInput, match="scale.json: .*'door'.*'1.jpg'"):
        given.check_photos(["0.jpg"], "scale.json")
    with pytest.raises(InvalidInput, match="'0.jpg'"):
        given.check_photos(["a/0.jpg", "b/0.jpg", "1.jpg"], "scale.json")


def gcp(folder: Path, *lines: str) -> Path:
    file = folder / "gcp_list.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_control_points_in_utm_are_where_they_are_on_the_earth(tmp_path: Path) -> None:
    # The Eiffel tower, by pyproj: EPSG:32631.
    line = "448251.795 5411932.678 35.0 100.5 200 a.jpg tower"
    for crs in ("WGS84 UTM 31N", "EPSG:32631", "+proj=utm +zone=31 +ellps=WGS84 +datum=WGS84 +units=m +no_defs"):
        [point] = read_control(gcp(tmp_path, crs, line, line.replace("a.jpg", "b.jpg")))
        assert point.latitude == pytest.approx(48.8582, abs=1e-7) and point.longitude == pytest.approx(2.2945, abs=1e-7)
        assert point.height == 35.0 and [pick.photo for pick in point.picks] == ["a.jpg", "b.jpg"]
    [south] = read_control(gcp(tmp_path, "EPSG:32731", "448251.795 4588067.322 35.0 100.5 200 a.jpg tower"))
    assert south.latitude == pytest.approx(-48.8582, abs=1e-7)


def test_control_points_in_degrees_and_in_local_metres(tmp_path: Path) -> None:
    [point] = read_control(
        gcp(tmp_path, "EPSG:4326", "# a comment", "11.5 48.1 520 1 2 a.jpg", "11.5 48.1 520 3 4 b.jpg")
    )
    assert (point.longitude, point.latitude, len(point.picks)) == (11.5, 48.1, 2)
    [local] = read_control(gcp(tmp_path, "LOCAL", "1 2 3 4 5 a.jpg corner"))
    assert local.position == (1.0, 2.0, 3.0) and local.latitude is None


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "empty"),
        (("EPSG:4326",), "no control points"),
        (("EPSG:2056", "1 2 3 4 5 a.jpg"), "line 1: the coordinates 'EPSG:2056'"),
        (("WGS84 UTM 61N", "1 2 3 4 5 a.jpg"), "zone 61"),
        (("EPSG:4326", "1 2 3 4 5"), "line 2: .* 5 words"),
        (("EPSG:4326", "1 2 3 nan 5 a.jpg"), "line 2: .* finite"),
        (("EPSG:4326", "1 two 3 4 5 a.jpg"), "line 2: .*'two'"),
        (("EPSG:4326", "1 99 3 4 5 a.jpg p"), "'p': .* 90"),
        (("EPSG:4326", "1 2 3 4 5 a.jpg p", "1 2 4 4 5 b.jpg p"), "line 3: .*'p'"),
        (("EPSG:4326", "1 2 3 4 5 ../a.jpg p"), "line 2: photo: "),
        (("EPSG:32631", "9e9 2 3 4 5 a.jpg p"), "zone 31"),
    ],
)
def test_wrong_control_points_are_refused_by_line(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        read_control(gcp(tmp_path, *lines))
    assert "gcp_list.txt" in str(refused.value)
