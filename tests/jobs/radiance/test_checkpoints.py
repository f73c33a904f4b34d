"""Checkpoints and chunks on storage that promises little: whatever is lost, what is read back is whole."""

from __future__ import annotations

import json
import shutil
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jobs.radiance.checkpoints import Checkpoints, content_of, write_new_file  # noqa: E402
from jobs.video.chunks import Chunk, Chunks  # noqa: E402
from tests.deaths import files_of_at_most, lost_anywhere, torn  # noqa: E402


def state(step: int) -> dict[str, Any]:
    return {"step": step, "table": torch.arange(50.0) + step}


def newest(folder: Path, fingerprint: str = "fingerprint") -> int:
    """Return the step of the newest checkpoint, 0 if there is none, after comparing it with what was saved."""
    found = Checkpoints(folder, fingerprint).newest()
    if found is None:
        return 0
    torch.testing.assert_close(found, state(found["step"]), rtol=0, atol=0)
    return int(found["step"])


def save_by_the_first_version(folder: Path, step: int, fingerprint: str = "fingerprint") -> None:
    content = bytes(content_of(state(step)))
    (folder / f"step-{step:09d}.ckpt").write_bytes(content)
    about = {"sha256": sha256(content).hexdigest(), "fingerprint": fingerprint, "step": step}
    (folder / f"step-{step:09d}.json").write_text(json.dumps(about))


def replace(file: Path, content: bytes | None) -> None:
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()

    def write(content: memoryview, file: Path) -> None:
        assert going_on.wait(60)
        write_new_file(content, file)

    monkeypatch.setattr("jobs.radiance.checkpoints.write_new_file", write)
    checkpoints = Checkpoints(tmp_path, "fingerprint")
    checkpoints.save_meanwhile(1, state(1))
    assert newest(tmp_path) == 0
    going_on.set()
    checkpoints.save_meanwhile(2, state(2))  # after the first
    assert newest(tmp_path) >= 1
    checkpoints.wait()
    assert newest(tmp_path) == 2


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "fingerprint")
    checkpoints.save_meanwhile(1, state(1))
    checkpoints.wait()
    with files_of_at_most(1000):
        checkpoints.save_meanwhile(2, {"step": 2, "table": torch.rand(100_000)})
        with pytest.raises(OSError, match="too large"):
            checkpoints.save_meanwhile(3, state(3))
    assert newest(tmp_path) == 1


def test_later_steps_do_not_change_a_checkpoint_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = threading.Event()
    save = Checkpoints.save

    def save_later(self: Checkpoints, step: int, state: dict[str, Any]) -> None:
        assert changed.wait(60)
        save(self, step, state)

    monkeypatch.setattr(Checkpoints, "save", save_later)
    checkpoints = Checkpoints(tmp_path, "fingerprint")
    moment = torch.zeros(3, requires_grad=True)
    changing: dict[str, Any] = {"lr": np.float64(0.5), "curve": [1.0], "each": [{"moment": moment}]}
    checkpoints.save_meanwhile(2, changing)
    with torch.no_grad():
        moment.add_(1)
    changing["curve"].append(2.0)
    changed.set()
    checkpoints.wait()
    found = Checkpoints(tmp_path, "fingerprint").newest()
    assert found is not None and found["each"][0]["moment"].tolist() == [0, 0, 0]
    assert found["curve"] == [1.0] and type(found["lr"]) is float


@pytest.mark.parametrize("before", range(4))
def test_a_machine_lost_at_any_moment_costs_one_checkpoint_at_most(tmp_path: Path, before: int) -> None:
    """Before, in or after each operation of a save, whatever came of the file that was being written."""
    folder, saved = tmp_path / "checkpoints", tmp_path / "saved"
    checkpoints = Checkpoints(saved, "fingerprint")
    for step in range(1, before + 1):
        checkpoints.save(step, state(step))

    def save() -> None:
        checkpoints = Checkpoints(folder, "fingerprint")
        checkpoints.newest()
        checkpoints.save(before + 1, state(before + 1))

    moments = 0
    for written in lost_anywhere(folder, saved, save):
        moments += 1
        assert newest(folder) in (before, before + 1)
        for content in torn(written.read_bytes()) if written and written.exists() else ():
            assert written
            replace(written, content)
            assert newest(folder) in (before, before + 1)
            going_on = tmp_path / "going on"
            shutil.copytree(folder, going_on)
            after = Checkpoints(going_on, "fingerprint")
            after.newest()
            for step in (before + 1, before + 2, before + 3):
                after.save(step, state(step))
                assert newest(going_on) == step
            assert len(list(going_on.glob("*"))) == 4, "what was torn stays for ever"
            shutil.rmtree(going_on)
    assert moments == (3 if before < 2 else 5)
    assert newest(folder) == before + 1


