"""Train later visits from the beginning, and from the visit before: `python -m benchmarks.revisit HOME`.

HOME is a workspace with three visits to the built-in street or another scene, all in one scene frame, as
`python -m benchmarks.changes --keep HOME` makes it. Each later visit is trained with the profile preview: from the
beginning; and with `train.start earlier`, from the model of the visit before, which had itself started so.

Prints a table, which is kept in revisit.md. Times are the processor's: they are the same beside other programs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.changes import made
from jobs import model
from jobs.options import TrainOptions
from jobs.train import train

OPTIONS = TrainOptions().with_profile("preview")


class Trained(NamedTuple):
    """A training: its manifest, and the processor's seconds for set-up, training and evaluation."""

    folder: Path
    about: dict[str, Any]
    seconds: float

    @property
    def psnr(self) -> float:
        """The mean PSNR of the held-out photos, in dB."""
        return float(self.about["metrics"]["psnr"])


def trained(options: TrainOptions, dataset: Path, folder: Path, earlier: Path | None = None) -> Trained:
    """Train on a dataset."""
    before = time.process_time()
    with redirect_stdout(StringIO()):
        train(options, dataset, folder / "model", folder / "checkpoints", earlier=earlier)
    seconds = time.process_time() - before
    return Trained(folder / "model", json.loads((folder / "model" / model.MANIFEST).read_text()), seconds)


def main() -> None:
    """Train all visits with each seed, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("home", type=Path)
    parser.add_argument("--visits", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1])
    given = parser.parse_args()
    print("| visit | seed | from the beginning | from the visit before | difference | CPU time | share |")
    print("|---|---|---|---|---|---|---|")
    for seed in given.seeds:
        options = OPTIONS.model_copy(update={"seed": seed})
        earlier = trained(options, made(given.home, 1)[0], Path(tempfile.mkdtemp())).folder
        for visit in given.visits:
            dataset, _ = made(given.home, visit)
            with tempfile.TemporaryDirectory() as fresh:
                full = trained(options, dataset, Path(fresh))
            short = trained(options.model_copy(update={"start": "earlier"}), dataset, Path(tempfile.mkdtemp()), earlier)
            given_up = ", then with all steps" if "given_up_at" in short.about["start"] else ""
            cells = (
                *(str(visit), str(seed), f"{full.psnr:.2f} dB", f"{short.psnr:.2f} dB{given_up}"),
                *(f"{short.psnr - full.psnr:+.2f} dB", f"{full.seconds:.0f} s, {short.seconds:.0f} s"),
                f"{100 * short.seconds / full.seconds:.0f} %",
            )
            print(f"| {' | '.join(cells)} |", flush=True)
            earlier = short.folder


if __name__ == "__main__":
    main()
