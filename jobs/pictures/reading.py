"""A capture's photos and frames, written as the pictures of a dataset."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import memory, report
from jobs.errors import InvalidInput
from jobs.options import PrepareOptions
from jobs.pictures import bars, film, panorama, photo
from jobs.pictures.bars import Bars
from jobs.pictures.exif import Tags

if TYPE_CHECKING:
    from PIL.Image import Image

    from jobs.media import Capture

__all__ = ["Box", "Picture", "hide", "hide_in_dataset", "read", "save_feature_mask", "upright", "write"]

Box = tuple[int, int, int, int]
"""A part of a picture: left, top, right and bottom in px, the last two exclusive."""

_AUTO_RESOLUTION = 1600  # px: nerfstudio takes images_2, images_4 … until the longer side is at most this
_QUALITY = 95


@dataclass(frozen=True)
class Picture:
    """A picture of the dataset.

    Args:
        file: its name in images/.
        source: the photo, or the video and the time, that it was made from.
        size: px (width, height) as written.
        feature_size: px of the grey picture in which features are found.
        model: the camera's model, or the video.
        focal: see `jobs.pictures.photo.Photo`.
        masked: it has a mask, `mask` in masks/.
        hidden: share of it that the mask beside it hides.
        bars: the black bars that it has, or the wider ones that hide those of all pictures of its size, in px of the
            grey picture.
        tags: see `jobs.pictures.photo.Photo`.
        light: mean of the grey values, 0 to 255, without masked pixels.
        sharpness: how strongly grey values vary from pixel to pixel, in terms of how they vary over the picture.
        view: which view of an equirectangular photo or frame it is, from 0 (see `jobs.pictures.panorama`); else None.
        orientation: see `jobs.pictures.photo.Photo`.
        turns: by how many quarters the grey picture is turned anticlockwise.
    """

    file: str
    source: str
    size: tuple[int, int]
    feature_size: tuple[int, int]
    model: str
    focal: float | None
    masked: bool = False
    tags: Tags = field(default_factory=Tags)
    light: float = 128.0
    sharpness: float = 1.0
    view: int | None = None
    orientation: int = 1
    turns: int = 0
    hidden: float = 0.0
    bars: Bars = (0, 0, 0, 0)

    @property
    def mask(self) -> str:
        """Return the file name of its mask."""
        return f"{Path(self.file).stem}.png"

    @property
    def features(self) -> str:
        """Return the file name of its grey picture."""
        return f"{Path(self.file).stem}.pgm"


def read(
    capture: Capture, dataset: Path, grey: Path, options: PrepareOptions
) -> tuple[list[Picture], dict[str, str], list[dict[str, Any]]]:
    """Write the pictures of a dataset, and grey ones for structure from motion.

    Args:
        capture: the files to read.
        dataset: gets images/, and images_2/ … if the pictures are large. If a picture has a mask, all get one in
            masks/, and masks_2/ …, as nerfstudio requires.
        grey: folder for the grey pictures, with masks/ as COLMAP names them.
        options: downscale_factor, num_frames and feature_image_size are used.

    Returns:
        The pictures; the files that cannot be read, with the reason; and the facts about each video.
    """
    if capture.videos:
        pictures, videos = _read_videos(capture, dataset, grey, options)
        return _without_bars(pictures, dataset, grey), capture.unreadable, videos
    pictures, broken = _read_photos(capture, dataset, grey, options)
    if any(picture.masked for picture in pictures):
        _complete_masks(pictures, dataset)
    return _without_bars(pictures, dataset, grey), {**capture.unreadable, **broken}, []


def _without_bars(pictures: list[Picture], dataset: Path, grey: Path) -> list[Picture]:
    """Hide the black bars of letterboxed pictures from features and training. Return the pictures with their bars."""
    sizes: dict[tuple[int, int], list[Bars]] = {}
    for picture in pictures:
        sizes.setdefault(picture.feature_size, []).append(picture.bars)
    common = {size: bars.common(found, size) for size, found in sizes.items()}
    pictures = [replace(picture, bars=common[picture.feature_size]) for picture in pictures]
    boxes = {each.features: bars.boxes(each.bars, each.feature_size) for each in pictures if any(each.bars)}
    for picture in pictures:
        if picture.features in boxes:
            hide(grey / picture.features, picture.feature_size, boxes[picture.features])
    return hide_in_dataset(pictures, boxes, dataset)


def _complete_masks(pictures: Iterable[Picture], dataset: Path) -> None:
    """Write a white mask for each picture that has none."""
    for picture in pictures:
        if not picture.masked:
            _write_mask(_white(picture.size), dataset / "images" / picture.file)


def hide_in_dataset(pictures: list[Picture], regions: Mapping[str, Sequence[Box]], dataset: Path) -> list[Picture]:
    """Hide regions of pictures from training with masks. Return the pictures, of which more have a mask.

    Args:
        pictures: those of the dataset.
        regions: in px of the grey pictures, by their names.
        dataset: gets the masks.
    """
    if not regions:
        return pictures
    changed = []
    for picture in pictures:
        if boxes := [upright(box, picture) for box in regions.get(picture.features, ())]:
            file = dataset / "masks" / picture.mask
            _write_mask(_with_boxes(file, picture.size, boxes), dataset / "images" / picture.file)
            picture = replace(picture, masked=True)
        changed.append(picture)
    if not any(picture.masked for picture in pictures):
        _complete_masks(changed, dataset)
    return changed


def upright(box: Box, picture: Picture) -> Box:
    """Return a region of a grey picture in px of the picture as it was written."""
    left, top, right, bottom = box
    width, height = picture.feature_size
    for _ in range(picture.turns):
        left, top, right, bottom = height - bottom, left, height - top, right
        width, height = height, width
    across, down = picture.size[0] / width, picture.size[1] / height
    return round(left * across), round(top * down), round(right * across), round(bottom * down)


def hide(grey: Path, size: tuple[int, int], boxes: Iterable[Box]) -> None:
    """Hide boxes of a grey picture of this size from structure from motion, together with what its mask hides."""
    mask = _feature_mask(grey)
    _with_boxes(mask, size, boxes).save(mask)


def _with_boxes(file: Path, size: tuple[int, int], boxes: Iterable[Box]) -> Image:
    """Return a mask with black boxes. If there is no such file, the mask has this size and is white elsewhere."""
    mask = _white(size)
    if file.is_file():
        with photo.pillow().open(file) as opened:
            mask = opened.convert("L")
    for box in boxes:
        mask.paste(0, box)
    return mask


def _read_photos(
    capture: Capture, dataset: Path, grey: Path, options: PrepareOptions
) -> tuple[list[Picture], dict[str, str]]:
    """Write every photo that can be decoded; return the reasons for the others by name."""
    room = memory.Room(memory.available() // 2)

    def decode(item: tuple[int, tuple[str, Path]]) -> list[Picture] | tuple[str, str]:
        number, (name, file) = item
        try:
            with room.take(photo.bytes_to_decode(file)):
                decoded = photo.read(file)
                if name in capture.masks:
                    decoded = _with_mask(decoded, photo.read_mask(capture.masks[name], decoded))
                target = dataset / "images" / f"frame_{number:05d}.jpg"
                return _write_views(decoded, name, target, grey, options, file if decoded.verbatim else None)
        except InvalidInput as error:
            return name, str(error)

    read_or_not = list(_parallel(decode, list(enumerate(capture.photos.items(), 1)), len(capture.photos)))
    pictures = [picture for item in read_or_not if isinstance(item, list) for picture in item]
    return pictures, dict(item for item in read_or_not if not isinstance(item, list))


def _read_videos(
    capture: Capture, dataset: Path, grey: Path, options: PrepareOptions
) -> tuple[list[Picture], list[dict[str, Any]]]:
    """Write the sharpest frames, shared among several videos by their lengths; return the facts about each video.

    Raises:
        InvalidInput: a video needs more memory than is free; names it.
    """
    for name, file in capture.videos.items():
        try:
            film.check_memory(file, pictures=_threads() + 2)
        except InvalidInput as error:
            raise InvalidInput(f"{name}: {error}") from None
    times = {name: film.frame_times(file) for name, file in capture.videos.items()}
    seconds = {name: frames[-1] if frames else 0.0 for name, frames in times.items()}
    whole = sum(seconds.values()) or 1.0
    panoramas = {name: film.is_panorama(file) for name, file in capture.videos.items()}
    pictures_wanted = {name: options.num_frames * length / whole for name, length in seconds.items()}
    shares = {
        name: max(1, round(wanted / (len(panorama.ROTATIONS) if panoramas[name] else 1)))
        for name, wanted in pictures_wanted.items()
    }
    total = sum(min(share, len(times[name])) for name, share in shares.items())

    def frames() -> Iterator[tuple[int, str, film.Frame]]:
        number = 0
        for name, file in capture.videos.items():
            for frame in film.sharpest_frames(file, times[name], shares[name]):
                number += 1
                yield number, name, frame

    def encode(item: tuple[int, str, film.Frame]) -> list[Picture]:
        number, name, frame = item
        decoded = photo.Photo(frame.image, model=name, panorama=panoramas[name])
        target = dataset / "images" / f"frame_{number:05d}.jpg"
        return _write_views(decoded, f"{name}#t={frame.time:.3f}", target, grey, options, None)

    written = list(_parallel(encode, frames(), total))
    pictures = [picture for views in written for picture in views]
    taken = Counter(views[0].source.partition("#t=")[0] for views in written)
    facts = [
        {"file": name, "frames": len(times[name]), "seconds": round(seconds[name], 3), "taken": taken[name]}
        for name in capture.videos
    ]
    return pictures, facts


def _threads() -> int:
    return max(2, os.cpu_count() or 1)


def _parallel(do: Callable[[Any], Any], items: Iterable[Any], total: int) -> Iterator[Any]:
    """Map on all cores, in order, with progress. Few items are read ahead: frames would fill the memory."""
    meter = report.Meter("prepare:reading", total)
    threads = _threads()
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


def _write_views(
    decoded: photo.Photo, source: str, target: Path, grey: Path, options: PrepareOptions, verbatim: Path | None
) -> list[Picture]:
    """Write a picture, or the views of an equirectangular one, as `write` does."""
    if not decoded.panorama:
        return [write(decoded, source, target, grey, options, verbatim)]
    masks = panorama.cut(decoded.mask) if decoded.mask else [None] * len(panorama.ROTATIONS)
    written = []
    for number, (image, mask) in enumerate(zip(panorama.cut(decoded.image), masks, strict=True)):
        held = panorama.TAGS[number]
        tags = replace(decoded.tags, pitch=held.pitch, roll=held.roll, direction=None)
        view = photo.Photo(image, decoded.model, mask=mask, tags=tags)
        file = target.with_name(f"{target.stem}_{number + 1}{target.suffix}")
        written.append(replace(write(view, source, file, grey, options, None), view=number))
    return written


def write(
    decoded: photo.Photo, source: str, target: Path, grey: Path, options: PrepareOptions, verbatim: Path | None
) -> Picture:
    """Write a picture for training, its smaller levels, and a grey one for structure from motion.

    Args:
        decoded: the picture.
        source: see `Picture`.
        target: file to write, in the dataset's images/.
        grey: folder for the grey picture.
        options: downscale_factor and feature_image_size are used.
        verbatim: a file that already is this picture, to be copied instead of encoding it again.
    """
    shades = photo.grey(decoded.image, options.feature_image_size)
    shades.save(grey / f"{target.stem}.pgm")
    if decoded.mask:
        save_feature_mask(decoded.mask, shades.size, grey / f"{target.stem}.pgm")

    written = _shrunk(decoded.image, options.downscale_factor)
    target.parent.mkdir(exist_ok=True)
    if verbatim and options.downscale_factor == 1:
        shutil.copyfile(verbatim, target)
    else:
        written.save(target, quality=_QUALITY)
    small = written
    for level in _levels(written.size):
        small = _shrunk(small, 2)
        folder = target.parent.with_name(f"images_{level}")
        folder.mkdir(exist_ok=True)
        small.save(folder / target.name, quality=_QUALITY)
    if decoded.mask:
        _write_mask(decoded.mask.resize(written.size, _nearest()), target)
    size, masked = written.size, decoded.mask is not None
    light, sharpness = photo.light_and_sharpness(shades, decoded.mask)
    return Picture(
        target.name,
        source,
        size,
        shades.size,
        decoded.model,
        decoded.focal,
        masked,
        decoded.tags,
        light,
        sharpness,
        orientation=decoded.orientation,
        bars=bars.measure(shades),
        hidden=decoded.mask.histogram()[0] / (decoded.mask.width * decoded.mask.height) if decoded.mask else 0.0,
    )


def save_feature_mask(mask: Image, size: tuple[int, int], grey: Path) -> None:
    """Write a grey picture's mask where structure from motion looks for it."""
    mask.resize(size, _nearest()).save(_feature_mask(grey))


