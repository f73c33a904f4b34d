"""Write a scene's page: `python -m jobs.page --dataset DIR --model DIR --video DIR --facts FILE --page DIR`.

`index.html` is a single file that works without a network. It has the video, its figures, held-out photos beside their
renderings, the scene in 3D, the plan, the training curves, the versions of the model, the photos, and how everything
was made. `plan.svg` is beside it. A video or 3D view that is too large for the page is beside it as well.
"""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from PIL import Image
from pydantic_settings import CliApp

from jobs import camera_path, light, report
from jobs.errors import InvalidInput
from jobs.names import within
from jobs.options import PageOptions
from jobs.path.reading import read_photos
from jobs.text import encodable
from jobs.web import chart, metres, plan, quality, view3d
from jobs.web.inline import data_address, shrunk
from jobs.web.policy import script_sources
from jobs.web.quality import Facts
from jobs.web.templates import FOLDER, environment
from jobs.web.trials import trial
from jobs.web.verdict import Verdict, judge

MOST_BYTES = 100_000_000
"""The size limit of a video or 3D view inside the page. Browsers open larger pages slowly, or not at all."""

_THUMBNAIL, _MOST_THUMBNAILS = 208, 400
_HELD_OUT = re.compile(r"held_out/\d+-(photo|rendering)\.jpg")  # another name could be any file of this machine
_MANIFESTS = {"dataset": "dataset.json", "model": "model.json", "video": "video.json"}
_NOT_LISTED = ("images", "curve", "checksums", "held_out")
"""Keys of the manifests that the page does not list. It shows them in another form, or people have no use for them."""


class Photo(NamedTuple):
    """A photo of the capture.

    Args:
        name: its name in the capture.
        file: its picture in the dataset, as the dataset names it, or None if it could not be read.
        lost: why it was not used, or "" if it was.
        thumbnail: a small picture as a `data:` address, or "".
    """

    name: str
    file: str | None
    lost: str = ""
    thumbnail: str = ""


class Pair(NamedTuple):
    """A held-out photo and its rendering as `data:` addresses, their size in pixels, and the PSNR in dB."""

    photo: str
    rendering: str
    size: tuple[int, int]
    psnr: float


class Job(PageOptions):
    """The command line of this job."""

    dataset: Path
    model: Path
    video: Path
    facts: Path
    page: Path
    export: Path | None = None


def make(dataset: Path, model: Path, video: Path, facts: Facts, page: Path, export: Path | None = None) -> None:
    """Write the folder `page`.

    Args:
        dataset, model, video: the folders of these assets. They may lack their manifests.
        facts: what the workspace knows of them.
        page: the folder to write. It is created if it does not exist.
        export: an export of the model, which the page shows in 3D, or None.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    page.mkdir(parents=True, exist_ok=True)
    folders = {"dataset": dataset, "model": model, "video": video}
    about = {name: _manifest(folder / _MANIFESTS[name]) for name, folder in folders.items()}
    path = camera_path.read(video / "camera_path.json")
    drawn = plan.draw(read_photos(dataset, model), path)
    (page / "plan.svg").write_text(drawn)
    photos = list(_photos(dataset, about["dataset"]))
    lost = sum(bool(photo.lost) for photo in photos)
    shown = _chosen(dataset, photos)
    columns, rows = quality.table(facts.versions, facts.currency)
    text = (
        environment()
        .get_template("page.html")
        .render(
            scene=facts.scene,
            summary=_summary(about, facts),
            scripts=f"{script_sources((FOLDER / 'page.html').read_text())} {view3d.script_source()}",
            pairs=_pairs(model, about["model"]),
            **_video(video, page),
            **_scene3d(facts.scene, export, page),
            size=path.even_size,
            verdict=_verdict(about),
            warning=_warning(facts),
            figures=_figures(about, facts),
            plan=Markup(drawn),
            metres=metres.section(facts.metres),
            curves=[Markup(curve) for curve in _curves(about["model"].get("curve") or {})],
            columns=columns,
            rows=[(cells is rows[-1], cells) for cells in rows],
            plot=Markup(quality.plot(facts.versions)),
            photos=shown,
            photo_words=_photo_words(len(photos), lost, len(shown), about["dataset"].get("selection", "")),
            capture=facts.capture,
            programs=_programs(about),
            made=[
                {"asset": each.asset, "figures": each.figures, "manifest": _shown(about[each.role])}
                for each in facts.made
            ],
        )
    )
    (page / "index.html").write_text(encodable(text), encoding="utf-8")
    report.emit(report.Figures("page", {"bytes": (page / "index.html").stat().st_size, "photos": len(photos)}))


def _video(video: Path, page: Path) -> dict[str, str]:
    """Return what the template shows of the video. A large one is copied beside the page instead of into it."""
    file, poster = video / "video.mp4", video / "poster.jpg"
    if not file.is_file():
        raise InvalidInput(f"{video} has no video.mp4. Render it again.")
    shown = {"poster": data_address(poster.read_bytes(), "image/jpeg") if poster.is_file() else ""}
    if file.stat().st_size <= MOST_BYTES:
        return {**shown, "beside": "", "download": "", "video": data_address(file.read_bytes(), "video/mp4")}
    shutil.copyfile(file, page / file.name)
    return {**shown, "beside": "file: https:", "download": file.name, "video": file.name}


def _scene3d(scene: str, export: Path | None, page: Path) -> dict[str, str | int]:
    """Return what the template shows of the scene in 3D. A large view is written beside the page instead of into it."""
    found = view3d.read(export / "index.html") if export else None
    document = view3d.render(scene, found) if found else ""
    shown: dict[str, str | int] = {"scene3d": document, "scene3d_file": "", "scene3d_bytes": len(document)}
    if len(document) > MOST_BYTES:
        (page / "3d.html").write_text(document)
        shown |= {"scene3d": "", "scene3d_file": "3d.html"}
    return shown


def _manifest(file: Path) -> dict[str, Any]:
    """Return a manifest's content. It is empty for an asset that a person registered without one."""
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text()))
    except ValueError as error:
        raise InvalidInput(f"{file} is damaged ({error}). Run the stage that makes it again.") from error


