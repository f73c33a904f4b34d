"""Check everything that a run needs: `rebel-nerf doctor`. Exits with 1 if something is wrong."""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from prefect.settings import (
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from pydantic import BaseModel, Field

import tasks
from blocks import LocalWorkspace, Workspace
from blocks.azure import AzureMLWorkspace
from commands.shell.run import as_command, parse_command
from deployments.azure import health as azure
from deployments.health import assets, machine, service
from deployments.health.finding import Check, Finding, Level, run_checks
from jobs.errors import InvalidInput, RebelNerfError
from tasks.sign_in import sign_in_settings


class Doctor(BaseModel):
    """Check everything that a run needs, and say what to do about what is wrong."""

    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    assets: bool = Field(False, description="only look for damaged assets, by the sizes of their files")
    whole: bool = Field(False, description="with --assets: compare checksums, too, which reads every file")
    repair: bool = Field(
        False, description="with --assets: set damaged assets aside, so that the next run makes them again"
    )


def checks(options: Doctor) -> list[Check]:
    """Return the checks that a command line asks for.

    Raises:
        InvalidInput: the options do not fit together.
    """
    if (options.whole or options.repair) and not options.assets:
        raise InvalidInput("--whole and --repair go with --assets.")
    if options.assets:
        return [("assets", partial(_assets, options))]
    workspace, failed = _load(options.workspace)
    here = workspace if isinstance(workspace, LocalWorkspace) else LocalWorkspace()
    found: list[Check] = [*machine.checks(here), *service.checks()]
    if isinstance(workspace, AzureMLWorkspace):
        return [*found, *azure.checks(workspace)]
    return [*found, ("workspace", partial(_workspace, options.workspace, failed))]


def _load(reference: str) -> tuple[Workspace | None, RebelNerfError | None]:
    try:
        if reference != tasks.LOCAL:
            tasks.check_server()
        return asyncio.run(tasks.load_workspace(reference)), None
    except RebelNerfError as error:
        return None, error


def _workspace(reference: str, failed: RebelNerfError | None) -> Finding:
    if failed:
        raise failed
    workspace = asyncio.run(tasks.open_workspace(reference))
    return Finding.ok(f"{reference}: {workspace.identity}")


def _assets(options: Doctor) -> Finding:
    workspace, failed = _load(options.workspace)
    if failed:
        raise failed
    if isinstance(workspace, AzureMLWorkspace):
        return azure.check_assets(workspace, whole=options.whole, repair=options.repair)
    if not isinstance(workspace, LocalWorkspace):
        raise InvalidInput(f"--assets cannot check workspaces of the kind of {options.workspace}. Leave it out.")
    return assets.check_assets(workspace, whole=options.whole, repair=options.repair)


def main(options: Doctor) -> None:
    """Run the checks; exit with 1 if something is wrong."""
    # For a saved block, Prefect starts a server if none is set. The first start is slow.
    settings = {PREFECT_SERVER_ANALYTICS_ENABLED: False, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180}
    with temporary_settings(settings):
        worst = run_checks(checks(options))
    print({Level.OK: "\nAll is well.", Level.WARNING: "\nRuns work.", Level.WRONG: "\nSomething is wrong."}[worst])
    if worst is Level.WRONG:
        sys.exit(1)


if __name__ == "__main__":
    asked = parse_command(Doctor, sys.argv[1:])
    try:
        sign_in_settings()
    except RebelNerfError as error:  # no command can begin with it
        run_checks([*machine.checks(LocalWorkspace()), ("password", partial(_workspace, tasks.LOCAL, error))])
        sys.exit("\nSomething is wrong.")
    with as_command():
        main(asked)
