"""A config from a stranger: nothing that it names is run."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path

import pytest

from jobs.errors import InvalidInput

pytest.importorskip("nerfstudio")

from jobs import model
from jobs.radiance import config_file
from jobs.radiance.config_file import read_config
from jobs.radiance.methods import all_methods


@pytest.mark.parametrize(
    "method", ["nerfacto", "depth-nerfacto", "splatfacto", "instant-ngp", "phototourism", "tensorf"]
)
def test_a_config_that_nerfstudio_wrote_is_read(method: str, tmp_path: Path) -> None:
    model.save_config(all_methods[method], tmp_path)
    config = read_config(tmp_path / "config.yml")
    assert config.method_name == method
    assert config.pipeline.model == all_methods[method].pipeline.model
    assert Path(config.relative_model_dir) == Path(model.CHECKPOINTS).absolute()


def test_a_config_of_another_python_is_read(tmp_path: Path) -> None:
    """Python 3.13 calls its paths pathlib._local.PosixPath, other versions pathlib.PosixPath."""
    model.save_config(all_methods["nerfacto"], tmp_path)
    file = tmp_path / "config.yml"
    text = file.read_text()
    assert "apply:pathlib.PosixPath" in text and "pathlib._local" not in text
    expected = read_config(file)
    file.write_text(text.replace("apply:pathlib.", "apply:pathlib._local."))
    assert read_config(file).pipeline == expected.pipeline


def test_a_plug_ins_config_is_read_only_if_the_plug_in_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plug_in_of_this_test.py").write_text(
        "from dataclasses import dataclass, field\n"
        "from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig\n"
        "class Model(NerfactoModel): ...\n"
        "@dataclass\n"
        "class Config(NerfactoModelConfig):\n"
        "    _target: type = field(default_factory=lambda: Model)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plug_in = importlib.import_module("plug_in_of_this_test")
    config = copy.deepcopy(all_methods["nerfacto"])
    config.pipeline.model = plug_in.Config()
    model.save_config(config, tmp_path)
    with pytest.raises(InvalidInput, match=r"plug_in_of_this_test\.Config.* PLUGINS"):
        read_config(tmp_path / "config.yml")
    monkeypatch.setattr(config_file, "_PLUGINS", ("plug_in_of_this_test.",))
    assert read_config(tmp_path / "config.yml").pipeline.model == plug_in.Config()


@pytest.mark.parametrize(
    "hostile",
    [
        "!!python/object/apply:os.system ['touch {ran}']",
        "!!python/object/apply:subprocess.check_call [[touch, '{ran}']]",
        "!!python/object/new:subprocess.Popen [[touch, '{ran}']]",
        "!!python/object/apply:nerfstudio.utils.scripts.run_command ['touch {ran}']",
        "!!python/object/apply:nerfstudio.utils.scripts.sys.exit [0]",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.PosixPath ['{ran}']]",
        '!!python/object/apply:builtins.eval [\'open("{ran}", "w")\']',
        "!!python/name:os.system",
        "!!python/name:nerfstudio.utils.scripts.run_command",
        "!!python/name:nerfstudio.utils.scripts.os.system",
        "!!python/module:antigravity",
        "!!python/object:nerfstudio.engine.trainer.Trainer {{}}",
        # It unpickles train.npz of the dataset
        "!!python/name:nerfstudio.data.dataparsers.minimal_dataparser.MinimalDataParser",
        "!!python/object:nerfstudio.data.dataparsers.minimal_dataparser.MinimalDataParserConfig {{}}",
        "!!python/name:nerfstudio.configs.external_methods.ExternalMethodDummyTrainerConfig",  # runs pip
        "!!python/name:nerfstudio.data.dataparsers.colmap_dataparser.partial",  # of another package
        "!!python/object/apply:nerfstudio.utils.writer.EventName [none]",
        "{{",
        "nothing",
    ],
)
def test_nothing_else_is_built(hostile: str, tmp_path: Path) -> None:
    ran, file = tmp_path / "ran", tmp_path / "config.yml"
    file.write_text(f"_target: {hostile.format(ran=ran)}\n")
    with pytest.raises(InvalidInput, match=r"config\.yml"):
        read_config(file)
    assert not ran.exists()
