"""What a stop leaves of a segment's rows, and taking error rows back; Ray's own commits are in tests/integration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import commits, storage
from pipelines.core.commits import CHECKPOINT, PENDING, ROWS, drop_doubles, drop_errors, errors_in, heal
from pipelines.core.retry import retry_errors
from pipelines.core.run import Run
from pipelines.core.step import is_whole, once


class Killed(BaseException):
    """In the place of SIGKILL."""


def commit(folder: Path, stem: str, statuses: dict[str, str | None], ids: str = ".parquet") -> None:
    """One block as Ray leaves it."""
    for kept in (ROWS, CHECKPOINT):
        (folder / kept).mkdir(parents=True, exist_ok=True)
    table = pa.table({"row_id": list(statuses), "status": pa.array(statuses.values(), pa.string())})
    pq.write_table(table, folder / ROWS / f"{stem}-0.parquet")
    pq.write_table(table.select(["row_id"]), folder / CHECKPOINT / f"{stem}{ids}")


def found(folder: Path) -> tuple[list[str], list[str]]:
    """The ids in the data that counts, and the ids that are committed, each sorted."""
    heal(folder)
    rows = [key for path in storage.files(folder / ROWS) for key in pq.read_table(path)["row_id"].to_pylist()]
    ids = [key for path in storage.files(folder / CHECKPOINT) for key in pq.read_table(path)["row_id"].to_pylist()]
    return sorted(rows), sorted(ids)


def test_data_of_pending_ids_does_not_count(tmp_path: Path) -> None:
    commit(tmp_path, "x_000001", {"a": "ok"})
    commit(tmp_path, "x_000010", {"b": "ok"}, ids=PENDING)
    commit(tmp_path, "x_0000100", {"c": "ok"})  # a name that begins alike
    assert found(tmp_path) == (["a", "c"], ["a", "c"])


def test_ids_that_are_both_pending_and_committed_are_computed_again(tmp_path: Path) -> None:
    commit(tmp_path, "x_0", {"a": "ok"})
    commit(tmp_path, "x_1", {"b": "ok"})
    commit(tmp_path, "x_1", {"b": "ok"}, ids=PENDING)
    assert found(tmp_path) == (["a"], ["a"])  # Ray would drop the data of b, and keep its id


def some_errors(folder: Path) -> None:
    commit(folder, "x_0", {"a": "ok", "b": "error:judge:no_answer", "c": "filtered:script"})
    commit(folder, "x_1", {"d": "ok"})
    commit(folder, "x_2", {"e": "error:x", "f": None})


def test_error_rows_are_taken_back_and_no_other(tmp_path: Path) -> None:
    some_errors(tmp_path)
    untouched = (tmp_path / ROWS / "x_1-0.parquet").stat().st_mtime_ns
    assert errors_in(tmp_path) == 3
    drop_errors(tmp_path)
    assert found(tmp_path) == (["a", "c", "d"], ["a", "c", "d"])
    assert errors_in(tmp_path) == 0
    assert (tmp_path / ROWS / "x_1-0.parquet").stat().st_mtime_ns == untouched


def test_a_stop_between_any_two_of_its_steps_loses_no_row_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stop in range(100):
        folder, calls = tmp_path / str(stop), 0
        some_errors(folder)

        def counted(plain: Any, stop: int = stop) -> Any:
            def call(*arguments: Any) -> Any:
                nonlocal calls
                if calls == stop:
                    raise Killed
                calls += 1
                return plain(*arguments)

            return call

        with monkeypatch.context() as patch:
            for name in ("write_table", "remove"):
                patch.setattr(commits.storage, name, counted(getattr(storage, name)))
            try:
                drop_errors(folder)
            except Killed:
                over = False
            else:
                over = True
        rows, ids = found(folder)
        assert rows == ids and len(set(ids)) == len(ids) and set(ids) <= set("abcdef")
        drop_errors(folder)
        assert set(found(folder)[0]) <= {"a", "c", "d"} and "d" in found(folder)[0]
        if over:
            assert stop > 8
            return


def test_what_workers_of_a_killed_job_wrote_late_is_taken_back(tmp_path: Path) -> None:
    commit(tmp_path, "new_0", {"a": "ok", "b": "ok"})
    commit(tmp_path, "new_1", {"c": "ok", "d": "ok"})
    assert not drop_doubles(tmp_path, "row_id")
    commit(tmp_path, "new_2", {"a": "ok"})
    assert not drop_doubles(tmp_path, "row_id")  # of one and the same job: a fault, for the ledger to find
    (tmp_path / CHECKPOINT / "new_2.parquet").unlink()
    commit(tmp_path, "old_0", {"a": "ok"})
    commit(tmp_path, "old_1", {"d": "ok", "e": "ok"})
    (tmp_path / ROWS / "old_2-0.parquet").write_bytes(b"PAR1, and then the power went")
    (tmp_path / ROWS / "old_3-0.parquet").write_bytes((tmp_path / ROWS / "old_0-0.parquet").read_bytes())
    assert drop_doubles(tmp_path, "row_id")
    assert found(tmp_path) == (list("abcde"), list("abcde"))


def finished(run: Run, name: str, depends: dict[str, Any], errors: bool = False) -> str:
    """A done segment of a run; returns its fingerprint."""
    folder = run.work / name
    result = once(
        folder, depends, lambda folder: commit(folder, "x_0", {"a": "ok", "b": "error:x" if errors else "ok"})
    )
    return str(result["fingerprint"])


def test_what_was_made_from_error_rows_is_made_again_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first = finished(run, "prepare", {"before": "0"})
    second = finished(run, "synthesize", {"before": first}, errors=True)
    third = finished(run, "mix", {"before": second})
    once(run.curated, {"before": third}, lambda folder: None)
    once(run.reference, {"before": "content of pairs"}, lambda folder: None)
    once(run.training, {"pairs": "content of pairs"}, lambda folder: storage.write_text(run.model / "weights", "w"))
    model = storage.content_digest(run.model)
    finished(run, "judge-base", {"before": "examples", "judge": {"engine": {"model": "base"}}})
    judged = finished(run, "judge-trained", {"before": "examples", "judge": {"engine": {"model": model}}})
    finished(run, "check-trained", {"nested": [{"judgments": judged}]})
    assert retry_errors(run) == [run.work / "synthesize"]
    left = sorted(path.parent.relative_to(tmp_path).as_posix() for path in storage.find(tmp_path, "depends.json"))
    assert left == ["work/judge-base", "work/prepare", "work/synthesize"]
    assert is_whole(run.work / "prepare") and is_whole(run.work / "judge-base")
    assert not is_whole(run.work / "synthesize") and not run.model.exists()
    assert found(run.work / "synthesize") == (["a"], ["a"])
    assert retry_errors(run) == []


def test_models_between_count_too(tmp_path: Path) -> None:
    """Two rounds of rejection sampling, the first of which has an error row: the second one asks another model."""
    run = Run(tmp_path)
    curated = once(run.curated, {"before": "x"}, lambda folder: None)["fingerprint"]
    one, two = Run(run.rounds / "1"), Run(run.rounds / "2")
    kept = finished(one, "own_critiques", {"before": curated}, errors=True)
    made_from = once(one.curated, {"sampled": kept}, lambda folder: None)["fingerprint"]
    once(one.training, {"made_from": made_from}, lambda folder: storage.write_text(one.model / "weights", "w"))
    asked = storage.content_digest(one.model)
    kept = finished(two, "own_critiques", {"engine": {"model": asked}})
    once(run.training, {"made_from": kept}, lambda folder: storage.write_text(run.model / "weights", "w"))
    assert retry_errors(run) == [one.work / "own_critiques"]
    left = sorted(path.parent.relative_to(tmp_path).as_posix() for path in storage.find(tmp_path, "depends.json"))
    assert left == ["curated", "rounds/1/work/own_critiques"]
    assert not one.model.exists() and not run.model.exists()


def test_where_no_row_failed_nothing_is_made_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    finished(run, "prepare", {"before": "0"})
    assert retry_errors(run) == []
    assert is_whole(run.work / "prepare")
