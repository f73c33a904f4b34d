"""Captures of which no dataset can be made, and disks that are full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from jobs import prepare, report
from jobs.errors import GateRefused, InvalidInput, JobFailed
from jobs.options import PrepareOptions
from tests.jobs.preparing import read, run


def save_noise(folder: Path, width: int, height: int) -> None:
    """Save nine photos of coarse noise, which have nothing in common."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(9):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)
        picture.save(folder / f"{i}.jpg")


def test_photos_that_do_not_belong_together_are_refused_with_advice(tmp_path: Path) -> None:
    save_noise(tmp_path / "photos", *(320, 240))
    status, lines = run(tmp_path / "photos", tmp_path / "dataset")
    assert status == report.EXIT_REFUSED
    failure = lines[-1]
    assert isinstance(failure, report.Failure) and failure.error == "GateRefused"
    for words in (
        "0 of 9 pictures",
        "needed: 60 % and at least 8",
        "overlap",
        "blur",
        "light",
        "0.jpg: too few matches",
    ):
        assert words in failure.message
    manifest = read(tmp_path / "dataset" / "dataset.json")
    assert manifest["registered"] == 0 and not any(image["registered"] for image in manifest["images"])
    assert not (tmp_path / "dataset" / "transforms.json").exists()


def test_a_capture_that_finer_features_cannot_save_is_refused_without_them(tmp_path: Path) -> None:
    save_noise(tmp_path / "photos", *(640, 480))
    with pytest.raises(GateRefused, match="0 of 9 "):
        prepare.prepare(tmp_path / "photos", tmp_path / "dataset", PrepareOptions(max_features=512))
    assert read(tmp_path / "dataset" / "dataset.json")["matching"] == "exhaustive"


def test_a_search_that_finds_nothing_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(9):
        dots = np.full((480, 640), 128, np.uint8)
        for x, y in rng.integers(20, 440, (40, 2)):
            dots[y : y + 6, x : x + 6] = rng.integers(0, 256)
        Image.fromarray(dots).save(tmp_path / "photos" / f"{number}.png")
    with pytest.raises(GateRefused, match="0 of 9 "):
        prepare.prepare(tmp_path / "photos", tmp_path / "dataset", PrepareOptions())
    tried = read(tmp_path / "dataset" / "dataset.json")["matching"]
    assert tried == "exhaustive, then fainter features of 4"


def test_truncated_photos_can_leave_too_few(street: Path, tmp_path: Path) -> None:
    for photo in (street / "photos").iterdir():
        (tmp_path / photo.name).write_bytes(photo.read_bytes()[:9000])
    with pytest.raises(InvalidInput, match=r"0 photos .* 8 .*facade_001\.jpg: "):
        prepare.prepare(tmp_path, tmp_path / "dataset", PrepareOptions())


def test_a_video_of_few_frames_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48)))))
        container.mux(stream.encode())
    with pytest.raises(InvalidInput, match="1 frame .* 8 "):
        prepare.prepare(tmp_path / "a.mp4", tmp_path / "dataset", PrepareOptions())


def test_the_photos_own_folder_is_never_written_over(street: Path) -> None:
    before = sorted(path.name for path in (street / "photos").iterdir())
    for target in (street / "photos", street):
        with pytest.raises(InvalidInput, match="photos"):
            prepare.prepare(street / "photos", target, PrepareOptions())
    assert sorted(path.name for path in (street / "photos").iterdir()) == before


@pytest.mark.parametrize("when", ["at the start", "on the way"])
def test_a_full_disk_ends_clearly(street: Path, when: str) -> None:
    """On real, small file systems."""
    script = f"mount -t tmpfs -o size={8 if when == 'at the start' else 75}m tmpfs /mnt || exit 1\n"
    if when == "on the way":
        script += (
            "(until ls /mnt/dataset/.work-*/database.db; do sleep 0.1; done; head -c 58m /dev/zero > /mnt/other) &\n"
        )
    script += f"{sys.executable} -m jobs.prepare --images {street}/photos --dataset /mnt/dataset"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    if not done.stdout:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    failure = report.parse(done.stdout.splitlines()[-1])
    assert isinstance(failure, report.Failure), done.stderr
    expected = {
        "at the start": "the disk of /mnt/dataset has 0.0 GB free and about 0.1 GB are needed",
        "on the way": "the disk is full: make room at /mnt/dataset",
    }
    assert expected[when] in failure.message
    assert done.returncode == report.EXIT_REFUSED


def test_a_write_that_fails_for_room_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=f"disk .*{tmp_path}"), prepare._room_on_disk(tmp_path):
        Path("/dev/full").write_text("x" * 10_000)
