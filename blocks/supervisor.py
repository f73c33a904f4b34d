"""Run one local job from its folder, detached from the process that started it: `python supervisor.py FOLDER FD`.

It uses only the standard library and runs as a file, not as a module, so that it starts quickly and stays small.

The job's folder holds `run.json` (what to run), `std_log.txt`, `status.json` (replaced by rename), `cancel` (made to
end the job), `over_limit` (made when its time is up) and two lock files. `alive` is locked while the supervisor or any
process of the job lives, because they inherit its descriptor. `supervised` is locked while the supervisor lives. Locks,
unlike process numbers, are never left behind or reused. If the supervisor is killed, the job goes on, and the shell
around it still writes the exit code.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

GRACE_SECONDS = 15  # between SIGTERM and SIGKILL: enough time to finish writing a checkpoint
_POLL_SECONDS = 0.2
_TICKET_SECONDS = 10  # for how long a new ticket may be unlocked
_OVER_LIMIT = "over_limit"  # the name of the file that marks a job as over its limit
# A trapped signal, unlike an ignored one, is not inherited: the job gets SIGTERM, and the shell notes its exit code.
_NOTE_EXIT_CODE = 'trap : TERM; "$@"; echo $? >exit_code.part && mv exit_code.part exit_code || rm -f exit_code.part'


def write_status(folder: Path, **content: Any) -> None:
    """Write `status.json` in one step."""
    part = folder / f"status.{os.getpid()}.part"
    try:
        part.write_text(json.dumps(content))
        part.replace(folder / "status.json")
    except OSError:  # the disk is full, or the folder is gone
        part.unlink(missing_ok=True)
        raise


def lock(file: Path, *, wait: bool = False) -> IO[str] | None:
    """Take the lock of a file, and hold it until the returned stream is closed. Return None if another process has it.

    Anyone who can open a file can lock it, so only its owner can open it.
    """
    stream = os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a")
    with suppress(PermissionError):  # another user's file, in a folder that was made accessible on purpose
        os.fchmod(stream.fileno(), 0o600)  # an earlier version of this program made it with another mode
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        stream.close()
        return None
    return stream


def unlocked(file: Path) -> bool:
    """Return whether no process holds the lock of a file. True if the file does not exist."""
    try:
        with file.open() as stream:
            # shared, so that two processes that check at the same time do not see each other
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def end_group(group: int, gone: Callable[[], bool], *, grace: float = GRACE_SECONDS) -> None:
    """End all processes of a group: SIGTERM, then, once `gone` or after `grace` seconds, SIGKILL for the rest."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):  # macOS: PermissionError for a group of zombies
            return
        deadline = time.monotonic() + patience
        while not gone() and time.monotonic() < deadline:
            time.sleep(0.05)


def _wait_for_slot(slots: list[str], folder: Path) -> tuple[int, IO[str]] | None:
    """Wait in line for one of the slots, whose file then holds the job's name; None if the job is cancelled."""
    line = Path(slots[0].rpartition("-")[0] + "-line")
    line.mkdir(exist_ok=True)
    ticket = line / f"{time.time_ns():020d} {folder.name}"
    with lock(ticket, wait=True) or open(os.devnull):
        try:
            while not (folder / "cancel").exists():
                first = not any(name < ticket.name for name in waiting_in(line))
                for index, slot in enumerate(slots if first else ()):
                    if held := lock(Path(slot)):
                        held.truncate(0)
                        held.write(folder.name)
                        held.flush()
                        return index, held
                time.sleep(_POLL_SECONDS)
            return None
        finally:
            ticket.unlink(missing_ok=True)


def waiting_in(line: Path) -> list[str]:
    """Return the tickets of a line, "<time> <job>", in order. Remove those that a killed supervisor left."""
    tickets = []
    for ticket in sorted(line.glob("*")):
        with suppress(FileNotFoundError):  # its job has just got a slot
            if not unlocked(ticket):
                tickets.append(ticket.name)
            elif time.time() - ticket.stat().st_mtime > _TICKET_SECONDS:
                ticket.unlink()
    return tickets


def place_of(job: str, slots: list[str]) -> tuple[int, str]:
    """Return a job's place in the line for some slots, 1 for the next, and the job before it; 0 and "" if unknown.

    The job before the first in the line is one that holds a slot, if all slots are held.
    """
    line = [name.partition(" ")[2] for name in waiting_in(Path(slots[0].rpartition("-")[0] + "-line"))]
    if job not in line:
        return 0, ""
    place = line.index(job)
    if place:
        return place + 1, line[place - 1]
    holding = [Path(slot).read_text() for slot in slots if not unlocked(Path(slot))]
    return 1, holding[0] if len(holding) == len(slots) else ""


