"""This machine as a workspace: a folder and processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from prefect.logging import get_logger
from pydantic import Field, PrivateAttr

from blocks import integrity, local_cleanup, local_files, supervisor
from blocks.expense import Expense
from blocks.local_captures import list_dropped
from blocks.local_files import (
    copy,
    files_below,
    link_or_copy,
    replace_durably,
    sync,
    sync_folder,
    write_durably,
    writing,
)
from blocks.local_jobs import LocalJobs, gpus
from blocks.marks import Marks
from blocks.privacy import make_private
from blocks.reading import changed, reading, stamp
from blocks.records import (
    Asset,
    AssetKind,
    DroppedCapture,
    JobSpec,
    JobStatus,
    Leftover,
    PageAddress,
    content_fingerprint,
)
from blocks.workspace import Workspace
from jobs.errors import InvalidInput, NotFound
from jobs.manifest import checksum, checksum_of
from jobs.names import scenes_among

__all__ = ["LocalWorkspace"]

_SERVED = "served-at.txt"
"""The file with the address at which a server shows this workspace."""


class LocalWorkspace(Workspace):
    """Captures, assets and jobs under one folder of this machine, readable without our code.

    People drop photos into `captures/<scene>/`. `assets/<name>/<version>/` holds an asset's files and `asset.json`
    (kind, tags, checksums). `jobs/<name>/` holds a job's spec, status, log and outputs. If there is a limit on costs,
    `spent/<year-month>/<job>.json` holds what each job costs.
    """

    _block_type_name = "rebel-nerf local workspace"
    _block_type_slug = "rebel-nerf-local-workspace"
    _description = "A folder and processes of this machine: captures, datasets, models, videos, and the jobs between."

    root: Path = Field(
        default_factory=lambda: Path(os.environ.get("REBEL_NERF_HOME") or "~/.rebel-nerf"),
        description="Folder of the workspace. Defaults to $REBEL_NERF_HOME, else ~/.rebel-nerf",
    )
    python: str = Field(
        default_factory=lambda: sys.executable,
        description="Python interpreter that runs jobs. It needs `pip install 'rebel-nerf[local]'`",
    )
    jobs_at_once: int | None = Field(
        None, ge=1, description="Most GPU jobs at the same time; more than there are GPUs share them. None: one per GPU"
    )

    _intact: set[Path] = PrivateAttr(default_factory=set)
    """Manifests of assets that are not damaged. Each run opens its own block, so it checks each asset once."""

    @property
    def folder(self) -> Path:
        """Return the root as an absolute path."""
        return self.root.expanduser().absolute()

    @property
    def identity(self) -> str:
        return str(self.folder)

    def check(self) -> None:
        self.check_cost_limits()
        try:
            make_private(self.folder)
            probe = self.folder / f".{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InvalidInput(
                f"root: the workspace's folder {self.folder} cannot be written ({error.strerror}). "
                "Choose another root, or set REBEL_NERF_HOME."
            ) from error
        if shutil.which(self.python) is None:
            raise InvalidInput(f"python: {self.python} is not a program. Name the interpreter that runs jobs.")

    def has_gpu(self) -> bool:
        return bool(gpus())

    # captures

    def take_in(self, scene: str, files: Mapping[str, Path], tags: Mapping[str, str]) -> Asset:
        return self._take_in(scene, files, tags, None)

    def _take_in(
        self, scene: str, files: Mapping[str, Path], tags: Mapping[str, str], listed: Mapping[str, str] | None
    ) -> Asset:
        """Register files. `listed` are the checksums that they must still have, if they were listed before."""
        stamps = {path: stamp(file) for path, file in files.items()}
        checksums = {}
        for path, file in files.items():
            with reading(file) as stream:
                checksums[path] = checksum_of(stream)
        if listed is not None and checksums != listed:
            other = next(path for path in files if checksums[path] != listed[path])
            raise InvalidInput(f"scene {scene}: {other} has changed since it was listed. Wait for the upload to end.")
        content = content_fingerprint(checksums.values())
        if known := self.capture_with(scene, content):
            return known
        with self._part("assets", scene) as part:
            for path, file in files.items():
                target = part / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with reading(file) as stream:
                    copy(stream, target)
                if stamp(file) != stamps[path] or checksum(target) != checksums[path]:
                    raise InvalidInput(f"scene {scene}: {changed(file)}")
            taken = {**tags, "scene": scene, "content": content}
            while True:
                number = 1 + max(self._capture_numbers(scene), default=0)
                if known := self.capture_with(scene, content):  # another process has just registered the same content
                    return known
                if asset := self._publish(part, scene, str(number), "capture", taken, checksums):
                    return asset

    def _capture_numbers(self, scene: str) -> Iterator[int]:
        """Yield the numbers of a scene's versions. Those of damaged versions stay taken."""
        for folder in (self.folder / "assets" / scene).glob("*"):
            if found := re.fullmatch(r"(?:\.damaged-)?(\d+)(?:-[0-9a-f]{8})?", folder.name):
                yield int(found[1])

    def dropped(self, scene: str | None = None) -> list[DroppedCapture]:
        return list_dropped(self.folder / "captures", self.folder / "checksums.json", scene)

    def find_capture(self, dropped: DroppedCapture) -> Asset | None:
        return self.capture_with(dropped.scene, dropped.content)

    def take_in_dropped(self, dropped: DroppedCapture, tags: Mapping[str, str]) -> Asset:
        assert dropped.folder
        # A link that leads out of the folder since it was listed is found out by its checksum.
        files = {path: Path(os.path.realpath(dropped.folder / path)) for path in dropped.files}
        return self._take_in(dropped.scene, files, tags, {path: file.checksum for path, file in dropped.files.items()})

    # assets

    def scenes(self) -> list[str]:
        found = (self.folder / "assets").glob("[!.]*/[!.]*/asset.json")
        return sorted(scenes_among({manifest.parent.parent.name for manifest in found}, self.is_capture))

    def mark(self, asset: Asset, marks: Marks) -> Asset:
        local_files.write_marks(self.fetch(asset), marks)
        return asset.model_copy(update={"marks": marks})

    def assets(self, name: str) -> list[Asset]:
        found = (self._read_asset(manifest) for manifest in (self.folder / "assets" / name).glob("[!.]*/asset.json"))
        return local_files.numbered(sorted((a for a in found if a), key=lambda asset: asset.created))

    def find_asset(self, name: str, version: str) -> Asset | None:
        asset = self._read_asset(self.folder / "assets" / name / version / "asset.json")
        if asset and asset.kind == "model" and asset.number is None:
            asset = next((each for each in self.assets(name) if each.version == version), None)
        return asset

    def fetch(self, asset: Asset) -> Path:
        folder = self.folder / "assets" / asset.name / asset.version
        if not (folder / "asset.json").is_file():
            raise NotFound(f"asset {asset} is no longer in {self.folder}/assets. Run the stage that makes it again.")
        return folder

    def served_at(self) -> str:
        with suppress(OSError, UnicodeDecodeError):
            return (self.folder / _SERVED).read_text().strip()
        return ""

    def note_served_at(self, address: str) -> None:
        """Note the address at which a server shows this workspace's folder; "" if none does.

        Raises:
            OSError: it cannot be written.
        """
        if address:
            make_private(self.folder)
            (self.folder / _SERVED).write_text(f"{address.rstrip('/')}\n")
        else:
            (self.folder / _SERVED).unlink(missing_ok=True)

    def size(self, asset: Asset) -> int:
        return local_cleanup.size_of(self.fetch(asset))

    def remove(self, asset: Asset) -> None:
        folder = self.folder / "assets" / asset.name / asset.version
        if (lock := supervisor.lock(folder.with_name(".registering"), wait=True)) is not None:
            with lock:
                local_cleanup.remove_folder(folder)
        (self.folder / "verified" / asset.name / f"{asset.version}.json").unlink(missing_ok=True)

    def leftovers(self, older_than: float) -> list[Leftover]:
        return list(local_cleanup.find_leftovers(self.folder, older_than))

    def remove_leftover(self, leftover: Leftover) -> None:
        place = Path(leftover.place)
        if place.is_dir():
            local_cleanup.remove_folder(place)
        else:
            place.unlink(missing_ok=True)

    def read(self, asset: Asset, file: str) -> bytes:
        try:
            return (self.fetch(asset) / file).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"asset {asset} has no file {file}. Run the stage that makes it again.") from None

    def _read_asset(self, manifest: Path) -> Asset | None:
        """Read an asset. If a power loss or a person has damaged it, set it aside, so that it can be made again."""
        folder = manifest.parent
        try:
            content = local_files.read_manifest(manifest)
            if content and manifest not in self._intact and (fault := local_files.damage(folder, content.sizes)):
                raise ValueError(fault)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            self._set_aside(folder, str(error))
            return None
        asset = content.asset if content else None
        if asset is None or (asset.name, asset.version) != (folder.parent.name, folder.name):  # a person renamed it
            return None
        self._intact.add(manifest)
        return asset

    def _set_aside(self, folder: Path, fault: str) -> None:
        """Rename a damaged asset's folder, so that it is no longer listed. Nothing in it is deleted."""
        if aside := integrity.set_aside(folder):
            get_logger(__name__).warning(
                "asset %s:%s is damaged (%s). It is no longer used. Its files are in %s",
                *(folder.parent.name, folder.name, fault, aside),
            )

    @contextmanager
    def _part(self, *place: str) -> Iterator[Path]:
        """Make a folder next to the place where a rename will publish it. Such names are never listed.

        If it has not been renamed, it is removed in the end.

        Raises:
            InvalidInput: it could not be written; says why.
        """
        part = self.folder.joinpath(*place, f".{uuid.uuid4().hex}.part")
        try:
            with writing(part.parent):
                part.mkdir(parents=True)
                yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _publish(
        self, part: Path, name: str, version: str, kind: AssetKind, tags: Mapping[str, str], checksums: dict[str, str]
    ) -> Asset | None:
        """Turn a folder into an asset, in one step. If the version exists, return None and keep the folder.

        A model gets the next number, under a lock.
        """
        created, final = datetime.now(timezone.utc), part.with_name(version)
        manifest: dict[str, Any] = {"name": name, "version": version, "kind": kind, "tags": dict(tags)}
        manifest["created"] = created.isoformat()
        sizes = {path: (part / path).stat().st_size for path in checksums}
        sync(part)
        with ExitStack() as held:
            if kind == "model":
                numbers = supervisor.lock(part.with_name(".numbers"), wait=True)
                assert numbers is not None
                held.enter_context(numbers)
                manifest["number"] = 1 + max((asset.number or 0 for asset in self.assets(name)), default=0)
            content = json.dumps({**manifest, "checksums": checksums, "sizes": sizes}, indent=2)
            write_durably(part / "asset.json", content)
            sync_folder(part)
            if final.exists() and not (final / "asset.json").exists():
                self._set_aside(final, "asset.json is missing")
            try:
                part.rename(final)
            except OSError:
                if final.exists():
                    return None
                raise
        sync_folder(final.parent)
        return Asset.model_validate({**manifest, "uri": str(final)})

    # jobs

    @property
    def _jobs(self) -> LocalJobs:
        return LocalJobs(self.folder, self.python, self.jobs_at_once)

    def find_job(self, name: str) -> JobStatus | None:
        return self._jobs.find(name)

    def submit(self, spec: JobSpec) -> JobStatus:
        for asset in spec.inputs.values():
            integrity.check_input(asset, self.fetch(asset), self.folder / "verified", spec.scene)
        return self._jobs.submit(spec)

    def read_log(self, name: str, offset: int) -> tuple[str, int]:
        return self._jobs.read_log(name, offset)

    def cancel(self, name: str) -> None:
        self._jobs.cancel(name)

    def output_sizes(self, job: str, output: str) -> dict[str, int]:
        return self._jobs.output_sizes(job, output)

    def follow(self, name: str, follower: str) -> None:
        if not self.folder.exists():  # do not make an empty one
            raise InvalidInput(f"root: the workspace's folder {self.folder} no longer exists. Was it moved?")
        mark = self.folder / "followers" / name / follower
        with writing(mark):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()

    def unfollow(self, name: str, follower: str) -> None:
        mark = self.folder / "followers" / name / follower
        mark.unlink(missing_ok=True)
        with suppress(OSError):  # another run waits for the job, or none ever did
            mark.parent.rmdir()

    def followers(self, name: str | None = None) -> dict[str, dict[str, float]]:
        now = time.time()
        found: dict[str, dict[str, float]] = {}
        for mark in (self.folder / "followers").glob(f"{name or '*'}/*"):
            with suppress(FileNotFoundError):
                found.setdefault(mark.parent.name, {})[mark.name] = now - mark.stat().st_mtime
        return found

    def expenses(self, month: str, job: str | None = None) -> list[Expense]:
        found = []
        for file in (self.folder / "spent" / month).glob(f"{job or '[!.]*'}.json"):
            with suppress(FileNotFoundError):  # deleted in the meantime
                found.append(Expense.read(file.read_bytes(), str(file)))
        return found

    def write_expense(self, expense: Expense) -> None:
        file = self.folder / "spent" / expense.path
        with writing(file):
            replace_durably(file, expense.model_dump_json(indent=2))

    def delete_expense(self, expense: Expense) -> None:
        (self.folder / "spent" / expense.path).unlink(missing_ok=True)

    def reach(self, name: str, port: int, local_port: int | None = None) -> PageAddress:
        return PageAddress(link=f"http://localhost:{port}")

    def register(
        self, spec: JobSpec, output: str, name: str, version: str, kind: AssetKind, tags: Mapping[str, str]
    ) -> Asset:
        folder = self.folder / "assets" / name
        folder.mkdir(parents=True, exist_ok=True)
        lock = supervisor.lock(folder / ".registering", wait=True)
        assert lock is not None
        with lock:
            if asset := self.find_asset(name, version):
                return asset
            for left in folder.glob(".*.part"):  # left by a process that was killed here
                shutil.rmtree(left)
            source = self._jobs.output(spec.name, output)
            with self._part("assets", name) as part:
                checksums = {}
                for file in files_below(source):
                    target = part / file.relative_to(source)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    link_or_copy(file, target)
                    checksums[str(file.relative_to(source))] = checksum(target)
                asset = self._publish(part, name, version, kind, tags, checksums) or self.find_asset(name, version)
            assert asset is not None
        self._jobs.discard(spec)
        return asset

    def poll_seconds(self, waited: float) -> float:
        return min(2.0, 0.25 + waited / 60)
