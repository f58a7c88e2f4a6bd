"""Stages: what a stage may rely on, and that no row is lost to one that fails."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import RowFailure
from pipelines.core.records import Row
from pipelines.core.stage import (
    Filter,
    PooledActor,
    PooledStage,
    RowTask,
    Stage,
    apply_stages,
    check_columns,
    fuse,
    to_table,
)

SCHEMA = pa.schema([("n", pa.int64()), ("status", pa.string())])
DOUBLED = pa.field("doubled", pa.int64())


class Double(Stage):
    name = "double"
    reads = ("n",)
    adds = (DOUBLED,)

    def apply(self, row: dict[str, Any]) -> None:
        if row["n"] == 13:
            raise RowFailure("unlucky", "a\nnumber")
        row["doubled"] = 2 * row["n"]


class Small(Filter):
    name = "small"
    reads = ("n",)

    def reason(self, row: dict[str, Any]) -> str | None:
        return "too_big" if row["n"] > 100 else None


class Batched(PooledStage):
    """As Double, but it does the whole batch or nothing."""

    name = "batched"
    reads = ("n",)
    adds = (DOUBLED,)

    def setup(self) -> None:
        self.factor = 2

    def apply_batch(self, rows: list[dict[str, Any]]) -> None:
        if any(row["n"] == 13 for row in rows):
            raise RowFailure("unlucky")
        for row in rows:
            row["doubled"] = self.factor * row["n"]


def rows(*numbers: int) -> list[dict[str, Any]]:
    return [{"n": number, "status": "ok"} for number in numbers]


def test_rows_pass_through_stages_until_one_takes_them_out() -> None:
    made = rows(1, 200, 13)
    apply_stages([Small(), Double()], made)
    assert made[0] == {"n": 1, "status": "ok", "doubled": 2}
    assert made[1] == {"n": 200, "status": "filtered:too_big"}  # Double never saw it
    assert made[2]["status"] == "error:double:unlucky:a number"


def test_rows_that_are_not_ok_are_left_alone() -> None:
    row = {"n": 1, "status": "filtered:before"}
    apply_stages([Double()], [row])
    assert row == {"n": 1, "status": "filtered:before"}


def test_columns_are_checked_before_the_run() -> None:
    after = check_columns(SCHEMA, [Double()])
    assert after.names == ["n", "status", "doubled"]
    assert check_columns(after, [Double()]) == after
    with pytest.raises(ValueError, match=r"stage 'double' reads \['n'\], which nothing before it adds"):
        check_columns(pa.schema([("status", pa.string())]), [Double()])


def test_the_contract_is_one_line() -> None:
    assert Double().contract() == "double: reads n; adds doubled"
    assert Small().contract() == "small: reads n; adds -"


@settings(deadline=None)
@given(st.lists(st.integers(0, 20) | st.integers(90, 110)), st.integers(1, 5))
def test_a_task_keeps_every_row_and_does_not_see_batches(numbers: list[int], size: int) -> None:
    task = RowTask([Small(), Double()], check_columns(SCHEMA, [Small(), Double()]))
    whole = task(to_table(rows(*numbers), SCHEMA))
    parts = [task(to_table(rows(*numbers[at : at + size]), SCHEMA)) for at in range(0, len(numbers), size)]
    assert whole["n"].to_pylist() == numbers
    assert [row for part in parts for row in part.to_pylist()] == whole.to_pylist()


def test_a_poisoned_row_does_not_take_its_neighbours_with_it() -> None:
    actor = PooledActor(Batched(), check_columns(SCHEMA, [Batched()]))
    batch = [*rows(1, 13, 3), {"n": 4, "status": "filtered:before"}]
    out = actor(to_table(batch, SCHEMA)).to_pylist()
    assert [row["doubled"] for row in out] == [2, None, 6, None]
    assert [row["status"] for row in out] == [
        "ok",
        "error:batched:unlucky",
        "ok",
        "filtered:before",
    ]


def test_absent_columns_of_a_table_are_null() -> None:
    table = to_table([{"n": 1, "status": "ok", "unknown": 5}], check_columns(SCHEMA, [Double()]))
    assert table.to_pylist() == [{"n": 1, "status": "ok", "doubled": None}]


@pytest.mark.parametrize(
    ("value", "column", "kind"),
    [
        ("half \ud83d", "text", "UnicodeEncodeError"),
        (["half \ud83d"], "texts", "UnicodeEncodeError"),
        (2**40, "small", "ArrowInvalid"),
        (2**80, "n", "OverflowError"),
        ("one", "n", "ArrowInvalid"),
        ({"not": "a list"}, "texts", "ArrowTypeError"),
    ],
)
def test_a_value_that_cannot_be_stored_is_an_error_of_its_row(value: Any, column: str, kind: str) -> None:
    schema = pa.schema([*SCHEMA, ("text", pa.string()), ("texts", pa.list_(pa.string())), ("small", pa.int32())])
    made = [{"n": n, "status": "ok", "text": "x"} for n in range(64)]
    made[13][column] = value
    found = to_table(made, schema).to_pylist()
    assert found[13][column] is None
    assert found[13]["status"] == f"error:not_storable:{column}:{kind}"
    made.pop(13), found.pop(13)
    assert [(row["n"], row["text"], row["status"]) for row in found] == [(row["n"], "x", "ok") for row in made]


def test_a_table_that_has_no_place_for_a_reason_is_not_made_of_what_cannot_be_stored() -> None:
    with pytest.raises(UnicodeEncodeError):
        to_table([{"text": "\ud83d"}], pa.schema([("text", pa.string())]))


def test_an_exception_that_quotes_broken_text_can_be_stored() -> None:
    class Quotes(Double):
        def apply(self, row: dict[str, Any]) -> None:
            raise RowFailure("unreadable", f"\ud83d in row {row['n']}")

    (found,) = RowTask([Quotes()], SCHEMA)(to_table(rows(1), SCHEMA)).to_pylist()
    assert found["status"] == "error:double:unreadable:\\ud83d in row 1"


def test_what_is_no_row_s_fault_is_let_through_and_marks_no_row() -> None:
    class Broken(Double):
        def apply(self, row: dict[str, Any]) -> None:
            raise KeyError("a bug")

    made = rows(1, 2)
    with pytest.raises(KeyError, match="a bug"):
        apply_stages([Broken()], made)
    assert [row["status"] for row in made] == ["ok", "ok"]


def test_neighbouring_light_stages_run_in_one_task_and_pooled_ones_alone() -> None:
    small, double, batched, last = Small(), Double(), Batched(), Small()
    double.num_cpus = 0.5
    first, second, third = fuse([small, double, batched, last])
    assert list(first.parts()) == [small, double]
    assert (first.num_cpus, first.reads, first.adds) == (0.5, ("n",), (DOUBLED,))
    assert second is batched
    assert list(second.parts()) == [batched]
    assert list(third.parts()) == [last]


def test_fused_stages_read_nothing_that_one_of_them_adds() -> None:
    class Reader(Double):
        reads = ("n", "doubled", "other")
        adds = ()

    (fused,) = fuse([Double(), Reader()])
    assert fused.reads == ("n", "other")


class Upper(Stage):
    name = "upper"
    reads = ("text",)
    adds = (pa.field("loud", pa.string()),)

    def apply(self, row: Row) -> None:
        assert set(row) == {"text", "status", "row_id"}
        row["loud"] = row["text"].upper()


def test_a_stage_is_given_its_columns_and_the_others_stay_as_they_are() -> None:
    schema = pa.schema(
        [
            ("row_id", pa.string()),
            ("deep", pa.list_(pa.list_(pa.float64()))),
            ("text", pa.string()),
            ("status", pa.string()),
        ]
    )
    deep = [[[0.1, None], []], None, [[2.5]]]
    batch = pa.table({"row_id": ["a", "b", "c"], "deep": deep, "text": ["x", "y", "z"], "status": ["ok"] * 3}, schema)
    found = RowTask([Upper()], check_columns(schema, [Upper()]))(batch)
    assert found.schema.names == [*schema.names, "loud"]
    assert found["deep"].equals(batch["deep"])
    assert found["loud"].to_pylist() == ["X", "Y", "Z"]
    assert found["status"].to_pylist() == ["ok"] * 3
