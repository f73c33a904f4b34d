from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.options import PrepareOptions
from jobs.pictures.reading import Picture
from jobs.sfm import verdict
from jobs.sfm.outcome import Outcome


def pictures(
    folder: str, numbers: range, suffix: str = "jpg", model: str = "A1", size: Any = (640, 480)
) -> list[Picture]:
    return [Picture(f"frame_{i:05d}.jpg", f"{folder}IMG_{i}.{suffix}", size, size, model, None) for i in numbers]


class Found(Outcome):
    """A result in which the pictures of the given numbers are registered."""

    numbers: range

    @property
    def registered(self) -> set[str]:
        return {f"frame_{i:05d}.pgm" for i in self.numbers}


def found(registered: range, every: list[Picture], **fields: Any) -> Outcome:
    names = [picture.features for picture in every]
    result = Found(features=dict.fromkeys(names, 900), best_matches=Counter(dict.fromkeys(names, 90)), **fields)
    result.numbers = registered
    return result


FIRST = pictures("walk/", range(1, 5))


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (pictures("garden/", range(5, 11)), "in the folder garden"),
        (pictures("walk/", range(5, 11), suffix="PNG"), "PNG files"),
        (pictures("walk/", range(5, 11), model="B2"), "by the camera B2"),
        (pictures("walk/", range(5, 11), model=""), "by a camera that EXIF omits"),
        (pictures("walk/", range(5, 11), size=(320, 240)), "320 x 240 px large"),
        (pictures("", range(5, 11), model="B2"), "in the top folder and by the camera B2"),
    ],
)
def test_the_refusal_says_what_the_lost_photos_share(others: list[Picture], words: str) -> None:
    every = [*FIRST, *others]
    said = verdict.refusal(Path("photos"), every, found(range(1, 5), every), PrepareOptions())
    assert f"The 6 others are {words}. If they show another place" in said and "hold still" not in said
    assert "only 4 of 10 pictures could be registered (40 %; needed: 60 % and at least 8)" in said


def test_a_second_place_of_frames_is_named_with_their_video() -> None:
    every = [
        Picture(f"frame_{i:05d}.jpg", f"{video}#t={i}.000", (640, 480), (640, 480), video, None)
        for i, video in enumerate([*["walk.mp4"] * 4, *["yard.mp4"] * 4], 1)
    ]
    result = found(range(1, 5), every, elsewhere=[{picture.features for picture in every[4:]}])
    assert verdict.other_places(every, result).endswith(
        "yard.mp4#t=5.000 … yard.mp4#t=8.000 (from the video yard.mp4)."
    )


@pytest.mark.parametrize("registered", [range(0), range(1, 5)])
def test_lost_photos_that_share_nothing_get_advice_on_photography(registered: range) -> None:
    every = [*FIRST, *pictures("walk/", range(5, 11))]
    said = verdict.refusal(Path("photos"), every, found(registered, every), PrepareOptions())
    assert "hold still (no blur)" in said and "The 6 others" not in said


def test_a_second_place_is_named_with_what_its_photos_share() -> None:
    every = [*pictures("walk/", range(1, 9)), *pictures("garden/", range(9, 13))]
    names = {picture.features for picture in every}
    second = {picture.features for picture in every[8:]}
    result = found(range(1, 9), every, elsewhere=[second])
    assert verdict.other_places(every, result) == (
        "4 pictures form a second place that is not connected to the first, and are not used: "
        "garden/IMG_9.jpg … garden/IMG_12.jpg (in the folder garden)."
    )
    alike = found(range(1, 9), every, elsewhere=[second], look_alikes=[names - second, second])
    assert "4 pictures form a second place that looks like the first, and are not used" in verdict.other_places(
        every, alike
    )
    together = found(range(1, 13), every, look_alikes=[names - second, second])
    assert verdict.other_places(every, together) == (
        "Places that look alike were separated: check the poses of garden/IMG_9.jpg … garden/IMG_12.jpg."
    )
    assert verdict.other_places(every, found(range(1, 13), every)) == ""
    refused = verdict.refusal(
        Path("photos"),
        every,
        found(range(1, 9), every, look_alikes=[names - second, second], confused=True),
        PrepareOptions(),
    )
    assert "One place: walk/IMG_1.jpg … walk/IMG_8.jpg; another: garden/IMG_9.jpg … garden/IMG_12.jpg." in refused


def test_a_capture_in_two_parts_is_refused_with_both() -> None:
    every = [*pictures("walk/", range(1, 9)), *pictures("garden/", range(9, 16))]
    names = [picture.features for picture in every]
    result = found(range(0), every, connected=set(names[:8]), elsewhere=[set(names[8:])])
    said = verdict.refusal(Path("photos"), every, result, PrepareOptions())
    assert "only 8 of 15 pictures are connected by matches (53 %; needed: 60 % and at least 8)" in said
    assert "7 pictures form a second place" in said and "(in the folder garden)" in said
    assert "Not registered: garden/IMG_9.jpg: not connected" in said and "walk/IMG_1.jpg:" not in said
    assert result.why_not(names[0]) == "too few pictures are connected with it by matches"


def test_dark_and_blurred_photos_are_named() -> None:
    every = pictures("", range(1, 10))
    assert verdict.of_poor_quality(every) == verdict.of_poor_quality([]) == ""
    every[1], every[4] = replace(every[1], light=9.0), replace(every[4], sharpness=0.3)
    assert verdict.of_poor_quality(every) == "Too dark: IMG_2.jpg; blurred or without texture: IMG_5.jpg."
    said = verdict.refusal(Path("photos"), every, found(range(0), every), PrepareOptions())
    assert "blurred or without texture: IMG_5.jpg" in said
    assert verdict.of_poor_quality([replace(picture, view=4) for picture in every]) == ""
    dim = [replace(picture, light=5.0) for picture in every]
    assert verdict.of_poor_quality(dim) == (
        "Too dark: IMG_1.jpg, IMG_2.jpg, IMG_3.jpg, IMG_4.jpg, IMG_5.jpg and 4 more."
    )
