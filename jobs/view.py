"""nerfstudio's viewer on a registered model: `python -m jobs.view --model DIR --dataset DIR [--port 7007]`.

Serves on this machine only, until it is ended.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from nerfstudio.scripts.viewer.run_viewer import RunViewer, ViewerConfigWithoutNumRays
from pydantic import BaseModel, Field
from pydantic_settings import CliApp

from jobs import cpu, cuda, model, report
from jobs.errors import InvalidInput


class Job(BaseModel):
    """The command line of this job."""

    model: Path
    dataset: Path
    port: int = Field(7007, ge=1, le=65535)


def view(model_folder: Path, dataset: Path, port: int) -> None:
    """Serve the viewer, for ever.

    Args:
        model_folder: that `jobs.train` wrote.
        dataset: what it was trained on, which may have been moved.
        port: of 127.0.0.1.

    Raises:
        InvalidInput: model or dataset are none, or the port is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InvalidInput(f"port {port} is taken (by another viewer?): choose another with --port") from error
    model.read_manifest(model_folder)
    cpu.install(point_gradients=False)
    cuda.install()
    threading.Thread(target=_tell, args=[port], daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, model.lpips_from_cache():
        config = Path(folder) / model.CONFIG
        config.write_text(yaml.dump(model.localised(model_folder, dataset)))
        shown = ViewerConfigWithoutNumRays(websocket_port=port, **model.VIEWER)
        RunViewer(load_config=config, viewer=shown).main()


def _tell(port: int) -> None:
    """Report the page once it answers."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    report.emit(report.Page("view", "viewer", port))


def main() -> None:
    """Run the job that the command line tells."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    view(job.model, job.dataset, job.port)


if __name__ == "__main__":
    report.run("view", main)
