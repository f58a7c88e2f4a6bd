"""The annotation page's server: pairs in an annotator's order, answers into one file, and what is refused."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.experiments.audit.answers import Answers
from pipelines.experiments.audit.config import AuditConfig
from pipelines.experiments.audit.sample import as_shown
from serve.audit import app as audit_app
from serve.audit import launch
from tests.experiments.audit_rows import pair, write

GIVEN = {"side_1": "A", "side_2": "unclear", "substance_1": "5", "substance_2": "1", "better": "equal"}
PAIRS = [as_shown(pair(n), 0) for n in range(6)]


def client(folder: Path, key: str | None = None, host: str = "http://127.0.0.1") -> TestClient:
    answers = Answers(folder / "answers.sqlite", "f")
    return TestClient(audit_app.build(PAIRS, answers, 0, key, launch.LOOPBACK), base_url=host)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[TestClient]:
    with client(tmp_path) as found:
        yield found


def put(page: TestClient, name: str, answers: dict[str, str], pair: str = "row-000", **more: Any) -> Any:
    return page.put(f"/api/answers/{pair}", json={"annotator": name, "answers": answers, **more})


def test_every_annotator_sees_all_pairs_in_an_order_of_his_own_and_goes_on_where_he_stopped(page: TestClient) -> None:
    first, second = (page.get("/api/pairs", params={"annotator": name}).json() for name in ("Ann", "Bo"))
    orders = [[one["id"] for one in found["pairs"]] for found in (first, second)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == [one["id"] for one in PAIRS]
    assert put(page, "Ann", GIVEN, seconds=2.5).json() == {"saved": "row-000"}
    assert page.get("/api/pairs", params={"annotator": "Ann"}).json()["answers"] == {"row-000": GIVEN}
    assert page.get("/api/pairs", params={"annotator": "Bo"}).json()["answers"] == {}


@pytest.mark.parametrize(
    ("changes", "pair", "status", "message"),
    [
        ({"side_1": "C"}, "row-000", 422, "no such answer to side_1"),
        ({"odd": "1"}, "row-000", 422, "no such question"),
        ({"better": None}, "row-000", 422, "not answered: better"),
        ({}, "row-999", 404, "no such pair"),
    ],
)
def test_what_is_no_answer_is_refused_and_nothing_is_kept(
    page: TestClient, changes: dict[str, Any], pair: str, status: int, message: str
) -> None:
    answers = {name: value for name, value in {**GIVEN, **changes}.items() if value is not None}
    answer = put(page, "Ann", answers, pair)
    assert answer.status_code == status and message in answer.json()["detail"]
    assert page.get("/api/pairs", params={"annotator": "Ann"}).json()["answers"] == {}


@pytest.mark.parametrize("name", ["", " ", "\u200b", "x" * 61])
def test_a_name_is_short_and_can_be_seen(page: TestClient, name: str) -> None:
    assert page.get("/api/pairs", params={"annotator": name}).status_code == 422
    assert put(page, name, GIVEN).status_code == 422


def test_one_person_on_two_devices_goes_on_under_one_name(page: TestClient) -> None:
    composed, pasted = "Jos\u00e9 P", " Jose\u0301 \u200b P "
    assert put(page, pasted, GIVEN).status_code == 200
    first, second = (page.get("/api/pairs", params={"annotator": name}).json() for name in (composed, pasted))
    assert first == second and first["annotator"] == composed and first["answers"] == {"row-000": GIVEN}


def test_long_bodies_other_hosts_and_unknown_files_are_refused(page: TestClient) -> None:
    assert put(page, "Ann", {"side_1": "A" * 5000}).status_code == 413
    assert page.get("/", headers={"host": "elsewhere.example"}).status_code == 400
    for name in ("app.py", "..%2Fapp.py", "x.js"):
        assert page.get(f"/page/{name}").status_code == 404


def test_where_a_key_is_needed_files_are_free_and_pairs_are_not(tmp_path: Path) -> None:
    with client(tmp_path, "k" * 20) as page:
        assert page.get("/").status_code == 200
        assert page.get("/api/pairs", params={"annotator": "Ann"}).status_code == 401
        assert put(page, "Ann", GIVEN).status_code == 401
        good = page.get("/api/pairs", params={"annotator": "Ann"}, headers={"x-audit-key": "k" * 20})
        assert good.status_code == 200


def test_files_have_their_types_and_policy_and_nothing_inline(page: TestClient) -> None:
    assert set(audit_app.TYPES) == {path.name for path in audit_app.FOLDER.iterdir()}
    for name, kind in audit_app.TYPES.items():
        answer = page.get(f"/page/{name}")
        assert answer.headers["content-type"] == kind and answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|@import|https?://(?!www\.w3\.org/2000/svg)"
        assert not re.search(markup, answer.text)
    index = page.get("/").text
    assert not re.search(r"\son\w+=|style=|<script>|<style>", index)


def test_the_page_listens_on_this_machine_alone_unless_there_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(launch.KEY, raising=False)
    assert [launch.key_for(host) for host in ("127.0.0.1", "localhost", "::1")] == [None] * 3
    with pytest.raises(UserError, match="there is no key"):
        launch.key_for("0.0.0.0")
    monkeypatch.setenv(launch.KEY, "short")
    with pytest.raises(UserError, match="16 characters"):
        launch.key_for("10.0.0.1")
    monkeypatch.setenv(launch.KEY, "x" * 16)
    assert launch.key_for("0.0.0.0") == "x" * 16


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot listen"):
            launch.listening("127.0.0.1", taken.getsockname()[1])


def test_the_plan_says_what_would_be_served_and_where_answers_go(tmp_path: Path) -> None:
    write(tmp_path, [pair(n) for n in range(5)])
    lines = launch.describe(Run(tmp_path), AuditConfig(people=3))
    assert lines[0].startswith("show 3 pairs at http://127.0.0.1:8020/, without a key")
    assert str(tmp_path / "experiments" / "audit" / "answers.sqlite") in lines[1]
    (tmp_path / "letter.txt").write_text("no database\n" * 200)
    with pytest.raises(UserError, match="cannot be used as a database"):
        launch.describe(Run(tmp_path), AuditConfig(people=3, answers=tmp_path / "letter.txt"))
