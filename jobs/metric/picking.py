"""The page on which people pick the ends of known lengths: one file, which needs no network.

It shows pictures of a dataset side by side, with the lines on which a point must lie, and saves `scale.json`. Nothing
but Pillow and Jinja is needed, because it is made where the commands run.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from jobs.errors import InvalidInput
from jobs.names import printable

__all__ = ["picking_page"]

_MOST_PHOTOS = 120  # more would make a page that browsers open slowly
_LONGEST = 1600  # px, of a picture on the page
_AXES = ((0, 1.0), (1, -1.0), (2, -1.0), (3, 1.0))  # columns of a pose, from OpenGL's axes to OpenCV's


def picking_page(scene: str, dataset: Path) -> str:
    """Return the page of a dataset, as HTML.

    Args:
        scene: the scene's name.
        dataset: a folder that `jobs.prepare` wrote. Of many photos, evenly as many as fit are shown.

    Raises:
        InvalidInput: a file of the dataset is missing or damaged.
    """
    try:
        photos = _photos(dataset)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidInput(
            f"scene {scene}: the dataset {dataset} cannot be shown: {type(error).__name__}: {error}"
        ) from None
    if len(photos) < 2:
        raise InvalidInput(f"scene {scene}: the dataset {dataset} has {len(photos)} photos to pick in; 2 are needed.")
    folder = Path(__file__).parent
    script = (folder / "picking.js").read_text()
    content = json.dumps(photos, allow_nan=False).replace("<", "\\u003c")  # nothing in it can end the script's element
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string((folder / "picking.html").read_text()).render(
        scene=scene,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        photos=Markup(content),
        script=Markup(script),
    )
    return printable(page)


def _photos(dataset: Path) -> list[dict[str, Any]]:
    """Return what the page's script knows of each photo."""
    transforms = json.loads((dataset / "transforms.json").read_text())
    manifest = dataset / "dataset.json"
    about = json.loads(manifest.read_text()) if manifest.is_file() else {}
    sources = {image["file"]: image["source"] for image in about.get("images", [])}
    frames = [transforms | frame for frame in transforms["frames"]]
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
    shown.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    shown.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
