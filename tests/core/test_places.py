"""Every function of storage does the same on a local disk, in fsspec's memory and in S3 (moto, in this process)."""

from __future__ import annotations

import io
import os
import pickle
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.core import commits, sql, step, storage
from pipelines.core.errors import UserError
from pipelines.core.journal import Journal
from pipelines.core.ledger import count_rows, count_status
from pipelines.core.lock import held
from pipelines.core.storage import Place, Url, place, stores

TABLE = pa.table({"n": [1, 2, 3], "text": ["a", "b", None]})
KINDS = ["local", "memory", "s3"]


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """A bucket of moto's server, which runs in this process; yields its URL."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    own = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    boto3.client("s3").create_bucket(Bucket="unit")
    yield "s3://unit"
    server.stop()
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of each kind."""
    if request.param == "local":
        return tmp_path
    root = "memory://unit" if request.param == "memory" else request.getfixturevalue("s3_server")
    return place(f"{root}/{uuid.uuid4().hex}")


def test_files_are_written_read_listed_and_removed(folder: Place) -> None:
    storage.write_json(folder / "deep" / "a.json", {"é": [1, None]})
    storage.write_text(folder / "deep" / "b.txt", "x\r\ny")
    storage.write_bytes(folder / "deep" / "_note", b"")
    storage.write_bytes(folder / "deep" / "deeper" / "a.json", b"{}")
    assert storage.read_json(folder / "deep" / "a.json") == {"é": [1, None]}
    assert storage.read_bytes(folder / "deep" / "b.txt") == b"x\r\ny"
    assert storage.read_text(folder / "deep" / "b.txt") == "x\ny"
    assert [one.name for one in storage.files(folder / "deep")] == ["a.json", "b.txt"]
    assert [one.name for one in storage.files(folder / "deep", ".json")] == ["a.json"]
    assert storage.files(folder / "none") == []
    assert storage.find(folder, "a.json") == [folder / "deep" / "a.json", folder / "deep" / "deeper" / "a.json"]
    names = [storage.path_in(one, folder) for one in storage.all_files(folder)]
    assert names == ["deep/_note", "deep/a.json", "deep/b.txt", "deep/deeper/a.json"]
    assert storage.exists(folder / "deep") and storage.is_folder(folder / "deep")
    assert storage.exists(folder / "deep" / "a.json") and not storage.is_folder(folder / "deep" / "a.json")
    assert storage.holds_files(folder) and not storage.holds_files(folder, but=["deep"])
    storage.remove(folder / "deep" / "a.json")
    storage.remove(folder / "deep" / "a.json")
    assert [one.name for one in storage.files(folder / "deep")] == ["b.txt"]
    storage.remove(folder / "deep")
    storage.remove(folder / "deep")
    assert not storage.exists(folder / "deep")
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(folder / "none")


def test_a_file_is_read_piece_by_piece(folder: Place) -> None:
    content = bytes(range(256)) * 40_000  # 10 MB: two pieces
    storage.write_bytes(folder / "big", content)
    with storage.opened(folder / "big") as file:
        assert file.read(10) == content[:10]
        file.seek(-5, io.SEEK_END)
        assert (file.read(), file.tell()) == (content[-5:], len(content))
        file.seek(0)
        assert file.read() == content


def test_of_many_that_create_a_file_one_succeeds(folder: Place) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: storage.create(folder / "once", f"{n}"), range(8)))
    assert sum(won) == 1
    assert storage.read_text(folder / "once") == str(won.index(True))
    assert not storage.create(folder / "once", "late")


def test_what_fails_half_way_is_not_seen(folder: Place) -> None:
    storage.write_text(folder / "a", "before")
    with pytest.raises(RuntimeError), storage.draft(folder / "a") as local:
        local.write_text("half")
        raise RuntimeError
    assert storage.read_text(folder / "a") == "before"
    with pytest.raises(RuntimeError), storage.table_writer(folder / "t" / "a.parquet", TABLE.schema) as writer:
        writer.write_table(TABLE)
        raise RuntimeError
    assert storage.files(folder / "t") == []