def _feature_mask(grey: Path) -> Path:
    """Return where structure from motion looks for a grey picture's mask, masks/NAME.pgm.png, and make the folder."""
    folder = grey.parent / "masks"
    folder.mkdir(exist_ok=True)
    return folder / f"{grey.name}.png"


def _with_mask(decoded: photo.Photo, mask: Image) -> photo.Photo:
    from PIL import ImageChops

    return replace(decoded, mask=ImageChops.darker(mask, decoded.mask) if decoded.mask else mask)


def _write_mask(mask: Image, image: Path) -> None:
    """Write the mask of the picture `image` in images/, and its smaller levels."""
    folders = {1: "masks", **{level: f"masks_{level}" for level in _levels(mask.size)}}
    for level, name in folders.items():
        folder = image.parent.with_name(name)
        folder.mkdir(exist_ok=True)
        size = (max(1, mask.width // level), max(1, mask.height // level))
        mask.resize(size, _nearest()).save(folder / f"{image.stem}.png")


def _white(size: tuple[int, int]) -> Image:
    white: Image = photo.pillow().new("L", size, 255)
    return white


def _nearest() -> Any:
    return photo.pillow().Resampling.NEAREST


def _levels(size: tuple[int, int]) -> list[int]:
    """Return the factors of the smaller levels that nerfstudio asks for of a picture of this size."""
    levels: list[int] = []
    while max(size) / (levels[-1] if levels else 1) > _AUTO_RESOLUTION:
        levels.append(2 * levels[-1] if levels else 2)
    return levels


def _shrunk(image: Image, factor: int) -> Image:
    """Return the picture smaller by a whole factor; sides are rounded down, as nerfstudio does with its cameras."""
    from PIL.Image import Resampling

    if factor == 1:
        return image
    size = (max(1, image.width // factor), max(1, image.height // factor))
    return image.resize(size, Resampling.LANCZOS, reducing_gap=2.0)
