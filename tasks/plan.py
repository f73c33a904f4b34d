"""What a stage is going to do: all that decides its result, before anything runs."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from prefect.utilities.urls import url_for
from pydantic_settings import CliApp

from blocks import Asset, AssetKind, JobSpec, Workspace
from jobs.options import Options
from tasks.wanted import current_run

__all__ = ["Gate", "Plan"]

Gate = Callable[[Workspace, Mapping[str, str]], None]
"""Looks at the tags that a finished job's result is to get, and raises GateRefused where it must not be registered."""


@dataclass(frozen=True)
class Plan:
    """All that decides a stage's result, before anything runs.

    Args:
        scene: its name.
        capture_version: the version that the user speaks of.
        options: resolved: nothing is left to the profile.
        asset_name, kind: of the result; its version follows from the fingerprint.
        part: which part of something larger the result is, for people; "" where it is a whole.
        output: the job's folder that becomes the asset, also the name of the job's option for it.
        inputs: assets by the name of the job's option.
        references: further assets to read, which `arguments` name as `{inputs.NAME}`. They do not count in the
            fingerprint: what was made once stays made, though today's references are others.
        parts: further inputs, that do not decide the result: what was made of it already, by parts.
        files: small texts by file name; `arguments` refer to them as `{files.NAME}`.
        scratch: folders that all attempts share, by the name of the job's option.
        arguments: further arguments of the job.
        tier: whether it needs the GPU.
        time_limit: seconds.
        work: how much there is to do, in the stage's own unit (iterations, frames): by it, the time that one version
            took tells what another takes. None where that is not known.
        generation: how often the same was asked for anew, counted from 1.
        must_have: files of the result that must be there and not be empty.
        gate: what the result must pass before it is registered. The job of one that does not stays, to be registered
            by a later run without the gate.
    """

    scene: str
    capture_version: str
    options: Options
    asset_name: str
    kind: AssetKind
    output: str
    inputs: dict[str, Asset]
    part: str = ""
    references: dict[str, Asset] = field(default_factory=dict)
    parts: dict[str, Asset] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    scratch: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    tier: Literal["cpu", "gpu"] = "gpu"
    time_limit: int = 24 * 3600
    work: float | None = None
    generation: int = 1
    must_have: tuple[str, ...] = ()
    gate: Gate | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the options, the inputs, the stage's own version and the generation."""
        first = self._first_fingerprint
        return first if self.generation == 1 else hashlib.sha256(f"{first} {self.generation}".encode()).hexdigest()

    @functools.cached_property
    def _first_fingerprint(self) -> str:
        inputs = {name: asset.tags.get("fingerprint") or asset.tags["content"] for name, asset in self.inputs.items()}
        return self.options.fingerprint(**inputs, **self.files)

    @property
    def version(self) -> str:
        """The asset's version: `<capture version>-<8 hex>`, of the first generation's fingerprint, `-2` and so on."""
        again = f"-{self.generation}" if self.generation > 1 else ""
        return f"{self.capture_version}-{self._first_fingerprint[:8]}{again}"

    def generations(self, assets: list[Asset]) -> dict[int, Asset]:
        """The generations of this result among the versions of its asset."""
        first = re.escape(replace(self, generation=1).version)
        found = ((re.fullmatch(rf"{first}(?:-(\d+))?", asset.version), asset) for asset in assets)
        return {int(match[1] or 1): asset for match, asset in found if match}

    def cache_key(self, workspace: Workspace) -> str:
        """What Prefect knows the result by."""
        return f"rebel-nerf--{workspace.identity}--{self.asset_name}--{self.fingerprint}".replace("/", "--")

    def spec(self, attempt: int, tags: dict[str, str]) -> JobSpec:
        """The job of the given attempt."""
        places = {name: f"{{inputs.{name}}}" for name in self.inputs}
        places |= {name: f"{{scratch.{name}}}" for name in self.scratch}
        places[self.output] = f"{{outputs.{self.output}}}"
        where = [part for name, place in places.items() for part in (f"--{name}", place)]
        return JobSpec(
            family=f"{self.scene}-{self.options.STAGE}-{self.version}",
            attempt=attempt,
            scene=self.scene,
            stage=self.options.STAGE,
            part=self.part,
            arguments=(*where, *CliApp.serialize(self.options), *self.arguments),
            inputs=self.inputs | self.references | self.parts,
            outputs=(self.output,),
            scratch=self.scratch,
            files=self.files,
            tier=self.tier,
            tags=tags,
            description=self._description(),
            time_limit=self.time_limit,
        )

    def _description(self) -> str:
        """What the job's own page says of it: the scene, the result, and the way back to the flow run."""
        told = f"Scene **{self.scene}**, capture version {self.capture_version}: {self.options.STAGE}"
        told += f" ({self.part})" if self.part else ""
        told += f", to make `{self.asset_name}:{self.version}`."
        run = current_run()
        page = url_for("flow-run", obj_id=run) if run else None
        return told + (f"\n\n[The flow run that submitted it, in Prefect]({page})" if page else "")

    def tags(self) -> dict[str, str]:
        """Where the result comes from; what was made with the same options has the same `options`."""
        parts = self.parts.values()
        return {
            "scene": self.scene,
            "stage": self.options.STAGE,
            "capture_version": self.capture_version,
            "fingerprint": self.fingerprint,
            "options": self.options.fingerprint()[:8],
            "tier": self.tier,
            **({"work": f"{self.work:g}"} if self.work else {}),
            **{name: str(asset) for name, asset in {**self.inputs, **self.references}.items()},
            **({"parts_seconds": str(sum(int(part.tags.get("job_seconds", 0)) for part in parts))} if parts else {}),
            **({"flow_run": str(run)} if (run := current_run()) else {}),
        }
