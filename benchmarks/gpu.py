"""Compare training by `jobs.train` with plain `ns-train nerfacto` on a CUDA GPU.

`python -m benchmarks.gpu FOLDER [DATASET ...]` trains on the built-in street front with its true poses, and on prepared
datasets. Speed is measured first, with the GPU to itself. The trainings that compare quality then share the GPU. Each
result is kept in FOLDER, so a later call continues where an earlier one was stopped (`--minutes`). With several GPUs,
run one process for each with the same FOLDER and its own CUDA_VISIBLE_DEVICES. Prints the tables, which are kept in
gpu.md. tiny-cuda-nn takes part where it is installed.

nerfstudio's camera optimizer is off in all rows, because it moves training poses away from held-out ones (`poses.py`).
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import trainings
from jobs.radiance import gpu
from jobs.report import Progress, parse

OURS, COMPILED = "jobs.train", "jobs.train without CUDA graphs"
TCNN, TORCH = "ns-train with tiny-cuda-nn", "ns-train with PyTorch"
_SPEED_STEPS = {COMPILED: 3000, TCNN: 2000, TORCH: 1000}
"""The steps of nerfstudio's own code that show its pace."""
_SAVES = 2000  # steps between two checkpoints, nerfacto's default
_STEP_OF_NERFSTUDIO = re.compile(r"\b(\d+) \(\d+\.\d+%\)")

# nerfstudio's own training steps, in the trainer of `jobs.train`. PyTorch compiles parts of them.
_WITHOUT_GRAPHS = (
    "from jobs.radiance import support; support.machine_lacks = lambda: 'this is a benchmark'\n"
    "from jobs import report, train; report.run('train', train.main)"
)

# Neither training nor evaluation may download the weights of LPIPS.
_NERFSTUDIO = (
    "import sys; from jobs.model import lpips_from_cache; from nerfstudio.scripts.{0} import entrypoint\n"
    "with lpips_from_cache(): entrypoint()"
)


class Piece(NamedTuple):
    """One training to measure."""

    dataset: Path
    code: str
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """The name of the folder that keeps the training and its result."""
        return re.sub(r"\W+", "-", f"{self.dataset.name} {self.code} {self.seed} {self.steps}")


@dataclass
class Measured:
    """The result of one training."""

    psnr: float
    """Of the held-out photos, in dB."""
    ssim: float
    first_step: float
    """Seconds from the start of the program to the end of the first step."""
    step: float
    """Seconds per step in the second half."""
    whole: float
    """Seconds from the start of the program to its end."""
    busy: float
    """Share of the time in the second half in which the GPU computed, in percent."""
    memory: float
    """Most GPU memory in use, in GB."""


class _NotMeasured(Exception):
    """Another process measures this piece, or the time of this call is over."""


class Clock:
    """The time that this call may take."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Return the remaining seconds."""
        return self._end - time.monotonic()


