"""Where an asset comes from, as its tags say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["Provenance", "is_reference", "reference"]

_INPUT = re.compile(r"images|dataset|model|video|export|then|now|older|newer|earlier|metres|marked|reference_\d+")


def reference(number: int) -> str:
    """Return the name of an input that is an earlier dataset, for registration; the first number is 1.

    A stage can run without references, but its result then differs.
    """
    return f"reference_{number}"


def is_reference(name: str) -> bool:
    """Return whether an input of that name is a reference."""
    return name.startswith("reference_")


class Provenance(BaseModel):
    """Where an asset comes from. A workspace stores each field as a tag, beside tags that say how good the asset is.

    Args:
        scene: the scene's name.
        stage: the stage that made the asset; None for a capture.
        capture_version: the version of the capture that the asset was made from.
        content: of a capture: the fingerprint of its files.
        source: of a capture: where its files came from.
        taken_in_by: of a capture: the flow that registered it by itself.
        fingerprint: the hash of everything that decided the asset.
        options: the first digits of the hash of the stage's options.
        tier: the kind of machine that ran the job.
        work: how much there was to do, in the stage's own unit.
        frame: of a dataset: the dataset that began its scene frame, or "new" if it began one itself.
        inputs: the assets that the stage read, as name:version, by the name of the job's option.
        flow_run: the ID of the flow run.
        job: the name of the job.
        job_seconds: how long its jobs ran.
        parts_seconds: how long the jobs of its parts ran, on GPUs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scene: str | None = None
    stage: str | None = None
    capture_version: str | None = None
    content: str | None = None
    source: str | None = None
    taken_in_by: str | None = None
    fingerprint: str | None = None
    options: str | None = None
    tier: Literal["cpu", "gpu"] | None = None
    work: float | None = Field(None, allow_inf_nan=False)
    frame: str | None = None
    inputs: dict[str, str] = Field(default_factory=dict)
    flow_run: str | None = None
    job: str | None = None
    job_seconds: float | None = Field(None, allow_inf_nan=False)
    parts_seconds: float | None = Field(None, allow_inf_nan=False)

    @classmethod
    def has(cls, tag: str) -> bool:
        """Return whether a tag of this name says where an asset comes from."""
        return (tag != "inputs" and tag in cls.model_fields) or _INPUT.fullmatch(tag) is not None

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Provenance:
        """Read the provenance among an asset's tags. A value that a person wrote and that makes no sense is ignored."""
        known = {name: value for name, value in tags.items() if name in cls.model_fields and name != "inputs"}
        inputs = {name: value for name, value in tags.items() if _INPUT.fullmatch(name)}
        try:
            return cls(**known, inputs=inputs)
        except ValidationError as error:
            for fault in error.errors():
                known.pop(str(fault["loc"][0]), None)
            return cls(**known, inputs=inputs)

    def tags(self) -> dict[str, str]:
        """Return the tags that hold this provenance."""
        known = self.model_dump(exclude_none=True, exclude={"inputs", "work", "job_seconds", "parts_seconds"})
        if self.work is not None:
            known["work"] = f"{self.work:g}"
        known |= self.inputs
        seconds = {"job_seconds": self.job_seconds, "parts_seconds": self.parts_seconds}
        return known | {name: str(round(value)) for name, value in seconds.items() if value is not None}
