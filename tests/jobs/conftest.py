from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_dataset(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in street front with its true poses as a dataset, in metres."""
    folder = tmp_path_factory.mktemp("tiny") / "dataset"
    shutil.copytree(street, folder)
    (folder / "truth.json").rename(folder / "transforms.json")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_dataset: Path) -> Path:
    """A nerfacto that was trained on `tiny_dataset` for a moment: a fog in the colours of the street."""
    pytest.importorskip("nerfstudio")
    from jobs.options import TrainOptions
    from jobs.train import train

    options = TrainOptions(max_num_iterations=30, model_size="small", max_image_size=96, rays_per_batch=256)
    train(options, tiny_dataset, tiny_dataset.parent / "model", tiny_dataset.parent / "checkpoints")
    return tiny_dataset.parent / "model"
