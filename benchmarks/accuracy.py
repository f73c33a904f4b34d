"""How exact poses are: `jobs.prepare` beside pycolmap with its own and nerfstudio's settings, where poses are known.

`python -m benchmarks.accuracy --truth FOLDER … > benchmarks/accuracy.md` prepares each set of photos with every
program, one after the other, and prints a table in Markdown. A folder holds `photos/` and `truth.json`, or it is one of
the Strecha sets, from github.com/openMVG/SfM_quality_evaluation: `images/` and `gt_dense_cameras/`. The built-in street
front is photographed for two more sets, whose principal points are in the middle of the photos, and off it.

With `--rows FILE`, finished rows are kept, and a run that was stopped continues with the next one. Rows are taken from
the file if they are of the same day, machine, photos, pycolmap and, for `jobs.prepare`, code.

`ns-process-data` calls the program `colmap`. Its settings are given to pycolmap here, which does the same work: one
OPENCV camera, and an adjustment with the principal point at the end.

Poses are compared after fitting the similarity between the camera centres. Positions in per cent are in terms of the
scene's size: the diagonal of the box about the true camera centres.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pycolmap
from PIL import Image

from tests.true_poses import PoseErrors, compare_poses

OFF = (10, 6)  # px, of the principal point from the middle, to the left and up
OURS, NERFSTUDIO = "`jobs.prepare`", "`ns-process-data`'s settings"
PROGRAMS = (OURS, "pycolmap", NERFSTUDIO)


def ours(photos: Path, work: Path) -> tuple[Path, dict[str, str]]:
    """Run `jobs.prepare` as the flow does; return its transforms.json, and the photo behind each of its pictures."""
    run("-m", "jobs.prepare", "--images", str(photos), "--dataset", str(work))
    images = json.loads((work / "dataset.json").read_text())["images"]
    return work / "transforms.json", {Path(image["file"]).name: image["source"] for image in images}


def theirs(photos: Path, work: Path, *, nerfstudio: bool) -> tuple[Path, dict[str, str]]:
    """Run pycolmap's own steps with their defaults, in a process of their own, as `ours` does."""
    call = f"a.theirs_here({str(photos)!r}, {str(work)!r}, nerfstudio={nerfstudio})"
    run("-c", f"import benchmarks.accuracy as a; {call}")
    file = work / "transforms.json"
    return file, {frame["file_path"]: frame["file_path"] for frame in json.loads(file.read_text())["frames"]}


def run(*arguments: str) -> None:
    """Run Python, and end with its output if it fails."""
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(done.stdout)


def theirs_here(photos: str, work: str, *, nerfstudio: bool) -> None:
    """Reconstruct photos with pycolmap, and write the poses of the largest model to transforms.json."""
    folder = Path(work)
    folder.mkdir()
    database = folder / "database.db"
    reader, mode = pycolmap.ImageReaderOptions(), pycolmap.CameraMode.AUTO
    mapping = pycolmap.IncrementalPipelineOptions()
    if nerfstudio:  # see run_colmap in nerfstudio/process_data/colmap_utils.py
        reader.camera_model, mode = "OPENCV", pycolmap.CameraMode.SINGLE
        mapping.ba_global_function_tolerance = 1e-6
    pycolmap.extract_features(database, photos, camera_mode=mode, reader_options=reader)
    pycolmap.match_exhaustive(database)
    models = pycolmap.incremental_mapping(database, photos, folder, mapping)
    model = max(models.values(), key=lambda model: model.num_reg_images())
    if nerfstudio:
        pycolmap.bundle_adjustment(model, pycolmap.BundleAdjustmentOptions(refine_principal_point=True))
    frames = []
    for image in model.images.values():
        if image.has_pose:
            pose = np.eye(4)
            pose[:3] = image.cam_from_world().inverse().matrix()
            pose[:3, 1:3] *= -1  # OpenCV's axes to OpenGL's
            frames.append({"file_path": image.name, "transform_matrix": pose.tolist()})
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))


def known(folder: Path, work: Path) -> tuple[Path, Path]:
    """Return the photos of a set, and the file with their true poses."""
    if (folder / "truth.json").exists():
        return folder / "photos", folder / "truth.json"
    frames = []
    for file in sorted((folder / "gt_dense_cameras").glob("*.camera")):
        # Rows: the camera matrix (3), three zeros, the rotation from camera to world (3), the centre, and the size.
        values = np.array(file.read_text().split(), float)
        pose = np.eye(4)
        pose[:3] = np.column_stack([values[12:21].reshape(3, 3) * [1, -1, -1], values[21:24]])
        frames.append({"file_path": file.stem, "transform_matrix": pose.tolist()})
    truth = work / f"{folder.name}.json"
    truth.write_text(json.dumps({"frames": frames}))
    return folder / "images", truth


