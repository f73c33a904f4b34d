"""Captures and assets in a folder, and photos that were put there by hand."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blocks import Asset, LocalWorkspace
from blocks.integrity import damaged_assets
from jobs.errors import InvalidInput, NotFound
from jobs.manifest import checksum
from tests.blocks.shell import PHOTOS, finish, spec, workspace

__all__ = ["workspace"]


def test_a_disk_that_is_full_at_registration_is_said_and_leaves_nothing_behind(
    workspace: LocalWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"one")
    job = spec(PHOTOS)
    finish(workspace, job)

    def full(file: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("blocks.local.write_durably", full)
        with pytest.raises(InvalidInput, match="assets/street .*No space left"):
            workspace.take_in("street", {"a.jpg": photo}, {})
        with pytest.raises(InvalidInput, match="assets/street-photos .*No space left"):
            workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {})
    assert list((workspace.folder / "assets").glob("*/.*.part")) == []
    assert workspace.take_in("street", {"a.jpg": photo}, {}).version == "1"
    assert workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {}).version == "1-abcd"


def test_captures_get_versions_by_content(workspace: LocalWorkspace, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "b.jpg").write_bytes(b"two")
    files = {"a.jpg": tmp_path / "a.jpg", "walk/b.jpg": tmp_path / "b.jpg"}
    first = workspace.take_in("street", files, {"source": "here"})
    assert (first.version, first.kind) == ("1", "capture")
    assert (workspace.fetch(first) / "walk" / "b.jpg").read_bytes() == b"two"
    assert workspace.read(first, "walk/b.jpg") == b"two"
    with pytest.raises(NotFound, match="c.jpg"):
        workspace.read(first, "c.jpg")
    renamed = {"other.jpg": files["a.jpg"], "names.jpg": files["walk/b.jpg"]}
    assert workspace.take_in("street", renamed, {}) == first
    second = workspace.take_in("street", {"a.jpg": files["a.jpg"]}, {})
    assert [asset.version for asset in workspace.assets("street")] == ["1", "2"]
    assert workspace.assets("street")[-1] == second
    assert not list((workspace.folder / "assets" / "street").glob(".*"))


def photo(workspace: LocalWorkspace, tmp_path: Path, content: bytes) -> Asset:
    """Register a capture of one photo."""
    (tmp_path / "a.jpg").write_bytes(content)
    return workspace.take_in("street", {"a.jpg": tmp_path / "a.jpg"}, {})


def test_an_asset_is_on_the_disk_before_it_has_its_name(
    workspace: LocalWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    at_rename: set[int] = set()
    fsync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def note_rename(source: Path, target: Path) -> None:
        at_rename.update(synced)
        synced.clear()
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    (tmp_path / "b.jpg").write_bytes(b"two")
    asset = workspace.take_in("street", {"walk/b.jpg": tmp_path / "b.jpg"}, {})
    folder = Path(asset.uri)
    assert {path.stat().st_ino for path in (folder, *folder.rglob("*"))} <= at_rename
    assert folder.parent.stat().st_ino in synced, "the name itself"


@pytest.mark.parametrize("content", [b"", b"on"], ids=["emptied", "truncated"])
def test_a_capture_that_lost_its_content_is_set_aside_and_taken_in_again(
    workspace: LocalWorkspace, tmp_path: Path, content: bytes
) -> None:
    lost = Path(photo(workspace, tmp_path, b"one").uri)
    (lost / "a.jpg").write_bytes(content)
    after = LocalWorkspace(root=workspace.root)  # as after a boot: another process
    assert after.find_asset("street", "1") is None and after.assets("street") == []
    [aside] = lost.parent.glob(".damaged-1-*")
    assert (aside / "a.jpg").read_bytes() == content
    again = photo(after, tmp_path, b"one")
    assert again.version == "2", "the number of a damaged version is not used again"
    assert after.read(again, "a.jpg") == b"one"


@pytest.mark.parametrize("manifest", ["", "{", "[]", 50_000 * "[", '{"name": "street"}', "\xff"])
def test_a_damaged_manifest_hides_no_other_version(workspace: LocalWorkspace, tmp_path: Path, manifest: str) -> None:
    first, second = photo(workspace, tmp_path, b"one"), photo(workspace, tmp_path, b"two")
    Path(first.uri, "asset.json").write_text(manifest, encoding="latin-1")
    assert [damaged.asset for damaged in damaged_assets(workspace.folder, whole=True)] == ["street:1"]
    assert LocalWorkspace(root=workspace.root).assets("street") == [second]


@pytest.mark.parametrize(
    ("member", "value"),
    [("sizes", [1]), ("sizes", {"a.jpg": "three"}), ("checksums", None), ("created", "today"), ("tags", {"scene": 1})],
)
def test_a_manifest_with_another_content_hides_no_other_version(
    workspace: LocalWorkspace, tmp_path: Path, member: str, value: object
) -> None:
    first, second = photo(workspace, tmp_path, b"one"), photo(workspace, tmp_path, b"two")
    manifest = Path(first.uri, "asset.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), member: value}))
    [damaged] = damaged_assets(workspace.folder, whole=True)
    assert damaged.asset == "street:1" and damaged.fault.startswith(f"asset.json: {member}")
    assert LocalWorkspace(root=workspace.root).assets("street") == [second]


def test_a_manifest_that_is_a_folder_hides_no_other_version(workspace: LocalWorkspace, tmp_path: Path) -> None:
    first, second = photo(workspace, tmp_path, b"one"), photo(workspace, tmp_path, b"two")
    manifest = Path(first.uri, "asset.json")
    manifest.unlink()
    manifest.mkdir()
    assert LocalWorkspace(root=workspace.root).assets("street") == [second]


def test_an_asset_of_a_later_versions_kind_is_passed_over(workspace: LocalWorkspace, tmp_path: Path) -> None:
    manifest = Path(photo(workspace, tmp_path, b"one").uri, "asset.json")
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "kind": "hologram"}))
    before = LocalWorkspace(root=workspace.root)
    assert before.assets("street") == [] and before.find_asset("street", "1") is None
    assert list(damaged_assets(workspace.folder, whole=True)) == []
    assert manifest.exists(), "it is intact"


def test_assets_of_later_and_earlier_versions_are_read(workspace: LocalWorkspace, tmp_path: Path) -> None:
    asset = photo(workspace, tmp_path, b"one")
    manifest = Path(asset.uri, "asset.json")
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "a_later_key": 1}))
    assert workspace.find_asset("street", "1") == asset
    del content["sizes"]
    manifest.write_text(json.dumps(content))
    assert LocalWorkspace(root=workspace.root).find_asset("street", "1") == asset


def test_a_version_that_a_person_renamed_is_passed_over(workspace: LocalWorkspace, tmp_path: Path) -> None:
    folder = Path(photo(workspace, tmp_path, b"one").uri)
    folder.rename(folder.with_name("1-old"))
    assert workspace.assets("street") == []
    assert photo(workspace, tmp_path, b"two").version == "1"
    assert (folder.with_name("1-old") / "a.jpg").exists()


def test_a_folder_without_a_manifest_is_ignored(workspace: LocalWorkspace, tmp_path: Path) -> None:
    job = spec(PHOTOS)
    (workspace.folder / "assets" / "street-video" / "1-abcd").mkdir(parents=True)
    (workspace.folder / "assets" / "street-video" / "1-abcd" / "half").write_text("torn")
    finish(workspace, job)
    asset = workspace.register(job, "capture", "street-video", "1-abcd", "video", {})
    assert not (Path(asset.uri) / "half").exists()
    assert list(Path(asset.uri).parent.glob(".damaged-1-abcd-*/half"))


def drop(workspace: LocalWorkspace, path: str, content: bytes) -> Path:
    file = workspace.folder / "captures" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_dropped_captures_are_listed(workspace: LocalWorkspace) -> None:
    assert workspace.dropped() == [] == workspace.dropped("street")
    old = drop(workspace, "street/walk/a.jpg", b"one")
    os.utime(old, (0, 0))  # a copy keeps the time of the photo, and a camera's clock may be wrong
    for name in ("street/notes.txt", "street/.b.jpg", ".hidden/a.jpg", "notes.txt"):
        drop(workspace, name, b"two")
    drop(workspace, "Old Town/a.jpg", b"three")
    drop(workspace, "loose.jpg", b"four")
    (workspace.folder / "captures" / "empty").mkdir()
    drop(workspace, "street/b.jpg", b"").unlink()
    (workspace.folder / "captures" / "street" / "b.jpg").symlink_to("nowhere")
    found = {each.scene: each for each in workspace.dropped()}
    assert {scene: set(each.files) for scene, each in found.items()} == {
        "Old Town": {"a.jpg"}, "empty": set(), "loose.jpg": set(), "street": {"walk/a.jpg"},
    }  # fmt: skip
    assert 0 <= found["street"].age < 60 and found["street"].size == 3
    assert [each.files for each in workspace.dropped("street")] == [found["street"].files]


def test_dropped_captures_are_read_once_and_again_after_a_change(workspace: LocalWorkspace) -> None:
    file = drop(workspace, "street/a.jpg", b"one")
    drop(workspace, "square/a.jpg", b"one")
    [first] = workspace.dropped("street")
    memory = workspace.folder / "checksums.json"
    other = checksum(drop(workspace, "other.jpg", b"remembered"))
    memory.write_text(memory.read_text().replace(first.files["a.jpg"].checksum, other))
    assert workspace.dropped("street")[0].files["a.jpg"].checksum == other, "it is not read again"
    workspace.dropped("square")
    assert workspace.dropped("street")[0].files["a.jpg"].checksum == other, "nor for another scene's sake"
    times = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert workspace.dropped("street")[0].files["a.jpg"].checksum == checksum(file), (
        "of the same size and time, but new"
    )
    memory.write_text("not what was written")
    assert workspace.dropped("street")[0].files["a.jpg"].checksum == checksum(file)


def test_dropped_captures_are_registered(workspace: LocalWorkspace) -> None:
    drop(workspace, "street/a.jpg", b"one")
    file = drop(workspace, "street/b.jpg", b"two")
    [dropped] = workspace.dropped("street")
    assert workspace.find_capture(dropped) is None
    first = workspace.take_in_dropped(dropped, {"source": "dropped"})
    assert first.tags["content"] == dropped.content
    file.rename(file.with_name("c.jpg"))
    [renamed] = workspace.dropped("street")
    assert workspace.find_capture(renamed) == first == workspace.take_in_dropped(renamed, {})
    with pytest.raises(InvalidInput, match="b.jpg"):
        workspace.take_in_dropped(dropped, {})
    with ThreadPoolExecutor(8) as pool:
        drop(workspace, "street/d.jpg", b"three")
        [grown] = workspace.dropped("street")
        taken = list(pool.map(lambda _: workspace.take_in_dropped(grown, {}), range(8)))
    assert [asset.version for asset in taken] == ["2"] * 8, "however many take it in at once"


def test_missing_things_are_reported(workspace: LocalWorkspace, tmp_path: Path) -> None:
    job = spec(PHOTOS)
    with pytest.raises(NotFound, match="capture"):
        workspace.output_sizes(job.name, "capture")
    with pytest.raises(NotFound, match="capture"):
        workspace.register(job, "capture", "street-photos", "1", "dataset", {})
    (tmp_path / "a.jpg").write_bytes(b"one")
    asset = workspace.take_in("street", {"a.jpg": tmp_path / "a.jpg"}, {})
    (Path(asset.uri) / "asset.json").unlink()
    with pytest.raises(NotFound, match="street:1"):
        workspace.submit(spec(PHOTOS, inputs={"images": asset}))
    assert workspace.find_asset("street", "1") is None
    with pytest.raises(InvalidInput, match="b.jpg"):
        workspace.take_in("street", {"b.jpg": tmp_path / "b.jpg"}, {})


IN_ASCII = r"""
from pathlib import Path
import sys
from blocks import LocalWorkspace, Marks
from blocks.local_files import write_marks
from commands.shell.usage import command_in
from tasks.gallery import write_gallery
photo, root = Path(sys.argv[1]), Path(sys.argv[2])
place = LocalWorkspace(root=root)
taken = place.take_in("street", {"1.jpg": photo}, {"source": "Stra\u00dfe"})
write_marks(place.fetch(taken), Marks(note="gr\xf6\xdfer"))
print(ascii(place.assets("street")[0].marks.note), write_gallery(place, root / "gallery.html"))
command_in(Path("flows/nerf.py"))
"""


def test_files_are_utf_8_in_any_locale(tmp_path: Path) -> None:
    photo = tmp_path / "1.jpg"
    photo.write_bytes(b"a photo")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "REBEL_NERF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", IN_ASCII, str(photo), str(tmp_path / "home")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **locale},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == r"'gr\xf6\xdfer' 1" + "\n"
    assert "größer" in (tmp_path / "home/assets/street/1/marks.json").read_text(encoding="utf-8")