def test_row_groups_without_rows_are_not_written_and_not_read(folder: Place) -> None:
    """The library `datasets` stops at one."""
    with storage.table_writer(folder / "a.parquet", TABLE.schema) as writer:
        for piece in (TABLE.slice(0, 0), TABLE.slice(0, 1), TABLE.slice(0, 0), TABLE.slice(1)):
            for batch in piece.to_batches() or [pa.RecordBatch.from_pylist([], schema=TABLE.schema)]:
                writer.write_batch(batch)
    assert storage.row_groups(folder / "a.parquet") == [0, 1]
    assert [storage.read_row_group(folder / "a.parquet", group, ["n"]).num_rows for group in (0, 1)] == [1, 2]
    storage.write_table(folder / "none.parquet", TABLE.slice(0, 0))  # as others write it
    assert storage.row_groups(folder / "none.parquet") == []


def test_rows_are_written_and_read(folder: Place) -> None:
    storage.write_table(folder / "r" / "2.parquet", TABLE.slice(0, 1))
    storage.write_table(folder / "r" / "1.parquet", TABLE.slice(1).drop_columns(["text"]))
    schema = pa.schema([("n", pa.int64()), ("text", pa.string()), ("more", pa.float64())])
    found = storage.read_table(folder / "r", schema=schema)
    assert found["n"].to_pylist() == [2, 3, 1] and found["text"].to_pylist() == [None, None, "a"]
    assert storage.read_table(folder / "r", ["n"], pc.field("n") > 1, schema)["n"].to_pylist() == [2, 3]
    batches = storage.read_batches(folder / "r", ["n"], pc.field("n") > 1, schema)
    assert [n for batch in batches for n in batch["n"].to_pylist()] == [2, 3]
    assert (storage.row_count(folder / "r"), storage.row_count(folder / "none")) == (3, 0)
    assert storage.column_sum(folder / "r", ["n"]) == 6
    assert storage.column_values(folder / "r" / "2.parquet", "text") == ["a"]
    assert storage.folder_schema(folder / "r").names == ["n"]
    assert storage.row_groups(folder / "r" / "2.parquet") == [0]
    assert storage.read_row_group(folder / "r" / "2.parquet", 0, ["text"])["text"].to_pylist() == ["a"]
    with pytest.raises(UserError, match="no parquet files"):
        storage.read_table(folder / "none")
    with sql.connect(rows=folder / "r") as connection:
        assert connection.execute("select sum(n), count(*) from rows").fetchall() == [(6, 3)]


def test_batches_are_written_as_files(folder: Place) -> None:
    storage.write_rows(folder / "some", TABLE.to_batches(), TABLE.schema)
    storage.write_rows(folder / "none", iter(()), TABLE.schema)
    schema = pa.schema([("n", pa.int64())])
    storage.write_ordered(folder / "ordered", [pa.record_batch([[n]], schema=schema) for n in range(5)], schema, most=2)
    assert storage.read_table(folder / "some") == TABLE
    assert (storage.row_count(folder / "none"), storage.folder_schema(folder / "none")) == (0, TABLE.schema)
    assert storage.read_table(folder / "ordered")["n"].to_pylist() == list(range(5))
    assert len(storage.files(folder / "ordered")) == 3


def test_a_digest_is_that_of_the_content_wherever_it_is(folder: Place, tmp_path: Path) -> None:
    for base in (folder / "model", tmp_path / "copy"):
        storage.write_text(base / "config.json", "{}")
        storage.write_text(base / "deep" / "weights", "123")
    assert storage.content_digest(folder / "model") == storage.content_digest(tmp_path / "copy")
    before = storage.content_digest(folder / "model"), storage.version(folder / "model" / "config.json")
    storage.write_text(folder / "model" / "config.json", "[]")  # of the same size, in the same second
    assert storage.content_digest(folder / "model") != before[0]
    assert storage.version(folder / "model" / "config.json") != before[1]
    with pytest.raises(UserError, match="no such file or folder"):
        storage.content_digest(folder / "none")