def _state_of(code: int) -> tuple[str, str]:
    """Return the state and reason for a shell's exit code (128 + the signal's number for a killed command)."""
    if code == 0:
        return "Completed", ""
    if code == 75:
        return "Interrupted", "the job stopped and can go on in another attempt"
    if code - 128 in (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        return "Interrupted", f"killed from outside by signal {code - 128} (out of memory is one cause of signal 9)"
    return "Failed", f"ended with exit code {code}"


def ended_state(folder: Path) -> tuple[str, str]:
    """Return the state and reason of a job that has no process and whose supervisor did not note its end."""
    try:
        state, reason = _state_of(int((folder / "exit_code").read_text()))
    except (FileNotFoundError, ValueError):
        state, reason = "Interrupted", "it left no exit code. Was the machine restarted, or is the disk full?"
    if state != "Completed" and (folder / "cancel").exists():
        return "Canceled", "cancelled"
    if state != "Completed" and (folder / _OVER_LIMIT).exists():
        return "Failed", (folder / _OVER_LIMIT).read_text()
    return state, reason


def enforce_limit(folder: Path, status: Mapping[str, Any]) -> None:
    """End a running job that is over its time limit and whose supervisor was killed or stopped.

    The monotonic clock is the same for all processes since the machine started, and pauses while it is suspended.
    """
    if time.monotonic() < status.get("deadline", math.inf):
        return
    if not unlocked(folder / "supervised"):
        return wake(status)
    (folder / _OVER_LIMIT).write_text(status["over_limit"])
    end_group(status["group"], lambda: unlocked(folder / "alive"))


def _inode(folder: Path) -> int:
    """Return what identifies a folder, even if another one has taken its path; 0 if it does not exist."""
    with suppress(OSError):
        return folder.stat().st_ino
    return 0


def wake(status: Mapping[str, Any]) -> None:
    """Continue a job's supervisor if somebody has stopped it."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(status["supervisor"], signal.SIGCONT)


def supervise(folder: Path, alive: int) -> None:
    """Run the job of `folder` to its end; `alive` is the descriptor that holds its lock."""
    supervised = lock(folder / "supervised", wait=True)
    run = json.loads((folder / "run.json").read_bytes())
    write_status(folder, state="Queued")
    slot = _wait_for_slot(run["slots"], folder)
    if slot is None:
        return write_status(folder, state="Canceled", reason="cancelled while it was queued")
    index, held = slot
    environment = {**os.environ, **run["environment"]}
    if run["gpus"]:
        environment["CUDA_VISIBLE_DEVICES"] = run["gpus"][index % len(run["gpus"])]
    with (folder / "std_log.txt").open("ab") as log:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _NOTE_EXIT_CODE, "sh", *run["command"]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(alive, held.fileno()),
        )
    started = time.monotonic()  # the wall clock may be changed while the job runs
    deadline, limit = started + run["time_limit"], f"over its time limit of {run['time_limit']} s"
    status = {"group": shell.pid, "supervisor": os.getpid(), "started": time.time()}
    write_status(folder, **status, state="Running", deadline=deadline, over_limit=limit)
    inode = _inode(folder)
    while shell.poll() is None:
        if _inode(folder) != inode:  # without grace, in which the job would make the folder again
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(shell.pid, signal.SIGKILL)
        elif time.monotonic() > deadline or (folder / "cancel").exists():
            if time.monotonic() > deadline:
                (folder / _OVER_LIMIT).write_text(limit)
            end_group(shell.pid, lambda: shell.poll() is not None)
        time.sleep(_POLL_SECONDS)
    seconds = time.monotonic() - started
    end_group(shell.pid, lambda: True, grace=0)  # end what the job left running
    if _inode(folder) == inode:  # else the workspace was removed or moved
        state, reason = ended_state(folder)
        write_status(folder, **status, state=state, reason=reason, ended=time.time(), seconds=seconds)
    held.close()
    if supervised:
        supervised.close()


if __name__ == "__main__":
    # Leave the session and the parent, so that neither Ctrl-C nor the end of the flow reaches the job.
    os.setsid()
    if os.fork() == 0:
        supervise(Path(sys.argv[1]), int(sys.argv[2]))
