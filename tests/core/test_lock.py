"""Two jobs in one folder: the second is refused in one line, and a dead one is no obstacle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.core import lock, storage
from pipelines.core.errors import UserError
from pipelines.core.lock import held


def note(folder: Path, **changes: Any) -> Path:
    """What another job has left."""
    place = folder / "000000004"
    storage.write_json(place, {**lock._me(), **changes})
    return place


def test_a_second_job_is_refused_with_who_where_and_since_when(tmp_path: Path) -> None:
    with held(tmp_path / "lock"):
        said = (
            rf"^{tmp_path}: another job is at work there \(.*process {os.getpid()} on {socket.gethostname()}, since 20"
        )
        with pytest.raises(UserError, match=said) as caught, held(tmp_path / "lock"):
            pass
        assert "\n" not in str(caught.value)
    assert storage.files(tmp_path / "lock") == []
    with held(tmp_path / "lock"):
        pass


def test_after_a_failure_the_folder_is_free(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path / "lock"):
        raise KeyError
    assert storage.files(tmp_path / "lock") == []


def test_a_job_that_was_killed_needs_no_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        "import sys, time; from pathlib import Path; from pipelines.core.lock import held\n"
        "with held(Path(sys.argv[1])): print('in', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert other.stdout and other.stdout.readline() == b"in\n"
    with pytest.raises(UserError, match=f"process {other.pid}"), held(tmp_path / "lock"):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with held(tmp_path / "lock"):
        assert len(storage.files(tmp_path / "lock")) == 1
    assert "is gone; going on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, False),
        ({"started": 1.0}, True),  # the number is another process's by now
        ({"pid": 2**22 + 7}, True),
        ({"host": "elsewhere", "pid": 1}, False),
        ({"host": "elsewhere", "pid": 1, "heartbeat": 0.0}, True),
        ({"space": "of another container", "pid": 2**22 + 7}, False),
        ({"space": "of another container", "heartbeat": 0.0}, True),
        ({"pid": os.getppid(), "started": 1.0}, False),  # its start, by a clock that was set since
        ({"pid": os.getppid(), "started": 1.0, "heartbeat": 0.0}, True),
    ],
)
def test_who_is_alive(tmp_path: Path, changes: dict[str, Any], free: bool) -> None:
    note(tmp_path, **changes)
    if free:
        with held(tmp_path):
            assert [path.name for path in storage.files(tmp_path)] == ["000000005"]
    else:
        with pytest.raises(UserError, match="another job"), held(tmp_path):
            pass


def test_of_two_that_take_different_numbers_the_later_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = note(tmp_path)

    def read(place: Path) -> Any:  # as the first job ends, a third one finds an empty folder
        storage.remove(ended)
        storage.write_json(tmp_path / "000000001", lock._me())
        monkeypatch.undo()

    monkeypatch.setattr(lock, "_read", read)
    with pytest.raises(UserError, match="another job"), held(tmp_path):
        pass
    assert [path.name for path in storage.files(tmp_path)] == ["000000001"]


def test_a_renewal_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW", 0.05)
    write, failed = storage.write_json, threading.Event()

    def once(place: Path, value: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError(28, "No space left on device")
        write(place, value)

    with held(tmp_path):
        (mine,) = storage.files(tmp_path)
        first = storage.read_json(mine)["heartbeat"]
        monkeypatch.setattr(storage, "write_json", once)
        for _ in range(100):
            time.sleep(0.05)
            if failed.is_set() and storage.read_json(mine)["heartbeat"] > first:
                return
    pytest.fail("it was not renewed")


def test_a_killed_job_of_elsewhere_is_named_with_the_time_to_wait(tmp_path: Path) -> None:
    note(tmp_path, host="elsewhere", heartbeat=time.time() - lock.STALE + 60)
    with pytest.raises(UserError, match=r"if it was killed, try again in (59|60) s"), held(tmp_path):
        pass


def test_a_note_that_is_none_is_no_obstacle(tmp_path: Path) -> None:
    storage.write_text(tmp_path / "000000001", "{")
    with held(tmp_path):
        pass


def test_of_several_that_find_a_dead_job_one_takes_over(tmp_path: Path) -> None:
    note(tmp_path, pid=2**22 + 7)
    start, inside, refused = threading.Barrier(8), list[int](), list[int]()

    def run(number: int) -> None:
        start.wait()
        try:
            with held(tmp_path):
                inside.append(number)
                until = time.monotonic() + 30  # the others try while it is held
                while len(inside) + len(refused) < 8 and time.monotonic() < until:
                    time.sleep(0.05)
        except UserError:
            refused.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert (len(inside), len(refused)) == (1, 7)


def test_it_is_renewed_and_a_job_that_was_taken_over_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(lock, "RENEW", 0.05)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest itself may run in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt), held(tmp_path):
        (mine,) = storage.files(tmp_path)
        first = storage.read_json(mine)["heartbeat"]
        until = time.monotonic() + 30
        while storage.read_json(mine)["heartbeat"] <= first and time.monotonic() < until:
            time.sleep(0.05)
        assert storage.read_json(mine)["heartbeat"] > first
        note(tmp_path)
        while time.monotonic() < until:
            time.sleep(0.05)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = r"file/out: cannot be written: Not a directory \(choose another out_dir\)"
    with pytest.raises(UserError, match=said), held(tmp_path / "file" / "out" / "lock"):
        pass


def test_a_job_in_the_background_of_a_script_is_ended_too(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "from pipelines.core import lock, storage\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `job &` in a script\n"
        "lock.RENEW = 0.05\n"
        "folder = Path(sys.argv[1])\n"
        "with lock.held(folder):\n"
        "    storage.write_json(folder / '000000004', lock._me())  # of a job that has taken over\n"
        "    time.sleep(30)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGTERM, done.stderr
