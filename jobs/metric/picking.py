"""The page on which people measure, and pick the ends of known lengths: one file, which needs no network.

It shows pictures of a dataset side by side, with the lines on which a point must lie, and saves `measurements.json` and
`scale.json`. The scheduler makes it, so this module needs neither SciPy nor OpenCV.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from jobs.errors import InvalidInput
from jobs.metric import accuracy
from jobs.metric.cameras import Camera, Cameras
from jobs.metric.scene import SceneInMetres, Up
from jobs.metric.tracks import Track, read_tracks
from jobs.names import within
from jobs.text import encodable, printable
from jobs.web.inline import shrunk
from jobs.web.policy import script_source
from jobs.web.templates import environment

__all__ = ["picking_page"]

_NO_SCALE = "The scene has no scale yet: lengths are in scene units, not in metres. Known lengths give it one."
_MOST_PHOTOS = 120  # more would make a page that browsers open slowly
_LONGEST = 1600  # px, of a picture on the page
_SCRIPTS = ("points.js", "ruler.js", "measuring.js", "space.js", "picking.js")  # one script of the page, in this order


def picking_page(
    scene: str, dataset: Path, metres: SceneInMetres | None = None, version: str = "", frame: str = ""
) -> str:
    """Return the page of a dataset, as HTML.

    Args:
        scene: the scene's name.
        dataset: a folder that `jobs.prepare` wrote. Of many photos, evenly as many as fit are shown.
        metres: what is known of the scene frame; None if nothing was measured.
        version: the dataset's name and version. Measurements that were saved on its page can be changed there.
        frame: the name of the scene frame. Visits with the same one are compared in one scale.

    Raises:
        InvalidInput: a file of the dataset is missing or damaged.
    """
    try:
        cameras = Cameras(dataset)
        chosen = _chosen(cameras)
        photos = _photos(dataset, chosen)
        tracks = read_tracks(dataset, chosen)
    except (InvalidInput, OSError, ValueError) as error:
        raise InvalidInput(f"scene {scene}: the page cannot be made: {error}") from None
    if len(photos) < 2:
        raise InvalidInput(
            f"scene {scene}: the dataset {dataset} has {len(photos)} photos to pick in; 2 are needed. Prepare the "
            "dataset again from single photos; views of 360° photos do not count."
        )
    tilt = accuracy.tilt_error(str(cameras.about.get("up", "cameras")))
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
        "poseError": cameras.pose_error,
        "up": up.model_dump(),
        "scale": scale.model_dump() if scale else None,
        "registrationError": metres.registration_error if metres else 0.0,
        "photos": photos,
        "tracks": [_track(track) for track in tracks],
    }
    words = {
        "scene": scene,
        "scale": f"{metres.words}." if metres and scale else _NO_SCALE,
        "tilt": f"; of a height, also from up, which is known within {up.error:.1f}° (standard error)",
    }
    return _rendered(content, words)


def _rendered(content: dict[str, Any], words: dict[str, str]) -> str:
    """Return the page with the content for its script, and with words for people."""
    folder = Path(__file__).parent
    script = "".join((folder / file).read_text(encoding="utf-8") for file in _SCRIPTS)
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")  # nothing in it can end the script's element
    template = environment(folder).get_template("picking.html")
    page = template.render(**words, scripts=script_source(script), content=Markup(text), script=Markup(script))
    return encodable(page)


def _chosen(cameras: Cameras) -> list[Camera]:
    """Return the cameras whose pictures are on the page."""
    # Views of a panorama share their photo's name: picks in them would have no meaning.
    views = Counter(camera.name for camera in cameras.all)
    plain = [camera for camera in cameras.all if views[camera.name] == 1]
    return plain[:: 1 + len(plain) // (_MOST_PHOTOS + 1)]


def _photos(dataset: Path, chosen: list[Camera]) -> list[dict[str, Any]]:
    """Return what the page's script knows of each photo."""
    extent = np.ptp([camera.position for camera in chosen], axis=0).tolist() if chosen else []
    return [
        {
            "name": printable(camera.name),
            "picture": _picture(dataset, camera.file),
            "size": camera.size,
            "focal": camera.focal.tolist(),
            "centre": camera.centre.tolist(),
            "distortion": camera.distortion.tolist(),
            "fisheye": camera.fisheye,
            "pose": camera.pose.tolist(),
            "scale": camera.scale,
            "extent": extent,
        }
        for camera in chosen
    ]


def _track(track: Track) -> dict[str, Any]:
    """Return what the page's script knows of a triangulated point."""
    return {
        "at": track.position.round(6).tolist(),
        "colour": "#{:02x}{:02x}{:02x}".format(*track.colour),
        "seen": [[number, *pixel.round(2).tolist()] for number, pixel in track.seen],
    }


def _picture(dataset: Path, file: str) -> str:
    """Return a picture of the dataset as a `data:` address. A path that leads out of the dataset is refused."""
    with Image.open(within(dataset, file)) as image:
        shown = image.convert("RGB")
    return shrunk(shown, _LONGEST, quality=85)
