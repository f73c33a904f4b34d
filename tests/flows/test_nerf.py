"""The whole flow, for real: a Prefect server, structure from motion, nerfacto, a video. Small, but nothing stood in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import pytest

from blocks import Asset, LocalWorkspace
from flows.nerf import nerf
from flows.render import render
from jobs import camera_path
from jobs.camera_path import Origin
from jobs.errors import InvalidInput, NotFound
from jobs.options import PrepareOptions, RenderOptions, TrainOptions
from tests.runs import outcome

pytestmark = pytest.mark.usefixtures("prefect_server")

PREPARE = PrepareOptions(feature_image_size=320, max_features=1000)
TRAIN = TrainOptions(max_num_iterations=20, model_size="small", max_image_size=96, rays_per_batch=256)
STAGES = ("prepare", "train", "render", "page")
RENDER = RenderOptions(width=64, height=36, seconds=0.25)
WIDE = RENDER.model_copy(update={"width": 80, "camera_path": "orbit"})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REBEL_NERF_HOME", str(home))


async def run(**given: Any) -> tuple[Asset, dict[str, str]]:
    """Run the flow, and return its video and the final state of each of its tasks from the server."""
    common = {"scene": "street", "profile": "preview", "render": RENDER}
    return await outcome(nerf, **{**common, "prepare": PREPARE, "train": TRAIN, **given})


def write_path(file: Path, place: float, frame: str | None) -> None:
    """Write a short camera path at `place` on the X axis, in the scene frame of a dataset."""
    poses = [[1, 0, 0, place + step, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1] for step in (0, 0.1)]
    frames = [{"camera_to_world": pose, "fov": 50} for pose in poses]
    content = {"render_width": 64, "render_height": 36, "seconds": 0.25, "camera_path": frames}
    file.write_text(json.dumps({**content, "rebel_nerf": {"frame": frame}} if frame else content))


def jobs(home: Path, scene: str = "") -> set[str]:
    return {job.name for job in (home / "jobs").glob(f"{scene or '[!.]'}*")}


async def test_from_photos_to_a_video_without_repeating_work(street: Path, home: Path) -> None:
    video, states = await run(images=street / "photos")
    assert states == {"capture": "Completed", **dict.fromkeys(STAGES, "Completed")}
    assert len(jobs(home, "street")) == 4
    with av.open(str(Path(video.uri) / "video.mp4")) as container:
        frames = list(container.decode(video=0))
    assert (len(frames), frames[0].width, frames[0].height) == (6, 64, 36)
    path = camera_path.read(Path(video.uri) / "camera_path.json")
    assert path.rebel_nerf == Origin(frame=video.tags["dataset"])

    again, states = await run(images=street / "photos")
    assert again == video
    assert states == {"capture": "Completed", **dict.fromkeys(STAGES, "Cached")}

    # The flow that only renders comes to the same video, by whatever of its versions the model is named.
    rendered = await render("street", model_version="1", profile="preview", render=RENDER)
    assert rendered == video
    with pytest.raises(InvalidInput, match="same model"):
        await render("street", model_version="1", profile="preview", render=WIDE, then="1")
    with pytest.raises(NotFound, match=r"scene street: .*2 of street-nerf .*1 \(1-"):
        await render("street", model_version="2")
    assert len(jobs(home, "street")) == 4

    wide, states = await run(render=WIDE)
    assert (states["prepare"], states["train"], states["render"]) == ("Cached", "Cached", "Completed")
    assert (wide.tags["size"], wide.tags["path"]) == ("80x36", "orbit")
    assert wide.tags["model"] == video.tags["model"]
    assert len(jobs(home, "street")) == 6

    # Of a path in another frame, the generated one is rendered instead; one that lies nowhere near is refused.
    model = video.tags["model"].partition(":")[2]
    given = RENDER.model_copy(update={"camera_path": str(home / "path.json")})
    write_path(home / "path.json", 0.0, "street-images-to-nerf-dataset:0-0")
    assert await render("street", model, profile="preview", render=given) == video
    assert (await run(render=given))[0] == video
    write_path(home / "path.json", 1000.0, None)
    with pytest.raises(InvalidInput, match="scene street: .*camera path"):
        await run(render=given)
    with pytest.raises(InvalidInput, match="scene street: .*camera path"):
        await render("street", profile="preview", render=given)
    assert len(jobs(home, "street")) == 6

    # What is gone is made again, however well it is cached.
    shutil.rmtree(video.uri)
    remade, states = await outcome(render, scene="street", model_version=model, profile="preview", render=RENDER)
    assert (remade.tags["model"], states["render"]) == (video.tags["model"], "Completed")
    assert (Path(video.uri) / "video.mp4").exists()

    shutil.rmtree(home / "assets/street-page")  # a page that cannot be made again is no reason to have no video
    manifest = home / "assets" / video.tags["dataset"].replace(":", "/") / "dataset.json"
    undamaged = manifest.read_bytes()
    manifest.write_text("{".ljust(len(undamaged)))  # of the same size: else the dataset is made again, too
    again, states = await run()
    assert (again, states["train"], states["render"], states["page"]) == (remade, "Cached", "Cached", "Failed")
    manifest.write_bytes(undamaged)  # for the tests that use the same folder


@pytest.mark.slow
async def test_then_and_now_on_the_same_path_in_shards(street: Path, home: Path) -> None:
    old, _ = await run(images=street / "photos")
    before = len(jobs(home))
    # A model that was trained longer stands for the place as it is now.
    given: dict[str, Any] = {
        "train": TRAIN.model_copy(update={"max_num_iterations": 25}),
        "shards": 2,
        "layout": "wipe",
    }
    given["then"] = old.tags["model"].partition(":")[2]
    both, states = await run(render=RENDER.model_copy(update={"outputs": ("depth",), "seconds": 1.0}), **given)
    assert (states["shard"], states["render"], states["compare"]) == ("Completed", "Completed", "Completed")
    assert len(jobs(home)) == before + 1 + 2 * (2 + 1) + 1 + 1  # a training, two joined videos, both as one, a page
    then, now = (LocalWorkspace().find_asset(*both.tags[name].split(":")) for name in ("then", "now"))
    assert then and now and both.name == "street-then-and-now"
    assert then.tags["model"] == old.tags["model"] != now.tags["model"]
    paths = [(Path(video.uri) / "camera_path.json").read_text() for video in (then, now, both)]
    assert len(set(paths)) == 1
    assert (Path(now.uri) / "depth.mp4").exists() and not (Path(then.uri) / "depth.mp4").exists()
    with av.open(str(Path(both.uri) / "video.mp4")) as container:
        frames = list(container.decode(video=0))
    assert (len(frames), frames[0].width, frames[0].height) == (24, 64, 36)
    again, states = await run(render=RENDER.model_copy(update={"outputs": ("depth",), "seconds": 1.0}), **given)
    assert again == both and set(states.values()) <= {"Cached", "Completed"}
    assert len(jobs(home)) == before + 9
    with pytest.raises(NotFound, match="scene street: .*9 of street-nerf"):
        await run(then=9)
    with pytest.raises(InvalidInput, match="same model"):
        await run(**given | {"then": now.tags["model"].partition(":")[2]})


async def test_a_refusing_gate_reports_once(home: Path, tmp_path: Path, street: Path) -> None:
    from PIL import Image

    for number, photo in enumerate(sorted((street / "photos").iterdir())[:9]):
        with Image.open(photo) as image:  # nine photos that have nothing in common
            image.resize((16, 9)).resize((480, 270), Image.Resampling.NEAREST).rotate(40 * number).save(
                tmp_path / f"{number}.jpg"
            )
    from jobs.errors import GateRefused

    with pytest.raises(GateRefused, match="scene blur"):
        await run(scene="blur", images=tmp_path)
    assert {job for job in jobs(home) if job.startswith("blur")} == {
        next(job for job in jobs(home) if job.startswith("blur-prepare")),
    }


@pytest.mark.parametrize("scene", ["../x", "A b", "", "a" * 300, "-a"])
async def test_scene_names_are_checked(scene: str, home: Path) -> None:
    with pytest.raises(Exception, match="hyphens"):
        await nerf(scene=scene)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"version": 0}, "version"),
        ({"train": {"method": "nerfnot"}}, "method"),
        ({"prepare": {"downscale_factor": 0}}, "downscale_factor"),
        ({"train": {"max_iterations": 3}}, "max_iterations"),
    ],
)
async def test_parameters_are_checked(given: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception, match=says):
        await nerf(scene="street", **given)


async def test_missing_assets_are_refused_before_any_job(home: Path, tmp_path: Path, street: Path) -> None:
    before = jobs(home)
    with pytest.raises(NotFound, match="scene nowhere: "):
        await run(scene="nowhere")
    with pytest.raises(NotFound, match="scene street: .*99"):
        await run(version=99)
    with pytest.raises(InvalidInput, match=f"scene fresh: .*{tmp_path}"):
        await run(scene="fresh", images=tmp_path)
    (tmp_path / "one.jpg").write_bytes((street / "photos").iterdir().__next__().read_bytes())
    with pytest.raises(InvalidInput, match="scene fresh"):
        await run(scene="fresh", images=tmp_path)
    with pytest.raises(InvalidInput, match="workspace 'azure'"):
        await run(workspace="azure")
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"render_width": 64, "render_height": 36, "seconds": 1, "camera_path": []}))
    with pytest.raises(InvalidInput, match=r"scene street: .*path\.json.*camera_path"):
        await run(render=RenderOptions(camera_path=str(path)))
    assert jobs(home) == before


async def test_a_block_names_the_workspace(tmp_path: Path) -> None:
    await LocalWorkspace(root=tmp_path / "elsewhere").save("elsewhere")
    with pytest.raises(NotFound, match="elsewhere"):
        await run(scene="nowhere", workspace="rebel-nerf-local-workspace/elsewhere")


def test_importing_the_flows_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    heavy = ("torch", "nerfstudio", "azure.ai.ml", "numpy")
    program = f"import sys, flows.nerf; print([m for m in {heavy} if m in sys.modules])"
    listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == "[]"


def test_options_reach_a_job_as_they_are() -> None:
    from pydantic_settings import CliApp

    given = PrepareOptions(downscale_factor=3, matching="sequential", min_registered_share=0.25)
    assert CliApp.run(PrepareOptions, cli_args=CliApp.serialize(given)) == given
