"""Ingest: what is read, sampled, written and counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import LedgerError, TooManyErrors, UserError
from pipelines.core.records import EXAMPLE
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.core.storage import read_json
from pipelines.curation import ingest as module
from pipelines.curation.duplicates import find_duplicates
from pipelines.curation.ingest import Ingest
from pipelines.curation.registry import load_sources
from pipelines.datasets import parts as parts_module
from pipelines.datasets import reading as reading_module
from pipelines.datasets.readers import inputs
from pipelines.datasets.reading import Reading, Survey, ingest_rows, read_rows, read_tables, survey, unconfirmed
from pipelines.datasets.spec import DatasetSpec

SOURCE: dict[str, Any] = {
    "name": "mine",
    "task": "classification",
    "files": ["mine/*.jsonl"],
    "license": "CC0-1.0",
    "published": 2024,
    "allowed": ["Yes", "No"],
    "fields": {"instruction": "record.q", "responses": "[record.a]", "verdict": "record.v"},
}


def records(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"q": f"q{n}", "a": f"a{n}", "v": "Yes" if n % 2 else "No"} for n in range(start, start + count)]


def write(root: Path, name: str, made: list[Any]) -> None:
    path = root / "mine" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in made))


def readings(spec: DatasetSpec, root: Path, seed: int = 0) -> list[Reading]:
    return [Reading(spec, source, root, seed) for source in inputs(spec, root)]


def sampled(spec: DatasetSpec, root: Path, size: int, seed: int = 0) -> list[dict[str, Any]]:
    """The sample as ingest takes it, without a cluster."""
    read = readings(spec, root, seed)
    counts, scoped = module.in_scope(read, [survey(one, size) for one in read], size)
    rows = [row for one in scoped for row in read_rows(one)]
    assert len(rows) == counts[spec.name]["sampled"]
    assert counts[spec.name]["sampled"] + counts[spec.name]["not_sampled"] == counts[spec.name]["rows"]
    return rows


def test_rows_come_in_order_with_unique_raw_ids(tmp_path: Path) -> None:
    write(tmp_path, "b.jsonl", [*records(2, 10), "{broken"])
    write(tmp_path, "a.jsonl", records(3))
    rows = list(ingest_rows(DatasetSpec(**SOURCE), tmp_path))
    assert [row["instruction"] for row in rows] == ["q0", "q1", "q2", "q10", "q11", "{broken"]
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["error:invalid_json"]
    ids = [row["raw_id"] for row in rows]
    assert ids == sorted(set(ids))


def test_tables_are_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.jsonl", records(7))
    monkeypatch.setattr(reading_module, "TABLE_ROWS", 3)
    tables = [table for one in readings(DatasetSpec(**SOURCE), tmp_path) for table in read_tables(one)]
    assert [table.num_rows for table in tables] == [3, 3, 1]
    assert all(table.schema == EXAMPLE for table in tables)
    first = [value for value in tables[0].to_pylist()[0].values() if isinstance(value, str | list)]
    characters = sum(len(value) if isinstance(value, str) else sum(map(len, value)) for value in first)
    monkeypatch.setattr(reading_module, "TABLE_BYTES", characters + 1)  # reached by the second row
    (reading,) = readings(DatasetSpec(**SOURCE), tmp_path)
    assert [table.num_rows for table in read_tables(reading)] == [2, 2, 2, 1]


def test_the_survey_counts_without_adapting(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", [{"l": [1, 2]}, {"l": []}, {"l": 5}, {}, "{broken"])
    (reading,) = readings(DatasetSpec(**SOURCE, each="record.l"), tmp_path)
    counted = survey(replace(reading, adapt=None), None)  # type: ignore[arg-type]
    assert (counted.records, counted.rows, counted.keys) == (5, 6, ())
    assert len(list(read_rows(reading))) == counted.rows


def test_the_survey_returns_the_problem_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.jsonl").write_bytes(b"PAR1 no")
    (reading,) = readings(DatasetSpec(**{**SOURCE, "format": "parquet"}), tmp_path)
    problem = survey(reading, None).problem
    assert problem is not None
    assert "not a readable parquet file" in problem[0]
    assert problem[1].endswith("a.jsonl")


def test_a_sample_has_its_size_and_is_spread_over_files(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path, f"{number}.jsonl", records(50, 50 * number))
    rows = sampled(DatasetSpec(**SOURCE), tmp_path, 40)
    files = Counter(row["raw_id"].split(":")[1].split(".")[0] for row in rows)
    assert len(rows) == 40
    assert set(files) == {"0000", "0001", "0002", "0003"}
    assert len(sampled(DatasetSpec(**SOURCE), tmp_path, 1000)) == 200


def test_a_sample_depends_on_the_seed_and_a_smaller_one_is_part_of_it(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", records(60))
    spec = DatasetSpec(**SOURCE)

    def chosen(size: int, seed: int = 0) -> set[str]:
        return {row["instruction"] for row in sampled(spec, tmp_path, size, seed)}

    assert chosen(20) == chosen(20)
    assert chosen(20) != chosen(20, seed=1)
    assert chosen(10) < chosen(20)


def test_equal_records_do_not_fill_a_sample_together(tmp_path: Path) -> None:
    # A real sheet has 152 blank annotations among 1,302.
    write(tmp_path, "a.jsonl", [*records(1150), *[{"q": None, "a": None, "v": None}] * 152])
    for seed in range(5):
        blank = sum(row["verdict"] is None for row in sampled(DatasetSpec(**SOURCE), tmp_path, 100, seed))
        assert 2 <= blank <= 25  # about 12 expected


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(0, 3), max_size=4) | st.just("broken"), max_size=12),
    st.integers(1, 15),
    st.integers(0, 2),
)
def test_any_sample_balances(tmp_path_factory: pytest.TempPathFactory, lists: list[Any], size: int, seed: int) -> None:
    root = tmp_path_factory.mktemp("sample")
    write(root, "a.jsonl", [one if one == "broken" else {"l": one} for one in lists[:5]])
    write(root, "b.jsonl", [one if one == "broken" else {"l": one} for one in lists[5:]])
    spec = DatasetSpec(**SOURCE, each="record.l")
    everything = [row["raw_id"] for row in ingest_rows(spec, root)]
    rows = [row["raw_id"] for row in sampled(spec, root, size, seed)]
    assert len(rows) == min(size, len(everything)) == len(set(rows))
    assert set(rows) <= set(everything)


def test_doubts_are_told_for_the_form_that_is_read(tmp_path: Path) -> None:
    hub = {"id": "a/b", "to_confirm": "columns"}
    both = DatasetSpec(**SOURCE, hub=hub)
    assert unconfirmed(readings(both, tmp_path)) == {"mine": "columns"}
    write(tmp_path, "a.jsonl", records(1))
    assert unconfirmed(readings(both, tmp_path)) == {}
    doubtful = DatasetSpec(**SOURCE, to_confirm="labels")
    assert unconfirmed(readings(doubtful, tmp_path)) == {"mine": "labels"}


def test_a_dry_run_opens_the_files_and_shows_their_rows(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", [*records(30), "{broken"])
    told = Ingest(Run(tmp_path, data_root=tmp_path), [DatasetSpec(**SOURCE)]).describe()
    assert told[:4] == [
        "ingest 1 sources",
        "  source mine: classification, CC0-1.0",
        "    first 31 rows: 30 can be used (No: 15, Yes: 15)",
        "    1 times error:invalid_json (if the file is no JSON, say so with `format`)",
    ]
    assert told[4:] == [
        f"    {'Yes' if n % 2 else 'No'} of Yes, No | instruction: q{n} | response: a{n}" for n in range(3)
    ]
    (tmp_path / "mine" / "a.jsonl").unlink()
    with pytest.raises(UserError, match="no such file"):
        Ingest(Run(tmp_path, data_root=tmp_path), [DatasetSpec(**SOURCE)]).describe()


def test_inputs_are_counted_on_the_nodes_that_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    options = ray.data.DataContext.get_current().execution_options
    asked: list[dict[str, Any]] = []

    class Here:
        """A task of Ray that runs where it is called."""

        def __init__(self, call: Any) -> None:
            self.remote = call

    def remote(**options: Any) -> Any:
        asked.append(options)
        return Here

    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "get", lambda found: found)
    monkeypatch.setattr(parts_module, "PART_BYTES", 500)
    write(tmp_path, "a.jsonl", records(30))
    for labels in ({}, {"role": "reader"}):
        monkeypatch.setattr(options, "label_selector", labels)
        apart = reading_module.divided(readings(DatasetSpec(**SOURCE), tmp_path))
        assert len(apart) > 2
        assert sum(found.rows for found in reading_module.survey_all(apart, None)) == 30
    selected = {"num_cpus": 1, "label_selector": {"role": "reader"}}
    assert asked == [{"num_cpus": 1}, {"num_cpus": 1}, selected, selected]


# With a cluster.


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    import ray

    from pipelines.core.cluster import configure_data

    if ray.is_initialized():
        yield
        return
    options = {"num_cpus": 2, "include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    ray.init(address="local", object_store_memory=200 * 2**20, **options)
    configure_data()
    yield
    ray.shutdown()


def step(tmp_path: Path, sample: int | None = None, **source: Any) -> Ingest:
    """The step over three sources, the second of them made by `write`."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SOURCE | source))
    names = ["sample_pairwise", str(tmp_path / "mine.yaml"), "sample_absolute"]
    return Ingest(Run(tmp_path, data_root=tmp_path), load_sources(names), sample)