class _Watch(threading.Thread):
    """Samples how busy the GPU is, twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float, float]] = []  # time, percent, GB
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.5):
            found = gpu.read_utilization()
            self.samples.append((time.monotonic(), found.get("gpu percent", 0.0), found["gpu memory GB"]))

    def stop(self) -> None:
        self._over.set()


@contextmanager
def _watched() -> Iterator[_Watch]:
    watch = _Watch()
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def _run(command: Sequence[object], log: Path, clock: Clock) -> list[tuple[float, int]]:
    """Run a command. Return the steps that it reports, each with its time in seconds.

    Raises:
        SystemExit: the command failed; the text is the end of its log.
        _NotMeasured: the time of this call is over.
    """
    steps: list[tuple[float, int]] = []
    # nerfstudio 1.1.5 loads its own checkpoints in a way that PyTorch has refused since 2.6.
    environment = os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTHONUNBUFFERED": "1"}
    with (
        log.open("a") as record,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", *map(str, command)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace",
            start_new_session=True,
        ) as job,
    ):  # fmt: skip
        assert job.stdout
        late = threading.Timer(max(clock.left(), 0), job.terminate)
        late.start()
        threading.Thread(target=_end_children, args=(job,)).start()
        try:
            for line in job.stdout:
                record.write(line)
                told = parse(line)
                if isinstance(told, Progress) and told.stage == "train":
                    steps.append((time.monotonic(), told.step))
                elif found := _STEP_OF_NERFSTUDIO.search(line):
                    step = int(found[1])
                    if not steps or step > steps[-1][1]:  # it prints its last ten lines again and again
                        steps.append((time.monotonic(), step))
        finally:
            late.cancel()
    if clock.left() <= 0:
        raise _NotMeasured
    if job.returncode:
        sys.exit(f"{log} ends with:\n{log.read_text()[-3000:]}")
    return steps


def _end_children(job: subprocess.Popen[str]) -> None:
    """Wait for a job, and kill the processes that it leaves, because they keep its output open."""
    job.wait()
    with suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)


def _ours(piece: Piece, folder: Path, clock: Clock) -> tuple[list[tuple[float, int]], float, dict[str, float]]:
    program = ("-m", "jobs.train") if piece.code == OURS else ("-c", _WITHOUT_GRAPHS)
    given = trainings.arguments(piece.dataset, folder, piece.seed, piece.steps, _SAVES)
    steps = _run((*program, *given), folder / "log", clock)
    return steps, time.monotonic(), json.loads((folder / "model" / "model.json").read_text())["metrics"]


def _theirs(piece: Piece, folder: Path, clock: Clock) -> tuple[list[tuple[float, int]], float, dict[str, float]]:
    trained = folder / "out" / "x" / "nerfacto" / "x"
    command = [
        "-c", _NERFSTUDIO.format("train"), "nerfacto", "--output-dir", folder / "out", "--experiment-name", "x",
        "--timestamp", "x", "--viewer.quit-on-train-completion", "True", "--machine.seed", piece.seed,
        "--steps-per-save", _SAVES, "--pipeline.model.camera-optimizer.mode", "off",
        "--pipeline.model.implementation", "tcnn" if piece.code == TCNN else "torch",
    ]  # fmt: skip
    done = 0
    if saved := sorted((trained / "nerfstudio_models").glob("*.ckpt")):
        done = int(saved[-1].stem.removeprefix("step-")) + 1
        command += ["--load-dir", saved[-1].parent]
    command += ["--max-num-iterations", piece.steps - done]
    data = ["nerfstudio-data", "--data", piece.dataset, "--downscale-factor", 1]
    steps = _run(command + data, folder / "log", clock)
    end = time.monotonic()
    _run(
        ("-c", _NERFSTUDIO.format("eval"), "--load-config", trained / "config.yml", "--output-path", folder / "e.json"),
        folder / "log", clock,
    )  # fmt: skip
    return steps, end, json.loads((folder / "e.json").read_text())["results"]


def measure(piece: Piece, folder: Path, clock: Clock) -> Measured:
    """Return the result of a training, from the folder if it was measured before.

    A training that was stopped resumes. Its times are then those of its last part, so only quality is of use.

    Raises:
        _NotMeasured: another process measures this piece, or the time of this call is over.
    """
    place = folder / piece.name
    result = place / "result.json"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _NotMeasured from None
        if not result.is_file():
            if clock.left() <= 0:
                raise _NotMeasured
            found = _measure(piece, place, clock)
            result.write_text(json.dumps(asdict(found), indent=1))
            print(f"{piece.name}: {found}", file=sys.stderr, flush=True)
    return Measured(**json.loads(result.read_text()))


def _measure(piece: Piece, place: Path, clock: Clock) -> Measured:
    with _watched() as watch:
        start = time.monotonic()
        steps, end, metrics = (_ours if piece.code in (OURS, COMPILED) else _theirs)(piece, place, clock)
    last = steps[-1][0]
    middle, number = next((moment, step) for moment, step in steps if step >= (steps[0][1] + steps[-1][1]) / 2)
    busy = [percent for moment, percent, _ in watch.samples if middle <= moment <= last]
    return Measured(
        psnr=metrics["psnr"],
        ssim=metrics["ssim"],
        first_step=steps[0][0] - start,
        step=(last - middle) / max(steps[-1][1] - number, 1),
        whole=end - start,
        busy=statistics.mean(busy) if busy else 0.0,
        memory=max((gigabytes for _, _, gigabytes in watch.samples), default=0.0),
    )


def speed_table(pieces: list[Piece], measured: dict[Piece, Measured], steps: int) -> Iterator[str]:
    """Return the lines of the table of speed."""
    yield "| code | steps | until the first step | a step | GPU busy | peak memory | whole program | PSNR | SSIM |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for piece in pieces:
        if found := measured.get(piece):
            yield (
                f"| {piece.code} | {piece.steps:,} | {found.first_step:.0f} s | {1000 * found.step:.2f} ms "
                f"| {found.busy:.0f} % | {found.memory:.1f} GB | {found.whole:.0f} s | {found.psnr:.2f} dB "
                f"| {found.ssim:.3f} |"
            )
    ours = next((measured[piece] for piece in pieces if piece.code == OURS and piece in measured), None)
    for piece in pieces:
        if ours and piece.code != OURS and (found := measured.get(piece)):
            seconds = found.first_step + steps * found.step
            yield (
                f"\n{steps:,} steps at the pace of {piece.code} would take {seconds:,.0f} s. "
                f"{OURS} takes {ours.whole:.0f} s for the whole program, {seconds / ours.whole:.1f} times less."
            )


def quality_table(pieces: list[Piece], measured: dict[Piece, Measured]) -> Iterator[str]:
    """Return the lines of the table of quality."""
    yield "| dataset | code | PSNR of each seed | mean | range | SSIM |"
    yield "|---|---|---|---|---|---|"
    for dataset, code in dict.fromkeys((piece.dataset, piece.code) for piece in pieces):
        rows = [measured[each] for each in pieces if (each.dataset, each.code) == (dataset, code) and each in measured]
        if not rows:
            continue
        psnr, ssim = [row.psnr for row in rows], statistics.mean(row.ssim for row in rows)
        each = ", ".join(f"{value:.2f}" for value in psnr)
        spread = f"{statistics.mean(psnr):.2f} dB | {max(psnr) - min(psnr):.2f} dB"
        yield f"| {dataset.name} | {code} | {each} | {spread} | {ssim:.4f} |"


def main(given: argparse.Namespace) -> None:
    """Measure what has not been measured yet, and print the tables of all that has."""
    folder: Path = given.folder
    clock = Clock(given.minutes)
    folder.mkdir(parents=True, exist_ok=True)
    street = trainings.street(folder / "street")
    alone = [Piece(street, code, 42, _SPEED_STEPS.get(code, given.steps)) for code in given.codes]
    if given.only == "quality":
        alone = []
    # The slow ones first.
    shared = [
        Piece(dataset, code, 42 + seed, given.steps)
        for code in sorted(given.codes, key=lambda code: code == OURS)
        for seed in range(given.seeds)
        for dataset in (street, *given.datasets)
        if given.only != "speed"
    ]
    measured: dict[Piece, Measured] = {}

    def attempt(piece: Piece) -> None:
        try:
            measured[piece] = measure(piece, folder, clock)
        except _NotMeasured:
            print(f"{piece.name}: not measured here", file=sys.stderr, flush=True)

    for piece in alone:
        attempt(piece)
    with ThreadPoolExecutor(given.at_once) as threads:
        list(threads.map(attempt, shared))

    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; photos of 960x540.\n")
    print("\n".join(speed_table(alone, measured, given.steps)))
    print(f"\n{given.steps:,} steps, up to {given.at_once} trainings at once on a GPU:\n")
    print("\n".join(quality_table(shared, measured)))


if __name__ == "__main__":
    available = [OURS, COMPILED, TORCH, *([TCNN] if importlib.util.find_spec("tinycudann") else [])]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="keeps the results")
    parser.add_argument("datasets", type=Path, nargs="*", help="folders with transforms.json")
    parser.add_argument("--codes", nargs="+", default=available, choices=available)
    parser.add_argument("--only", choices=("speed", "quality"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--at-once", type=int, default=4, help="trainings that share a GPU to compare quality")
    parser.add_argument("--minutes", type=float, default=600, help="stop after this time")
    main(parser.parse_args())
