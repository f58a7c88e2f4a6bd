"""The key, tokens, hidden draws, and visitors without their addresses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipelines.core.errors import UserError
from serve.arena.door import address
from serve.arena.judging.fight import drawn
from serve.arena.secret import VARIABLE, Secret, load_secret
from serve.arena.store.marks import names_itself, told

KEY = "k" * 64


def test_a_key_is_made_once_beside_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    first = load_secret(tmp_path)
    assert len(first.key) == 64 and load_secret(tmp_path) == first
    assert (tmp_path / "arena.key").stat().st_mode & 0o777 == 0o600
    assert first.key not in repr(first)
    (tmp_path / "arena.key").chmod(0o644)
    with pytest.raises(UserError, match="others can read"):
        load_secret(tmp_path)


def test_the_environment_comes_first_and_a_server_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    assert load_secret(tmp_path).key == KEY and not (tmp_path / "arena.key").exists()
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(UserError, match="at least 32"):
        load_secret(None)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UserError, match=VARIABLE):
        load_secret(None)


def test_a_key_file_that_was_cut_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "arena.key").touch(0o600)
    with pytest.raises(UserError, match="not whole"):
        load_secret(tmp_path)


def test_pairs_and_sides_are_drawn_evenly() -> None:
    secret, names = Secret(KEY), ["oak", "pine", "yew", "elm"]
    found = Counter(drawn(secret, str(place), names) for place in range(12_000))
    assert len(found) == 12 and all(a != b for a, b in found)
    assert sum((count - 1000) ** 2 / 1000 for count in found.values()) < 31.3  # chi-square, 11 degrees, p = 0.001


def test_a_draw_depends_on_the_key_and_not_on_the_order_of_names() -> None:
    secret, other = Secret(KEY), Secret("q" * 64)
    names = ["oak", "pine", "yew"]
    assert drawn(secret, "b", names) == drawn(secret, "b", names[::-1])
    same = sum(drawn(secret, str(place), names) == drawn(other, str(place), names) for place in range(600))
    assert 60 < same < 140  # one in six by chance


def test_visitors_are_told_apart_and_not_known() -> None:
    secret = Secret(KEY)
    found = secret.visitor("203.0.113.5")
    assert found == secret.visitor("203.0.113.5") != secret.visitor("203.0.113.6")
    assert found != Secret("q" * 64).visitor("203.0.113.5")
    assert found == secret.visitor("::ffff:203.0.113.5") == secret.visitor("203.0.113.5:4711")
    assert secret.visitor("[2001:db8:1:2::7]:4711") == secret.visitor("2001:db8:1:2::1")
    assert secret.visitor("2001:db8:1:2::1") == secret.visitor("2001:db8:1:2:ffff::9")
    assert secret.visitor("2001:db8:1:2::1") != secret.visitor("2001:db8:1:3::1")
    assert len({secret.visitor(name) for name in ("", "testclient", "x" * 9000)}) == 3


@pytest.mark.parametrize(
    ("proxies", "header", "expected"),
    [
        (0, "198.51.100.1", "192.0.2.1"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (2, "6.6.6.6, 198.51.100.1, 10.0.0.1", "198.51.100.1"),
        (2, "198.51.100.1", "192.0.2.1"),
        (1, "", "192.0.2.1"),
    ],
)
def test_the_address_is_the_one_that_can_be_believed(proxies: int, header: str, expected: str) -> None:
    scope = {"client": ("192.0.2.1", 5), "headers": [(b"x-forwarded-for", header.encode())] if header else []}
    assert address(scope, proxies) == expected


def test_programs_are_known_by_their_name() -> None:
    for agent in ("", "curl/8", "python-httpx/0.28", "Googlebot/2.1", "HeadlessChrome/140"):
        assert told({"user-agent": agent}, "") == ["agent"]
    assert told({"user-agent": "Mozilla/5.0 (iPhone) Safari/605"}, "") == []
    assert told({"user-agent": "Mozilla/5.0 Cubot Safari"}, "x") == ["agent", "trap"]


def test_a_name_is_found_as_a_word() -> None:
    assert names_itself(["I am Oak-Judge."], ["oak-judge", "pine"])
    assert not names_itself(["It is a soak-judges thing, with pineapple."], ["oak-judge", "pine"])
    assert not names_itself([""], [])