def test_a_library_fills_a_local_folder(folder: Place, tmp_path: Path) -> None:
    storage.write_text(folder / "model" / "old", "")
    with storage.local_folder(folder / "model", last="config.json") as local:
        (local / "deep").mkdir()
        for name in ("config.json", "weights", "deep/more"):
            (local / name).write_text(name)
    assert [storage.path_in(one, folder / "model") for one in storage.all_files(folder / "model")] == [
        "config.json",
        "deep/more",
        "weights",
    ]
    copy = storage.download(folder / "model", tmp_path / "own")
    assert (copy / "deep" / "more").read_text() == "deep/more"
    storage.write_table(folder / "rows" / "a.parquet", TABLE)
    (local_rows,) = storage.local_copy(folder / "rows", tmp_path / "rows-copy")
    assert storage.read_table(Path(local_rows)) == TABLE


def test_a_step_is_done_once_and_another_config_is_refused(folder: Place) -> None:
    made: list[Place] = []

    def write(where: Place) -> dict[str, int]:
        made.append(where)
        storage.write_text(where / "x", "")
        return {"rows": 1}

    for _ in range(2):
        assert step.once(folder / "s", {"a": 1}, write)["rows"] == 1
    assert made == [folder / "s"]
    with pytest.raises(UserError, match="holds a run of another config"):
        step.once(folder / "s", {"a": 2}, write)


def test_a_ledger_counts(folder: Place) -> None:
    rows = pa.table({"row_id": ["1", "2"], "source": ["s", "s"], "status": ["ok", "filtered:x"]})
    storage.write_table(folder / "rows" / "a.parquet", rows)
    assert count_rows(folder / "rows", "row_id") == {"s": 2}
    assert count_status(folder / "rows") == {"s": {"ok": 1, "filtered:x": 1}}


def test_a_commit_that_was_cut_between_copy_and_removal_is_healed(folder: Place) -> None:
    ids = pa.table({"row_id": ["1"]})
    for name in ("cut.parquet", "cut.pending.parquet", "whole.parquet", "open.pending.parquet"):
        storage.write_table(folder / commits.CHECKPOINT / name, ids)
    for name in ("cut-0.parquet", "whole-0.parquet", "open-0.parquet"):
        storage.write_table(folder / commits.ROWS / name, ids)
    commits.heal(folder)
    left = {name: [one.name for one in storage.files(folder / name)] for name in (commits.CHECKPOINT, commits.ROWS)}
    assert left == {commits.CHECKPOINT: ["whole.parquet"], commits.ROWS: ["whole-0.parquet"]}


def test_a_journal_keeps_its_notes(folder: Place) -> None:
    journal = Journal(folder / "journal")
    storage.write_text(journal.folder / "together" / "key.actor.1", "stage")
    journal.stop("enough")
    assert [note.name for note in journal.notes("together", "key.")] == ["key.actor.1"]
    assert journal.stopped() == "enough" and journal.at_work(but="other")
    journal.clear()
    assert journal.stopped() is None and journal.notes("together") == []


def test_two_jobs_do_not_share_a_folder(folder: Place) -> None:
    with held(folder / "lock"), pytest.raises(UserError, match="another job is at work there"), held(folder / "lock"):
        pass
    with held(folder / "lock"):
        pass
    assert storage.files(folder / "lock") == []


