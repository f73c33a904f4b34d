"""The job `prepare`: photos or a video to a nerfstudio dataset, by structure from motion.

`python -m jobs.prepare --images FOLDER_OR_VIDEO --dataset FOLDER` writes `images/` (and `images_2/` … if they are
large), `colmap/sparse/0/`, `sparse_pc.ply`, then `transforms.json`, and `dataset.json` last.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_settings import CliApp

from jobs import manifest, media, report
from jobs.errors import GateRefused, InvalidInput, JobFailed, is_disk_full
from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.pictures import panorama, reading
from jobs.pictures.reading import Picture
from jobs.sfm import verdict
from jobs.text import printable

if TYPE_CHECKING:
    from jobs.sfm.dataset import Written
    from jobs.sfm.outcome import Outcome
    from jobs.sfm.pose import Pose
    from jobs.sfm.registration import Fit

_BYTES_PER_FRAME = 4_000_000  # of the dataset, all sizes of a video's frame and its features together
_LONGEST_NOTICE = 500  # characters: it becomes a tag
_OURS = (
    *("transforms.json", "dataset.json", "sparse_pc.ply", "colmap", ".work-*"),
    *("images", "images_[0-9]*", "masks", "masks_[0-9]*"),
)
"""Files that an earlier run of this job may have left in a dataset's folder."""


class Job(PrepareOptions):
    """The command line of this job."""

    images: Path
    dataset: Path
    reference: dict[str, tuple[Path, ...]] = Field({}, description="earlier datasets by their scene frame, as JSON")
    left_out: str = Field("", description="what was left out before the photos became a capture, in words")


