"""Compare the versions of a scene's model by quality, time and cost, for Prefect and for the scene's page.

Only versions with the same options and image size are compared, because PSNR rises when images get smaller.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from jobs import report
from jobs.metric.scene import SceneInMetres
from jobs.web.chart import Line, chart

__all__ = [
    "COLUMNS",
    "Facts",
    "Fall",
    "Made",
    "Role",
    "Version",
    "fall",
    "hundredths",
    "money",
    "plot",
    "previous",
    "row",
    "table",
    "total",
    "warning",
]

_NOTABLE_FALL = 1.0  # dB of PSNR below the previous version, above which there is a warning

COLUMNS = ("model", "made", "PSNR, dB", "SSIM", "LPIPS", "at", "photos registered", "steps", "time", "cost")


class Version(BaseModel):
    """A version of a scene's model. Unknown figures are None.

    Args:
        version: the full version.
        number: the model's number among all models of the scene.
        capture: the capture version that it was made of.
        created: when it was registered.
        options: a fingerprint of the training options.
        method: nerfstudio's name of the method.
        image_size: the longest side of the held-out photos in px, as they were compared.
        psnr: the mean PSNR of the held-out photos in dB. `ssim` and `lpips` are means as well.
        psnr_colours_fitted: likewise after the colours of each were fitted, if the light differs between photos.
        registered: registered photos of used photos, for example "46/48".
        steps: the number of training steps.
        seconds: the run time of the jobs that made its dataset and the model.
        cost: the cost of these jobs.
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
    psnr_colours_fitted: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    registered: str | None = None
    steps: int | None = None
    seconds: float | None = None
    cost: float | None = None

    @property
    def title(self) -> str:
        """Return the version and the model's number, for people."""
        return f"{self.version} (model {self.number})" if self.number else self.version

    @property
    def counted(self) -> float | None:
        """Return the PSNR that counts: after the colours were fitted if the light differs, else as rendered."""
        return self.psnr if self.psnr_colours_fitted is None else self.psnr_colours_fitted

    @property
    def psnr_words(self) -> str:
        """Return that PSNR in words, for example "25.8 dB" or "23.4 dB with colours fitted"; "" if it is not known."""
        fitted = " with colours fitted" if self.psnr_colours_fitted is not None else ""
        return "" if self.counted is None else f"{self.counted:.1f} dB{fitted}"

    @property
    def model_title(self) -> str:
        """Return the model's number, its version and, if it is known, its PSNR, for people."""
        return f"model {self.number or '–'} ({', '.join(filter(None, (self.version, self.psnr_words)))})"

    @property
    def kind(self) -> tuple[str, int] | None:
        """Return what two versions must have in common for their figures to be comparable."""
        return (self.options, self.image_size) if self.options and self.image_size else None


Role = Literal["dataset", "model", "video"]


class Made(BaseModel):
    """An asset on a page: its role, its name and version, its figures, and the time and cost of its jobs."""

    role: Role
    asset: str
    figures: dict[str, str] = {}
    seconds: float | None = None
    cost: float | None = None


class Facts(BaseModel):
    """The scheduler's contribution to a scene's page.

    Args:
        scene: the scene's name.
        capture: the name and version of the capture.
        made: the assets that were made of it.
        versions: the versions of the scene's model up to the page's own, oldest first.
        better: a later version beside which the page's own is a trial; None if there is none.
        currency: the currency of the costs.
        metres: the scale of the scene frame, or None if nothing was measured.
    """

    scene: str
    capture: str = ""
    made: list[Made] = []
    versions: list[Version] = []
    better: Version | None = None
    currency: str = ""
    metres: SceneInMetres | None = None

    def as_json(self) -> str:
        """Return these facts as JSON. It is part of a page's fingerprint, so unknown newer fields are left out."""
        left_out: dict[str, Any] = {name: True for name in ("better", "metres") if getattr(self, name) is None}
        without = [index for index, version in enumerate(self.versions) if version.psnr_colours_fitted is None]
        if without:
            left_out["versions"] = {index: {"psnr_colours_fitted"} for index in without}
        return self.model_dump_json(exclude=left_out)


def previous(versions: list[Version], own: Version) -> Version | None:
    """Return the last version before `own` that can be compared with it, of the newest capture up to its own."""
    before = [
        other
        for other in versions
        if own.kind and other.kind == own.kind and other.capture <= own.capture and other.created < own.created
    ]
    return max(before, key=lambda other: (other.capture, other.created), default=None)


class Fall(NamedTuple):
    """By how many dB a version's PSNR is below that of `before`; negative if it is above."""

    decibels: float
    before: Version


def fall(versions: list[Version], own: Version) -> Fall | None:
    """Compare the PSNR of a version with that of the previous one; None if they cannot be compared."""
    before = previous(versions, own)
    if before is None or before.counted is None or own.counted is None:
        return None
    return Fall(before.counted - own.counted, before)


def warning(versions: list[Version], own: Version) -> str:
    """Return a warning if PSNR fell notably, else ""."""
    found = fall(versions, own)
    if found is None or found.decibels <= _NOTABLE_FALL:
        return ""
    return f"PSNR is {found.decibels:.1f} dB below that of {found.before.title}, trained with the same options."


def row(version: Version, currency: str) -> list[str]:
    """Return the cells of a version, in the order of `COLUMNS`."""
    return [
        version.title,
        f"{version.created:%Y-%m-%d %H:%M}",
        _number(version.counted, 2) + (" (colours fitted)" if version.psnr_colours_fitted is not None else ""),
        _number(version.ssim, 3),
        _number(version.lpips, 3),
        f"{version.image_size} px" if version.image_size else "–",
        version.registered or "–",
        _number(version.steps, 0),
        "–" if version.seconds is None else report.duration(version.seconds),
        money(version.cost, currency),
    ]


def table(versions: list[Version], currency: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and a row for each version. Columns without any figure are left out."""
    rows = [row(version, currency) for version in versions]
    used = [index for index in range(len(COLUMNS)) if any(cells[index] != "–" for cells in rows)]
    return [COLUMNS[index] for index in used], [[cells[index] for index in used] for cells in rows]


def plot(versions: list[Version]) -> str:
    """Return PSNR by version as SVG, with a line for each kind, or "" if there are fewer than two points."""
    lines: dict[tuple[str, int], list[tuple[float, float]]] = {}
    names = {}
    for index, version in enumerate(versions):
        if version.counted is not None and (kind := version.kind):
            lines.setdefault(kind, []).append((index, version.counted))
            names[kind] = f"{version.method}, {version.steps} steps, {version.image_size} px"
    if sum(map(len, lines.values())) < 2:
        return ""
    labels = [version.version if len(versions) < 5 else str(version.capture) for version in versions]
    return chart([Line(names[kind], points, True) for kind, points in lines.items()], "version", "PSNR, dB", labels)


def total(values: list[float | None]) -> float | None:
    """Return the sum, or None if a value is unknown or there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def money(cost: float | None, currency: str) -> str:
    """Return a price for people, or "–" if it is unknown."""
    return "–" if cost is None else f"{hundredths(cost)} {currency}".rstrip()


def hundredths(number: float) -> str:
    """Return a number of at least 0 with two decimals: "<0.01" instead of "0.00" for a small one."""
    return "<0.01" if 0 < number < 0.005 else f"{number:.2f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
