"""How exact poses are: `jobs.prepare` beside plain pycolmap with its defaults, on photos whose poses are known.

`python -m benchmarks.accuracy > benchmarks/accuracy.md` photographs the built-in street front, prepares it with both,
one after the other, and prints a table in Markdown. `--photos` and `--width` make it larger, `--capture` takes another
folder with `photos/` and `truth.json`. Position errors are in terms of the scene's size: the diagonal of the box about
the true camera centres.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import numpy as np
import pycolmap

from jobs.sfm.alignment import PoseErrors, compare_poses


def ours(photos: Path, work: Path) -> tuple[Path, dict[str, str]]:
    """Run `jobs.prepare` as the flow does; return its transforms.json, and the photo behind each of its pictures."""
    command = [sys.executable, "-m", "jobs.prepare", "--images", str(photos), "--dataset", str(work)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(done.stdout)
    images = json.loads((work / "dataset.json").read_text())["images"]
    return work / "transforms.json", {Path(image["file"]).name: image["source"] for image in images}


def plain(photos: Path, work: Path) -> tuple[Path, dict[str, str]]:
    """Run pycolmap's own steps with their defaults, in a process of their own, as `ours` does."""
    script = f"import benchmarks.accuracy as a; a.plain_here({str(photos)!r}, {str(work)!r})"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(done.stdout)
    file = work / "transforms.json"
    return file, {frame["file_path"]: frame["file_path"] for frame in json.loads(file.read_text())["frames"]}


def plain_here(photos: str, work: str) -> None:
    """Reconstruct photos with pycolmap's defaults, and write the poses of the largest model to transforms.json."""
    folder = Path(work)
    folder.mkdir()
    database = folder / "database.db"
    pycolmap.extract_features(database, photos)
    pycolmap.match_exhaustive(database)
    models = pycolmap.incremental_mapping(database, photos, folder)
    frames = []
    for image in max(models.values(), key=lambda model: model.num_reg_images()).images.values():
        if image.has_pose:
            pose = np.eye(4)
            pose[:3] = image.cam_from_world().inverse().matrix()
            pose[:3, 1:3] *= -1  # OpenCV's axes to OpenGL's
            frames.append({"file_path": image.name, "transform_matrix": pose.tolist()})
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))


def row(name: str, errors: PoseErrors, photos: int, seconds: float) -> str:
    """Return a row of the table."""
    position, rotation = 100 * errors.positions, errors.rotations
    return (
        f"| {name} | {len(errors.names)} of {photos} | {np.median(position):.4f} % | {position.max():.4f} % | "
        f"{np.median(rotation):.3f}° | {rotation.max():.3f}° | {seconds:.0f} s |"
    )


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=48, help="number of photos of the street front")
    parser.add_argument("--width", type=int, default=640, help="px")
    parser.add_argument("--capture", type=Path, help="a folder with photos/ and truth.json instead of the street front")
    given = parser.parse_args()
    programs: dict[str, Callable[[Path, Path], tuple[Path, dict[str, str]]]] = {
        "`jobs.prepare`": ours,
        f"pycolmap {pycolmap.__version__}, defaults": plain,
    }
    with tempfile.TemporaryDirectory() as temporary:
        capture = given.capture or Path(temporary) / "street"
        if not given.capture:
            height = 2 * round(given.width * 9 / 32)
            print("Photographing the street front …", file=sys.stderr)
            subprocess.run(
                [
                    *(sys.executable, "-m", "jobs.facade", "--output", str(capture), "--photos", str(given.photos)),
                    *("--width", str(given.width), "--height", str(height)),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        number = sum(1 for _ in (capture / "photos").iterdir())
        print(f"# How exact poses are\n\nWritten by `python -m benchmarks.accuracy`.\n\n{number} photos; ", end="")
        print(f"{platform.machine()}, {os.cpu_count()} cores\n")
        print(
            "| program | registered | position, median | position, worst | rotation, median | rotation, worst | time |"
        )
        print("|---|---|---|---|---|---|---|")
        for place, (name, program) in enumerate(programs.items()):
            start = monotonic()
            transforms, sources = program(capture / "photos", Path(temporary) / f"work{place}")
            seconds = monotonic() - start
            print(row(name, compare_poses(capture / "truth.json", transforms, sources), number, seconds), flush=True)


if __name__ == "__main__":
    main()