def _shown(about: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in about.items() if key not in _NOT_LISTED}, indent=2)


# words and figures


def _summary(about: dict[str, dict[str, Any]], facts: Facts) -> str:
    video, made = about["video"], ", ".join(each.asset for each in facts.made if each.role == "video")
    if not video:
        return made
    when = str(video.get("created", "")).partition("T")[0]
    return (
        f"{video.get('duration', 0):.1f} s, {video.get('width')}×{video.get('height')} px, "
        f"camera path: {video.get('camera_path')}. {made}, made {when}."
    )


def _verdict(about: dict[str, dict[str, Any]]) -> Verdict | None:
    """Judge the model by its own manifest and its dataset's."""
    dataset, model = about["dataset"], about["model"]
    registered = (int(dataset["registered"]), int(dataset["used"])) if "used" in dataset else None
    metrics, measured = model.get("metrics", {}), light.of_manifest(dataset)
    fitted = metrics.get("psnr_colours_fitted") if measured and measured.differs else None
    return judge(registered, metrics.get("psnr"), model.get("steps"), fitted)


def _warning(facts: Facts) -> str:
    """Return what is wrong with the page's model beside the others; "" if nothing is."""
    if not facts.versions:
        return ""
    own = facts.versions[-1]
    if worse := trial([*facts.versions, *([facts.better] if facts.better else [])], own):
        better = worse.than
        figure = f" ({own.psnr_words})" if own.psnr_words else ""
        command = f"rebel-nerf page --scene {facts.scene} --model-version {better.number or better.version}"
        return f"This model{figure} {worse.reason} than {better.model_title}. To see that one: {command}."
    return quality.warning(facts.versions, own)


def _figures(about: dict[str, dict[str, Any]], facts: Facts) -> dict[str, str]:
    """Return the figures at the top of the page, by name, without those that are unknown."""
    dataset, model, video = about["dataset"], about["model"], about["video"]
    metrics = model.get("metrics", {})
    figures: dict[str, str | None] = {
        "PSNR": _number(metrics.get("psnr"), "{:.2f} dB"),
        "PSNR, colours fitted": (
            _number(metrics.get("psnr_colours_fitted"), "{:.2f} dB") if light.of_manifest(dataset) else None
        ),
        "SSIM": _number(metrics.get("ssim"), "{:.3f}"),
        "LPIPS": _number(metrics.get("lpips"), "{:.3f}"),
        "photos registered": f"{dataset['registered']} of {dataset['used']}" if "used" in dataset else None,
        "training steps": _number(model.get("steps"), "{:,}"),
        "training": _time(model.get("training_seconds")),
        "rendering": _time(video.get("rendering_seconds")),
        "all jobs": _time(quality.total([each.seconds for each in facts.made])),
        "cost": _money(facts),
        "machine": model.get("gpu") or ("CPU" if model else None),
    }
    return {name: value for name, value in figures.items() if value is not None}


