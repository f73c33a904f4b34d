"""Run Prefect's own commands, signed in to this machine's server: `rebel-nerf prefect deploy --all`."""

from __future__ import annotations

from prefect.cli import app
from prefect.settings import temporary_settings

from tasks.sign_in import client_settings

if __name__ == "__main__":
    with temporary_settings(client_settings()):
        app()
