"""Load a trained model from any folder, or write a config for nerfstudio's own tools.

`python -m jobs.model MODEL DATASET CONFIG` writes CONFIG, a `config.yml` with the current places of the model and its
dataset, for `ns-viewer --load-config CONFIG`, `ns-eval` and `ns-render`. The `config.yml` in the model folder has
relative paths. It works if the dataset is at `../dataset` and the tool is started in the model folder.
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

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliPositionalArg

from jobs import manifest, report
from jobs.errors import InvalidInput
from jobs.radiance.config_file import read_config
from jobs.validation import first_complaint

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
    """Return the nerfstudio pipeline of a model folder, in evaluation mode. No photo of the dataset is read.

    Its camera poses are in the model frame. For datasets of `jobs.prepare`, that is the scene frame. For others,
    `dataparser_transforms.json` converts between the two.

    Args:
        model: a folder that `jobs.train` wrote.
        dataset: the dataset folder that the model was trained on.
        device: "cpu" or "cuda". Defaults to CUDA if there is a GPU.

    Raises:
        InvalidInput: a file is missing or has changed, the dataset is another one, or the method needs another machine.
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
    cuda.accelerate_rendering(pipeline)
    return pipeline


class _Options(BaseModel):
    method: str


class _Checkpoint(BaseModel):
    file: str


class _Dataset(BaseModel):
    transforms_sha256: str


class _Needed(BaseModel):
    """The members of `model.json` that every program relies on."""

    options: _Options
    checkpoint: _Checkpoint
    checksums: dict[str, str]
    dataset: _Dataset


def read_manifest(model: Path, dataset: Path | None = None) -> dict[str, Any]:
    """Return the content of `model.json`, after comparing the files that it lists with their checksums.

    Args:
        model: a folder that `jobs.train` wrote.
        dataset: if given, it must be the dataset that the model was trained on.

    Raises:
        InvalidInput: a file is missing, damaged or has changed, or the dataset is another one.
    """
    file = model / MANIFEST
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        needed = _Needed.model_validate(content)
    except ValidationError as error:
        raise _refusal(file, first_complaint(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _refusal(file, str(error)) from error
    for name, expected in needed.checksums.items():
        if not (model / name).is_file():
            raise InvalidInput(f"{model / name} is missing. Fetch the model again, or train it again.")
        if manifest.checksum(model / name) != expected:
            raise InvalidInput(f"{model / name} has changed: its checksum differs. Fetch the model again.")
    if dataset and manifest.checksum(transforms_file(dataset)) != needed.dataset.transforms_sha256:
        raise InvalidInput(f"{model} was not trained on {dataset}. Name the dataset that it was trained on.")
    return content


def _refusal(file: Path, reason: str) -> InvalidInput:
    return InvalidInput(f"{file} is not the manifest of a model of this project ({reason}). Fetch or train it again.")


def localised(model: Path, dataset: Path) -> TrainerConfig:
    """Return nerfstudio's config of a model, with the current paths of the model and its dataset."""
    config = read_config(model / CONFIG)
    set_paths(config, model.resolve() / CHECKPOINTS, dataset.resolve())
    return config


VIEWER = {"websocket_host": "127.0.0.1", "max_num_display_images": 50}
"""Options of nerfstudio's viewer. It has no password, so it listens on this machine only."""


def transforms_file(dataset: Path) -> Path:
    """Return the JSON file of a dataset, which is given as a folder or as that file.

    Raises:
        InvalidInput: it does not exist.
    """
    file = dataset if dataset.suffix == ".json" else dataset / "transforms.json"
    if not file.is_file():
        raise InvalidInput(f"{dataset} is not a dataset: it has no transforms.json. Run jobs.prepare first.")
    return file


class _WhenRead:
    """A function call that YAML stores, and that the reading process makes."""

    def __init__(self, function: Callable[..., str], *arguments: str) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def save_config(config: TrainerConfig, folder: Path) -> None:
    """Write `config.yml` to a model folder, with paths relative to that folder."""
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

    nerfstudio joins `relative_model_dir` to output_dir/experiment/method/timestamp, which a registered model does not
    have. An absolute path replaces all of that. The viewer creates output_dir/experiment/method/timestamp without its
    parents. With "." as experiment and timestamp, that is a single folder in the system's temporary folder.
    """
    config.output_dir = Path(tempfile.gettempdir())
    config.experiment_name = config.timestamp = "."
    config.relative_model_dir = checkpoints
    config.data = dataset
    config.pipeline.datamanager.data = dataset
    config.pipeline.datamanager.dataparser.data = dataset


@contextmanager
def lpips_from_cache() -> Iterator[str | None]:
    """Prevent the download of the AlexNet weights that LPIPS needs, while models are built inside this context.

    If torch's cache has the weights, nothing changes. If not, LPIPS is NaN. Yields the reason, or None.
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
    """Write a config for ns-viewer, ns-eval and ns-render with the current places of a model and its dataset."""

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

    report.end_imports()
    CliApp.run(_Arguments)
