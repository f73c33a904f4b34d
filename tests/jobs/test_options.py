from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_settings import CliApp

from jobs.options import (
    METHODS,
    PROFILES,
    SPLATS,
    ExportOptions,
    Options,
    PrepareOptions,
    RenderOptions,
    SceneName,
    TrainOptions,
)

GIVEN = [
    PrepareOptions(),
    PrepareOptions(downscale_factor=3, matching="sequential", min_registered_share=0.25),
    TrainOptions(method="splatfacto", max_num_iterations=7, seed=0),
    RenderOptions(camera_path="a b/ü.json", width=64, seconds=0.5),
    ExportOptions(),
    ExportOptions(forms=("mesh", "pointcloud"), points=500, reach=1.5),
]


@pytest.mark.parametrize("options", GIVEN)
def test_the_command_line_carries_every_option(options: Options) -> None:
    assert CliApp.run(type(options), cli_args=CliApp.serialize(options)) == options


def test_what_a_person_sets_wins_over_the_profile() -> None:
    assert TrainOptions().with_profile("full").max_num_iterations == 30_000
    assert TrainOptions(max_num_iterations=5).with_profile("full").max_num_iterations == 5
    assert RenderOptions(width=64).with_profile("preview").width == 64


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_leaves_nothing_open_and_names_real_options(profile: str) -> None:
    for kind in (TrainOptions, RenderOptions, ExportOptions):
        filled = kind().with_profile(profile)  # type: ignore[arg-type]
        assert set(PROFILES[profile].get(kind.STAGE, {})) <= set(kind.model_fields)
        assert kind.model_validate(filled.model_dump()) == filled
    assert TrainOptions().with_profile(profile).max_num_iterations  # type: ignore[arg-type]


def test_a_fingerprint_changes_with_options_inputs_and_stage() -> None:
    prints = [
        PrepareOptions().fingerprint(images="a"),
        PrepareOptions().fingerprint(images="b"),
        PrepareOptions(downscale_factor=2).fingerprint(images="a"),
        TrainOptions().fingerprint(images="a"),
    ]
    assert len(set(prints)) == len(prints)
    assert PrepareOptions().fingerprint(images="a") == PrepareOptions(downscale_factor=1).fingerprint(images="a")
    assert all(a != b for a, b in pairwise(prints))


@pytest.mark.parametrize("name", ["facade", "a", "0-1", "x" * 63])
def test_scene_names(name: str) -> None:
    assert TypeAdapter(SceneName).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "../x", "A b", "a_b", "-a", "x" * 64, "x" * 300, "é", "a\n"])
def test_what_is_no_scene_name(name: str) -> None:
    with pytest.raises(ValidationError, match="lower-case letters, digits and hyphens"):
        TypeAdapter(SceneName).validate_python(name)


@pytest.mark.parametrize("name", ["wall-nerf", "wall-video", "wall-export", "wall-images-to-nerf-dataset"])
def test_a_scene_is_not_named_like_what_is_made_of_another(name: str) -> None:
    with pytest.raises(ValidationError, match="another ending"):
        TypeAdapter(SceneName).validate_python(name)


def test_methods_that_a_capture_is_not_enough_for() -> None:
    with pytest.raises(ValidationError, match="dnerf needs a time for each photo"):
        TrainOptions(method="dnerf")


def test_only_a_nerfacto_is_made_smaller() -> None:
    with pytest.raises(ValidationError, match="splatfacto give standard"):
        TrainOptions(method="splatfacto", model_size="small")
    assert TrainOptions(method="nerfacto-big").with_profile("preview").model_size == "small"
    assert TrainOptions(method="splatfacto").with_profile("preview").model_size == "standard"


def test_the_methods_are_those_of_nerfstudio() -> None:
    program = "from nerfstudio.configs.method_configs import method_configs; print(*sorted(method_configs))"
    listed = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == sorted(METHODS)


def test_options_import_nothing_heavy() -> None:
    program = (
        "import sys, jobs.options, jobs.report, jobs.manifest, jobs.media, jobs.camera_path;"
        "print([m for m in ('torch', 'numpy', 'nerfstudio', 'prefect', 'PIL', 'av') if m in sys.modules])"
    )
    listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == "[]"


def test_what_a_model_is_exported_to_follows_from_its_method() -> None:
    assert ExportOptions().for_method("nerfacto").forms == ("mesh", "pointcloud")
    assert {ExportOptions().for_method(method).forms for method in SPLATS} == {("splat",)}
    both = ExportOptions(forms=("pointcloud", "mesh", "mesh")).for_method("instant-ngp")
    assert both.fingerprint(model="a") == ExportOptions().for_method("instant-ngp").fingerprint(model="a")
    with pytest.raises(ValidationError):
        ExportOptions(forms=())
