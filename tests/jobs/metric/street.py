"""A dataset of the built-in street without its pictures: true cameras, in a scene frame of 7.3 m a unit.

Points anywhere in front of the cameras can be picked in it, as exactly as a test wants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.demo.raster import Camera, Floats
from jobs.facade import cameras
from jobs.metric.given import Length, Pick

UNIT = 7.3
"""Metres per scene unit."""

WIDTH, HEIGHT = 640, 360


class Street:
    """The dataset in a folder, and where its photos show points.

    Args:
        folder: gets `transforms.json` and `dataset.json`.
        tags: of each photo, such as its GPS.
        about: further content of `dataset.json`.
    """

    def __init__(
        self, folder: Path, tags: Sequence[Mapping[str, float]] = (), about: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.cameras: list[Camera] = cameras(24, WIDTH, HEIGHT)
        frames, images = [], []
        for number, camera in enumerate(self.cameras):
            pose = np.eye(4)
            pose[:3, :3] = camera.rotation * [1, -1, -1]
            pose[:3, 3] = camera.center / UNIT
            file = f"images/frame_{number:05d}.jpg"
            frames.append({"file_path": file, "transform_matrix": pose.tolist()})
            image = {"file": file, "source": self.photo(number), "registered": True}
            images.append({**image, "tags": dict(tags[number])} if tags else image)
        focal = self.cameras[0].focal
        shared = {"fl_x": focal, "fl_y": focal, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "transforms.json").write_text(json.dumps({"camera_model": "OPENCV", **shared, "frames": frames}))
        manifest = {"up": "cameras", "images": images, "options": {"downscale_factor": 1}, **(about or {})}
        (folder / "dataset.json").write_text(json.dumps(manifest))

    def photo(self, number: int) -> str:
        """Return the name of a photo."""
        return f"walk/IMG_{number}.jpg"

    def picks(self, point: Sequence[float], rng: np.random.Generator | None = None) -> tuple[Pick, ...]:
        """Pick a point (3,) in metres in up to six photos that show it, with noise of 0.5 px if `rng` is given."""
        seen: list[tuple[str, Floats]] = []
        for number, camera in enumerate(self.cameras):
            x, y, depth = camera.project(np.array(point))
            if depth > 0 and 0 < x < WIDTH and 0 < y < HEIGHT:
                seen.append((self.photo(number), np.array([x, y])))
        chosen = [seen[k] for k in np.unique(np.linspace(0, len(seen) - 1, 6).round().astype(int))]
        found = []
        for name, pixel in chosen:
            x, y = pixel + (rng.normal(0, 0.5, 2) if rng else 0.0)
            found.append(Pick(photo=name, x=float(x), y=float(y)))
        return tuple(found)

    def length(
        self,
        name: str,
        start: Sequence[float],
        end: Sequence[float],
        rng: np.random.Generator | None = None,
        times: float = 1.0,
    ) -> Length:
        """Measure between two points in metres; `times` too much."""
        metres = float(np.linalg.norm(np.subtract(end, start))) * times
        return Length(name=name, metres=metres, start=self.picks(start, rng), end=self.picks(end, rng))
