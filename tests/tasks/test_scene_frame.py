"""The scene frame in a flow: real datasets of several captures, on a real Prefect server."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

import tasks
from blocks import Asset, LocalWorkspace
from jobs.camera_path import CameraPath, Origin
from jobs.errors import InvalidInput
from jobs.options import PrepareOptions, RenderOptions
from tasks.scene_frame import scene_frame_of
from tests import made_once

pytestmark = pytest.mark.usefixtures("prefect_server")

OPTIONS = PrepareOptions(feature_image_size=320, max_features=1000)
FILE = RenderOptions(camera_path="file").with_profile("preview")


def asset(name: str, version: str, **tags: str) -> Asset:
    kind = "dataset" if name.endswith("dataset") else "capture"
    return Asset(name=name, version=version, kind=kind, tags=tags, uri="/", created=datetime.now(timezone.utc))


def test_references_are_the_oldest_and_the_newest_and_change_no_version() -> None:
    capture = asset("street", "9", scene="street", content="c")
    datasets = [asset("street-images-to-nerf-dataset", f"{n}-a") for n in range(1, 8)]
    frames = {"first": datasets[:3], "second": datasets[3:4], "third": datasets[4:]}
    plan = tasks.prepare.plan
    alone, among = plan(capture, OPTIONS), plan(capture, OPTIONS, frames)
    assert (alone.version, alone.fingerprint) == (among.version, among.fingerprint)
    assert [reference.version for reference in among.references.values()] == ["1-a", "3-a", "5-a", "7-a"]
    assert among.provenance().tags()["reference_2"] == "street-images-to-nerf-dataset:3-a"
    spec = among.spec(1)
    assert all(name.isidentifier() for name in spec.inputs)
    [given] = [value for name, value in zip(spec.arguments, spec.arguments[1:], strict=False) if name == "--reference"]
    assert json.loads(given) == {
        "first": ["{inputs.reference_1}", "{inputs.reference_2}"],
        "third": ["{inputs.reference_3}", "{inputs.reference_4}"],
    }
    assert "--reference" not in alone.spec(1).arguments
    assert [len(plan(capture, OPTIONS, {"first": datasets[:n]} if n else {}).references) for n in range(4)] == [
        0,
        1,
        2,
        2,
    ]
    assert not plan(capture, OPTIONS.model_copy(update={"frame": "new"}), frames).references


async def prepared(workspace: LocalWorkspace, images: Path, options: PrepareOptions) -> Asset:
    """Do what the flow does up to the dataset, and return the dataset."""

    @flow(name="prepared")
    async def run() -> Asset:
        capture = await tasks.capture(workspace, "street", None, images, options)
        dataset = await tasks.prepare(workspace, capture, options, await tasks.find_scene_frames(workspace, "street"))
        await tasks.warn_of_new_scene_frame("street", dataset)
        return dataset

    made: Asset = await run()
    return made


async def checked(
    workspace: LocalWorkspace, dataset: Asset, path: CameraPath | None, named: bool = False
) -> tuple[str, CameraPath | None]:
    """Return what the flows render instead of, or by, a path."""

    @flow(name="checked")
    async def run() -> tasks.Shot:
        return await tasks.fit_shot(workspace, "street", dataset, tasks.Shot(FILE, path, chosen=named))

    shot = await run()
    return shot.options.camera_path, shot.path


def path_of(
    *places: tuple[float, float, float], frame: str | None = None, like: list[list[float]] | None = None
) -> CameraPath:
    """Return frames moved by `places` from the camera `like` (4, 4), by default one at the origin that looks down."""
    frames = []
    for place in places:
        pose = np.array(like) if like is not None else np.eye(4)
        pose[:3, 3] += place
        frames.append({"camera_to_world": pose.ravel().tolist(), "fov": 50})
    content = {"render_width": 64, "render_height": 36, "seconds": 1, "camera_path": frames}
    return CameraPath.model_validate({**content, "rebel_nerf": Origin(frame=frame)} if frame else content)


@pytest.mark.parametrize("size", [(1080, 1920), None])
async def test_a_generated_path_has_the_shape_of_the_photos(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: tuple[int, int] | None
) -> None:
    workspace = LocalWorkspace(root=tmp_path / "home")
    file = tmp_path / ("transforms.json" if size else "other.json")
    file.write_text(json.dumps({"w": 1080, "h": 1920, "frames": [{}, {"w": 1920, "h": 1080}, {}]}))
    dataset = workspace.take_in("street-images-to-nerf-dataset", {file.name: file}, {})

    @flow(name="shaped")
    async def shaped(**given: int) -> tuple[int | None, int | None, int | None]:
        shot = tasks.read_shot("street", RenderOptions(**given), "full", 1)
        options = (await tasks.fit_shot(workspace, "street", dataset, shot)).options
        return options.width, options.height, options.long_side

    # Of a dataset whose photos' sizes are not known here, the job finds the shape.
    assert await shaped() == ((1080, 1920, None) if size else (None, None, 1920))
    assert await shaped(width=540) == ((540, 960, None) if size else (540, None, None))
    assert await shaped(width=640, height=640) == (640, 640, None)
    assert "cannot show a video" not in caplog.text
    await shaped(width=4096, height=4096)
    assert "scene street: many players and phones cannot show a video of 4096x4096" in caplog.text
    if size:
        with pytest.raises(InvalidInput, match="scene street: 9216x16384"):
            await shaped(height=16384)


async def artifacts(key: str, since: datetime) -> list[str]:
    """Return the artifacts under a key since a moment, because other tests' runs are on the same server."""
    async with get_client() as client:
        found = await client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return [str(each.data) for each in found if each.created and each.created >= since]


