"""A trained model folder, wherever it lies: load it, or write a config with which nerfstudio's own tools take it.

`python -m jobs.model MODEL DATASET CONFIG` writes CONFIG, a `config.yml` for this model and dataset where they lie
now: `ns-viewer --load-config CONFIG`, and `ns-eval` and `ns-render` likewise. The `config.yml` in the folder
itself is relative to the folder: with the dataset beside it as `../dataset`, `ns-viewer --load-config config.yml`
works when started in the model folder.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic_settings import BaseSettings, CliPositionalArg

from jobs import manifest
from jobs.errors import InvalidInput
from jobs.radiance.config_file import read_config

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline

CONFIG = "config.yml"
TRANSFORMS = "dataparser_transforms.json"
CHECKPOINTS = "nerfstudio_models"
MANIFEST = "model.json"
ALEXNET = "alexnet-owt-7be5be79.pth"
"""The file name of `torchvision.models.AlexNet_Weights.IMAGENET1K_V1`, which takes seconds to import."""


def load(model: Path, dataset: Path, device: str | None = None) -> Pipeline:
    """The nerfstudio pipeline of a model folder, in evaluation mode, from any place and with its dataset anywhere.

    Camera poses given to it are in the model frame, which is the scene frame for datasets of `jobs.prepare`
    (else `dataparser_transforms.json` leads there). No photo of the dataset is read.

    Args:
        model: a folder that `jobs.train` wrote.
        dataset: the dataset folder it was trained on.
        device: "cpu", "cuda" …; None: CUDA where there is one.

    Raises:
        InvalidInput: a file is missing or not the one that was written, the dataset is another one, or the method
            needs another machine.
    """
    content = read_manifest(model, dataset)
    config = localised(model, dataset)

    import torch

    from jobs.radiance import cpu, cuda
    from jobs.radiance.methods import all_methods

    cpu.install()
    cuda.install()
    config.pipeline.datamanager._target = all_methods[config.method_name or ""].pipeline.datamanager._target
    device = device or cuda.device()
    cuda.check(config.method_name or "", device)
    with lpips_from_cache():
        pipeline: Pipeline = config.pipeline.setup(device=device, test_mode="inference")
    checkpoint = model / content["checkpoint"]["file"]
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    pipeline.load_pipeline(state["pipeline"], state["step"])
    pipeline.eval()
    cuda.quicken(pipeline)
    return pipeline


def read_manifest(model: Path, dataset: Path | None = None) -> dict[str, Any]:
    """The content of `model.json`, after a check that the files it lists are the ones that were written.

    Args:
        model: a folder that `jobs.train` wrote.
        dataset: if given, checked to be the one it was trained on.

    Raises:
        InvalidInput: a file is missing, torn or changed, or the dataset is another one.
    """
    file = model / MANIFEST
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        checksums: dict[str, str] = content["checksums"]
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"{file} is not the manifest of a model that this project trained: {error}") from error
    for name, expected in checksums.items():
        if not (model / name).is_file():
            raise InvalidInput(f"{model / name} is missing; fetch the model again or train it anew")
        if manifest.checksum(model / name) != expected:
            raise InvalidInput(f"{model / name} is not the file that was trained: its checksum differs; fetch it again")
    if dataset and manifest.checksum(transforms_file(dataset)) != content["dataset"]["transforms_sha256"]:
        raise InvalidInput(f"{dataset} is another dataset than the one that {model} was trained on")
    return content


def localised(model: Path, dataset: Path) -> TrainerConfig:
    """nerfstudio's config of a model, its paths set to where the model and the dataset lie now."""
    config = read_config(model / CONFIG)
    set_paths(config, model.resolve() / CHECKPOINTS, dataset.resolve())
    return config


VIEWER = {"websocket_host": "127.0.0.1", "max_num_display_images": 50}
"""How nerfstudio's viewer is served: it has no password, so nobody else on the network gets in."""


def transforms_file(dataset: Path) -> Path:
    """The JSON file of a dataset, given as a folder or as that file.

    Raises:
        InvalidInput: there is none.
    """
    file = dataset if dataset.suffix == ".json" else dataset / "transforms.json"
    if not file.is_file():
        raise InvalidInput(f"{dataset} is not a dataset: it has no transforms.json")
    return file


class _WhenRead:
    """In YAML: the result of a call, made by the process that reads it."""

    def __init__(self, function: Callable[..., str], *arguments: str) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def save_config(config: TrainerConfig, folder: Path) -> None:
    """Write `config.yml` to a model folder, with paths that are right when nerfstudio is started in that folder."""
    import yaml

    config = copy.deepcopy(config)
    config.vis = "viewer"
    set_paths(config, cast(Path, _WhenRead(os.path.abspath, CHECKPOINTS)), Path("..", "dataset"))
    config.output_dir = _WhenRead(tempfile.gettempdir)
    # Python 3.13 writes a private module's name, which nerfstudio could not read on other versions.
    text = yaml.dump(config).replace("apply:pathlib._local.", "apply:pathlib.")
    (folder / CONFIG).write_text(text)


def set_paths(config: TrainerConfig, checkpoints: Path, dataset: Path) -> None:
    """Set every path that nerfstudio reads from a config when it loads a model.

    `relative_model_dir` is joined to output_dir/experiment/method/timestamp, names that a registered model does not
    keep; an absolute path there overrides them all. The viewer makes output_dir/experiment/method/timestamp, but not
    its parents: "." for experiment and timestamp leaves one new folder, in the system's temporary one.
    """
    config.output_dir = Path(tempfile.gettempdir())
    config.experiment_name = config.timestamp = "."
    config.relative_model_dir = checkpoints
    config.data = dataset
    config.pipeline.datamanager.data = dataset
    config.pipeline.datamanager.dataparser.data = dataset


@contextmanager
def lpips_from_cache() -> Iterator[str | None]:
    """While inside, models are built without a download of the AlexNet weights that LPIPS needs.

    Where they are in torch's cache nothing changes; else LPIPS gives NaN. Yields the reason why it is not
    available, or None.
    """
    import torch
    import torchmetrics.image.lpip as lpip

    weights = Path(torch.hub.get_dir(), "checkpoints", ALEXNET)
    if weights.is_file():
        yield None
        return

    class NotAvailable(torch.nn.Module):
        def __init__(self, **_: object) -> None:
            super().__init__()

        def forward(self, image: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            return torch.tensor(float("nan"), device=image.device)

    real = lpip.LearnedPerceptualImagePatchSimilarity
    lpip.LearnedPerceptualImagePatchSimilarity = NotAvailable
    try:
        yield f"the AlexNet weights are not at {weights}, and a job downloads nothing"
    finally:
        lpip.LearnedPerceptualImagePatchSimilarity = real


class _Arguments(BaseSettings, cli_kebab_case=True, cli_prog_name="python -m jobs.model"):
    """Write a config with which ns-viewer, ns-eval and ns-render take a model where it and its dataset lie now."""

    model: CliPositionalArg[Path]
    dataset: CliPositionalArg[Path]
    config: CliPositionalArg[Path]

    def cli_cmd(self) -> None:
        import yaml

        read_manifest(self.model)
        self.config.write_text(yaml.dump(localised(self.model, self.dataset)))
        print(f"ns-viewer --load-config {self.config}")


if __name__ == "__main__":
    from pydantic_settings import CliApp

    CliApp.run(_Arguments)
