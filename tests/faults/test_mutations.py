"""The kill rounds notice a broken product: each of these takes minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.mutations import MUTATIONS, Mutation, apply, reported
from tests.service import ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_changes_the_code_into_other_valid_code(mutation: Mutation, tmp_path: Path) -> None:
    file = tmp_path / mutation.file
    file.parent.mkdir(parents=True)
    shutil.copy(ROOT / mutation.file, file)
    apply(mutation, tmp_path)
    assert file.read_text() != (ROOT / mutation.file).read_text()
    if file.suffix == ".py":
        compile(file.read_text(), file, "exec")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_broken_product_is_reported(mutation: Mutation) -> None:
    assert reported(mutation)
