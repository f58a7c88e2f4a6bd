"""`openselene fetch` against a server on loopback; the hub is a stand-in with the three routes that are asked."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.core.errors import UserError
from pipelines.core.yaml_model import parse_model, read_model
from pipelines.datasets.readers import inputs, read_raw
from pipelines.datasets.spec import DatasetSpec, Hub
from pipelines.fetch import download
from pipelines.fetch.listing import listing
from pipelines.fetch.pins import Pin, Pins, read_pins, write_pins
from pipelines.fetch.store import fetch
from pipelines.fetch.update import hub_files, update
from pipelines.fetch.wanted import Wanted, wanted

COMMIT = "c0ffee" * 6 + "abcd"
ROWS = b'{"q": 1}\n{"q": 2}\n'


@dataclass
class Server:
    """A file server that counts, and fails where it is told to."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    cut: bool = False
    tokens: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    known = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append(self.path)
            known.tokens.append(self.headers.get("authorization"))
            content = known.files.get(unquote(self.path.partition("?")[0]))
            code = known.failures.pop(0) if known.failures else 200 if content is not None else 404
            body = (content or b"") if code == 200 else b"no"
            self.send_response(code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if known.cut else body)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    known.url = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setattr(download, "WAITS", (0.0, 0.0))
    monkeypatch.setattr("pipelines.fetch.store.WAITS", (0.0, 0.0))
    yield known
    http.shutdown()
    http.server_close()