def _programs(about: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the versions of the programs that made the assets, by name. Machines may have had different ones."""
    found: dict[str, list[str]] = {}
    for each in about.values():
        for name, version in each.get("versions", {}).items():
            found.setdefault(name, []).append(version)
    return {name: ", ".join(dict.fromkeys(versions)) for name, versions in sorted(found.items())}


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else report.duration(seconds)


def _money(facts: Facts) -> str | None:
    cost = quality.total([each.cost for each in facts.made])
    return None if cost is None else quality.money(cost, facts.currency)


def _photo_words(photos: int, lost: int, shown: int, selection: str) -> str:
    text = f"{photos} photos; " + (f"{lost} of no use, marked, with the reason." if lost else "all of use.")
    text += f" {shown} of them are shown." if shown < photos else ""
    return f"{text} {selection}".strip()


# pictures


def _photos(dataset: Path, about: dict[str, Any]) -> list[Photo]:
    """Return every photo of the capture: those in the dataset, then those that could not be read."""
    images = about.get("images") or [
        {"file": frame["file_path"], "registered": True} for frame in _manifest(dataset / "transforms.json")["frames"]
    ]
    unreadable = {**about.get("unreadable_files", {})}
    unreadable |= {name: f"the same as {other}" for name, other in about.get("duplicate_files", {}).items()}
    return [
        *(
            Photo(
                image.get("source", image["file"]),
                image["file"],
                "" if image["registered"] else f"not registered: {image.get('reason', 'no reason given')}",
            )
            for image in images
        ),
        *(Photo(name, None, reason) for name, reason in unreadable.items()),
    ]


def _chosen(dataset: Path, photos: list[Photo]) -> list[Photo]:
    """Return the photos to show, with thumbnails: all that were not used, and an even choice of the others."""
    good = [index for index, photo in enumerate(photos) if not photo.lost]
    room = max(1, _MOST_THUMBNAILS - (len(photos) - len(good)))
    shown = set(good[:: math.ceil(len(good) / room) if good else 1])
    chosen = [photo for index, photo in enumerate(photos) if photo.lost or index in shown]
    meter = report.Meter("page:photos", len(chosen))
    small = []
    for photo in chosen:
        small.append(photo._replace(thumbnail=_thumbnail(dataset, photo.file) if photo.file else ""))
        meter.update(len(small))
    return small


def _thumbnail(dataset: Path, file: str) -> str:
    """Return a thumbnail as a `data:` address, or "" if the file is not a picture of the dataset."""
    try:
        with Image.open(within(dataset, file)) as image:
            image.draft("RGB", (_THUMBNAIL, _THUMBNAIL))  # a JPEG is decoded at about that size
            small = image.convert("RGB")
    except (OSError, ValueError):
        return ""
    return shrunk(small, _THUMBNAIL, quality=70)


def _pairs(model: Path, about: dict[str, Any]) -> list[Pair]:
    """Return the held-out photos that the model's folder has beside their renderings."""
    found = []
    try:
        for pair in about.get("held_out", []):
            files = [model / pair[name] for name in ("photo", "rendering")]
            if not all(_HELD_OUT.fullmatch(pair[name]) for name in ("photo", "rendering")):
                raise ValueError(f"{files[0]} is not a held-out photo")
            photo, rendering = (file.read_bytes() for file in files)
            with Image.open(io.BytesIO(photo)) as picture:
                size = picture.size
            before, after = (data_address(content, "image/jpeg") for content in (photo, rendering))
            found.append(Pair(before, after, size, float(pair["psnr"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{model / 'model.json'} lists damaged held-out photos: {error}. Train again.") from error
    return found


def _curves(curve: dict[str, list[float | None]]) -> list[str]:
    """Return the charts of PSNR and loss by step, each smoothed over a twentieth of the training."""
    charts = []
    for name, words in (("psnr", "PSNR, dB, of the rays of a step"), ("loss", "loss")):
        points = [
            (step, value)
            for step, value in zip(curve.get("step", []), curve.get(name, []), strict=False)
            if step is not None and value is not None
        ]
        charts.append(chart.chart([chart.Line(name, _smooth(points))], "step", words, logarithmic=name == "loss"))
    return [each for each in charts if each]


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    reach = len(points) // 40
    means = []
    for index, (step, _) in enumerate(points):
        near = points[max(0, index - reach) : index + reach + 1]
        means.append((step, sum(value for _, value in near) / len(near)))
    return means


def main() -> None:
    """Run the job of this command line."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    facts = Facts.model_validate_json(job.facts.read_text())
    make(job.dataset, job.model, job.video, facts, job.page, job.export)


if __name__ == "__main__":
    report.run("page", main)
