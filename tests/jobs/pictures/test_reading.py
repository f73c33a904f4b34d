from __future__ import annotations

from pathlib import Path

from PIL import Image

from jobs import media
from jobs.options import PrepareOptions
from jobs.pictures import reading
from tests.pictures import difference, picture, turned, video


def test_several_videos_share_the_frames_by_their_lengths(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    video(tmp_path / "videos" / "long.mp4", [picture(seed=1)] * 30)
    turned(video(tmp_path / "videos" / "upright.mp4", [picture(seed=2)] * 10))
    for folder in ("grey", "dataset"):
        (tmp_path / folder).mkdir()
    capture = media.scan(tmp_path / "videos")
    pictures, unreadable, facts = reading.read(
        capture, tmp_path / "dataset", tmp_path / "grey", PrepareOptions(num_frames=12)
    )
    assert not unreadable
    assert [(fact["file"], fact["taken"]) for fact in facts] == [("long.mp4", 9), ("upright.mp4", 3)]
    assert len({picture.model for picture in pictures}) == 2, "each video has its own camera"
    for number, written in enumerate(pictures):
        with Image.open(tmp_path / "dataset" / "images" / written.file) as shown:
            expected = picture(seed=1) if number < 9 else picture(seed=2).transpose(Image.Transpose.ROTATE_270)
            assert shown.size == written.size == expected.size
            assert difference(shown, expected) < 8