async def test_captures_share_a_frame_or_a_warning_says_so(
    street: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = datetime.now(timezone.utc)
    workspace = LocalWorkspace(root=tmp_path / "home")
    elsewhere = made_once.street("elsewhere", 10)

    first = await prepared(workspace, street / "photos", OPTIONS)
    assert scene_frame_of(first) == str(first) and first.tags["frame"] == "new" and "reference_1" not in first.tags

    # The same photos with other options fit to half a percent of the scene.
    again = await prepared(workspace, street / "photos", OPTIONS.model_copy(update={"downscale_factor": 2}))
    assert scene_frame_of(again) == again.tags["frame"] == again.tags["reference_1"] == str(first) != str(again)
    poses = [
        np.array([frame["transform_matrix"] for frame in json.loads(workspace.read(each, "transforms.json"))["frames"]])
        for each in (first, again)
    ]
    np.testing.assert_allclose(poses[0], poses[1], atol=5e-3)
    assert await artifacts("street-new-frame", start) == []

    other = await prepared(workspace, elsewhere / "photos", OPTIONS)
    assert scene_frame_of(other) == str(other) and other.tags["reference_1"] == str(first)
    [said] = await artifacts("street-new-frame", start)
    assert (
        f"{other} begins a new scene frame" in said and f"scene street: {other} begins a new scene frame" in caplog.text
    )
    assert await tasks.find_scene_frames(workspace, "street") == {str(first): [first, again], str(other): [other]}

    photo, elsewhere = poses[0][6].tolist(), json.loads(workspace.read(other, "transforms.json"))["frames"][4]
    near = path_of((0, 0, 0), (0.1, 0.1, 0.1), like=photo)
    assert await checked(workspace, first, None) == ("file", None)
    for dataset, path in (
        (first, near),
        (again, near),
        (again, path_of((0, 0, 0), (0.1, 0, 0), frame=str(again), like=photo)),
    ):
        assert await checked(workspace, dataset, path) == ("file", path)
    assert await artifacts("street-camera-path", start) == []
    plans = await artifacts("street-plan", start)
    assert len(plans) == 3 and all("](data:image/svg+xml" in each for each in plans), "seen before it is paid for"
    assert await checked(workspace, other, near) == ("tour", None)
    [said] = await artifacts("street-camera-path", start)
    assert f"is for the scene frame of {first}, but {other} is in that of {other}" in said
    assert said.strip("*") in caplog.text
    there = path_of((0, 0, 0), (0.1, 0, 0), like=elsewhere["transform_matrix"])
    assert await checked(workspace, other, there, named=True) == ("file", there)  # just drawn in it, for all we know
    own = path_of((0, 0, 0), (0.1, 0, 0), frame=str(other), like=elsewhere["transform_matrix"])
    assert await checked(workspace, other, own) == ("file", own)
    assert await checked(workspace, first, own) == ("tour", None)

    with pytest.raises(InvalidInput, match=r"scene street: .*\(2 of 2\) is \d\d times"):
        await checked(workspace, first, path_of((0, 90, 0), (0, 60, 0)))
    with pytest.raises(InvalidInput, match=r"\(1 of 2\) is \d+ times"):
        await checked(workspace, first, path_of((0, 1e5, 0), (0, 0, 0)))
    # It looks away from the houses: so does another scene's path, but not one that says that it is of this scene.
    turned = (np.array(photo) @ np.diag([-1.0, 1, -1, 1])).tolist()
    mixed = [path_of((0, 0, 0), (0, 0, 0), like=each).camera_path[0] for each in (photo, turned, turned)]
    away = path_of((0, 0, 0), (0, 0, 0)).model_copy(update={"camera_path": mixed})
    with pytest.raises(InvalidInput, match=r"scene street: 67% .* 2 of 3"):
        await checked(workspace, first, away, named=True)
    said_so = away.model_copy(update={"rebel_nerf": Origin(frame=str(first))})
    assert await checked(workspace, first, said_so) == ("file", said_so)
    warned = "\n".join(await artifacts("street-camera-path", start))
    assert "67% of the camera path's frames show little or nothing" in warned
    with pytest.raises(InvalidInput, match="100% "):
        await checked(workspace, first, path_of((0, 0, 0), (0, 0, 0), frame=str(first), like=turned))


async def test_a_damaged_pose_is_reported_with_its_dataset(tmp_path: Path) -> None:
    file = tmp_path / "transforms.json"
    file.write_text(json.dumps({"frames": [{"transform_matrix": [[1.0, 0.0]]}]}))
    workspace = LocalWorkspace(root=tmp_path / "workspace")
    damaged = workspace.take_in("street", {file.name: file}, {})
    shot = tasks.Shot(RenderOptions().with_profile("preview"), None)
    with pytest.raises(InvalidInput, match=r"transforms\.json of street:1"):
        await tasks.fit_shot(workspace, "street", damaged, shot)
