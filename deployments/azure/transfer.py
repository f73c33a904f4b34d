"""Upload captures, download results: `rebel-nerf azure transfer upload --scene facade --images photos/`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.events.clients import get_events_client
from prefect.settings import PREFECT_API_URL
from pydantic import BaseModel, Field
from pydantic_settings import CliApp, CliSubCommand
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from websockets.exceptions import WebSocketException

from blocks.azure import AzureMLWorkspace
from deployments.azure.common import capture_event, run, server_answers
from deployments.azure.options import AzureOptions
from jobs import media
from jobs.errors import InvalidInput, NotFound, WorkspaceUnavailable
from jobs.names import SceneName
from jobs.options import PrepareOptions


class Upload(AzureOptions):
    """Upload a folder of photos, or a video, as the scene's next capture version; nothing is sent twice.

    With a saved block and a server (PREFECT_API_URL), the deployment `reprocess/captures` then starts the scene's flow.
    """

    scene: SceneName = Field(description="the scene's name")
    images: Path = Field(description="a folder of photos, or a video")

    def cli_cmd(self) -> None:
        """Check the photos as a flow would, then upload them."""
        minimum = PrepareOptions().min_registered_images
        found = media.scan(self.images.expanduser(), minimum=minimum)
        for file, reason in found.unreadable.items():
            print(f"{file} is left out: {reason}")
        print(found.line())
        workspace = self.open()
        with _bar(workspace, "uploading"):
            asset = workspace.take_in(self.scene, found.files, {"source": str(self.images), **found.tags(found.files)})
        print(f"{asset}: {asset.uri}")
        if self.block and PREFECT_API_URL.value():
            self._report()

    def _report(self) -> None:
        workspace = f"{AzureMLWorkspace.get_block_type_slug()}/{self.block}"
        try:
            with server_answers():
                asyncio.run(_report_uploaded(self.scene, workspace))
        except (WorkspaceUnavailable, OSError, WebSocketException) as error:
            raise WorkspaceUnavailable(
                f"The upload is complete, but Prefect's server did not get the event ({error}). Run the same command "
                "again: nothing is sent twice. Or start the flow yourself: "
                f"prefect deployment run nerf/scene -p scene={self.scene} -p workspace={workspace}"
            ) from None
        print("The server has the event: reprocess/captures starts the scene's flow.")


class Download(AzureOptions):
    """Download an asset, e.g. the newest video of a scene: `download --asset facade-video --to video/`."""

    asset: str = Field(description="name of the asset, or name:version; by default, the newest version")
    to: Path = Field(description="folder to write; it must not exist yet")

    def cli_cmd(self) -> None:
        """Find the asset, and download it."""
        if self.to.expanduser().exists():
            raise InvalidInput(f"to: {self.to} already exists. Give a folder that does not exist yet.")
        workspace = self.open()
        name, _, version = self.asset.partition(":")
        versions = workspace.assets(name)
        found = [asset for asset in versions if version in ("", asset.version)]
        if not found:
            listed = ", ".join(asset.version for asset in versions) or "none; check the scene's name"
            raise NotFound(f"there is no asset {self.asset} in {workspace.workspace}. Versions of {name}: {listed}.")
        with _bar(workspace, "downloading"):
            folder = workspace.fetch(found[-1])
        shutil.copytree(folder, self.to.expanduser())
        print(f"{found[-1]} is in {self.to}")


class Transfer(BaseModel):
    """Upload captures, download results."""

    upload: CliSubCommand[Upload]
    download: CliSubCommand[Download]


def main(options: Transfer) -> None:
    """Upload or download."""
    CliApp.run_subcommand(options)


async def _report_uploaded(scene: str, workspace: str) -> None:
    """Send the event on which the deployment `reprocess/captures` processes the scene at once."""
    async with get_events_client() as client:
        await client.emit(capture_event("uploaded", scene, workspace))


@contextmanager
def _bar(workspace: AzureMLWorkspace, what: str) -> Iterator[None]:
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(what, total=None)
        workspace.on_transfer(lambda done, total: progress.update(task, completed=done, total=total))
        yield


if __name__ == "__main__":
    run(Transfer, main, sys.argv[1:])
