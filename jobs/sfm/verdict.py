"""Explain pictures without a pose: what they have in common, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath
from statistics import median
from typing import TYPE_CHECKING

from jobs.options import PrepareOptions
from jobs.pictures.reading import Picture, upright
from jobs.text import printable

if TYPE_CHECKING:
    from jobs.sfm.outcome import Outcome

__all__ = [
    "in_common",
    "no_frame",
    "of_bars",
    "of_crops",
    "of_given",
    "of_masks",
    "of_overlays",
    "of_poor_quality",
    "other_places",
    "refusal",
]

_MOST = 0.9  # share of the pictures that must have something in common for it to be named
_NAMED = 5
_DARK = 24.0  # mean of the grey values, 0 to 255, below which most of a picture is noise
_BLURRED = 0.5  # of the capture's median. Measured: motion over 1 % of the width leaves 0.2 to 0.6; sharp photos 0.83
_MUCH_HIDDEN = 0.6  # of a picture: people and cars hide less
_TRAITS: tuple[Callable[[Picture], str], ...] = (
    lambda picture: f"in {_folder(picture)}",
    lambda picture: f"{_suffix(picture)} files",
    lambda picture: _camera(picture),
    lambda picture: f"{max(picture.size)} x {min(picture.size)} px large",
)


def in_common(pictures: Collection[Picture], others: Collection[Picture]) -> str:
    """Return what sets pictures apart from others, in words, or "": their folder, format, camera or size."""
    if len(pictures) < 2 or not others:
        return ""
    found = []
    for trait in _TRAITS:
        words, number = Counter(map(trait, pictures)).most_common(1)[0]
        elsewhere = sum(trait(other) == words for other in others)
        if number >= _MOST * len(pictures) and elsewhere <= (1 - _MOST) * len(others):
            found.append(words)
    return " and ".join(found)


def of_poor_quality(pictures: Sequence[Picture]) -> str:
    """Return a sentence that names the dark and the blurred pictures; "" if there are none.

    Views of a 360° picture are left out: that of the sky has no texture.
    """
    pictures = [picture for picture in pictures if picture.view is None]
    dark = [picture for picture in pictures if picture.light < _DARK]
    usual = median(picture.sharpness for picture in pictures) if pictures else 0.0
    soft = [picture for picture in pictures if picture.sharpness < _BLURRED * usual and picture not in dark]
    found = [f"too dark: {_first(dark)}"] * bool(dark) + [f"blurred or without texture: {_first(soft)}"] * bool(soft)
    text = "; ".join(found)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def of_masks(pictures: Sequence[Picture]) -> str:
    """Return a sentence about masks that hide most of their photos; "" if there are none. They may be inverted."""
    hidden = [picture.hidden for picture in pictures if picture.masked and picture.hidden]
    if not hidden or median(hidden) < _MUCH_HIDDEN:
        return ""
    return (
        f"The masks of {len(hidden)} pictures hide {100 * median(hidden):.0f} % of them in the median: black hides, "
        "white shows. If yours mean the opposite, invert them."
    )


def of_overlays(pictures: Sequence[Picture], result: Outcome) -> str:
    """Return a sentence about regions that are the same in most pictures; "" if there are none."""
    kinds = Counter[str]()
    for picture in pictures:
        boxes = [upright(region, picture) for region in result.overlays.get(picture.features, ())]
        if boxes:
            kinds[" and ".join(f"{right - left} x {bottom - top} px" for left, top, right, bottom in boxes)] += 1
    if not kinds:
        return ""
    number, sizes = sum(kinds.values()), max(kinds, key=lambda kind: kinds[kind])
    where = f"all {number}" if number == len(pictures) else f"{number} of {len(pictures)}"
    return (
        f"A part of {sizes}, such as a logo, is the same in {where} pictures while the camera moves. It is masked: it "
        "gives no features, and is not trained."
    )


def of_bars(pictures: Sequence[Picture]) -> str:
    """Return a sentence about the black bars of letterboxed pictures; "" if there are none."""
    barred = [picture for picture in pictures if any(picture.bars)]
    if not barred:
        return ""
    first = barred[0]
    scales = [size / grey for size, grey in zip(first.size, first.feature_size, strict=True)] * 2
    sides = zip(("left", "above", "right", "below"), first.bars, scales, strict=True)
    widths = ", ".join(f"{wide * scale:.0f} px {side}" for side, wide, scale in sides if wide)
    return f"The black bars of {len(barred)} pictures ({widths}) are masked."


def of_crops(pictures: Sequence[Picture], result: Outcome) -> str:
    """Return a sentence about photos that are cropped off the middle; "" if there are none."""
    cropped = [picture for picture in pictures if picture.features in result.cropped]
    if not cropped:
        return ""
    many = len(cropped) > 1
    return (
        f"{len(cropped)} photo{'s were' if many else ' was'} cropped off the middle: {_first(cropped)}. "
        f"{'Each' if many else 'It'} got a camera of its own, which is less exact than a shared one: give the whole "
        f"photo{'s' * many} if you have {'them' if many else 'it'}."
    )


def of_given(result: Outcome) -> str:
    """Return a sentence about poses that were given; "" if there were none."""
    if not result.given:
        return ""
    given, fit = result.given, len(result.registered)
    moved, turned = ([f"{value:.2f}" for value in pair] for pair in ([100 * m for m in given.moved], given.turned))
    return (
        f"{given.number} photos have a given pose; {fit} of these fit the photos. They were refined by {moved[0]} % "
        f"of the scene's size and {turned[0]}° in the median, and by {moved[1]} % and {turned[1]}° at most."
    )


def other_places(pictures: Sequence[Picture], result: Outcome) -> str:
    """Return sentences about places that are not in the model, or were hard to tell from it; "" if there are none."""
    registered = result.connected or result.registered
    by_name = {picture.features: picture for picture in pictures}
    used = [picture for picture in pictures if picture.features in registered]
    sentences: list[str] = []
    for place in result.elsewhere:
        apart = [by_name[name] for name in sorted(place)]
        alike = any(place & other for other in result.look_alikes[1:])
        kind = "looks like the first" if alike else "is not connected to the first"
        kind += ", but is apart by GPS" * (alike and result.apart_by_gps)
        sentences.append(
            f"{len(apart)} pictures form {'another' if sentences else 'a second'} place that {kind}, and are not used: "
            f"{_listed(apart)}{_common(apart, used)}."
        )
    if result.look_alikes and not result.elsewhere:
        apart = [by_name[name] for name in sorted(result.look_alikes[1])]
        if result.apart_by_gps and not registered & result.look_alikes[1]:
            sentences.append(
                f"{len(apart)} pictures show a second place that looks like the first, but is apart by GPS. They are "
                f"not used: {_listed(apart)}{_common(apart, used)}."
            )
            return " ".join(sentences)
        sentences.append(f"Places that look alike were separated: check the poses of {_listed(apart)}.")
    return " ".join(sentences)


def refusal(images: Path, pictures: Sequence[Picture], result: Outcome, options: PrepareOptions) -> str:
    """Return why a reconstruction is refused, and what to do."""
    if result.only_turned:
        return (
            f"{images}: the photos have no parallax: they match well, but all were taken from one spot, by turning "
            "there. Such photos do not show how far away anything is. Walk while you take them: a step or more to the "
            "side between photos, past the place or around it, each overlapping the last by two thirds."
        )
    by_name = {picture.features: picture for picture in pictures}
    if result.confused:
        places = [[by_name[name] for name in sorted(place)] for place in result.look_alikes]
        return (
            f"{images}: the photos show places that look alike and could not be separated, so poses are wrong. "
            f"One place: {_listed(places[0])}; another: {_listed(places[1])}. Make a scene of each, or take photos "
            "that lead from one to the other and show what differs."
        )
    registered = result.connected or result.registered
    lost = [picture for picture in pictures if picture.features not in registered]
    used = [picture for picture in pictures if picture.features in registered]
    what = "pictures could be registered" if result.connected is None else "pictures are connected by matches"
    text = (
        f"{images}: only {len(used)} of {len(pictures)} {what} "
        f"({100 * len(used) / len(pictures):.0f} %; needed: {100 * options.min_registered_share:.0f} % and at least "
        f"{options.min_registered_images}). "
    )
    if result.given:
        fit, moved = 100 * result.given.fit, 100 * result.given.moved[0]
        text += (
            f"The given poses do not fit the photos: they had to be moved by {moved:.0f} % of the scene's size, and "
            f"even then only {fit:.0f} % of matching features are where they say (both in the median). Give the "
            "photos that the poses were found for, under their names, neither cropped nor turned; or leave out "
            "prepare.poses keep: then structure from motion finds the poses. "
        )
    elif second_places := other_places(pictures, result):
        text += f"{second_places} Make a scene of each place, or take photos that lead from one to the other. "
    elif common := in_common(lost, used):
        text += (
            f"The {len(lost)} others are {common}. If they show another place or another day, make them a scene "
            "of their own. If they are copies, maps or renderings, leave them out. Otherwise, take photos that lead "
            "from the rest to them. "
        )
    else:
        text += (
            "Take more photos: each thing should be in at least three of them, neighbours should overlap by two "
            "thirds, taken from different places rather than turning on the spot; hold still (no blur), in even light, "
            "and avoid glass, mirrors and blank walls. "
        )
    for poor in filter(None, (of_masks(pictures), of_poor_quality(pictures))):
        text += f"{poor} "
    named = "; ".join(f"{printable(picture.source)}: {result.why_not(picture.features)}" for picture in lost[:_NAMED])
    return f"{text}Not registered: {named}{' …' if len(lost) > _NAMED else ''}."


def no_frame(images: Path, references: Collection[str]) -> str:
    """Return that photos could not be registered to the scene frame of earlier datasets, and what to do."""
    return (
        f"{images}: the photos could not be registered to the scene frame, and prepare.frame is keep. Too little "
        f"of what they show was found in the photos of {', '.join(references)}. Take photos that show what the "
        "earlier ones show, some from the same spots and in similar light. Or set prepare.frame to auto: the "
        "photos then begin a new scene frame, which earlier camera paths do not fit."
    )


def _common(apart: Sequence[Picture], used: Sequence[Picture]) -> str:
    common = in_common(apart, used)
    return f" ({common})" if common else ""


def _first(pictures: Sequence[Picture]) -> str:
    names = ", ".join(printable(picture.source) for picture in pictures[:_NAMED])
    return f"{names} and {len(pictures) - _NAMED} more" if len(pictures) > _NAMED else names


def _listed(pictures: Sequence[Picture]) -> str:
    """Name pictures: few by their names, many by the first and the last."""
    names = [printable(picture.source) for picture in pictures]
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}"


def _folder(picture: Picture) -> str:
    parent = PurePosixPath(picture.source).parent
    return f"the folder {printable(str(parent))}" if parent.name else "the top folder"


def _camera(picture: Picture) -> str:
    video, is_frame, _ = picture.source.partition("#t=")
    if is_frame:
        return f"from the video {printable(video)}"
    return f"by the camera {printable(picture.model)}" if picture.model else "by a camera that EXIF omits"


def _suffix(picture: Picture) -> str:
    suffix = PurePosixPath(picture.source.partition("#t=")[0]).suffix.lower()[1:]
    return {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
