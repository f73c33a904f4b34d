from __future__ import annotations

import pytest

from jobs.options import PrepareOptions
from jobs.sfm import missing
from jobs.sfm.outcome import Outcome

NAMES = [f"{number}.pgm" for number in range(10)]
OPTIONS = PrepareOptions(max_features=4000, min_registered_share=0.6)


class Found(Outcome):
    """A result in which the first pictures are registered."""

    number = 0

    @property
    def registered(self) -> set[str]:
        return set(NAMES[: self.number])


@pytest.mark.parametrize(
    ("registered", "features", "elsewhere", "short"),
    [
        (8, 900, [], NAMES[8:]),
        (8, 4000, [], []),  # there is no room for more features
        (7, 900, [NAMES[7:]], []),  # a second place is complete in itself
        (7, 900, [NAMES[8:]], NAMES[7:8]),
        (5, 900, [NAMES[5:]], NAMES[5:]),  # too few of the first: more features may join the two
        (10, 900, [], []),
    ],
)
def test_pictures_get_more_features_where_these_can_help(
    registered: int, features: int, elsewhere: list[list[str]], short: list[str]
) -> None:
    result = Found(features=dict.fromkeys(NAMES, features), elsewhere=[set(place) for place in elsewhere])
    result.number = registered
    assert missing.short_of_features(result, OPTIONS) == set(short)