def prepare(
    images: Path,
    dataset: Path,
    options: PrepareOptions,
    references: Mapping[str, Sequence[Path]] = MappingProxyType({}),
    left_out: str = "",
) -> None:
    """Write a dataset, in the scene frame of the first reference whose photos show the same things.

    If there is none, the dataset begins a scene frame: mean camera at the origin, mean up of the cameras as +Z, all
    cameras within ±1. The COLMAP model in `colmap/sparse/0` is in the same scene frame, so `applied_transform` is the
    identity and `applied_scale` is 1.

    Args:
        images: a folder of photos or videos, or one video.
        dataset: folder to write; files that an earlier run of this job left there are removed.
        options: all options of the stage.
        references: earlier datasets of the scene, by the name of their scene frame.
        left_out: what was left out before the photos became a capture, in words, for `dataset.json`.

    Raises:
        InvalidInput: the photos or the video cannot be read.
        GateRefused: too few of the photos could be registered, or they must fit a reference and do not;
            `dataset.json` says which photos and why.
        JobFailed: the disk is full.
    """
    if dataset.resolve() == images.resolve() or dataset.resolve() in images.resolve().parents:
        raise InvalidInput(
            f"dataset {dataset} must not be the folder of the photos, nor contain it: datasets are overwritten. "
            "Choose another folder."
        )
    timer = Timer()
    with timer.step("scan"):
        capture = media.scan(images, options.min_registered_images, keep_poses=options.poses == "keep")
        given = _read_poses(images, capture)
    dataset.mkdir(parents=True, exist_ok=True)
    for old in (path for pattern in _OURS for path in dataset.glob(pattern)):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    _check_room(capture, dataset, options)
    remarks = _Remarks()
    with _room_on_disk(dataset), TemporaryDirectory(dir=dataset, prefix=".work-") as temporary:
        work = Path(temporary)
        grey = work / "grey"
        grey.mkdir()
        with timer.step("reading"):
            pictures, unreadable, videos = reading.read(capture, dataset, grey, options)
        remarks.add(_selection(replace(capture, unreadable=unreadable), pictures, videos, left_out))
        _check_number(images, pictures, unreadable, options, of_video=bool(videos))
        remarks.add(verdict.of_bars(pictures))
        if given:
            result = _keep_poses(pictures, given, grey, work, options, timer)
        else:
            pictures, result = _structure_from_motion(pictures, grey, work, options, timer, sequence=bool(videos))
        pictures = reading.hide_in_dataset(pictures, result.overlays, dataset)
        remarks.add(verdict.of_overlays(pictures, result), notice=True)
        remarks.add(result.without_exif)
        remarks.add(result.lenses)
        remarks.add(verdict.of_crops(pictures, result), notice=True)
        remarks.add(verdict.of_given(result))
        remarks.add(verdict.other_places(pictures, result), notice=True)
        remarks.add(verdict.of_masks(pictures), notice=True)
        remarks.add(verdict.of_poor_quality(pictures), notice=True)
        content: dict[str, Any] = {
            "kind": "video" if videos else "photos",
            "found": capture.found,
            "selection": "",
            "unreadable": len(unreadable),
            "duplicates": len(capture.duplicates),
            **_outcome(pictures, result),
        }
        files = {
            "videos": videos,
            "unreadable_files": unreadable,
            "duplicate_files": capture.duplicates,
            "unused_files": capture.unused,
            "left_out_files": capture.left_out,
            "images": [_fate(picture, result) for picture in pictures],  # `_write` renames the model's pictures
        }
        needed = max(options.min_registered_images, options.min_registered_share * len(pictures))
        frame, fit, written = "new", None, None
        if enough := len(result.registered) >= needed and not result.confused:
            if references and options.frame != "new":
                from jobs.sfm import registration

                assert result.search and result.model
                with timer.step("frame"):
                    frame, fit = registration.fit_any(result.search, result.model, references, grey)
            content["frame"] = {"reference": frame, **(fit.figures() if fit else {})}
        if enough and (fit or not references or options.frame != "keep"):
            with timer.step("writing"):
                written = _write(result, fit, pictures, dataset)
            if given and (metres := _metres_per_unit(capture, given, pictures, written.transforms)):
                content["poses"]["metres_per_unit"] = metres
            content |= _describe(written, remarks)
    content["selection"] = " ".join(remarks.selection)
    manifest.write(dataset / "dataset.json", options, timer, content | files)
    if not enough:
        instead = next(iter(capture.unused), None) if capture.photos else None
        hint = f" Or give the video beside them alone: {printable(instead)}." if instead else ""
        raise GateRefused(verdict.refusal(images, pictures, result, options) + hint)
    if not written:
        raise GateRefused(verdict.no_frame(images, references))
    report.emit(report.Figures("prepare", _summary(pictures, result, written, frame, fit, remarks)))


@dataclass
class _Remarks:
    """Sentences about a dataset. They are printed as they are added.

    Args:
        selection: those for `dataset.json`.
        notices: those that users should notice, for a tag.
    """

    selection: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def add(self, words: str | None, *, notice: bool = False, kept: bool = True) -> None:
        """Print sentences, if there are any, and keep them for `dataset.json` and for the tag."""
        if words:
            print(words, flush=True)
            self.selection += [words] * kept
            self.notices += [words] * notice


def _check_number(
    images: Path, pictures: Sequence[Picture], unreadable: Mapping[str, str], options: PrepareOptions, *, of_video: bool
) -> None:
    """Raise InvalidInput if there are too few pictures. The text says why up to five files cannot be read."""
    if len(pictures) < options.min_registered_images:
        what = f"frame{'s' * (len(pictures) != 1)} in the video" if of_video else "photos that can be read"
        why = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:5])
        raise InvalidInput(
            f"{images}: {len(pictures)} {what}, {options.min_registered_images} are needed. {why}".strip()
        )


def _write(result: Outcome, fit: Fit | None, pictures: Sequence[Picture], dataset: Path) -> Written:
    """Write the model, and `transforms.json` after everything else."""
    from jobs.sfm.dataset import write_model

    model = fit.model if fit else result.model
    assert model
    written = write_model(model, {picture.features: picture for picture in pictures}, dataset, fit)
    (dataset / "transforms.json").write_text(json.dumps(written.transforms, indent=2) + "\n")
    return written