def marker(rows: Rows) -> Any:
    return read_json(rows.folder.parent / "done.json")


def read(folder: Path) -> list[dict[str, Any]]:
    return pads.dataset(str(folder), format="parquet").to_table().sort_by("raw_id").to_pylist()


@pytest.mark.integration
@pytest.mark.usefixtures("local_ray")
def test_ingest_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.jsonl", [*records(30), "{broken"])
    write(tmp_path, "b.jsonl", records(700, 20))  # ten of them are also in a.jsonl
    write(tmp_path, "c.jsonl", [])
    whole = step(tmp_path)
    rows = whole.run(tmp_path / "work")

    # The same rows as without a cluster, and the ledger's word for it.
    made = read(rows.folder)
    mine = DatasetSpec(**SOURCE)
    assert [row for row in made if row["source"] == "mine"] == list(ingest_rows(mine, tmp_path))
    done = marker(rows)
    assert list(done["sources"]) == ["sample_pairwise", "mine", "sample_absolute"]
    assert done["sources"]["mine"]["records"] == done["sources"]["mine"]["rows"] == 731
    assert done["ledger"]["mine"] == {
        "in": 731, "ok": 730, "filtered": 0, "error": 1, "reasons": {"error:invalid_json": 1},
    }  # fmt: skip
    assert done["rows"] == len(made) == sum(line["in"] for line in done["ledger"].values())
    assert find_duplicates(rows.folder, tmp_path / "d.parquet", list(done["sources"])) >= 10

    # In parts that are read apart: the same rows, ids, counts and claim.
    monkeypatch.setattr(parts_module, "PART_BYTES", 1000)
    apart = step(tmp_path).run(tmp_path / "apart")
    assert read(apart.folder) == made
    assert marker(apart) | {"seconds": done["seconds"]} == done
    few = step(tmp_path, sample=25).run(tmp_path / "few")
    monkeypatch.undo()
    assert read(step(tmp_path, sample=25).run(tmp_path / "few, whole").folder) == read(few.folder)

    # Once done, it is not done again, and another config is refused.
    files = {path: path.stat().st_mtime_ns for path in rows.folder.iterdir()}
    assert whole.run(tmp_path / "work") == rows
    assert {path: path.stat().st_mtime_ns for path in rows.folder.iterdir()} == files
    assert marker(rows) == done
    with pytest.raises(UserError, match="sample_per_source"):
        step(tmp_path, sample=5).run(tmp_path / "work")

    # A sample is the rows with the smallest hashes, wherever they are.
    few = step(tmp_path, sample=25).run(tmp_path / "sampled")
    ids = {row["raw_id"] for row in read(few.folder) if row["source"] == "mine"}
    assert ids == {row["raw_id"] for row in sampled(mine, tmp_path, 25)}
    told = marker(few)["sources"]["mine"]
    assert (told["rows"], told["sampled"], told["not_sampled"]) == (731, 25, 706)

    # What a killed job left behind is cleared away.
    left = tmp_path / "killed" / "ingest" / "rows"
    left.mkdir(parents=True)
    (left / "half.parquet").write_bytes(b"PAR1")
    assert len(read(whole.run(tmp_path / "killed").folder)) == len(made)

    # Bad input is one line of ours, not a traceback of Ray's.
    (tmp_path / "mine" / "d.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match=r"no such file: mine/\*\.parquet"):
        step(tmp_path, files=["mine/*.parquet"]).run(tmp_path / "bad")
    (tmp_path / "mine" / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"x\.parquet: not a readable parquet file"):
        step(tmp_path, files=["mine/*.parquet"]).run(tmp_path / "bad")

    # Lost rows and too many errors fail the job.
    monkeypatch.setattr(module, "survey_all", _one_too_many(module.survey_all))
    with pytest.raises(LedgerError, match="segment 'ingest', source 'mine'"):
        whole.run(tmp_path / "lost")
    monkeypatch.undo()
    write(tmp_path, "e.jsonl", ["{broken"] * 2000)
    with pytest.raises(TooManyErrors, match="error:invalid_json"):
        whole.run(tmp_path / "errors")


def _one_too_many(count: Any) -> Any:
    def miscount(readings: list[Reading], sample: int | None) -> list[Any]:
        surveys = count(readings, sample)
        at = next(n for n, one in enumerate(readings) if one.spec.name == "mine")
        surveys[at] = Survey(surveys[at].records + 1, surveys[at].rows + 1)
        return surveys

    return miscount
