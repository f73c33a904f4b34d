from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_settings import CliApp

from jobs.base_options import Options
from jobs.errors import InvalidInput
from jobs.methods import METHODS, SPLATS
from jobs.names import SceneName
from jobs.options import ExportOptions, PrepareOptions, RenderOptions, TrainOptions
from jobs.profiles import PROFILES

GIVEN = [
    PrepareOptions(),
    PrepareOptions(downscale_factor=3, matching="sequential", min_registered_share=0.25),
    TrainOptions(method="splatfacto", max_num_iterations=7, seed=0),
    RenderOptions(camera_path="a b/ü.json", width=64, seconds=0.5),
    ExportOptions(),
    ExportOptions(forms=("mesh", "pointcloud"), points=500, reach=1.5),
    RenderOptions.model_validate(
        {
            "outputs": ["depth", "accumulation"],
            "png_frames": True,
            "near_plane": 0.1,
            "crop": {"crop_center": [1, 2, 3], "crop_scale": [1, 1, 1], "crop_bg_color": {"r": 1, "g": 2, "b": 3}},
        }
    ),
]


@pytest.mark.parametrize("options", GIVEN)
def test_the_command_line_carries_every_option(options: Options) -> None:
    assert CliApp.run(type(options), cli_args=CliApp.serialize(options)) == options


def test_set_options_win_over_the_profile() -> None:
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


def test_an_option_that_came_later_leaves_older_results_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrepareOptions, "STAGE_VERSION", 1)
    before = "d1aac29b3a72d32325823f54f69c3283b237dbb133cba10f86cd0d318196b155"  # as it was without `frame`
    assert PrepareOptions().fingerprint(images="a") == before
    assert PrepareOptions(frame="keep").fingerprint(images="a") != before
    assert PrepareOptions(poses="keep").fingerprint(images="a") != before


def test_results_from_before_a_new_field_are_found() -> None:
    """The hash is one that was registered when RenderOptions had five fields."""
    before = "bc8bb5e24080b2fa5a27ecea3f7f66c627aeffd9ca17433448912436270ce351"
    assert RenderOptions(width=64).fingerprint(a="b") == before
    set_otherwise = {
        "easing": "ease",
        "loop": True,
        "field_of_view": 50.0,
        "camera_type": "fisheye",
        "near_plane": 0.1,
        "outputs": ("depth",),
        "png_frames": True,
        "long_side": 640,
        "crop": {"crop_center": [0] * 3, "crop_scale": [1] * 3, "crop_bg_color": {"r": 0, "g": 0, "b": 0}},
    }
    assert set(set_otherwise) == RenderOptions.ADDED
    prints = {RenderOptions.model_validate({"width": 64, k: v}).fingerprint(a="b") for k, v in set_otherwise.items()}
    assert len(prints | {before}) == 1 + len(set_otherwise)


@pytest.mark.parametrize(
    ("given", "shape", "size"),
    [
        ({}, 16 / 9, (256, 144)),
        ({}, 9 / 16, (144, 256)),
        ({}, 3 / 4, (192, 256)),
        ({}, 1.0, (256, 256)),
        ({}, 0.01, (16, 256)),  # the least that a video can have
        ({"long_side": 640}, 3 / 4, (480, 640)),
        ({"width": 90}, 9 / 16, (90, 160)),
        ({"height": 90}, 9 / 16, (50, 90)),
        ({"width": 100, "height": 37, "long_side": 640}, 9 / 16, (100, 37)),
        ({"camera_type": "equirectangular"}, 9 / 16, (256, 128)),
        ({"camera_type": "equirectangular", "height": 100}, 9 / 16, (200, 100)),
    ],
)
def test_a_size_that_is_not_given_follows_the_shape_of_the_photos(
    given: dict[str, object], shape: float, size: tuple[int, int]
) -> None:
    found = RenderOptions.model_validate(given).with_profile("preview").in_shape(shape)
    assert (found.width, found.height, found.long_side) == (*size, None)
    explicit = RenderOptions.model_validate(given | dict(zip(("width", "height"), size, strict=True)))
    explicit = explicit.model_copy(update={"long_side": None}).with_profile("preview")
    assert found.fingerprint() == explicit.fingerprint(), "the same video, however its size was come by"


def test_a_size_that_follows_from_the_shape_is_checked_too() -> None:
    with pytest.raises(InvalidInput, match="16384x9216"):
        RenderOptions(width=16384).with_profile("preview").in_shape(16 / 9)


