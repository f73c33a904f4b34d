"""The kill rounds notice a broken product: each of these takes minutes."""

from __future__ import annotations

import pytest

from tests.faults.mutations import MUTATIONS, Mutation, reported


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_broken_product_is_reported(mutation: Mutation) -> None:
    assert reported(mutation)
