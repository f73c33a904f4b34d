"""The job `prepare`: photos or a video to a dataset of nerfstudio, by structure from motion.

`python -m jobs.prepare --images FOLDER_OR_VIDEO --dataset FOLDER` writes `images/` (and `images_2/` … where nerfstudio
will ask for them), `colmap/sparse/0/`, `sparse_pc.ply`, then `transforms.json`, and `dataset.json` last.
The format: https://docs.nerf.studio/quickstart/data_conventions.html
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field
from pydantic_settings import CliApp

from jobs import geometry, manifest, media, memory, ply, report
from jobs.errors import GateRefused, InvalidInput, JobFailed
from jobs.manifest import Timer
from jobs.options import PrepareOptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from jobs.sfm.reconstruction import Result
    from jobs.sfm.registration import Fit

_AUTO_RESOLUTION = 1600  # px: nerfstudio takes images_2, images_4 … until the longer side is at most this
_QUALITY = 95
_BYTES_PER_FRAME = 4_000_000  # of the dataset, all sizes of a video's frame and its features together
_OURS = ("transforms.json", "dataset.json", "sparse_pc.ply", "colmap", "images", "images_[0-9]*", ".work-*")


class Job(PrepareOptions):
    """The command line of this job."""

    images: Path
    dataset: Path
    reference: dict[str, tuple[Path, ...]] = Field(
        {}, description="earlier datasets of the scene by the frame that they are in, as JSON"
    )
    left_out: str = Field("", description="what was left out before the photos became a capture, in words")


@dataclass(frozen=True)
class _Picture:
    """A picture of the dataset: `file` in images/, made from `source`, `size` in px (width, height) as written."""

    file: str
    source: str
    size: tuple[int, int]
    feature_size: tuple[int, int]
    model: str
    focal: float | None

    @property
    def features(self) -> str:
        """Name of the grey picture in which features are found."""
        return f"{Path(self.file).stem}.pgm"


def prepare(
    images: Path,
    dataset: Path,
    options: PrepareOptions,
    references: Mapping[str, Sequence[Path]] = MappingProxyType({}),
    left_out: str = "",
) -> None:
    """Make a dataset in the scene frame: that of the first of the references whose photos show the same things.

    Where there is none, it begins one: mean camera at the origin, mean camera's up as +Z, cameras within ±1.
    The COLMAP model in `colmap/sparse/0` is moved into that frame too, so that `applied_transform` is the identity and
    `applied_scale` 1: poses, points and COLMAP's files all agree.

    Args:
        images: a folder of photos or videos, or one video.
        dataset: folder to write; what an earlier run of this job left there is removed.
        options: all of them.
        references: earlier datasets of the scene, by the name of the frame that they are in.
        left_out: what was left out before the photos became a capture, in words; `dataset.json` tells it, too.

    Raises:
        InvalidInput: the photos or the video cannot be read.
        GateRefused: too few of the photos could be placed, or they fit no reference and must; `dataset.json` says which
            and why.
        JobFailed: the disk is full.
    """
    if dataset.resolve() == images.resolve() or dataset.resolve() in images.resolve().parents:
        raise InvalidInput(f"dataset {dataset} must not be the folder of the photos, nor hold it: it is written anew.")
    timer = Timer()
    with timer.step("scan"):
        capture = media.scan(images, options.min_registered_images)
    dataset.mkdir(parents=True, exist_ok=True)
    for old in (path for pattern in _OURS for path in dataset.glob(pattern)):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    _check_room(capture, dataset, options)
    with _room_on_disk(dataset), TemporaryDirectory(dir=dataset, prefix=".work-") as temporary:
        work = Path(temporary)
        grey = work / "grey"
        grey.mkdir()
        with timer.step("reading"):
            pictures, unreadable, videos = _read(capture, dataset, grey, options)
        sources = {picture.source for picture in pictures}
        used = capture if videos else replace(capture, photos={n: f for n, f in capture.photos.items() if n in sources})
        selected = replace(used, unreadable=unreadable).line([left_out] if left_out else [])
        print(selected, flush=True)
        if len(pictures) < options.min_registered_images:
            what = f"frame{'s' * (len(pictures) != 1)} in the video" if videos else "photos that can be read"
            why = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:5])
            raise InvalidInput(
                f"{images}: {len(pictures)} {what}, {options.min_registered_images} are needed. {why}".strip()
            )
        result = _structure_from_motion(pictures, grey, work, options, timer, sequence=bool(videos))
        placed = result.registered
        content: dict[str, Any] = {
            "kind": "video" if videos else "photos",
            "found": capture.found,
            "selection": selected,
            "unreadable": len(unreadable),
            "duplicates": len(capture.duplicates),
            "used": len(pictures),
            "registered": len(placed),
            "registered_share": round(len(placed) / len(pictures), 4),
            "models": result.models,
            "matching": result.matching,
            "mapper": result.mapper,
            "only_turned": result.only_turned,
        }
        details = {
            "videos": videos,
            "unreadable_files": unreadable,
            "duplicate_files": capture.duplicates,
            "unused_files": capture.unused,
            "left_out_files": capture.left_out,
            "images": [_fate(picture, result) for picture in pictures],
        }
        figures: dict[str, Any] = {}
        needed = max(options.min_registered_images, options.min_registered_share * len(pictures))
        name, fit = "new", None
        if enough := len(placed) >= needed:
            if references and options.frame != "new":
                with timer.step("frame"):
                    name, fit = _fit_any(result, references, grey, options)
            content["frame"] = {"reference": name, **({} if fit is None else fit.figures())}
        if accepted := enough and (fit is not None or not references or options.frame != "keep"):
            with timer.step("writing"):
                model = fit.model if fit else result.model
                transforms, figures = _write_model(model, {p.features: p for p in pictures}, dataset, fit)
                (dataset / "transforms.json").write_text(json.dumps(transforms, indent=2) + "\n")
    manifest.write(dataset / "dataset.json", options, timer, {**content, **figures, **details})
    if not enough:
        raise GateRefused(_refusal(images, pictures, result, options))
    if not accepted:
        raise GateRefused(
            f"{images}: the photos do not fit into the scene's frame, and had to (frame=keep): too little of what they "
            f"show was found again in the photos of {', '.join(references)}. Take photos that show again what the "
            "earlier ones show, with some from the same spots and in similar light; or let them begin a frame of their "
            "own (frame=auto), in which earlier camera paths do not fit."
        )
    told: dict[str, str | int | float] = {
        "registered": f"{len(placed)}/{len(pictures)}",
        "reprojection_error_px": figures["reprojection_error_px"],
        "points": figures["points"],
        "frame": name,
    }
    if fit is not None:
        told |= {"frame_inliers": fit.inliers, "frame_residual": round(100 * fit.residual, 3)}
    report.emit(report.Result("prepare", told))


# reading


def _read(
    capture: media.Capture, dataset: Path, grey: Path, options: PrepareOptions
) -> tuple[list[_Picture], dict[str, str], list[dict[str, Any]]]:
    """Write the capture's pictures; with them come the files that cannot be read and why, and each video's facts."""
    if capture.videos:
        pictures, videos = _read_videos(capture, dataset, grey, options)
        return pictures, capture.unreadable, videos
    pictures, broken = _read_photos(capture, dataset, grey, options)
    return pictures, {**capture.unreadable, **broken}, []


def _read_photos(
    capture: media.Capture, dataset: Path, grey: Path, options: PrepareOptions
) -> tuple[list[_Picture], dict[str, str]]:
    """Write every photo that decodes; the others' reasons by name."""

    def read(item: tuple[int, tuple[str, Path]]) -> _Picture | tuple[str, str]:
        number, (name, file) = item
        try:
            with room.take(media.bytes_to_decode(file)):
                photo = media.read_photo(file)
                target = dataset / "images" / f"frame_{number:05d}.jpg"
                return _write_picture(photo, name, target, grey, options, file if photo.verbatim else None)
        except InvalidInput as error:
            return name, str(error)

    room = memory.Room(memory.available() // 2)

    read_or_not = list(_parallel(read, list(enumerate(capture.photos.items(), 1)), len(capture.photos)))
    pictures = [item for item in read_or_not if isinstance(item, _Picture)]
    return pictures, dict(item for item in read_or_not if not isinstance(item, _Picture))


def _read_videos(
    capture: media.Capture, dataset: Path, grey: Path, options: PrepareOptions
) -> tuple[list[_Picture], list[dict[str, Any]]]:
    """Write the sharpest frames, shared out among several videos by their lengths; and the facts of each video."""
    times = {name: media.frame_times(file) for name, file in capture.videos.items()}
    seconds = {name: frames[-1] if frames else 0.0 for name, frames in times.items()}
    whole = sum(seconds.values()) or 1.0
    shares = {name: max(1, round(options.num_frames * length / whole)) for name, length in seconds.items()}
    total = sum(min(share, len(times[name])) for name, share in shares.items())

    def frames() -> Iterator[tuple[int, str, media.Frame]]:
        number = 0
        for name, file in capture.videos.items():
            for frame in media.sharpest_frames(file, times[name], shares[name]):
                number += 1
                yield number, name, frame

    def write(item: tuple[int, str, media.Frame]) -> _Picture:
        number, name, frame = item
        photo = media.Photo(frame.image, model=name, focal=None, verbatim=False)
        target = dataset / "images" / f"frame_{number:05d}.jpg"
        return _write_picture(photo, f"{name}#t={frame.time:.3f}", target, grey, options, None)

    pictures = list(_parallel(write, frames(), total))
    taken = Counter(picture.source.partition("#t=")[0] for picture in pictures)
    facts = [
        {"file": name, "frames": len(times[name]), "seconds": round(seconds[name], 3), "taken": taken[name]}
        for name in capture.videos
    ]
    return pictures, facts


def _parallel(do: Callable[[Any], Any], items: Iterable[Any], total: int) -> Iterator[Any]:
    """`map` on all cores, in order, with progress, and few items ahead: a video's frames must not pile up in memory."""
    meter = report.Meter("prepare:reading", total)
    threads = max(2, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Any] = []
        done = 0
        for item in items:
            waiting.append(pool.submit(do, item))
            if len(waiting) > threads:
                yield waiting.pop(0).result()
                done += 1
                meter.update(min(done, total))
        for future in waiting:
            yield future.result()
            done += 1
            meter.update(min(done, total))


def _write_picture(
    photo: media.Photo, source: str, target: Path, grey: Path, options: PrepareOptions, verbatim: Path | None
) -> _Picture:
    """Write a picture for training, its pyramid, and a grey one for structure from motion."""
    image = photo.image
    shades = media.grey(image, options.feature_image_size)
    shades.save(grey / f"{target.stem}.pgm")

    written = _shrunk(image, options.downscale_factor)
    target.parent.mkdir(exist_ok=True)
    if verbatim and options.downscale_factor == 1:
        shutil.copyfile(verbatim, target)
    else:
        written.save(target, quality=_QUALITY)
    level, small = 1, written
    while max(written.size) / level > _AUTO_RESOLUTION:
        level, small = level * 2, _shrunk(small, 2)
        folder = target.parent.with_name(f"images_{level}")
        folder.mkdir(exist_ok=True)
        small.save(folder / target.name, quality=_QUALITY)
    return _Picture(target.name, source, written.size, shades.size, photo.model, photo.focal)


def _shrunk(image: Image, factor: int) -> Image:
    """Smaller by a whole factor; odd sides are rounded down, as nerfstudio does with its cameras."""
    from PIL.Image import Resampling

    if factor == 1:
        return image
    size = (max(1, image.width // factor), max(1, image.height // factor))
    return image.resize(size, Resampling.LANCZOS, reducing_gap=2.0)


# structure from motion


def _structure_from_motion(
    pictures: list[_Picture], grey: Path, work: Path, options: PrepareOptions, timer: Timer, *, sequence: bool
) -> Result:
    from jobs.sfm import reconstruction as sfm

    # Photos share intrinsics by size, camera and zoom; one whose EXIF is lost is of the commonest of its size.
    known = Counter((p.size, p.model, p.focal) for p in pictures if p.model or p.focal)
    commonest = {size: (model, focal) for (size, model, focal), _ in reversed(known.most_common())}
    views = []
    for p in pictures:
        model, focal = (p.model, p.focal) if p.model or p.focal else commonest.get(p.size, ("", None))
        views.append(sfm.View(p.features, *p.feature_size, camera=f"{p.size} {model} {focal}", focal=focal))
    return sfm.reconstruct(grey, views, work, options, timer, sequence=sequence)


def _fit_any(
    result: Result, references: Mapping[str, Sequence[Path]], grey: Path, options: PrepareOptions
) -> tuple[str, Fit | None]:
    """The frame of the first reference that the reconstruction fits, and how; "new" if there is none."""
    from jobs.sfm import registration as frame

    datasets = [(name, dataset) for name, members in references.items() for dataset in members]
    for number, (name, dataset) in enumerate(datasets, 1):
        try:
            reference = frame.Reference(dataset, options.feature_image_size)
        except (OSError, ValueError) as error:  # registered by a person, in another form
            print(f"{name} has no photos and points to fit to: {error}")
            continue
        assert result.search
        if found := frame.fit(result.search, result.model, reference, grey, f"reference{number}-"):
            return name, found
    return "new", None


def _fate(picture: _Picture, result: Result) -> dict[str, Any]:
    fate: dict[str, Any] = {"file": f"images/{picture.file}", "source": picture.source}
    if picture.features in result.registered:
        return {**fate, "registered": True}
    return {**fate, "registered": False, "reason": result.why_not(picture.features)}


def _refusal(images: Path, pictures: list[_Picture], result: Result, options: PrepareOptions) -> str:
    if result.only_turned:
        return (
            f"{images}: the photos have no parallax: they match well, but all were taken from one spot, by turning "
            "there. Such photos do not show how far away anything is. Walk while you take them: a step or more to the "
            "side between photos, past the place or around it, each overlapping the last by two thirds."
        )
    registered = len(result.registered)
    lost = [picture for picture in pictures if picture.features not in result.registered]
    named = "; ".join(f"{picture.source}: {result.why_not(picture.features)}" for picture in lost[:5])
    return (
        f"{images}: only {registered} of {len(pictures)} pictures could be placed "
        f"({100 * registered / len(pictures):.0f} %; needed: {100 * options.min_registered_share:.0f} % and at least "
        f"{options.min_registered_images}). Take more photos: each thing should be in at least three of them, "
        "neighbours should overlap by two thirds, taken from different places rather than turning on the spot; hold "
        "still (no blur), in even light, and avoid glass, mirrors and blank walls. "
        f"Not placed: {named}{' …' if len(lost) > 5 else ''}."
    )


# writing


def _write_model(
    model: Any, pictures: dict[str, _Picture], dataset: Path, fit: Fit | None
) -> tuple[dict[str, Any], dict[str, float | int | bool]]:
    """Write COLMAP's model and the point cloud in the scene frame, in px of the written pictures (`pictures` by grey
    picture's name); return the content of transforms.json and the figures."""
    from jobs.sfm import reconstruction as sfm

    meter = report.Meter("prepare:writing", 4)
    scales = {}
    for image in model.images.values():
        picture, camera = pictures[image.name], model.cameras[image.camera_id]
        if image.camera_id not in scales:
            scales[image.camera_id] = np.array(picture.size) / (camera.width, camera.height)
            camera.rescale(*picture.size)
        image.name = picture.file
        if (scales[image.camera_id] != 1).any():
            for point in image.points2D:
                point.xy = point.xy * scales[image.camera_id]
    meter.update(1)
    model.transform(fit.sim3d() if fit else _scene_from_model(model))
    model.update_point_3d_errors()
    model.extract_colors_for_all_images(dataset / "images")
    meter.update(2)
    folder = dataset / "colmap" / "sparse" / "0"
    folder.mkdir(parents=True)
    model.write(folder)
    _write_points(model, dataset / "sparse_pc.ply")
    meter.update(3)
    transforms = _transforms(model)
    figures = {
        "reprojection_error_px": round(model.compute_mean_reprojection_error(), 4),
        "points": model.num_points3D(),
        "track_length": round(model.compute_mean_track_length(), 3),
        "cameras": len({image.camera_id for image in model.images.values() if image.has_pose}),
        "gpu": sfm.gpu(),
    }
    meter.update(4)
    return transforms, figures


def _scene_from_model(model: Any) -> Any:
    """The similarity that brings the model into the scene frame.

    The same as nerfstudio's `auto_orient_and_center_poses` with "up" and "poses" and its `auto_scale_poses`.
    """
    import pycolmap

    poses = np.array([image.cam_from_world().inverse().matrix() for image in model.images.values() if image.has_pose])
    up = -poses[:, :, 1].mean(axis=0)  # COLMAP's cameras look along +Z with Y down
    rotation = geometry.rotation_between(up, [0.0, 0.0, 1.0])
    centers = (poses[:, :, 3] - poses[:, :, 3].mean(axis=0)) @ rotation.T
    scale = 1 / np.abs(centers).max()
    return pycolmap.Sim3d(scale, pycolmap.Rotation3d(rotation), -scale * rotation @ poses[:, :, 3].mean(axis=0))


def _transforms(model: Any) -> dict[str, Any]:
    """The content of transforms.json: OpenGL camera axes, scene frame; intrinsics of each frame where they differ."""
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    cameras = {image.camera_id: _intrinsics(model.cameras[image.camera_id]) for image in images}
    shared = next(iter(cameras.values())) if len(cameras) == 1 else {}
    frames = []
    for image in images:
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        pose[:3, 1:3] *= -1  # OpenCV's axes to OpenGL's: y up, z backward
        frame = {"file_path": f"images/{image.name}", "transform_matrix": pose.tolist(), "colmap_im_id": image.image_id}
        frames.append(frame if shared else {**frame, **cameras[image.camera_id]})
    return {
        "camera_model": "OPENCV",
        **shared,
        "applied_transform": np.eye(4)[:3].tolist(),
        "applied_scale": 1.0,
        "ply_file_path": "sparse_pc.ply",
        "frames": frames,
    }


def _intrinsics(camera: Any) -> dict[str, float | int]:
    """A COLMAP camera (OPENCV or SIMPLE_RADIAL) in nerfstudio's keys, px."""
    extra = dict(zip(("k1", "k2", "p1", "p2"), camera.params[camera.extra_params_idxs()], strict=False))
    return {
        "w": camera.width,
        "h": camera.height,
        "fl_x": float(camera.focal_length_x),
        "fl_y": float(camera.focal_length_y),
        "cx": float(camera.principal_point_x),
        "cy": float(camera.principal_point_y),
        **{name: float(extra.get(name, 0.0)) for name in ("k1", "k2", "p1", "p2")},
    }


def _write_points(model: Any, file: Path) -> None:
    """Write the sparse points and their colours as a PLY file, in the scene frame."""
    points = [point for _, point in sorted(model.points3D.items())]
    xyz = np.array([point.xyz for point in points], np.float32).reshape(-1, 3)
    colours = np.array([point.color for point in points], np.uint8).reshape(-1, 3)
    positions = zip("xyz", xyz.T, strict=True)
    ply.write_vertices(file, {**dict(positions), **dict(zip(("red", "green", "blue"), colours.T, strict=True))})


# disk


def _check_room(capture: media.Capture, dataset: Path, options: PrepareOptions) -> None:
    """Refuse to start where the disk is too small by a rough estimate from above."""
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
    try:
        yield
    except Exception as error:  # COLMAP's database says it in words alone
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if full or "disk is full" in str(error) or shutil.disk_usage(dataset).free < 1_000_000:
            raise JobFailed(f"the disk is full: make room at {dataset}, and run again ({error}).") from error
        raise


def main() -> None:
    """The job."""
    # Which of OpenMP's threads takes what depends on the moment, and with it, once in fifty times, a match. COLMAP has
    # threads of its own.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    prepare(job.images, job.dataset, PrepareOptions.of(job), job.reference, job.left_out)


if __name__ == "__main__":
    report.run("prepare", main)
