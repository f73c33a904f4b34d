"""Videos of a real, barely trained nerfacto: what is in the file is what the path asked for."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

torch = pytest.importorskip("torch")
pytest.importorskip("nerfstudio")

from jobs import camera_path, model, render, report  # noqa: E402
from jobs.camera_path import CameraPath, Origin  # noqa: E402
from jobs.errors import GateRefused, InvalidInput, JobFailed  # noqa: E402
from jobs.manifest import checksum, peak_memory  # noqa: E402
from jobs.options import RenderOptions  # noqa: E402
from jobs.path import trajectory  # noqa: E402
from jobs.radiance import renderer as rendering  # noqa: E402
from jobs.radiance.renderer import Renderer  # noqa: E402
from jobs.video.h264 import Picture, encode, inspect  # noqa: E402
from tests.jobs.video.test_h264 import decode, waves  # noqa: E402


@pytest.fixture(scope="module")
def pipeline(tiny_model: Path, tiny_dataset: Path) -> Any:
    return model.load(tiny_model, tiny_dataset, device="cpu")


@pytest.fixture(scope="module")
def path(tiny_model: Path, tiny_dataset: Path) -> CameraPath:
    """Return a tour of four frames, 48x27 px."""
    return trajectory.generate("tour", tiny_dataset, tiny_model, RenderOptions(width=48, height=27, seconds=1.0, fps=4))


def command(*arguments: object) -> tuple[int, list[report.Progress], str]:
    """Run the job as a workspace does; its exit status, its progress, and its log."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.render", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    lines = [line for line in map(report.parse, done.stdout.splitlines()) if isinstance(line, report.Progress)]
    return done.returncode, lines, done.stdout + done.stderr


def boxes(file: Path) -> list[str]:
    """Return the names of the outermost boxes of an MP4, in order."""
    content, at, names = file.read_bytes(), 0, []
    while at < len(content):
        names.append(content[at + 4 : at + 8].decode())
        at += int.from_bytes(content[at : at + 4], "big")
    return names


