"""Find the pictures that matches connect, before poses are sought: no mapper registers more than these."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jobs.sfm.search import FEW_MATCHES, Matching, Search

__all__ = ["can_be_joined", "parts"]

_TRIED = 6  # pictures that get fainter features; so does the picture of the largest part that was taken next to each


def parts(search: Search) -> list[set[str]]:
    """Return the pictures that matches connect, directly or through others, by name: the largest part first."""
    names = [view.name for view in search.views]
    row = {name: number for number, name in enumerate(names)}
    pairs = [[row[name] for name in pair] for pair, number in search.inliers().items() if number >= FEW_MATCHES]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(names), len(names)))
    number, part_of = connected_components(graph, directed=False)
    found = [{names[row] for row in np.flatnonzero(part_of == part)} for part in range(number)]
    return sorted(found, key=lambda part: (-len(part), min(part)))


def can_be_joined(search: Search, largest: set[str], short: set[str], kind: Matching) -> bool:
    """Return whether other pictures match those of the largest part if more pairs or more features are tried.

    Only a few pictures are tried, because all would take as long as everything before. If these do not match, nearly
    all others do not match either.

    Args:
        search: the pictures and their matches. It may get more of them.
        largest: the pictures of the largest part.
        short: pictures that have room for more features.
        kind: the kind of matching that chose the pairs.
    """

    def joined(search: Search) -> bool:
        return any(n >= 2 * FEW_MATCHES and len(largest & pair) == 1 for pair, n in search.inliers().items())

    order = [view.name for view in search.views]
    others = [name for name in order if name not in largest]
    if kind != "exhaustive" and search.options.matching == "auto":
        search.match(search.pairs_between(others, largest), "the likeliest pairs")
        if joined(search):
            return True
    tried = [name for name in others if name in short]
    tried = tried[:: max(1, -(-len(tried) // _TRIED))]
    beside = {min(largest, key=lambda name: abs(order.index(name) - order.index(other))) for other in tried}
    if not tried:
        return False
    search.matching.append(f"fainter features of {len(tried)}")
    fainter = search.with_fainter_features({*tried, *(beside & short)}, search.first_octave)
    fainter.match(search.pairs_between(tried, largest), "")
    return joined(fainter)
