"""How good each version of a scene's model is, and what it took: the table and plot in Prefect and on the scene's page.

Only figures of the same options and the same size of pictures are compared: PSNR rises when pictures get smaller.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs import report
from jobs.metric.scene import SceneInMetres
from jobs.web.chart import Line, chart

__all__ = [
    "COLUMNS",
    "Facts",
    "Made",
    "Role",
    "Version",
    "fall",
    "money",
    "plot",
    "previous",
    "row",
    "table",
    "total",
    "warning",
]

_NOTABLE_FALL = 1.0  # dB of PSNR against the last version, that are pointed out

COLUMNS = ("model", "made", "PSNR, dB", "SSIM", "LPIPS", "at", "photos registered", "steps", "time", "cost")


class Version(BaseModel):
    """One version of a scene's model; what is not known is None.

    Args:
        version: of the model, in full.
        number: the model's number among all models of the scene.
        capture: the capture version it was made of.
        created: when it was registered.
        options: what tells the options it was trained with.
        method: nerfstudio's name.
        image_size: longest side, px, of the pictures that the figures are of.
        psnr: dB, mean of the held-out photos, as are `ssim` and `lpips`.
        registered: photos registered, of photos used: "46/48".
        steps: of training.
        seconds: that the jobs of its dataset and of itself ran.
        cost: of those.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    number: int | None = None
    capture: int
    created: datetime
    options: str | None = None
    method: str | None = None
    image_size: int | None = None
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    registered: str | None = None
    steps: int | None = None
    seconds: float | None = None
    cost: float | None = None

    @property
    def title(self) -> str:
        """The version and the model's number, as people read them."""
        return f"{self.version} (model {self.number})" if self.number else self.version

    @property
    def kind(self) -> tuple[str, int] | None:
        """What two versions must share for their figures to be compared."""
        return (self.options, self.image_size) if self.options and self.image_size else None


Role = Literal["dataset", "model", "video"]


class Made(BaseModel):
    """An asset that a page is about: its role in it, its name and version, its figures, its jobs' time and cost."""

    role: Role
    asset: str
    figures: dict[str, str] = {}
    seconds: float | None = None
    cost: float | None = None


class Facts(BaseModel):
    """What the scheduler knows for a scene's page.

    Args:
        scene: the scene's name.
        capture: the capture that everything was made of, by name and version.
        made: what was made of it.
        versions: of the scene's model, up to the one that the page is about, oldest first.
        currency: of the costs.
        metres: of the scene's frame; None if nobody measured anything.
    """

    scene: str
    capture: str = ""
    made: list[Made] = []
    versions: list[Version] = []
    currency: str = ""
    metres: SceneInMetres | None = None

    def as_json(self) -> str:
        """Return these facts as JSON. It is part of a page's fingerprint, so it names metres only if there are some."""
        return self.model_dump_json(exclude=None if self.metres else {"metres"})


def previous(versions: list[Version], own: Version) -> Version | None:
    """The last version before `own` that it can be compared with: of the newest capture up to its own."""
    before = [
        other
        for other in versions
        if own.kind and other.kind == own.kind and other.capture <= own.capture and other.created < own.created
    ]
    return max(before, key=lambda other: (other.capture, other.created), default=None)


def fall(versions: list[Version], own: Version) -> tuple[float, Version] | None:
    """By how many dB the PSNR of `own` is below the previous version's (negative: above), and that version."""
    before = previous(versions, own)
    if before is None or before.psnr is None or own.psnr is None:
        return None
    return before.psnr - own.psnr, before


def warning(versions: list[Version], own: Version) -> str:
    """What to say of a fall that matters; "" where there is none."""
    found = fall(versions, own)
    if found is None or found[0] <= _NOTABLE_FALL:
        return ""
    return f"PSNR is {found[0]:.1f} dB below that of {found[1].title}, trained with the same options."


def row(version: Version, currency: str) -> list[str]:
    """The cells of a version, by `COLUMNS`."""
    return [
        version.title,
        f"{version.created:%Y-%m-%d %H:%M}",
        _number(version.psnr, 2),
        _number(version.ssim, 3),
        _number(version.lpips, 3),
        f"{version.image_size} px" if version.image_size else "–",
        version.registered or "–",
        _number(version.steps, 0),
        "–" if version.seconds is None else report.duration(version.seconds),
        money(version.cost, currency),
    ]


def table(versions: list[Version], currency: str) -> tuple[list[str], list[list[str]]]:
    """Return the columns' names and the rows of some versions, without the columns that no version has a figure for."""
    rows = [row(version, currency) for version in versions]
    used = [index for index in range(len(COLUMNS)) if any(cells[index] != "–" for cells in rows)]
    return [COLUMNS[index] for index in used], [[cells[index] for index in used] for cells in rows]


def plot(versions: list[Version]) -> str:
    """PSNR over the versions as SVG, a line for each kind that can be compared; empty for less than two points."""
    lines: dict[tuple[str, int], list[tuple[float, float]]] = {}
    names = {}
    for index, version in enumerate(versions):
        if version.psnr is not None and (kind := version.kind):
            lines.setdefault(kind, []).append((index, version.psnr))
            names[kind] = f"{version.method}, {version.steps} steps, {version.image_size} px"
    if sum(map(len, lines.values())) < 2:
        return ""
    labels = [version.version if len(versions) < 5 else str(version.capture) for version in versions]
    return chart([Line(names[kind], points, True) for kind, points in lines.items()], "version", "PSNR, dB", labels)


def total(values: list[float | None]) -> float | None:
    """The sum; None where one of them is not known, or there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def money(cost: float | None, currency: str) -> str:
    """A price for people; "–" where it is not known."""
    return "–" if cost is None else f"{cost:.2f} {currency}".rstrip()


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
