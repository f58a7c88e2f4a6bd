"""The ledger balances, or the job fails."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import LedgerError, TooManyErrors
from pipelines.core.ledger import Tally, balance, check_error_share, common_reasons, count_rows, count_status

STATUSES = st.sampled_from(["ok", "filtered:script", "filtered:duplicate", "error:invalid_json", "error:x:y:z:1"])


def write(folder: Path, *files: list[tuple[str, str, str | None]]) -> Path:
    """Parquet files of (source, id, status) rows."""
    for number, rows in enumerate(files):
        columns = {name: [row[n] for row in rows] for n, name in enumerate(("source", "raw_id", "status"))}
        schema = pa.schema([("source", pa.string()), ("raw_id", pa.string()), ("status", pa.string())])
        pq.write_table(pa.table(columns, schema=schema), folder / f"{number}.parquet")
    return folder


def test_rows_are_counted_over_all_files(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        [("a", "1", "ok"), ("a", "2", "error:e")],
        [("a", "3", "ok"), ("b", "1", "filtered:f"), ("b", "2", None)],
    )
    assert count_rows(folder, "raw_id") == {"a": 3, "b": 2}
    assert count_rows(folder, "raw_id", only_ok=True) == {"a": 2}
    assert count_status(folder) == {
        "a": {"ok": 2, "error:e": 1},
        "b": {"filtered:f": 1, "error:no_status": 1},
    }


def test_an_id_that_appears_twice_is_an_error(tmp_path: Path) -> None:
    folder = write(tmp_path, [("a", "1", "ok")], [("a", "1", "ok"), ("a", "2", "ok")])
    with pytest.raises(LedgerError, match=r"source 'a' has 3 rows but 2 distinct raw_ids"):
        count_rows(folder, "raw_id")


def test_a_balanced_entry_has_totals_and_reasons() -> None:
    entry = balance("prepare", {"a": 6}, {"a": {"ok": 3, "filtered:script": 2, "error:mapping:verdict:KeyError: 7": 1}})
    assert entry == {
        "a": {
            "in": 6,
            "ok": 3,
            "filtered": 2,
            "error": 1,
            "reasons": {"error:mapping:verdict": 1, "filtered:script": 2},
        }
    }


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), st.dictionaries(STATUSES, st.integers(1, 9), min_size=1)))
def test_any_split_into_statuses_balances(out: dict[str, dict[str, int]]) -> None:
    entry = balance("s", {source: sum(counts.values()) for source, counts in out.items()}, out)
    for source, counts in out.items():
        line = entry[source]
        assert line["in"] == line["ok"] + line["filtered"] + line["error"] == sum(counts.values())
        assert sum(line["reasons"].values()) == line["filtered"] + line["error"]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abc"), st.dictionaries(STATUSES, st.integers(1, 9), min_size=1), min_size=1),
    st.sampled_from([-1, 1]),
    st.data(),
)
def test_one_row_lost_or_won_in_any_source_fails(
    out: dict[str, dict[str, int]], change: int, data: st.DataObject
) -> None:
    rows_in = {source: sum(counts.values()) for source, counts in out.items()}
    source = data.draw(st.sampled_from(sorted(out)))
    rows_in[source] += change
    with pytest.raises(LedgerError, match=f"segment 's', source '{source}'"):
        balance("s", rows_in, out)


def test_a_source_that_vanishes_or_appears_fails() -> None:
    with pytest.raises(LedgerError, match=r"source 'a': 2 rows in, but 0 ok"):
        balance("s", {"a": 2}, {})
    with pytest.raises(LedgerError, match=r"source 'b': 0 rows in, but 1 ok"):
        balance("s", {}, {"b": {"ok": 1}})


def test_too_many_errors_name_the_commonest_reason() -> None:
    out = {"a": {"ok": 7, "error:rare": 1, "error:common:x": 2}, "b": {"filtered:f": 90}}
    entry = balance("s", {"a": 10, "b": 90}, out)
    check_error_share("s", entry, 0.03)  # 3 of 100
    with pytest.raises(
        TooManyErrors, match=r"3 of 100 rows .*\(error:common:x 2, error:rare 1\).* is 0.02.*--retry-errors"
    ):
        check_error_share("s", entry, 0.02)
    check_error_share("s", {}, 0.0)


def test_the_share_of_errors_is_watched_from_the_files_that_are_there(tmp_path: Path) -> None:
    tally = Tally("s", tmp_path, most=0.2)

    def add(name: str, *statuses: str) -> None:
        pq.write_table(pa.table({"status": list(statuses)}), tmp_path / name)

    add("0.parquet", *["ok"] * 100, *["error:x:y:one"] * 30, "error:x:z")
    (tmp_path / "1.parquet").write_bytes(b"PAR1 being written")
    assert tally.too_many(1000) is None  # too few to tell
    add("2.parquet", *["ok"] * 50, *["error:x:y:two"] * 30)
    said = tally.too_many(1000)
    assert tally.rows == 211 and said is not None
    assert "61 of 211 rows of 1000 so far ended as errors (error:x:y 60, error:x:z 1)" in said
    assert "one in full: 'error:x:y:one'" in said
    assert tally.too_many(100_000) is None  # less than one in a hundred
    assert Tally("s", tmp_path, most=0.3).too_many(1000) is None


def test_a_source_s_commonest_reasons_are_one_line() -> None:
    out = {"a": {"ok": 1, "filtered:b": 5, "filtered:c:x": 3, "error:d:e:f": 4, "filtered:g": 1}, "b": {"ok": 2}}
    assert common_reasons(balance("s", {"a": 14, "b": 2}, out)) == [
        "a: 13 of 14 left: filtered:b 5, error:d:e 4, filtered:c:x 3 and 1 more"
    ]
