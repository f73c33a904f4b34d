"""Measure what an appearance for each photo brings where the light changes: `python -m benchmarks.light`.

Trains small nerfactos, as the profile `preview` does, on photos of the built-in street front with true poses: in one
light, in one light with another exposure and white balance in each photo, and under three suns as well. Prints a row
for each capture and setting, with the spread of exposure and white balance that was made, as `prepare` measures it. The
table is kept in light.md.

A held-out photo has a light that no training photo had. So its right half is compared after the colours were fitted by
its left half (`colours_fitted` in jobs/radiance/evaluation.py). The PSNR without this fit is given, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from jobs.demo.street import Visit, light, surfaces
from jobs.facade import cameras, photograph
from jobs.light import Light
from jobs.sfm.exposure import spread

_PHOTOS, _WIDTH, _HEIGHT = 36, 320, 180
_CAPTURES: dict[str, tuple[tuple[Visit, ...], float]] = {  # the suns, and by how many stops cameras adapt, up or down
    "one light": (("1",), 0.0),
    "one light, exposure ± 0.1 stops": (("1",), 0.1),
    "one light, exposure ± 0.25 stops": (("1",), 0.25),
    "one light, exposure ± 0.5 stops": (("1",), 0.5),
    "three suns": (("1", "2", "3"), 0.0),
    "three suns, exposure ± 0.5 stops": (("1", "2", "3"), 0.5),
}
Appearance = Literal["one", "per-photo"]
_WHITE = 0.24  # change of red and of blue, up or down, for each stop of exposure


class Quality(NamedTuple):
    """The mean over the held-out photos: PSNR of whole photos, and of right halves after the fit; dB."""

    plain: float
    fitted: float


def capture(folder: Path, suns: tuple[Visit, ...], adapts: float, seed: int = 0) -> Light:
    """Draw a capture with true poses as a dataset, and return how its exposure and white balance differ."""
    views = cameras(_PHOTOS, _WIDTH, _HEIGHT)
    patches = surfaces(110 * _WIDTH / 640)
    for sun in suns:
        photograph(light(patches, visit=sun), views, folder / sun)
    rng = np.random.default_rng(seed)
    (folder / "photos").mkdir()
    gains = np.zeros((_PHOTOS, 3))
    for number, photo in enumerate(sorted((folder / suns[0] / "photos").iterdir())):
        with Image.open(folder / suns[number % len(suns)] / "photos" / photo.name) as image:
            linear = (np.asarray(image, float) / 255) ** 2.2
        if adapts:
            white = 1 + _WHITE * adapts * np.array([rng.uniform(-1, 1), 0, rng.uniform(-1, 1)])
            gains[number] = np.log2(white) + rng.uniform(-adapts, adapts)
            linear = linear * 2 ** gains[number]
        pixels = np.clip(255 * linear ** (1 / 2.2) + 0.5, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / photo.name, quality=95)
    (folder / suns[0] / "truth.json").rename(folder / "transforms.json")
    return spread(gains)


def train_and_measure(dataset: Path, folder: Path, appearance: Appearance, seed: int) -> Quality:
    """Train a model in this process, and measure it on the held-out photos."""
    from jobs import train
    from jobs.options import TrainOptions

    options = TrainOptions(appearance=appearance, seed=seed).with_profile("preview")
    train.train(options, dataset, folder / "model", folder / "checkpoints")
    metrics = json.loads((folder / "model" / "model.json").read_text())["metrics"]
    return Quality(metrics["psnr"], metrics["psnr_colours_fitted"])


def measured(dataset: Path, folder: Path, appearance: Appearance, seed: int) -> Quality:
    """Train and measure in another process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.light", "--dataset", str(dataset)]
    command += ["--folder", str(folder), "--seed", str(seed), "--appearance", appearance]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(done.stdout)
    return Quality(*json.loads(done.stdout.splitlines()[-1]))


def main(seeds: int, at_once: int) -> None:
    """Print the table."""
    print(f"{_PHOTOS} photos of {_WIDTH} x {_HEIGHT} px, {seeds} seeds.\n", flush=True)
    print("| light | spread | appearance | PSNR, colours fitted | PSNR as rendered |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(at_once) as processes:
        rows = []
        for number, (words, (suns, adapts)) in enumerate(_CAPTURES.items()):
            dataset = Path(name) / f"capture{number}"
            dataset.mkdir()
            made = capture(dataset, suns, adapts)
            said = f"{made.exposure_stops:.2f} stops, {100 * made.white_balance:.0f} %"
            for appearance in get_args(Appearance):
                folder = Path(name) / f"{number}-{appearance}"
                coming = [
                    processes.submit(measured, dataset, folder / str(seed), appearance, seed)
                    for seed in range(42, 42 + seeds)
                ]
                rows.append((words, said, appearance, coming))
        for words, said, appearance, coming in rows:
            found = [each.result() for each in coming]
            plain, fitted = (" / ".join(f"{value:.2f}" for value in side) for side in zip(*found, strict=True))
            print(f"| {words} | {said} | {appearance} | {fitted} dB | {plain} dB |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=1, help="trainings; set OMP_NUM_THREADS to the threads of each")
    for option in ("--dataset", "--folder"):
        parser.add_argument(option, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--appearance", choices=get_args(Appearance), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.dataset:
        print(json.dumps(train_and_measure(given.dataset, given.folder, given.appearance, given.seed)))
    else:
        main(given.seeds, given.at_once)
