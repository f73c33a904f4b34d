"""What the benchmarks of training share: the street front with its true poses, and the options of `jobs.train`."""

from __future__ import annotations

from pathlib import Path

from jobs.facade import render_capture

__all__ = ["arguments", "street"]


def street(folder: Path, width: int = 960) -> Path:
    """Return a dataset of the built-in street front with its true poses. It is drawn unless the folder has it.

    Args:
        folder: of the dataset.
        width: of the photos in px.
    """
    if not (folder / "transforms.json").is_file():
        render_capture(folder, photos=48, width=width, height=width * 9 // 16)
        (folder / "truth.json").rename(folder / "transforms.json")
    return folder


def arguments(dataset: Path, folder: Path, seed: int, steps: int, steps_per_save: int) -> list[str]:
    """Return the options of a training whose model and checkpoints are kept in a folder."""
    given = {
        "dataset": dataset,
        "model": folder / "model",
        "checkpoints": folder / "checkpoints",
        "max-image-size": 1600,
        "max-num-iterations": steps,
        "seed": seed,
        "steps-per-save": steps_per_save,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]
