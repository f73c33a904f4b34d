"""What `jobs.radiance` gains over nerfstudio's own code on a CUDA GPU: `python -m benchmarks.gpu`.

The built-in street front with its true poses, nerfacto with the options of profile full; each row is a process of its
own. A step's time is that of the last steps of the training, after kernels were compiled; the whole with compiling
stands beside it. Prints a table, which is kept in gpu.md.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from jobs.facade import render_capture
from jobs.report import Progress, parse

_WITHOUT = "from jobs.radiance import support; support.machine_lacks = lambda: 'this is a benchmark'; "
_PROGRAMS = {
    "nerfstudio's own": _WITHOUT + "from jobs.radiance import cuda; cuda.install = lambda: None; ",
    "nerfstudio's own, compiled": _WITHOUT,
    "CUDA graphs": "",
}


def run(before: str, stage: str, *arguments: str) -> tuple[list[tuple[float, Progress]], float]:
    """Run a job. Return its progress lines, each with its time in seconds, and the job's duration in seconds."""
    program = f"{before}import sys; from jobs import report, {stage}; report.run({stage!r}, {stage}.main)"
    told, log, start = [], [], time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as job:
        assert job.stdout
        for line in job.stdout:
            log.append(line)
            if isinstance(found := parse(line), Progress) and found.stage == stage:
                told.append((time.monotonic(), found))
    if job.returncode:
        sys.exit("".join(log))
    return told, time.monotonic() - start


def pace(told: list[tuple[float, Progress]]) -> float:
    """Return the seconds per step or frame in the second half, when all kernels are compiled."""
    end, last = told[-1]
    middle, first = next(each for each in told if each[1].step >= last.total / 2)
    return (end - middle) / (last.step - first.step)


def pictures(file: Path) -> list[NDArray[np.uint8]]:
    """Return the frames of a video, (height, width, 3) each, 0 to 255."""
    with av.open(str(file)) as container:
        return [np.asarray(frame.to_image()) for frame in container.decode(video=0)]


def main(steps: int, frames: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render_capture(folder / "dataset", photos=48, width=960, height=540)
        (folder / "dataset" / "truth.json").rename(folder / "dataset" / "transforms.json")
        print(
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}; {steps} steps, {frames} frames of 1920x1080.\n"
        )
        print("| code | a step | whole training | PSNR | SSIM | a frame | whole rendering |")
        print("|---|---|---|---|---|---|---|")
        videos = []
        for title, before in _PROGRAMS.items():
            places = {name: folder / title / name for name in ("model", "checkpoints", "video")}
            steps_told, training = run(
                before, "train", "--dataset", str(folder / "dataset"), "--model", str(places["model"]),
                "--checkpoints", str(places["checkpoints"]), "--max-num-iterations", str(steps),
            )  # fmt: skip
            model = json.loads((places["model"] / "model.json").read_text())
            # The same model for both, so that the pictures can be compared.
            trained = folder / next(iter(_PROGRAMS)) / "model"
            frames_told, rendering = run(
                before, "render", "--dataset", str(folder / "dataset"), "--model", str(trained),
                "--video", str(places["video"]), "--checkpoints", str(folder / title / "chunks"),
                "--seconds", str(frames / 30), "--fps", "30",
            )  # fmt: skip
            videos.append(pictures(places["video"] / "video.mp4"))
            psnr, ssim = model["metrics"]["psnr"], model["metrics"]["ssim"]
            step, frame = f"{1000 * pace(steps_told):.1f} ms", f"{pace(frames_told):.2f} s"
            quality = f"{psnr:.2f} dB | {ssim:.3f}"
            print(f"| {title} | {step} | {training:.0f} s | {quality} | {frame} | {rendering:.0f} s |", flush=True)
        first, *others = videos
        for title, other in zip(list(_PROGRAMS)[1:], others, strict=True):
            error = np.mean([(one.astype(float) - two) ** 2 for one, two in zip(first, other, strict=True)])
            print(
                f"\nBetween the first video and that of {title}: {10 * math.log10(255**2 / max(error, 1e-9)):.1f} dB."
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=15)
    given = parser.parse_args()
    main(given.steps, given.frames)
