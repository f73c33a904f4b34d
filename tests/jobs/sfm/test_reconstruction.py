from __future__ import annotations

import pytest

from jobs.options import PrepareOptions
from jobs.sfm import reconstruction
from jobs.sfm.reconstruction import Outcome

NAMES = [f"{number}.pgm" for number in range(10)]
OPTIONS = PrepareOptions(max_features=4000, min_registered_share=0.6)


class Found(Outcome):
    """A result in which the first pictures are registered."""

    number = 0

    @property
    def registered(self) -> set[str]:
        return set(NAMES[: self.number])


@pytest.mark.parametrize(
    ("registered", "features", "elsewhere", "finer"),
    [
        (8, 900, [], True),
        (8, 4000, [], False),  # there is no room for more features
        (7, 900, [NAMES[7:]], False),  # a second place is complete in itself
        (7, 900, [NAMES[8:]], True),
        (5, 900, [NAMES[5:]], True),  # too few of the first: finer features may join the two
        (10, 900, [], False),
    ],
)
def test_finer_features_are_tried_where_they_can_help(
    registered: int, features: int, elsewhere: list[list[str]], finer: bool
) -> None:
    result = Found(features=dict.fromkeys(NAMES, features), elsewhere=[set(place) for place in elsewhere])
    result.number = registered
    assert reconstruction._finer_features_can_help(result, OPTIONS) == finer