def _describe(written: Written, remarks: _Remarks) -> dict[str, Any]:
    """Return the figures of a written dataset for `dataset.json`, and add remarks about overlap and light."""
    content: dict[str, Any] = {}
    if written.overlap:
        content["overlap"] = written.overlap.figures()
        remarks.add(str(written.overlap), notice=True)
    if written.light:
        content["light"] = written.light._asdict()
        remarks.add(f"{str(written.light).capitalize()}.", kept=written.light.differs)
    return content | written.figures


def _summary(
    pictures: Sequence[Picture], result: Outcome, written: Written, frame: str, fit: Fit | None, remarks: _Remarks
) -> dict[str, str | int | float]:
    """Return the main figures of the dataset, which become tags."""
    summary: dict[str, str | int | float] = {
        "registered": f"{len(result.registered)}/{len(pictures)}",
        "reprojection_error_px": written.figures["reprojection_error_px"],
        "points": written.figures["points"],
        "frame": frame,
    }
    if remarks.notices:
        summary["notice"] = textwrap.shorten(" ".join(remarks.notices), _LONGEST_NOTICE, placeholder=" …")
    if written.light and written.light.differs:
        summary["light"] = str(written.light)
    if fit:
        summary |= {"frame_inliers": fit.inliers, "frame_residual": round(100 * fit.residual, 3)}
    return summary


def _selection(capture: media.Capture, pictures: Sequence[Picture], videos: Sequence[object], left_out: str) -> str:
    """Return which of the photos or videos are used, and what is left out and why, in words."""
    sources = {picture.source for picture in pictures}
    photos = {name: file for name, file in capture.photos.items() if videos or name in sources}
    selected = replace(capture, photos=photos).line([left_out] if left_out else [])
    if whole := sum(picture.view == 0 for picture in pictures):
        selected += f" {whole} equirectangular picture{'s were' if whole > 1 else ' was'} cut into "
        selected += f"{len(panorama.ROTATIONS)} views each."
    return selected


def _outcome(pictures: Sequence[Picture], result: Outcome) -> dict[str, Any]:
    """Return what structure from motion found, for `dataset.json`."""
    sources = {picture.features: picture.source for picture in pictures}
    found: dict[str, Any] = {
        "used": len(pictures),
        "masked": sum(picture.masked for picture in pictures),
        "registered": len(result.registered),
        "registered_share": round(len(result.registered) / len(pictures), 4),
        "models": result.models,
        "matching": ", then ".join(result.matching),
        "mapper": result.mapper,
        "principal_points_refined": result.refined,
        "exif_focal_lengths_ignored": result.without_exif is not None,
        "only_turned": result.only_turned,
        "places_alike": [[sources[name] for name in sorted(place)] for place in result.look_alikes],
    }
    return found | ({"poses": result.given.figures()} if result.given else {})


# structure from motion


def _structure_from_motion(
    pictures: list[Picture], grey: Path, work: Path, options: PrepareOptions, timer: Timer, *, sequence: bool
) -> tuple[list[Picture], Outcome]:
    """Find the poses. Return the pictures, of which some grey ones got another size, and the outcome."""
    from jobs.sfm.layout import unify
    from jobs.sfm.reconstruction import reconstruct
    from jobs.sfm.views import view_of

    pictures = unify(pictures, grey)
    views = [view_of(picture) for picture in pictures]
    return pictures, reconstruct(grey, views, work, options, timer, sequence=sequence)


def _read_poses(images: Path, capture: media.Capture) -> dict[str, Pose]:
    """Return the poses that are to be kept, by photo."""
    if not capture.poses:
        return {}
    from jobs.sfm.pose import belonging_to
    from jobs.sfm.posefile import read_poses

    poses = read_poses(capture.poses)
    file = next(iter(capture.poses))
    found = belonging_to(poses, capture.photos, PurePosixPath(file).parent)
    if not found:
        named, photo = (printable(name) for name in (poses[0].name, next(iter(capture.photos))))
        raise InvalidInput(
            f"{images}: none of the poses in {printable(file)} belongs to a photo: it names {named}, and a photo is "
            f"named {photo}. Give the photos the names in that file, or leave out prepare.poses keep."
        )
    return found


