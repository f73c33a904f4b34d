"""The job `scale`: metres for a scene frame. `python -m jobs.scale --dataset DIR --given FILE --metres DIR`.

Writes `scene.json` (see `jobs.metric.scene`) and the measurements themselves as `given.json`, so that a later dataset
can be measured with them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import CliApp

from jobs import manifest, report
from jobs.errors import InvalidInput
from jobs.metric.given import Given
from jobs.metric.scene import SceneInMetres, percent
from jobs.options import ScaleOptions
from jobs.validation import first_complaint


class Job(ScaleOptions):
    """The command line of this job."""

    dataset: Path
    given: Path
    metres: Path
    earlier: Path | None = None
    frame: str = ""


def scale(
    dataset: Path, given: Path, metres: Path, options: ScaleOptions, earlier: Path | None = None, frame: str = ""
) -> None:
    """Write the folder `metres`.

    Args:
        dataset: a folder that `jobs.prepare` wrote.
        given: what people measured: a `Given` as JSON.
        metres: a folder, created if missing.
        options: of the stage.
        earlier: a folder that this job wrote for an earlier visit in the same scene frame.
        frame: the name of the scene frame, for the result's tags.

    Raises:
        InvalidInput: a file is damaged.
    """
    from jobs.metric.measure import measure

    timer = manifest.Timer()
    metres.mkdir(parents=True, exist_ok=True)
    known = read_scene(earlier / "scene.json") if earlier else None
    try:
        measurements = Given.model_validate_json(given.read_text())
    except ValidationError as error:
        raise InvalidInput(f"{given} does not hold valid measurements: {first_complaint(error)}.") from error
    with timer.step("scale"):
        scene = measure(dataset, measurements, known)
    for warning in scene.warnings:
        print(warning, flush=True)
    (metres / "scene.json").write_text(scene.model_dump_json(indent=2) + "\n")
    shutil.copyfile(given, metres / "given.json")
    manifest.write(metres / "scale.json", options, timer, {"warnings": list(scene.warnings)})
    report.emit(report.Figures("scale", {**figures(scene, measurements), **({"frame": frame} if frame else {})}))


def figures(scene: SceneInMetres, given: Given) -> dict[str, str | int | float]:
    """Return the figures that become tags of the asset."""
    own = sum(entry.used and entry.kind != "earlier visit" for entry in scene.entries) + len(given.areas)
    found: dict[str, str | int | float] = {"scale": scene.words, "measurements": own}
    if scene.scale:
        found |= {"metres_per_unit": round(scene.scale.metres, 6), "error": percent(scene.scale.error)}
    if check := scene.worst_check:
        found["check"] = check.words
    if left_out := [f"{entry.kind} {entry.name}" for entry in scene.entries if not entry.used]:
        found["left_out"] = ", ".join(left_out)[:400]
    return found


def read_scene(file: Path) -> SceneInMetres:
    """Read a `scene.json`.

    Raises:
        InvalidInput: it is missing or damaged.
    """
    try:
        return SceneInMetres.model_validate_json(file.read_text())
    except (OSError, ValidationError) as error:
        why = first_complaint(error) if isinstance(error, ValidationError) else error.strerror
        raise InvalidInput(f"{file} cannot be read ({why}). Run the stage scale again.") from error


def main() -> None:
    """Run the job of this command line."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    scale(job.dataset, job.given, job.metres, ScaleOptions.of(job), job.earlier, job.frame)


if __name__ == "__main__":
    report.run("scale", main)
