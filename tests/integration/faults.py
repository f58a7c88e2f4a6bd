"""What the fault tests share: rows, notes of what was computed, a fault in mid-run and what it may cost."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from pipelines.config import Config
from pipelines.core.records import CONTRASTED, EXAMPLE, Row
from pipelines.core.segment import Rows, Segment, ledger_of
from pipelines.core.storage import read_json, write_json

BLOCK = 4
FRESH = 0.15  # seconds: a call noted so recently is still at work, as each takes longer
STRUCK = "struck"  # file that tells the stages that the fault has come


@dataclass(frozen=True)
class Call:
    """One call of a stage: when it began, in which process and on which node, for which rows."""

    began: int
    pid: int
    node: str
    ids: tuple[str, ...]


def note(folder: Path, ids: list[str]) -> None:
    """Leave a note of a call that begins, on disk: it outlives the process."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    call = {"began": time.time_ns(), "pid": os.getpid(), "node": node, "ids": ids}
    write_json(folder / f"{uuid.uuid4()}.json", call)


def calls(folder: Path) -> list[Call]:
    """All calls, in the order they began."""
    found = [read_json(path) for path in folder.glob("*.json")]
    return sorted((Call(**{**one, "ids": tuple(one["ids"])}) for one in found), key=lambda call: call.began)


def at_work(folder: Path, node: str | None = None) -> Call | None:
    """The latest call that has just begun, on a node or any."""
    fresh = (call for call in reversed(calls(folder)) if time.time_ns() - call.began < FRESH * 1e9)
    return next((call for call in fresh if node in (None, call.node)), None)


def dawdle(folder: Path) -> None:
    """Take long enough to be hit, until the fault has come."""
    if not (folder / STRUCK).exists():
        time.sleep(6 * FRESH)


@dataclass(frozen=True)
class Work:
    """A segment at work: its folder is `folder`, and it reads `before`."""

    segment: Segment
    work: Path
    before: Rows

    def run(self) -> None:
        """Run it, or what is left of it."""
        self.segment.run(self.work, self.before)

    @property
    def folder(self) -> Path:
        """The segment's own."""
        return self.work / self.segment.name

    @property
    def ledger(self) -> Any:
        """What it noted of its rows."""
        return ledger_of(Rows(self.folder / "rows", ""))


def committed(work: Work) -> set[str]:
    """The rows that are safely written."""
    paths = [path for path in (work.folder / "checkpoint").glob("*.parquet") if ".pending" not in path.name]
    return {row for path in paths for row in pq.read_table(path)[work.segment.id_column].to_pylist()}


@contextmanager
def fault(ready: Callable[[], Any], strike: Callable[[Any], None]) -> Iterator[None]:
    """While the block runs, strike at what `ready` returns, once it returns something."""
    over = threading.Event()

    def watch() -> bool:
        while not over.wait(0.02):
            if target := ready():
                strike(target)
                return True
        return False

    with ThreadPoolExecutor(1) as pool:
        struck = pool.submit(watch)
        try:
            yield
        finally:
            over.set()
    assert struck.result(), "the run ended before the fault came"


@dataclass
class Damage:
    """Rows that a fault may have cost: begun before it, and not safe by then."""

    work: Work
    notes: Path
    rows: set[str] = field(default_factory=set)
    strikes: int = 0

    def kill(self, kill: Callable[[], None]) -> None:
        """Strike, and write down what may be lost by it."""
        safe = committed(self.work)
        kill()
        (self.notes / STRUCK).touch()
        self.strikes += 1
        self.rows |= {row for call in calls(self.notes) for row in call.ids} - safe

    def check(self) -> None:
        """Every row once; finished rows kept; what was computed again was in flight, and something was."""
        out, key = rows_of(self.work), self.work.segment.id_column
        expected = pads.dataset(str(self.work.before.folder)).to_table(columns=[key, "status"])
        wanted = [row[key] for row in expected.to_pylist() if row["status"] == "ok"]
        assert [row[key] for row in out] == sorted(wanted)
        assert committed(self.work) == set(wanted)
        times = Counter(row for call in calls(self.notes) for row in call.ids)
        again = {row for row, n in times.items() if n > 1}
        assert again, "the fault cost nothing: it did not come in mid-run"
        assert again <= self.rows and max(times.values()) <= 1 + self.strikes
        assert sum(source["in"] for source in self.work.ledger.values()) == len(wanted)


def rows_of(work: Work) -> list[Row]:
    """What a segment wrote, sorted by id."""
    return pads.dataset(str(work.folder / "rows")).to_table().sort_by(work.segment.id_column).to_pylist()


NO_LOOKUPS = {"near_duplicates": {"enabled": False}, "decontaminate": {"enabled": False}}


def reward_config(out: Path, model: Path, sources: list[str], **curation: Any) -> Config:
    """A curation whose every model is the tiny one."""
    return Config.model_validate(
        {
            "out_dir": out,
            "data_root": out.parent,
            "curation": {
                "sources": sources,
                "rows_per_block": BLOCK,
                "clean": NO_LOOKUPS,
                "reward": {"model": str(model), "max_tokens": 400, "batch_tokens": 2000, "rows_per_batch": BLOCK},
                "critique": {"engine": {"model": str(model)}},
                "mix": {"tokenizer": str(model)},
                **curation,
            },
            "evaluation": {"benchmarks": []},
        }
    )


def examples(folder: Path, count: int, **changes: Any) -> Path:
    """A folder of ready rows."""
    blank: Row = dict.fromkeys([*EXAMPLE.names, *(column.name for column in CONTRASTED)])
    rows = [
        {
            **blank,
            "raw_id": f"s:{n:04d}",
            "row_id": f"row-{n:04d}",
            "source": "s",
            "task": "pairwise",
            "instruction": f"Name a thing that has the number {n} on it.",
            "responses": [f"A clock has {n % 12}.", "Nothing has."],
            "allowed": ["A", "B"],
            "verdict": "A",
            "rejected_verdict": "B",
            "status": "ok",
            **changes,
        }
        for n in range(count)
    ]
    return write_rows(folder, rows)


def write_rows(folder: Path, rows: list[Row]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([*EXAMPLE, *CONTRASTED])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{len(list(folder.iterdir()))}.parquet")
    return folder
