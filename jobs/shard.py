"""Render a part of a camera path as chunks: `python -m jobs.shard --first 0 --last 100 --shard DIR …`.

Several such jobs run at the same time, and `jobs.render --shards` joins their chunks. Each job reads or generates the
whole path, as `jobs.render` does. Writes the chunks, `camera_path.json` (the whole path) and `shard.json` (the
manifest).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pydantic_settings import CliApp

from jobs import manifest, report
from jobs.errors import InvalidInput
from jobs.options import ShardOptions
from jobs.radiance import gpu
from jobs.render import choose_path, content_of, ended_clearly, render_chunks
from jobs.video.chunks import Chunks


def shard(options: ShardOptions, dataset: Path, model: Path, output: Path, checkpoints: Path) -> None:
    """Render the missing chunks of a part of a camera path, and write the folder `output`.

    Args:
        options: the path, and the range of its frames.
        dataset: the dataset that the model was trained on.
        model: a folder that `jobs.train` wrote.
        output: a folder, created if missing.
        checkpoints: a folder for chunks, kept between attempts.

    Raises:
        InvalidInput, JobFailed: see `jobs.render.render`.
    """
    timer = manifest.Timer()
    path, kind = choose_path(options, dataset, model)
    total = len(path.camera_path)
    if not options.first < options.last <= total:
        raise InvalidInput(
            f"The path has {total} frames, so a shard cannot be frames {options.first} to "
            f"{options.last}. Give fewer shards."
        )
    store = Chunks(checkpoints)
    render_chunks("shard", options, path, dataset, model, store, (options.first, options.last), timer)
    made = store.find(content_of(options, path))
    for folder in made:
        shutil.copytree(folder, output / folder.name, dirs_exist_ok=True)
    path.write(output / "camera_path.json")
    seconds = round(sum(chunk.seconds for chunk in made.values()), 3)
    about = {"camera_path": kind, "rendering_seconds": seconds, "peak_memory_bytes": gpu.peak_memory()}
    manifest.write(output / "shard.json", options, timer, about)
    report.emit(report.Figures("shard", {"frames": options.last - options.first, "rendering_seconds": round(seconds)}))


class Job(ShardOptions):
    """The command line of this job."""

    dataset: Path
    model: Path
    shard: Path
    checkpoints: Path


def main() -> None:
    """Run the job of this command line."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    with ended_clearly(job.shard):
        shard(ShardOptions.of(job), job.dataset, job.model, job.shard, job.checkpoints)


if __name__ == "__main__":
    report.run("shard", main)