def test_a_rate_may_be_a_fraction_and_a_whole_one_is_as_it_was() -> None:
    for rate in (30, 30.0, "30"):
        whole = RenderOptions.model_validate({"width": 64, "fps": rate})
        before = "e3dfdb5e199bcdeeb8e5fe8af63f561aa5e722489854ff659064bef9e35cba33"  # as it was with whole rates only
        assert whole.fingerprint(a="b") == before
    film = RenderOptions(fps=29.97, seconds=10.0).with_profile("preview")
    assert (film.fps, film.frames) == (29.97, 300)
    assert CliApp.run(RenderOptions, cli_args=CliApp.serialize(film)) == film


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seconds": 0.01}, " 0 frames"),
        ({"seconds": 1.0, "fps": 1}, " 1 frames"),
        ({"width": 16384, "height": 16384}, "16384x16384"),
        ({"width": 16384, "height": 16}, None),
        ({"width": 7680, "height": 4320, "fps": 60}, None),
        ({"width": 7680, "height": 4320, "fps": 240}, "7680x4320 .*240 .*128"),
        ({"seconds": 400.0, "fps": 25}, None),
    ],
)
def test_lengths_that_make_no_video(given: dict[str, float], says: str | None) -> None:
    options = RenderOptions.model_validate(given)
    if says:
        with pytest.raises(InvalidInput, match=says):
            options.with_profile("preview")
    else:
        assert options.with_profile("preview").frames >= 2


@pytest.mark.parametrize(
    "given", [{"fps": 0}, {"seconds": 0}, {"width": 8}, {"near_plane": 0}, {"outputs": ["normals"]}]
)
def test_figures_that_make_no_sense(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(given))):
        RenderOptions.model_validate(given)


@pytest.mark.parametrize("name", ["facade", "a", "0-1", "x" * 63])
def test_scene_names(name: str) -> None:
    assert TypeAdapter(SceneName).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "../x", "A b", "a_b", "-a", "x" * 64, "x" * 300, "é", "a\n"])
def test_invalid_scene_names(name: str) -> None:
    with pytest.raises(ValidationError, match="hyphens"):
        TypeAdapter(SceneName).validate_python(name)


@pytest.mark.parametrize(
    "ending",
    ["nerf", "video", "video-shard", "then-and-now", "export", "page", "metres", "changes", "images-to-nerf-dataset"],
)
def test_a_scene_is_not_named_like_what_is_made_of_another(ending: str) -> None:
    with pytest.raises(ValidationError, match="ending"):
        TypeAdapter(SceneName).validate_python(f"wall-{ending}")


def test_methods_that_a_capture_is_not_enough_for() -> None:
    with pytest.raises(ValidationError, match="dnerf"):
        TrainOptions(method="dnerf")


def test_only_a_nerfacto_is_made_smaller() -> None:
    with pytest.raises(ValidationError, match="splatfacto"):
        TrainOptions(method="splatfacto", model_size="small")
    with pytest.raises(ValidationError, match="start earlier works only for .*Use fresh for splatfacto"):
        TrainOptions(method="splatfacto", start="earlier")
    assert TrainOptions(method="nerfacto-big").with_profile("preview").model_size == "small"
    assert TrainOptions(method="splatfacto").with_profile("preview").model_size == "standard"


def test_the_methods_are_those_of_nerfstudio() -> None:
    pytest.importorskip("nerfstudio")
    from nerfstudio.configs.method_configs import method_configs

    import jobs.radiance.methods  # noqa: F401 – first, as it leaves out the plug-ins that could be installed

    assert sorted(method_configs) == sorted(METHODS)


def test_options_import_nothing_heavy() -> None:
    program = (
        "import sys, jobs.options, jobs.report, jobs.manifest, jobs.media, jobs.camera_path;"
        "print([m for m in ('torch', 'numpy', 'nerfstudio', 'prefect', 'PIL', 'av') if m in sys.modules])"
    )
    listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == "[]"


def test_the_form_of_an_export_follows_from_the_method() -> None:
    assert ExportOptions().for_method("nerfacto").forms == ("mesh", "pointcloud")
    assert {ExportOptions().for_method(method).forms for method in SPLATS} == {("splat",)}
    both = ExportOptions(forms=("pointcloud", "mesh", "mesh")).for_method("instant-ngp")
    assert both.fingerprint(model="a") == ExportOptions().for_method("instant-ngp").fingerprint(model="a")
    with pytest.raises(ValidationError):
        ExportOptions(forms=())
