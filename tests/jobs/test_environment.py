from __future__ import annotations

import pytest

from blocks.azure.workspace import _FOR_SSH
from jobs.environment import FOR_PREFECT, child_environment

OURS = {"PREFECT_API_AUTH_STRING", "REBEL_NERF_WEBHOOK_URL", "https_proxy", "SSL_CERT_FILE"}
SSH = {"SSH_AUTH_SOCK", "AZURE_CLIENT_SECRET"}
OTHERS = {"DATABASE_URL", "GITHUB_TOKEN", "NOT_PREFECT_API_KEY"}


def test_a_program_gets_the_secrets_that_it_needs_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS | SSH | OTHERS | {"OMP_NUM_THREADS"}:
        monkeypatch.setenv(name, "planted")

    def got(further: str = "") -> set[str]:
        return {name for name, value in child_environment(further).items() if value == "planted"}

    assert got() == {"OMP_NUM_THREADS"}
    assert got(FOR_PREFECT) == {"OMP_NUM_THREADS", *OURS}
    assert got(_FOR_SSH) == {"OMP_NUM_THREADS", *OURS, *SSH}