def test_a_torn_checkpoint_is_passed_over_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = Checkpoints(tmp_path, "fingerprint")
    for step in (1, 2, 3):
        checkpoints.save(step, state(step))
    assert "torn" not in capsys.readouterr().out
    older, newer = sorted(tmp_path.glob("*.ckpt"))
    whole = {file: file.read_bytes() for file in (newer, newer.with_suffix(".json"))}
    for file, content in whole.items():
        for instead in (*torn(content), b"", older.read_bytes(), older.with_suffix(".json").read_bytes()):
            replace(file, instead)
            assert newest(tmp_path) == 2
            assert f"{newer} is incomplete" in capsys.readouterr().out
            file.write_bytes(content)
    assert newest(tmp_path) == 3
    for file in tmp_path.glob("*.json"):
        file.unlink()
    assert newest(tmp_path) == 0


def test_a_checkpoint_that_cannot_be_read_back_costs_no_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where storage kept less than it was given."""
    checkpoints = Checkpoints(tmp_path, "fingerprint")
    for step in (1, 2):
        checkpoints.save(step, state(step))
    with monkeypatch.context() as patch:
        patch.setattr(
            "jobs.radiance.checkpoints.write_new_file", lambda content, file: file.write_bytes(bytes(content)[:-1])
        )
        for step in (3, 4, 5):
            checkpoints.save(step, state(step))
            assert newest(tmp_path) == 2
    assert len(list(tmp_path.glob("*.ckpt"))) == 5
    checkpoints.save(6, state(6))
    assert newest(tmp_path) == 6
    checkpoints.save(7, state(7))
    assert len(list(tmp_path.glob("*.ckpt"))) == 2 == len(list(tmp_path.glob("*.json")))


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    """As where training is told to end right after a save."""
    checkpoints = Checkpoints(tmp_path, "fingerprint")
    for step in (1, 2, 2, 2):
        checkpoints.save(step, state(step))
    assert sorted(file.name[:14] for file in tmp_path.glob("*.ckpt")) == ["step-000000001", "step-000000002"]
    again = Checkpoints(tmp_path, "fingerprint")
    again.newest()
    again.save(2, state(2))
    assert len(list(tmp_path.iterdir())) == 4


def test_a_checkpoint_of_the_first_version_is_resumed_and_replaced(tmp_path: Path) -> None:
    for step in (10, 20):
        save_by_the_first_version(tmp_path, step)
    save_by_the_first_version(tmp_path, 30, "another")
    assert newest(tmp_path) == 20
    (tmp_path / "step-000000020.ckpt").write_bytes(b"torn")
    assert newest(tmp_path) == 10
    checkpoints = Checkpoints(tmp_path, "fingerprint")
    checkpoints.newest()
    for step in (20, 25):
        checkpoints.save(step, state(step))
    assert newest(tmp_path) == 25 and newest(tmp_path, "another") == 30
    assert len(list(tmp_path.glob("*.ckpt"))) == 3


def test_two_attempts_at_a_training_do_not_spoil_each_other(tmp_path: Path) -> None:
    """One was taken for dead, and still saves the same steps as the one that took over."""
    first, second = (Checkpoints(tmp_path, "fingerprint") for _ in range(2))
    for step in (1, 2, 3):
        first.save(step, state(step))
        second.save(step, state(step))
        assert newest(tmp_path) == step
    first.save(9, state(9))
    second.save(4, state(4))
    assert newest(tmp_path) == 9


def test_a_machine_lost_at_any_moment_costs_one_chunk_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.video.chunks.FRAMES", 4)
    store, saved, files = tmp_path / "store", tmp_path / "saved", tmp_path / "files"
    (files / "frames").mkdir(parents=True)
    content = {"video.mp4": b"video" * 50, "frames/00000.png": b"frame"}
    for name, data in content.items():
        (files / name).write_bytes(data)

    def chunk(first: int) -> Chunk:
        return Chunk(content="c", first=first, last=first + 4, seconds=1, device="cpu", rays_at_a_time=1)

    Chunks(saved).add(chunk(0), files)

    def add() -> None:
        Chunks(store).add(chunk(4), files)

    def check() -> None:
        found = Chunks(store).find("c")
        assert [each.first for each in found.values()] in ([0], [0, 4])
        for folder in found:
            assert {name: (folder / name).read_bytes() for name in content} == content

    moments = 0
    for written in lost_anywhere(store, saved, add):
        moments += 1
        check()
        for instead in torn(written.read_bytes()) if written and written.exists() else ():
            assert written
            replace(written, instead)
            check()
            going_on = tmp_path / "going on"
            shutil.copytree(store, going_on)
            for first, _ in Chunks(going_on).missing("c", 0, 8):
                Chunks(going_on).add(chunk(first), files)
            assert not Chunks(going_on).missing("c", 0, 8)
            shutil.rmtree(going_on)
    assert moments == 6
    assert [each.first for each in Chunks(store).find("c").values()] == [0, 4]


def test_a_chunk_that_two_attempts_rendered_is_given_once(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/video.mp4").write_bytes(b"video")
    store = Chunks(tmp_path / "store")
    about = {"first": 0, "last": 4, "seconds": 1, "device": "cpu", "rays_at_a_time": 1}
    for content in ("c", "c", "another"):
        store.add(Chunk.model_validate({**about, "content": content}), tmp_path / "files")
    assert len(list(store.folder.iterdir())) == 3
    assert len(store.find("c")) == 1 and len(store.find()) == 2
