"""Compare rendering with nerfstudio's: `python -m benchmarks.render --model DIR --dataset DIR [--path FILE]`.

The same path with the same model by `ns-render camera-path`, by `jobs.render`, and by as many `jobs.shard` at once as
are asked for, each on the next of the machine's GPUs. All write each frame as a PNG: the pace is that from the first
picture to the last, without loading and compiling, and the pictures are compared. Needs no network and no ffmpeg.
Prints a table, which is kept in render.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from jobs import camera_path
from jobs.options import RenderOptions
from jobs.path import trajectory

# LPIPS's weights would be downloaded, and ffmpeg is asked for; neither is of use for pictures.
_NS_RENDER = (
    "from jobs.model import lpips_from_cache; from nerfstudio.scripts.render import entrypoint, install_checks\n"
    "install_checks.check_ffmpeg_installed = lambda: None\n"
    "with lpips_from_cache(): entrypoint()"
)


def run(*commands: Sequence[object]) -> float:
    """Run commands in parallel, on one GPU each if there are several. Return the seconds until all have ended."""
    start = time.monotonic()
    gpus = max(1, torch.cuda.device_count())
    with tempfile.TemporaryFile("w+") as log:
        running = [
            subprocess.Popen(
                [sys.executable, *map(str, command)],
                stdout=log, stderr=log, env=os.environ | {"CUDA_VISIBLE_DEVICES": str(number % gpus)},
            )
            for number, command in enumerate(commands)
        ]  # fmt: skip
        if {each.wait() for each in running} != {0}:
            log.seek(0)
            sys.exit(log.read())
    return time.monotonic() - start


def pace(pictures: list[Path]) -> float:
    """Return the frames per second, from the times when images were written."""
    moments = sorted(file.stat().st_mtime for file in pictures)
    return (len(moments) - 1) / (moments[-1] - moments[0])


def psnr(ours: list[Path], theirs: list[Path]) -> float:
    """Return the PSNR in dB between two series of images, over all pixels."""
    errors = []
    for one, other in zip(ours, theirs, strict=True):
        with Image.open(one) as a, Image.open(other) as b:
            errors.append(np.mean((np.asarray(a, dtype=float) - np.asarray(b.convert("RGB"), dtype=float)) ** 2))
    return 10 * math.log10(255**2 / max(float(np.mean(errors)), 1e-9))


def memory(manifest: Path) -> str:
    """Return the peak memory from a manifest, in MB."""
    peak = json.loads(manifest.read_text())["peak_memory_bytes"]
    return ", ".join(f"{value / 1e6:.0f} MB {name}" for name, value in peak.items() if value)


def main(given: argparse.Namespace) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = ("--dataset", given.dataset, "--model", given.model)
        options = RenderOptions(width=given.width, height=given.height, fps=30, seconds=given.frames / 30)
        path = camera_path.read(given.path) if given.path else trajectory.generate(
            "tour", given.dataset, given.model, options
        )  # fmt: skip
        path.write(folder / "path.json")
        frames = len(path.camera_path)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
        print(f"{device}, torch {torch.__version__}; {frames} frames of {path.render_width}x{path.render_height}.\n")
        against = "ns-render" if given.stock else "jobs.render"
        print(f"| rendered by | frames a second | whole | peak memory | PSNR against {against} |")
        print("|---|---|---|---|---|")

        theirs: list[Path] = []
        if given.stock:
            run(("-m", "jobs.model", given.model, given.dataset, folder / "config.yml"))
            seconds = run(
                ("-c", _NS_RENDER, "camera-path", "--load-config", folder / "config.yml",
                 "--camera-path-filename", folder / "path.json", "--output-path", folder / "theirs.mp4",
                 "--output-format", "images", "--image-format", "png"),
            )  # fmt: skip
            theirs = sorted((folder / "theirs").glob("*.png"))
            print(f"| ns-render camera-path | {pace(theirs):.2f} | {seconds:.0f} s | | |", flush=True)

        what = ("--camera-path", folder / "path.json", "--png-frames")
        seconds = run(
            ("-m", "jobs.render", *places, *what, "--video", folder / "ours", "--checkpoints", folder / "chunks")
        )
        ours = sorted((folder / "ours" / "frames").glob("*.png"))
        alone = pace(ours)
        gain = f" ({alone / pace(theirs):.2f} ×)" if theirs else ""
        told = f"{psnr(ours, theirs):.1f} dB" if theirs else ""
        print(
            f"| jobs.render | {alone:.2f}{gain} | {seconds:.0f} s | {memory(folder / 'ours/video.json')} | {told} |",
            flush=True,
        )
        for shards in given.shards:
            bounds = [number * frames // shards for number in range(shards + 1)]
            made = [folder / f"{shards}-{number}" for number in range(shards)]
            seconds = run(
                *(
                    ("-m", "jobs.shard", *places, *what, "--first", first, "--last", last, "--shard", shard,
                     "--checkpoints", shard.with_suffix(".chunks"))
                    for shard, (first, last) in zip(made, pairwise(bounds), strict=True)
                )
            )  # fmt: skip
            series = [sorted(shard.glob("*/frames/*.png")) for shard in made]
            together = sum(map(pace, series))
            parts = [file for shard in series for file in shard]
            print(
                f"| {shards} shards at once | {together:.2f} ({together / alone:.2f} × one) | {seconds:.0f} s | "
                f"{memory(made[0] / 'shard.json')} each | {psnr(parts, theirs or ours):.1f} dB |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--path", type=Path, help="a camera_path.json; else a tour")
    parser.add_argument("--no-stock", dest="stock", action="store_false", help="leave ns-render out, which takes long")
    parser.add_argument("--frames", type=int, default=60, help="of the tour")
    parser.add_argument("--width", type=int, default=1920, help="of the tour, px")
    parser.add_argument("--height", type=int, default=1080, help="of the tour, px")
    parser.add_argument("--shards", type=int, nargs="*", default=[2], help="how many at once; several to compare")
    main(parser.parse_args())