def test_a_tour_becomes_a_video(tiny_model: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    status, told, log = command(
        *("--dataset", tiny_dataset, "--model", tiny_model, "--video", tmp_path, "--camera-path", "tour"),
        *("--width", 64, "--height", 37, "--seconds", 1.5, "--fps", 8),
        *("--checkpoints", tmp_path.with_name("checkpoints"), "--frame", "street-images-to-nerf-dataset:1-c0ffee00"),
    )
    assert status == 0, log
    assert {file.name for file in tmp_path.iterdir()} == {
        *("video.mp4", "poster.jpg", "contact_sheet.jpg", "preview.gif", "camera_path.json", "video.json")
    }
    frames = decode(tmp_path / "video.mp4")
    assert len(frames) == 12 and frames[0].shape == (36, 64, 3)
    assert "64x37 becomes 64x36" in log
    with av.open(str(tmp_path / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 8
        assert stream.duration is not None and stream.time_base is not None
        assert stream.duration * stream.time_base == Fraction(3, 2)
    names = boxes(tmp_path / "video.mp4")
    assert names.index("moov") < names.index("mdat"), "does not play while it downloads"

    with Image.open(tmp_path / "poster.jpg") as poster:
        assert poster.size == (64, 36)
        assert np.abs(np.asarray(poster, dtype=float) - frames[6]).mean() < 6
    with Image.open(tmp_path / "preview.gif") as preview:
        assert preview.size == (64, 36) and _frames_of(preview) == 12
    assert (tmp_path / "preview.gif").stat().st_size < 2_000_000

    path = camera_path.read(tmp_path / "camera_path.json")
    assert len(path.camera_path) == 12 and path.seconds == 1.5
    assert path.rebel_nerf == Origin(frame="street-images-to-nerf-dataset:1-c0ffee00")
    manifest = json.loads((tmp_path / "video.json").read_text())
    assert manifest["camera_path"] == "tour"
    assert (manifest["frames"], manifest["width"], manifest["height"]) == (12, 64, 36)
    assert (manifest["fps"], manifest["duration"]) == (8, 1.5)
    assert manifest["rays_per_second"] > 0 and manifest["peak_memory_bytes"]["cpu"] > 1e8

    assert (told[0].step, told[-1].step, told[-1].total) == (0, 12, 12)
    assert told[-1].seconds_left == 0


@pytest.mark.parametrize("camera_type", ["perspective", "fisheye", "equirectangular"])
def test_frames_are_those_of_nerfstudio(
    pipeline: Any, path: CameraPath, camera_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every projection, whatever the number of rays at a time, and in however many bands."""
    from nerfstudio.cameras.camera_paths import get_path_from_json

    path = path.model_copy(update={"camera_type": camera_type})
    cameras = get_path_from_json(path.content() | {"render_height": 26})
    pipeline.model.config.eval_num_rays_per_chunk = 1 << 15
    theirs = [pipeline.model.get_outputs_for_camera(cameras[i : i + 1])["rgb"].numpy() * 255 for i in range(2)]
    pipeline.model.config.eval_num_rays_per_chunk = 1000
    renderer = Renderer(pipeline, path)
    for index, expected in enumerate(theirs):
        frame = renderer.frame(index)["rgb"]
        assert frame.shape == (26, 48, 3)
        assert np.abs(frame - expected).max() <= 1
        monkeypatch.setattr(rendering, "_BAND", 48 * 5)


def test_a_crop_shows_only_what_is_in_the_box(pipeline: Any, path: CameraPath, monkeypatch: pytest.MonkeyPatch) -> None:
    pose = np.array(path.camera_path[0].camera_to_world).reshape(4, 4)
    crop = {
        "crop_center": (pose[:3, 3] - 1.5 * pose[:3, 2]).tolist(),
        "crop_scale": [1.0] * 3,
        "crop_bg_color": {"r": 255, "g": 0, "b": 0},
    }
    cropped = Renderer(pipeline, CameraPath.model_validate(path.content() | {"crop": crop}))
    frame = cropped.frame(0)["rgb"]
    monkeypatch.setattr(rendering, "_BAND", 48 * 4)
    assert np.abs(cropped.frame(0)["rgb"].astype(int) - frame).max() <= 1
    red = (frame == [255, 0, 0]).all(axis=2)
    assert red[0, 0] and red[-1, -1] and not red[red.shape[0] // 2, red.shape[1] // 2]
    assert not (Renderer(pipeline, path).frame(0)["rgb"] == [255, 0, 0]).all(axis=2).any(), "the colour stayed"


@pytest.mark.slow
def test_a_frame_needs_no_more_memory_than_its_bands(
    pipeline: Any, path: CameraPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eighth of an 8K frame, in bands of an eighth of what they are."""
    monkeypatch.setattr(pipeline.model.proposal_sampler, "num_proposal_samples_per_ray", (4, 4))
    monkeypatch.setattr(pipeline.model.proposal_sampler, "num_nerf_samples_per_ray", 2)  # fast enough for a CPU
    monkeypatch.setattr(rendering, "_BAND", rendering._BAND // 8)
    wide = path.model_copy(update={"render_width": 7680, "render_height": 540})
    small = Renderer(pipeline, path.model_copy(update={"render_width": 960, "render_height": 68}))
    expected = small.frame(1)["rgb"]
    renderer = Renderer(pipeline, wide)
    before = peak_memory()
    frame = renderer.frame(1)["rgb"]
    grown = peak_memory() - before
    assert frame.shape == (540, 7680, 3) and grown < 400e6
    assert np.abs(frame[4::8, 4::8].astype(int) - expected[:67]).mean() < 3


def test_points_nearer_than_the_near_plane_are_hidden(tiny_model: Path, tiny_dataset: Path, path: CameraPath) -> None:
    """Rays begin there, and no box of a crop brings them nearer."""
    own = model.load(tiny_model, tiny_dataset, device="cpu")
    crop = {"crop_center": [0, 0, 0], "crop_scale": [9] * 3, "crop_bg_color": {"r": 255, "g": 0, "b": 0}}
    for shown in (path, CameraPath.model_validate(path.content() | {"crop": crop})):
        begin: list[float] = []
        hook = own.model.proposal_sampler.register_forward_pre_hook(
            lambda _, given, begin=begin: begin.append(float(given[0].nears.min()))
        )
        Renderer(own, shown, RenderOptions(near_plane=0.5)).frame(0)
        hook.remove()
        assert begin and min(begin) == 0.5


@pytest.fixture
def clouds(tiny_model: Path, tmp_path: Path) -> Path:
    """Return a copy of `tiny_model` whose fog has thick and thin places, so that depths differ."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "clouds"))
    [file] = (folder / model.CHECKPOINTS).iterdir()
    state = torch.load(file, weights_only=True)
    state["pipeline"]["_model.field.mlp_base.model.1.layers.1.weight"][0] *= 10  # the density's
    state["pipeline"]["_model.field.mlp_base.model.1.layers.1.bias"][0] += 3
    torch.save(state, file)
    about = json.loads((folder / model.MANIFEST).read_text())
    about["checksums"][f"{model.CHECKPOINTS}/{file.name}"] = checksum(file)
    (folder / model.MANIFEST).write_text(json.dumps(about))
    return folder


def test_depth_and_accumulation_are_videos_of_their_own(
    clouds: Path, tiny_dataset: Path, path: CameraPath, tmp_path: Path
) -> None:
    """In nerfstudio's colours, with the same range of depths in all frames."""
    from nerfstudio.cameras.camera_paths import get_path_from_json
    from nerfstudio.utils.colormaps import apply_colormap, apply_depth_colormap

    path.write(tmp_path / "path.json")
    options = RenderOptions(camera_path=str(tmp_path / "path.json"), outputs=("depth", "accumulation"), png_frames=True)
    render.render(options, tiny_dataset, clouds, tmp_path / "video", tmp_path / "checkpoints")
    manifest = json.loads((tmp_path / "video" / "video.json").read_text())
    near, far = manifest["depth_range"]
    assert 0 < near < far
    assert set(manifest["checksums"]) == {"video.mp4", "depth.mp4", "accumulation.mp4"}
    cameras = get_path_from_json(path.content() | {"render_height": 26})
    found = {name: decode(tmp_path / "video" / f"{name}.mp4") for name in ("video", "depth", "accumulation")}
    pipeline = model.load(clouds, tiny_dataset, device="cpu")
    renderer = Renderer(pipeline, path, options)
    for index in range(4):
        rendered = renderer.frame(index)
        with torch.inference_mode():
            shown = pipeline.model.get_outputs_for_camera(cameras[index : index + 1])
        expected = {
            "video": shown["rgb"],
            "depth": apply_depth_colormap(shown["depth"], shown["accumulation"], near, far),
            "accumulation": apply_colormap(shown["accumulation"]),
        }
        for name, picture in expected.items():
            # The fog's depth is noise: H.264 keeps its light, but has colours for each four pixels only.
            off = (found[name][index] - picture.numpy() * 255).reshape(13, 2, 24, 2, 3).mean(axis=(1, 3))
            assert np.abs(off).mean() < 10, name
            assert np.abs(rendered["rgb" if name == "video" else name] - picture.numpy() * 255).max() <= 1, name
        with Image.open(tmp_path / "video" / "frames" / f"{index:05d}.png") as frame:
            assert np.abs(np.asarray(frame) - shown["rgb"].numpy() * 255).max() <= 1
    assert np.ptp(found["depth"][0]) > 30, "all of one colour"


def test_outputs_that_a_model_lacks_are_reported(
    pipeline: Any, path: CameraPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As splatfacto, which has a depth only if it was trained to."""
    whole = pipeline.model.get_outputs
    without = lambda rays: {name: value for name, value in whole(rays).items() if name != "depth"}  # noqa: E731
    monkeypatch.setattr(pipeline.model, "get_outputs", without)
    renderer = Renderer(pipeline, path, RenderOptions(outputs=("accumulation",)))
    assert set(renderer.frame(0)) == {"rgb", "accumulation"}
    with pytest.raises(InvalidInput, match="depth"):
        Renderer(pipeline, path, RenderOptions(outputs=("depth",)))


def test_a_video_of_nothing_is_refused(tiny_model: Path, tiny_dataset: Path, path: CameraPath, tmp_path: Path) -> None:
    crop = {"crop_center": [90, 0, 0], "crop_scale": [1, 1, 1], "crop_bg_color": {"r": 9, "g": 9, "b": 9}}
    CameraPath.model_validate(path.content() | {"crop": crop}).write(tmp_path / "path.json")
    options = RenderOptions(camera_path=str(tmp_path / "path.json"))
    with pytest.raises(GateRefused, match="empty.* tour"):
        render.render(options, tiny_dataset, tiny_model, tmp_path / "video", tmp_path / "checkpoints")
    assert not list((tmp_path / "video").iterdir())


def test_a_model_that_has_diverged_is_refused(
    tiny_model: Path, tiny_dataset: Path, path: CameraPath, tmp_path: Path
) -> None:
    """nerfstudio shows colours that are not numbers in black."""
    broken = model.load(tiny_model, tiny_dataset, device="cpu")
    with torch.no_grad():
        next(broken.model.field.mlp_head.parameters()).fill_(float("nan"))
    frames = (Renderer(broken, path).frame(index)["rgb"] for index in range(4))
    encode(tmp_path / "v.mp4", frames, path.frame_rate, path.even_size)
    with pytest.raises(GateRefused, match="empty"):
        render._check(inspect(tmp_path / "v.mp4"), path)


def test_continues_with_fewer_rays_when_memory_runs_out(
    pipeline: Any, path: CameraPath, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the model refuses more than 300 rays, as a GPU that is too small does."""
    expected = Renderer(pipeline, path).frame(0)["rgb"]

    def too_many(_: object, arguments: tuple[Any, ...]) -> None:
        if len(arguments[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = pipeline.model.proposal_sampler.register_forward_pre_hook(too_many)
    try:
        limit = 300
        pipeline.model.config.eval_num_rays_per_chunk = 1024
        assert np.abs(Renderer(pipeline, path).frame(0)["rgb"].astype(int) - expected).max() <= 1
        assert pipeline.model.config.eval_num_rays_per_chunk == 256
        assert "Continuing with 256 rays" in capsys.readouterr().out
        limit = 100
        with pytest.raises(JobFailed, match="256 rays"):
            Renderer(pipeline, path).frame(0)
    finally:
        hook.remove()
        pipeline.model.config.eval_num_rays_per_chunk = 1 << 15


@pytest.mark.parametrize(
    ("name", "content"),
    [("not there", None), ("not JSON", "{"), ("empty", '{"camera_path": []}')],
)
def test_a_bad_path_is_refused_before_anything_is_loaded(tmp_path: Path, name: str, content: str | None) -> None:
    file = tmp_path / f"{name}.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidInput, match=str(file)):
        render.render(
            RenderOptions(camera_path=str(file)), tmp_path / "d", tmp_path / "m", tmp_path / "v", tmp_path / "c"
        )
    assert not (tmp_path / "v").exists()


def test_a_full_disk_ends_clearly(
    tiny_model: Path, tiny_dataset: Path, path: CameraPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses to let the file grow: to the job, that is a disk that is full."""
    path.write(tmp_path / "path.json")
    folders = ["--dataset", tiny_dataset, "--model", tiny_model, "--video", tmp_path / "video"]
    folders += ["--checkpoints", tmp_path / "checkpoints"]
    arguments = ["render", *folders, "--camera-path", tmp_path / "path.json"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(JobFailed, match="disk.*/video"):
            render.main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("*.mp4")), "half a video was left"


def test_a_file_cut_short_is_refused(tmp_path: Path, path: CameraPath) -> None:
    encode(tmp_path / "v.mp4", list(waves(3, (26, 48))), path.frame_rate, path.even_size)
    with pytest.raises(GateRefused, match="3 frames.* 4 frames"):
        render._check(inspect(tmp_path / "v.mp4"), path)


def test_frames_are_not_kept() -> None:
    """One is rendered while one is used, and no more."""
    made: list[int] = []

    def source() -> Iterator[Picture]:
        for index in range(6):
            made.append(index)
            yield np.full((2, 2, 3), index, np.uint8)

    used = []
    for frame in render._ahead(source()):
        used.append(int(frame[0, 0, 0]))
        assert len(made) <= len(used) + 1
    assert used == list(range(6))


def test_a_loop_is_rendered_once_and_goes_back_the_same_way(tiny_model: Path, tiny_dataset: Path) -> None:
    options = RenderOptions(width=48, height=27, seconds=3.0, fps=4, loop=True)
    loop = trajectory.generate("tour", tiny_dataset, tiny_model, options)
    rendered: list[int] = []

    def frame(index: int) -> dict[str, Picture]:
        rendered.append(index)
        return {"rgb": np.full((2, 2, 3), index, np.uint8)}

    def shown(first: int, last: int, most_bytes: int) -> list[int]:
        rendered.clear()
        frames = render.without_repeats(frame, loop, range(first, last), most_bytes)
        return [int(pictures["rgb"][0, 0, 0]) for pictures in frames]

    there_and_back = [0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1]
    assert shown(0, 12, 1000) == there_and_back and rendered == [0, 1, 2, 3, 4, 5, 6]
    assert shown(4, 12, 1000) == [4, 5, 6, 5, 4, 9, 10, 11], "as after an interruption"
    assert shown(0, 12, 24) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 1], "no more than two pictures are kept"


def test_an_error_while_rendering_reaches_the_job() -> None:
    def source() -> Iterator[Picture]:
        yield np.zeros((2, 2, 3), np.uint8)
        raise GateRefused("frame 1")

    with pytest.raises(GateRefused, match="frame 1"):
        list(render._ahead(source()))


def _frames_of(picture: Image.Image) -> int:
    return sum(1 for _ in ImageSequence.Iterator(picture))