@pytest.mark.parametrize("pattern", ["in/*.jsonl", "in/**/*.jsonl", "in/a.jsonl", "in/[ab].jsonl"])
def test_wildcards_name_the_files_of_a_store(pattern: str) -> None:
    root = place(f"memory://unit/{uuid.uuid4().hex}")
    assert isinstance(root, Url)
    for name in ("in/a.jsonl", "in/b.txt", "in/deep/c.jsonl"):
        storage.write_text(root / name, "")
    names = [storage.path_in(one, root) for one in storage.matching(Url(f"{root}/{pattern}"))]
    assert names == (["in/a.jsonl", "in/deep/c.jsonl"] if "**" in pattern else ["in/a.jsonl"])


def test_a_url_has_the_pure_part_of_a_path() -> None:
    url = Url("s3://bucket/run/a.b.parquet")
    assert (url.name, url.stem, url.suffix) == ("a.b.parquet", "a.b", ".parquet")
    assert (url.parent, url.with_name("x"), url.parts) == (
        Url("s3://bucket/run"),
        Url("s3://bucket/run/x"),
        ("s3://bucket", "run", "a.b.parquet"),
    )
    assert url.parents == (Url("s3://bucket/run"), Url("s3://bucket")) and url.parent in url.parents
    assert Url("s3://bucket").parent == Url("s3://bucket")
    assert pickle.loads(pickle.dumps(url)) == url and len({url, Url(str(url))}) == 1
    for misuse in (open, Path, os.listdir):
        with pytest.raises(TypeError):
            misuse(url)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s3://bucket/run/", "s3://bucket/run"),
        ("gs://bucket", "gs://bucket"),
        ("abfs://container@account.dfs.core.windows.net/run", "abfs://container@account.dfs.core.windows.net/run"),
        ("file:///tmp/run", "/tmp/run"),
        ("/tmp/run", "/tmp/run"),
    ],
)
def test_a_place_keeps_its_text(text: str, kept: str) -> None:
    assert str(place(text)) == kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3:/bucket/run", "two slashes"),
        ("ftp://host/run", "no store that a run can be in"),
        ("file://host/run", "another machine"),
        ("s3://key:secret@bucket/run", "must not hold keys"),
        ("s3://bucket/run?endpoint_override=x", "must not hold keys"),
        ("abfs://:secret@account.dfs.core.windows.net/run", "must not hold keys"),
        ("s3://bucket/a//b", "not the URL of a folder"),
        ("s3://", "not the URL of a folder"),
    ],
)
def test_other_urls_are_refused_in_one_line_without_their_keys(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        place(text)
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


def test_an_outage_is_waited_for_and_a_refusal_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(stores.time, "sleep", waits.append)
    answers: list[Any] = [
        OSError("AWS Error UNKNOWN (HTTP status 500) during HeadObject operation"),
        OSError("AWS Error UNKNOWN (HTTP status 429) during PutObject operation"),
        ConnectionResetError("peer"),
        OSError("AWS Error NETWORK_CONNECTION: curlCode: 28, Timeout was reached"),
    ]

    def call() -> str:
        if answers:
            raise answers.pop(0)
        return "done"

    assert stores.patiently(call, "s3://bucket") == "done"
    assert len(waits) == 4
    for fault, kind in (
        (OSError("AWS Error ACCESS_DENIED during HeadObject"), UserError),
        (OSError("no space left on device"), OSError),
        (FileNotFoundError("none"), FileNotFoundError),
    ):
        answers.append(fault)
        with pytest.raises(kind):
            stores.patiently(call, "s3://bucket")
    assert len(waits) == 4


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 60))
    monkeypatch.setattr(stores.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(stores.time, "monotonic", lambda: float(next(now)))

    def out() -> None:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError):
        stores.patiently(out, "s3://bucket")


def test_an_actor_and_a_thread_hold_a_file_open_apart(folder: Place) -> None:
    storage.write_bytes(folder / "a", b"0123456789" * 1000)
    found: list[bytes] = []

    def read() -> None:
        with storage.opened(folder / "a") as file:
            found.append(file.read())

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(content) for content in found} == {10_000} and len(found) == 4
