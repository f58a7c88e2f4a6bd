"""API keys: made, found, rotated, and read again without a restart."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipelines.core.errors import UserError
from ray_jobs.keys import app as command
from serve.access import keys as module
from serve.access.keys import Keys, changing, load, make, until

MakeKey = Callable[..., str]


def add(path: Path, *options: str) -> str:
    done = CliRunner().invoke(command, ["add", str(path), "--name", "n", *options])
    assert done.exit_code == 0, done.stderr
    return str(done.stdout).strip()


def see(keys: Keys) -> None:
    """A look at the file, as if a second had passed."""
    keys._looked = 0
    asyncio.run(keys.refresh())


def test_a_key_is_found_and_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    key = add(path)
    assert re.fullmatch(r"sel_[a-z2-7]{10}_[a-z2-7]{52}", key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.rpartition("_")[2] not in path.read_text()
    entry = Keys(path).find(key.encode())
    assert entry is not None and entry.name == "n" and entry.scopes == ("judge", "chat")


def test_ten_thousand_keys_differ() -> None:
    made = [make("n", ("judge",))[0] for _ in range(10_000)]
    assert len(set(made)) == 10_000


@settings(deadline=None)  # files
@given(st.data())
def test_no_key_but_the_whole_one_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("k") / "keys.yaml"
    key, entry = make("n", ("judge",))
    with changing(path) as entries:
        entries.append(entry)
    keys = Keys(path)
    wrong = data.draw(
        st.one_of(
            st.binary(max_size=300),
            st.integers(0, len(key) - 1).map(lambda at: (key[:at] + key[at + 1 :]).encode()),
            st.integers(0, len(key) - 1).map(lambda at: (key[:at] + "z" + key[at + 1 :]).encode()),
            st.binary(min_size=1, max_size=3).map(lambda more: key.encode() + more),
        )
    )
    assert keys.find(wrong) is None or wrong == key.encode()


@pytest.mark.parametrize("which", ["unknown id", "wrong secret", "no key", "far too long"])
def test_every_wrong_key_costs_one_comparison_of_equal_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    path = tmp_path / "keys.yaml"
    known, other = add(path), make("n", ("judge",))[0]
    keys, compared = Keys(path), []

    def compare(one: str, two: str) -> bool:
        compared.append((len(one), len(two)))
        return hmac.compare_digest(one, two)

    monkeypatch.setattr(module, "hmac", SimpleNamespace(compare_digest=compare))
    presented = {
        "unknown id": other,
        "wrong secret": known[:15] + other[15:],
        "no key": "",
        "far too long": known * 100,
    }[which]
    assert keys.find(presented.encode()) is None
    assert compared == [(64, 64)]


def test_expiry_is_honoured_to_the_second(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    key, entry = make("n", ("judge",), expires=datetime.now(UTC) + timedelta(seconds=0.3))
    with changing(path) as entries:
        entries.append(entry)
    keys = Keys(path)
    assert keys.find(key.encode()) is not None
    threading.Event().wait(0.35)
    assert keys.find(key.encode()) is None


def test_a_change_is_seen_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    first = add(path)
    keys = Keys(path)
    second = add(path)
    see(keys)
    assert keys.find(first.encode()) and keys.find(second.encode())
    assert CliRunner().invoke(command, ["revoke", str(path), first[4:14]]).exit_code == 0
    see(keys)
    assert keys.find(first.encode()) is None and keys.find(second.encode())


def test_the_file_is_looked_at_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.yaml"
    add(path)
    keys, looks = Keys(path), []
    monkeypatch.setattr(keys, "_look", lambda: looks.append(1) or keys._seen)

    async def often() -> None:
        for _ in range(1000):
            await keys.refresh()

    keys._looked = 0
    asyncio.run(often())
    assert len(looks) == 1


@pytest.mark.parametrize("broken", ["keys: [", "keys: [{id: x}]", "- 1", "kyes: []", None, "writable"])
def test_a_broken_file_keeps_the_keys_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    path = tmp_path / "keys.yaml"
    key = add(path)
    keys = Keys(path)
    if broken is None:
        path.unlink()
    elif broken == "writable":
        path.chmod(0o666)
    else:
        path.write_text(broken)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            see(keys)
    assert keys.find(key.encode()) is not None
    assert len(caplog.records) == 1
    with pytest.raises(UserError):
        Keys(path)  # at the start it is an error


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.yaml"
    add(path)
    path.chmod(mode)
    with pytest.raises(UserError, match="others can write"):
        load(path)


def test_json_is_read_too(tmp_path: Path) -> None:
    key, entry = make("n", ("judge",))
    path = tmp_path / "keys.json"
    path.write_text(f'{{"keys": [{entry.model_dump_json()}]}}')
    path.chmod(0o600)
    assert Keys(path).find(key.encode()) is not None


def test_keys_added_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"

    def work() -> None:
        for _ in range(5):
            with changing(path) as entries:
                entries.append(make("n", ("judge",))[1])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load(path).keys) == 40
    assert os.listdir(tmp_path) == ["keys.yaml"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    add(tmp_path / "real.yaml")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    add(tmp_path / "link.yaml")
    assert (tmp_path / "link.yaml").is_symlink() and len(load(tmp_path / "real.yaml").keys) == 2


def test_a_rotated_key_has_the_rights_and_the_old_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    old = add(path, "--scopes", "judge,metrics", "--expires", "90d", "--concurrent", "3")
    done = CliRunner().invoke(command, ["rotate", str(path), old[4:14], "--overlap", "1h"])
    new = done.stdout.strip()
    before, after = (Keys(path).find(key.encode()) for key in (old, new))
    assert before is not None and after is not None and before.expires is not None and after.expires is not None
    assert timedelta(minutes=59) < before.expires - datetime.now(UTC) <= timedelta(hours=1)
    assert timedelta(days=89) < after.expires - datetime.now(UTC) <= timedelta(days=90)
    assert (after.scopes, after.limits) == (before.scopes, before.limits)
    assert CliRunner().invoke(command, ["rotate", str(path), new[4:14], "--overlap", "0m"]).exit_code == 0
    assert Keys(path).find(new.encode()) is None


def test_the_list_shows_no_secret_and_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    key = add(path)
    shown = CliRunner().invoke(command, ["list", str(path)]).stdout
    assert key[4:14] in shown and key[15:] not in shown and load(path).keys[0].hash not in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revoke", "FILE", "nope"], "no key 'nope'"),
        (["rotate", "FILE", "nope"], "no key 'nope'"),
        (["list", "FILE.gone"], "No such file"),
        (["add", "FILE/x", "--name", "n"], "Not a directory"),
        (["add", "FILE", "--name", ""], "1 to 100 characters"),
        (["add", "FILE", "--name", "n", "--scopes", "judge,root"], "no scope 'root'"),
        (["add", "FILE", "--name", "n", "--expires", "soon"], "no time: 'soon'"),
        (["add", "FILE", "--name", "n", "--expires", "2020-01-01"], "in the past"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    path = tmp_path / "keys.yaml"
    add(path)
    before = path.read_bytes()
    done = CliRunner().invoke(command, [one.replace("FILE", str(path)) for one in arguments])
    assert done.exit_code == 2 and done.stdout == ""
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "days"), [("90d", 90), ("2w", 14), ("12h", 0.5), ("30m", 1 / 48), ("2026-01-31", 30), ("0m", 0)]
)
def test_times(text: str, days: float) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert until(text, now=now) == now + timedelta(days=days)