def _metres_per_unit(
    capture: media.Capture, given: Mapping[str, Pose], pictures: Sequence[Picture], transforms: Mapping[str, Any]
) -> float | None:
    """Return the metres per unit of a new dataset, if its poses came in metres."""
    from jobs.sfm.posefile import metres_per_unit

    sources = {f"images/{picture.file}": picture.source for picture in pictures}
    matrices = {sources[frame["file_path"]]: frame["transform_matrix"] for frame in transforms["frames"]}
    places = {photo: [row[3] for row in matrix[:3]] for photo, matrix in matrices.items()}
    return metres_per_unit(capture.poses, given, places)


def _keep_poses(
    pictures: list[Picture],
    given: Mapping[str, Pose],
    grey: Path,
    work: Path,
    options: PrepareOptions,
    timer: Timer,
) -> Outcome:
    """Check and refine the given poses, by photo. Pictures without a pose that fits them are left out."""
    from jobs.sfm import posed
    from jobs.sfm.pose import by_lens
    from jobs.sfm.views import view_of

    lenses = by_lens({photo: pose.lens for photo, pose in given.items()})
    views, poses, without = [], {}, {}
    for picture in pictures:
        name, (width, height) = picture.features, picture.size
        pose = given.get(picture.source)
        if pose is None:
            without[name] = "it has no pose"
        elif picture.view is not None or abs((pose.lens.shape or width / height) * height - width) > 0.02 * width + 1:
            without[name] = "its pose is for a picture of another shape"
        else:
            number, lens = lenses[picture.source]
            views.append(replace(view_of(picture), camera=f"{picture.size} {number}", lens=lens))
            poses[name] = pose.matrix
    return posed.triangulate(grey, views, poses, without, work, options, timer)


def _fate(picture: Picture, result: Outcome) -> dict[str, Any]:
    """Return what became of a picture, for `dataset.json`."""
    fate: dict[str, Any] = {"file": f"images/{picture.file}", "source": picture.source}
    fate |= {"light": round(picture.light, 1), "sharpness": round(picture.sharpness, 4)}
    if tags := picture.tags.known():
        fate["tags"] = tags
    if picture.features in result.registered:
        return {**fate, "registered": True}
    return {**fate, "registered": False, "reason": result.why_not(picture.features)}


# disk


def _check_room(capture: media.Capture, dataset: Path, options: PrepareOptions) -> None:
    """Refuse to start if the disk is too small, by a rough upper estimate."""
    photos = sum(3 * file.stat().st_size + _BYTES_PER_FRAME for file in capture.photos.values())
    needed = photos + (options.num_frames * _BYTES_PER_FRAME if capture.videos else 0)
    free = shutil.disk_usage(dataset).free
    if free < needed:
        raise JobFailed(
            f"the disk of {dataset} has {free / 1e9:.1f} GB free and about {needed / 1e9:.1f} GB are needed. "
            "Make room, or put the dataset elsewhere."
        )


@contextmanager
def _room_on_disk(dataset: Path) -> Iterator[None]:
    """Turn a full disk into `JobFailed`."""
    try:
        yield
    except Exception as error:  # COLMAP's database has no class for this error
        if is_disk_full(error) or "disk is full" in str(error) or shutil.disk_usage(dataset).free < 1_000_000:
            raise JobFailed(f"the disk is full: make room at {dataset}, and run again ({error}).") from error
        raise


def main() -> None:
    """Run the job."""
    # The work of OpenMP's threads is divided differently in each run, which changes a match once in fifty runs. COLMAP
    # has threads of its own.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    prepare(job.images, job.dataset, PrepareOptions.of(job), job.reference, job.left_out)


if __name__ == "__main__":
    report.run("prepare", main)