def pin(server: Server, path: str, content: bytes) -> Pin:
    server.files[path] = content
    return Pin(url=f"{server.url}{path}", sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def public(server: Server, *places: str) -> list[Wanted]:
    return [Wanted(place, "mine", "MIT", url=f"{server.url}/{place}") for place in places]


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    pins = Pins(files={"a/x.jsonl": pin(server, "/a/x.jsonl", ROWS)})
    for _ in range(2):
        fetch(public(server, "a/x.jsonl"), pins, tmp_path)
    assert (tmp_path / "a" / "x.jsonl").read_bytes() == ROWS
    assert server.asked == ["/a/x.jsonl"]


def test_a_stopped_fetch_goes_on_with_the_file_it_was_at(server: Server, tmp_path: Path) -> None:
    pins = Pins(files={name: pin(server, f"/{name}", ROWS) for name in ("a", "b")})
    server.failures = [200, 404]
    with pytest.raises(UserError, match="the server answers 404"):
        fetch(public(server, "a", "b"), pins, tmp_path)
    fetch(public(server, "a", "b"), pins, tmp_path)
    assert server.asked == ["/a", "/b", "/b"]


def test_a_changed_file_is_refused_in_one_line_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    pins = Pins(files={"x": pin(server, "/x", ROWS)})
    server.files["/x"] = ROWS + b"more"
    with pytest.raises(UserError, match="/x: changed: sha256") as caught:
        fetch(public(server, "x"), pins, tmp_path)
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_that_breaks_off_is_refused_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    pins = Pins(files={"x": pin(server, "/x", ROWS)})
    server.cut = True
    with pytest.raises(UserError, match="cannot be read"):
        fetch(public(server, "x"), pins, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_overloaded_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    pins = Pins(files={"x": pin(server, "/x", ROWS)})
    server.failures = [429, 503]
    fetch(public(server, "x"), pins, tmp_path)
    assert len(server.asked) == 3


def test_another_version_in_the_store_is_refused(server: Server, tmp_path: Path) -> None:
    fetch(public(server, "x"), Pins(files={"x": pin(server, "/x", ROWS)}), tmp_path)
    with pytest.raises(UserError, match="another version than the pinned one"):
        fetch(public(server, "x"), Pins(files={"x": pin(server, "/x", b"new")}), tmp_path)
    assert (tmp_path / "x").read_bytes() == ROWS


def test_what_is_not_pinned_is_refused_before_anything_is_fetched(server: Server, tmp_path: Path) -> None:
    pins = Pins(files={"a": pin(server, "/a", ROWS)}, unpinned={"b": "offline"})
    with pytest.raises(UserError, match="1 of 2 not pinned, such as b"):
        fetch(public(server, "a", "b"), pins, tmp_path)
    assert server.asked == []


def test_update_pins_what_it_reaches_and_says_why_it_does_not(server: Server, capsys: Any) -> None:
    server.files["/a"] = ROWS
    pins = update(public(server, "a", "b"), Pins(unpinned={"a": "offline", "b": "offline"}))
    assert pins.files["a"].sha256 == hashlib.sha256(ROWS).hexdigest()
    assert list(pins.unpinned) == ["b"] and "404" in pins.unpinned["b"]


def test_update_tells_of_a_change_and_keeps_the_pin_of_what_it_does_not_reach(server: Server, capsys: Any) -> None:
    before = Pins(files={"a": pin(server, "/a", ROWS), "b": pin(server, "/b", ROWS)})
    server.files["/a"] = b"new"
    del server.files["/b"]
    pins = update(public(server, "a", "b"), before)
    assert pins.files["a"].bytes == 3 and pins.files["b"] == before.files["b"] and pins.unpinned == {}
    assert "changed: a" in "".join(capsys.readouterr())


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """A stand-in for the hub: refs, tree and resolve of one dataset, as its HTTP API has them."""
    table = tmp_path / "made.parquet"
    pq.write_table(pa.table({"prompt": ["p"], "label": [1]}), table)
    content = table.read_bytes()
    refs = {"branches": [], "tags": [], "converts": [
        {"name": "parquet", "ref": "refs/convert/parquet", "targetCommit": COMMIT}]}  # fmt: skip
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    tree = [{"type": "file", "oid": "1" * 40, "size": len(content), "path": "default/train/0000.parquet", "lfs": lfs}]
    api = "/api/datasets/org/set"
    server.files[f"{api}/refs"] = json.dumps(refs).encode()
    server.files[f"{api}/tree/{COMMIT}/default/train"] = json.dumps(tree).encode()
    server.files[f"/datasets/org/set/resolve/{COMMIT}/default/train/0000.parquet"] = content
    for module in ("huggingface_hub.constants", "huggingface_hub.hf_api", "huggingface_hub.file_download"):
        monkeypatch.setattr(f"{module}.ENDPOINT", server.url, raising=False)
        monkeypatch.setattr(f"{module}.HF_HUB_OFFLINE", False, raising=False)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in ("huggingface_hub.constants", "huggingface_hub.file_download"):
        monkeypatch.setattr(f"{module}.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    return server


SPEC: dict[str, Any] = {
    "name": "mine",
    "task": "classification",
    "license": "MIT",
    "published": 2024,
    "allowed": ["Yes", "No"],
    "hub": {"id": "org/set"},
    "fields": {"instruction": "record.prompt", "responses": "['r']", "verdict": "'Yes'"},
}


def test_a_hub_dataset_is_pinned_by_commit_and_read_back_as_the_source(hub: Server, tmp_path: Path) -> None:
    spec = parse_model(DatasetSpec, SPEC, "test")
    needed = wanted([spec])
    pins = update(needed, Pins())
    (name,) = pins.files
    assert name == "hub/org/set/default/train/0000.parquet" and COMMIT in pins.files[name].url
    assert not any("resolve" in path for path in hub.asked), "the hub's own sha256 is taken"
    root = tmp_path / "store"
    fetch(needed, pins, root)
    assert [one.fetched for one in inputs(spec, root)] == [True]
    assert [raw.value for raw in read_raw(spec, root)] == [{"prompt": "p", "label": 1}]


def test_the_hubs_token_goes_to_the_hub_alone(hub: Server, tmp_path: Path) -> None:
    from huggingface_hub import constants

    pins = Pins(files={"x": pin(hub, "/x", ROWS)})
    fetch(public(hub, "x"), pins, tmp_path / "one")
    assert hub.tokens[-1] == "Bearer hf_of_a_test"
    constants.ENDPOINT = "http://127.0.0.1:9"  # the fixture puts it back
    fetch(public(hub, "x"), pins, tmp_path / "two")
    assert hub.tokens[-1] is None


def test_a_hub_that_does_not_answer_is_one_line(hub: Server) -> None:
    with pytest.raises(UserError, match="hub dataset org/other: cannot be listed") as caught:
        hub_files(Hub(id="org/other"))
    assert "\n" not in str(caught.value)


def test_what_a_source_reads_is_known_from_its_yaml() -> None:
    spec = {**SPEC, "files": ["a/*.jsonl", "package:pipelines.data.sample/pairwise.jsonl", "s3://bucket/x.jsonl"]}
    side = {"file": "a/side.jsonl", "key": "record.id"}
    full = {**spec, "hub": None, "origins": {"a/1.jsonl": "https://host/1"}, "tables": {"side": side}}
    found = wanted([parse_model(DatasetSpec, full, "test")])
    assert [(one.place, one.url, bool(one.by_hand)) for one in found] == [
        ("a/1.jsonl", "https://host/1", False),
        ("a/side.jsonl", "", True),
    ]
    (from_hub,) = wanted([parse_model(DatasetSpec, spec, "test")])
    assert from_hub.hub and from_hub.place == "hub/org/set/default/train"
    pinned = {**SPEC, "hub": {"id": "org/set", "revision": "abc"}}
    (while_running,) = wanted([parse_model(DatasetSpec, pinned, "test")])
    assert while_running.by_hand.startswith("nothing to fetch")


def test_the_list_has_a_line_a_file() -> None:
    pins = Pins(files={"x": Pin(url="https://host/x", sha256="0" * 64, bytes=1234)}, unpinned={"y": "offline"})
    lines = listing([Wanted("x", "one", "MIT", url="u"), Wanted("y", "two", "none", hub=Hub(id="o/s"))], pins)
    assert lines == [
        "x | 1,234 bytes | one (MIT) | https://host/x sha256 000000000000",
        "y | size unknown | two (none) | hub dataset o/s NOT PINNED: offline",
    ]


def test_a_lock_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    pins = Pins(files={"b": Pin(url="u", sha256="0" * 64, bytes=1), "a": Pin(url="v", sha256="1" * 64, bytes=2)})
    write_pins(tmp_path / "lock.yaml", pins)
    assert read_pins(tmp_path / "lock.yaml") == pins
    assert list(yaml.safe_load((tmp_path / "lock.yaml").read_text())["files"]) == ["a", "b"]
    (tmp_path / "bad.yaml").write_text("files: {x: {url: u, sha256: made up, bytes: 1}}")
    with pytest.raises(UserError, match=r"files\.x\.sha256"):
        read_model(Pins, tmp_path / "bad.yaml")
