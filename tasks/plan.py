"""The plan of a stage: everything that decides its result, before anything runs."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from prefect.utilities.urls import url_for
from pydantic_settings import CliApp

from blocks import Asset, AssetKind, JobSpec, Provenance, Workspace
from blocks.records import Tier
from jobs.base_options import Options
from tasks.wanted import current_run

__all__ = ["Gate", "Plan"]

Gate = Callable[[Workspace, Mapping[str, str]], None]
"""Looks at the tags that a finished job's result will have. Raises GateRefused if it must not be registered."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a stage's result.

    Args:
        scene: the scene's name.
        capture_version: the version that the user names.
        options: the stage's options, with the profile's defaults filled in.
        asset_name, kind: of the result. Its version follows from the fingerprint.
        part: which part of something larger the result is, for people; "" for a whole.
        output: the job's folder that becomes the asset, and the name of the job's option for it.
        inputs: assets by the name of the job's option.
        references: further assets to read, which `arguments` name as `{inputs.NAME}`. They are not part of the
            fingerprint: a result stays valid when later runs have other references.
        parts: further inputs that do not decide the result, such as the shards of a video.
        files: small texts by file name. `arguments` refer to them as `{files.NAME}`.
        scratch: folders that all attempts share, by the name of the job's option.
        arguments: further arguments of the job.
        tier: the kind of machine that the job needs.
        time_limit: in seconds.
        work: how much there is to do, in the stage's own unit (iterations, frames), to predict how long a job takes
            from how long an earlier one took. None if unknown.
        generation: 1 for the first result, 2 after a refresh, and so on.
        must_have: files of the result that must exist and not be empty.
        gate: the check that the result must pass before it is registered. The job of a refused result is kept, so a
            later run without the gate can register it.
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
    tier: Tier = "gpu"
    time_limit: int = 24 * 3600
    work: float | None = None
    generation: int = 1
    must_have: tuple[str, ...] = ()
    gate: Gate | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Return the hash of the options, the inputs, the stage's own version and the generation."""
        first = self._first_fingerprint
        return first if self.generation == 1 else hashlib.sha256(f"{first} {self.generation}".encode()).hexdigest()

    @functools.cached_property
    def _first_fingerprint(self) -> str:
        return self.options.fingerprint(**{name: each.fingerprint for name, each in self.inputs.items()}, **self.files)

    @property
    def version(self) -> str:
        """Return the asset's version: `<capture version>-<8 hex>`, and `-2` and so on for later generations."""
        again = f"-{self.generation}" if self.generation > 1 else ""
        return f"{self.capture_version}-{self._first_fingerprint[:8]}{again}"

    def generations(self, assets: list[Asset]) -> dict[int, Asset]:
        """Return the generations of this result among the versions of its asset."""
        first = re.escape(replace(self, generation=1).version)
        found = ((re.fullmatch(rf"{first}(?:-(\d+))?", asset.version), asset) for asset in assets)
        return {int(match[1] or 1): asset for match, asset in found if match}

    def cache_key(self, workspace: Workspace) -> str:
        """Return the key of the result in Prefect's cache."""
        return f"rebel-nerf--{workspace.identity}--{self.asset_name}--{self.fingerprint}".replace("/", "--")

    @property
    def _family(self) -> str:
        return f"{self.scene}-{self.options.STAGE}-{self.version}"

    def job_name(self, attempt: int) -> str:
        """Return the name of the job of the given attempt."""
        return f"{self._family}-{attempt}"

    def spec(self, attempt: int) -> JobSpec:
        """Return the job of the given attempt."""
        places = {name: f"{{inputs.{name}}}" for name in self.inputs}
        places |= {name: f"{{scratch.{name}}}" for name in self.scratch}
        places[self.output] = f"{{outputs.{self.output}}}"
        where = [part for name, place in places.items() for part in (f"--{name}", place)]
        return JobSpec(
            family=self._family,
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
            tags=self.provenance().tags(),
            description=self._description(),
            time_limit=self.time_limit,
        )

    def _description(self) -> str:
        """Return what the job's own page says: the scene, the result, and a link to the flow run."""
        part = f" ({self.part})" if self.part else ""
        text = (
            f"Scene **{self.scene}**, capture version {self.capture_version}: {self.options.STAGE}{part}, "
            f"to make `{self.asset_name}:{self.version}`."
        )
        run = current_run()
        page = url_for("flow-run", obj_id=run) if run else None
        return text + (f"\n\n[The flow run that submitted it, in Prefect]({page})" if page else "")

    def provenance(self) -> Provenance:
        """Return where the result comes from. Results of the same options have the same `options`."""
        run = current_run()
        parts_seconds = sum(part.provenance.job_seconds or 0.0 for part in self.parts.values())
        return Provenance(
            scene=self.scene,
            stage=self.options.STAGE,
            capture_version=self.capture_version,
            fingerprint=self.fingerprint,
            options=self.options.fingerprint()[:8],
            tier=self.tier,
            work=self.work or None,
            inputs={name: str(asset) for name, asset in (self.inputs | self.references).items()},
            flow_run=str(run) if run else None,
            parts_seconds=parts_seconds if self.parts else None,
        )
