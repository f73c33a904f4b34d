"""Run Prefect's own commands on this machine's server, signed in: `rebel-nerf prefect deploy --all`."""

from __future__ import annotations

from prefect.cli import app
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from tasks.sign_in import client_settings, link_settings, local_server

if __name__ == "__main__":
    # Without an address, Prefect would start a server for each command.
    address = {} if get_current_settings().api.url else {PREFECT_API_URL: local_server()}
    with temporary_settings({**address, **client_settings(), **link_settings()}):
        app()