def streets(work: Path, photos: int, width: int) -> list[Path]:
    """Photograph the street front; return two sets, with the principal point in the middle of the photos and off it."""
    height = 2 * round(width * 9 / 32)
    print("Photographing the street front …", file=sys.stderr)
    whole = work / "whole"
    size = ("--width", str(width + 2 * OFF[0]), "--height", str(height + 2 * OFF[1]))
    run("-m", "jobs.facade", "--output", str(whole), "--photos", str(photos), *size)
    sets = {"street front": OFF, "street front, principal point off the middle": (2 * OFF[0], 2 * OFF[1])}
    for name, (left, top) in sets.items():
        (work / name / "photos").mkdir(parents=True)
        (work / name / "truth.json").write_bytes((whole / "truth.json").read_bytes())
        for photo in (whole / "photos").iterdir():
            part = Image.open(photo).crop((left, top, left + width, top + height))
            part.save(work / name / "photos" / photo.name, quality=97, subsampling=0)
    return [work / name for name in sets]


def figures(errors: PoseErrors, photos: int, seconds: float, busy: float) -> str:
    """Return the figures of a row of the table."""
    position, rotation = 1000 * errors.size * errors.positions, errors.rotations
    return (
        f"{len(errors.names)} of {photos} | {np.median(position):.1f} mm, {position.max():.1f} mm | "
        f"{100 * np.median(errors.positions):.4f} %, {100 * errors.positions.max():.4f} % | "
        f"{np.median(rotation):.3f}°, {rotation.max():.3f}° | {busy:.0f} s | {seconds:.0f} s |"
    )


def conditions(program: str, photos: Path) -> dict[str, Any]:
    """Return what a row holds for: the day, the machine, the photos, and the code that runs."""
    files = sorted(Path("jobs").rglob("*.py")) if program == OURS else []
    code = [inspect.getsource(theirs_here).encode(), *(file.read_bytes() for file in files)]
    return {
        "day": str(datetime.now(UTC).date()),
        "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
        "pycolmap": pycolmap.__version__,
        "photos": [[photo.name, photo.stat().st_size] for photo in sorted(photos.iterdir())],
        "code": hashlib.sha256(b"".join(code)).hexdigest(),
    }


def measure(program: str, photos: Path, truth: Path, out: Path) -> dict[str, Any]:
    """Return the figures of a program on a set, and the load of the machine before it ran."""
    load, start, used = os.getloadavg()[0], monotonic(), cpu_time()
    found = ours(photos, out) if program == OURS else theirs(photos, out, nerfstudio=program == NERFSTUDIO)
    seconds, busy = monotonic() - start, cpu_time() - used
    total = len(json.loads(truth.read_text())["frames"])
    return {"figures": figures(compare_poses(truth, *found), total, seconds, busy), "load": load}


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, nargs="*", default=[], help="folders with photos and their true poses")
    parser.add_argument("--photos", type=int, default=48, help="number of photos of the street front; 0 for none of it")
    parser.add_argument("--width", type=int, default=640, help="of these photos, px")
    parser.add_argument("--rows", type=Path, help="file for finished rows, with which a stopped run continues")
    given = parser.parse_args()
    kept = given.rows.read_text().splitlines() if given.rows and given.rows.exists() else []
    rows, loads = [json.loads(line) for line in kept], []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        sets = [*given.truth, *(streets(work, given.photos, given.width) if given.photos else [])]
        print("# How exact poses are\n\nWritten by `python -m benchmarks.accuracy`. Errors: median, worst.\n")
        print("| set | program | registered | position | of the scene's size | rotation | processor time | time |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for number, folder in enumerate(sets):
            photos, truth = known(folder, work)
            for program in PROGRAMS:
                row = {"set": folder.name, "program": program, **conditions(program, photos)}
                same = [each for each in rows if row.items() <= each.items()]
                row = same[-1] if same else row | measure(program, photos, truth, work / f"{number} {program}")
                if given.rows and not same:
                    with given.rows.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                loads.append(row["load"])
                print(f"| {folder.name} | {program} | {row['figures']}", flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores; load {min(loads):.1f} to {max(loads):.1f}"
    print(f"\n{datetime.now(UTC).date()}; {machine}; pycolmap {pycolmap.__version__}.")


def cpu_time() -> float:
    """Return the CPU time of all programs that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
