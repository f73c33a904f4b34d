"""The page on which people measure, and pick the ends of known lengths: one file, which needs no network.

It shows pictures of a dataset side by side, with the lines on which a point must lie, and saves `measurements.json` and
`scale.json`. Nothing but Pillow, Jinja and pydantic is needed, because it is made where the commands run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from jobs.errors import InvalidInput
from jobs.metric import accuracy
from jobs.metric.scene import SceneInMetres, Up
from jobs.names import printable
from jobs.web.inline import shrunk
from jobs.web.policy import script_source
from jobs.web.templates import environment

__all__ = ["picking_page"]

_NO_SCALE = "The scene has no scale yet: lengths are in scene units, not in metres. Known lengths give it one."
_MOST_PHOTOS = 120  # more would make a page that browsers open slowly
_LONGEST = 1600  # px, of a picture on the page
_SCRIPTS = ("points.js", "ruler.js", "measuring.js", "picking.js")  # one script of the page, in this order
_AXES = ((0, 1.0), (1, -1.0), (2, -1.0), (3, 1.0))  # columns of a pose, from OpenGL's axes to OpenCV's


def picking_page(
    scene: str, dataset: Path, metres: SceneInMetres | None = None, version: str = "", frame: str = ""
) -> str:
    """Return the page of a dataset, as HTML.

    Args:
        scene: the scene's name.
        dataset: a folder that `jobs.prepare` wrote. Of many photos, evenly as many as fit are shown.
        metres: what is known of the scene's frame; None if nothing was measured.
        version: the dataset's name and version. Measurements that were saved on its page can be changed there.
        frame: the name of the scene frame. Visits with the same one are compared in one scale.

    Raises:
        InvalidInput: a file of the dataset is missing or damaged.
    """
    try:
        about = _about(dataset)
        frames = _frames(dataset)
        photos = _photos(dataset, frames, about)
        focals = [(float(each["fl_x"]) + float(each.get("fl_y", each["fl_x"]))) / 2 for each in frames]
        pose_error = accuracy.pose_error(float(about.get("reprojection_error_px", 0.0)), focals)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidInput(
            f"scene {scene}: the dataset {dataset} cannot be shown: {type(error).__name__}: {error}"
        ) from None
    if len(photos) < 2:
        raise InvalidInput(f"scene {scene}: the dataset {dataset} has {len(photos)} photos to pick in; 2 are needed.")
    tilt = accuracy.tilt_error(str(about.get("up", "cameras")))
    up = metres.up if metres else Up(direction=(0.0, 0.0, 1.0), error=tilt)
    scale = metres.scale if metres else None
    content = {
        "scene": scene,
        "dataset": version or dataset.name,
        "frame": frame or version or dataset.name,
        "limits": {
            "pick": accuracy.PICK_ACCURACY,
            "angle": accuracy.LEAST_ANGLE,
            "wrong": accuracy.WRONG,
            "times": accuracy.TIMES,
        },
        "poseError": pose_error,
        "up": up.model_dump(),
        "scale": scale.model_dump() if scale else None,
        "registrationError": metres.registration_error if metres else 0.0,
        "photos": photos,
    }
    folder = Path(__file__).parent
    script = "".join((folder / file).read_text(encoding="utf-8") for file in _SCRIPTS)
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")  # nothing in it can end the script's element
    page = (
        environment(folder)
        .get_template("picking.html")
        .render(
            scene=scene,
            scale=f"{metres.words}." if metres and scale else _NO_SCALE,
            tilt=f"; of a height, also from up, which is known within {up.error:.1f}° (standard error)",
            scripts=script_source(script),
            content=Markup(text),
            script=Markup(script),
        )
    )
    return printable(page)


def _about(dataset: Path) -> dict[str, Any]:
    manifest = dataset / "dataset.json"
    about: dict[str, Any] = json.loads(manifest.read_text()) if manifest.is_file() else {}
    return about


def _frames(dataset: Path) -> list[dict[str, Any]]:
    transforms = json.loads((dataset / "transforms.json").read_text())
    return [transforms | frame for frame in transforms["frames"]]


def _photos(dataset: Path, frames: list[dict[str, Any]], about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the page's script knows of each photo."""
    sources = {image["file"]: image["source"] for image in about.get("images", [])}
    names = [sources.get(frame["file_path"], frame["file_path"].rpartition("/")[2]) for frame in frames]
    # Views of a panorama share their photo's name: picks in them would have no meaning.
    plain = [(frame, name) for frame, name in zip(frames, names, strict=True) if names.count(name) == 1]
    centres = [[row[3] for row in frame["transform_matrix"][:3]] for frame, _ in plain]
    extent = [max(axis) - min(axis) for axis in zip(*centres, strict=True)]
    chosen = plain[:: 1 + len(plain) // (_MOST_PHOTOS + 1)]
    return [
        {
            "name": printable(str(name)),
            "picture": _picture(dataset, frame["file_path"]),
            "size": [int(frame["w"]), int(frame["h"])],
            "focal": [float(frame["fl_x"]), float(frame.get("fl_y", frame["fl_x"]))],
            "centre": [float(frame["cx"]), float(frame["cy"])],
            "distortion": [float(frame.get(key, 0.0)) for key in ("k1", "k2", "p1", "p2")],
            "pose": [[sign * float(row[column]) for column, sign in _AXES] for row in frame["transform_matrix"][:3]],
            "scale": 1 / float(about.get("options", {}).get("downscale_factor", 1)),
            "extent": extent,
        }
        for frame, name in chosen
    ]


def _picture(dataset: Path, file: str) -> str:
    """Return a picture of the dataset as a `data:` address. A path that leads out of the dataset is refused."""
    place = (dataset / file).resolve()
    if not place.is_relative_to(dataset.resolve()):
        raise ValueError(f"{file} leads out of the dataset")
    with Image.open(place) as image:
        shown = image.convert("RGB")
    return shrunk(shown, _LONGEST, quality=85)
