"""Serve nerfstudio's viewer of a registered model: `python -m jobs.view --model DIR --dataset DIR [--port 7007]`.

The viewer accepts connections from this machine only, and runs until it is stopped.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from pathlib import Path

import jobs.radiance  # noqa: F401 – before nerfstudio, which then starts without torch's compiler

# isort: split
import yaml
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.utils import writer
from nerfstudio.utils.eval_utils import eval_setup
from pydantic import BaseModel, Field
from pydantic_settings import CliApp

from jobs import model, report
from jobs.camera_path import Origin
from jobs.errors import InvalidInput
from jobs.radiance import cpu, cuda
from jobs.radiance.viewer import Thumbnails, open_viewer, show_finished, start_at_tour


class Job(BaseModel):
    """The command line of this job.

    Camera paths that are drawn in the viewer record the version of the model and its scene frame.
    """

    model: Path
    dataset: Path
    port: int = Field(7007, ge=1, le=65535)
    version: str | None = None
    frame: str | None = None


def view(model_folder: Path, dataset: Path, port: int, origin: Origin) -> None:
    """Serve the viewer until the process ends. It opens at the start of the scene's tour.

    Args:
        model_folder: a folder that `jobs.train` wrote. Nothing is written to it.
        dataset: the dataset that the model was trained on. It may have been moved. Nothing is written to it.
        port: a port of 127.0.0.1.
        origin: is recorded in the camera paths that are drawn in the viewer.

    Raises:
        InvalidInput: the model or dataset cannot be used, the port is taken, or the method needs a GPU.
    """
    taken = f"Port {port} is in use, perhaps by another viewer. Choose another one with --port."
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InvalidInput(taken) from error
    method = model.read_manifest(model_folder)["options"]["method"]
    cuda.check(method, cuda.device())
    cpu.install(point_gradients=False)
    cuda.install()
    with tempfile.TemporaryDirectory() as folder, model.lpips_from_cache():
        file = Path(folder) / model.CONFIG
        file.write_text(yaml.dump(model.localised(model_folder, dataset)))
        config, pipeline, _, step = eval_setup(file)
        config.logging.local_writer.enable = False
        writer.setup_local_writer(config.logging, max_iter=config.max_num_iterations)  # the viewer needs it
        shown = ViewerConfig(websocket_port=port, num_rays_per_chunk=config.viewer.num_rays_per_chunk, **model.VIEWER)
        viewer = open_viewer(shown, pipeline, Path(folder), origin)
        if viewer.viser_server.get_port() != port:  # another process took it in the meantime
            raise InvalidInput(taken)
        start_at_tour(viewer.viser_server, dataset, model_folder)
        viewer.init_scene(Thumbnails(pipeline.datamanager.train_dataset), "completed")
        show_finished(viewer, step)
        report.emit(report.PageReport("view", "viewer", port))
        while True:
            time.sleep(1)


def main() -> None:
    """Run the job of this command line."""
    job = CliApp.run(Job, cli_args=sys.argv[1:])
    view(job.model, job.dataset, job.port, Origin(model=job.version, frame=job.frame))


if __name__ == "__main__":
    report.run("view", main)
