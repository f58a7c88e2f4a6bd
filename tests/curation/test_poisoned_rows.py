"""No row that a source can hold stops the job: it is kept, filtered or an error, and its neighbours do not notice."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.core.records import EXAMPLE, PAIR, Row, kind
from pipelines.core.stage import RowTask, Stage, check_columns, to_table
from pipelines.curation.cap import SourceCap
from pipelines.curation.clean import cleaning_stages
from pipelines.curation.config import CleanConfig, DecontaminateConfig, Quantile
from pipelines.curation.contrast import Contrast
from pipelines.curation.decontaminate import Decontaminate
from pipelines.curation.duplicates import MarkDuplicates
from pipelines.curation.near_duplicates import NotNearDuplicate, bands, label, similarity
from pipelines.curation.threshold import RewardThreshold
from tests.curation.test_mix import pair_stage

# What the text and list columns of an ingested row may hold: anything that Arrow stores.
ODD = st.none() | st.sampled_from(["", " ", "\u00b2", "-1", "4.5", "nan", "\x00", "a\u0660", "5"])
TEXT = st.sampled_from(["A", "B", "Tie", "1", "No", "a fine text"]) | ODD
LIST = st.sampled_from([["A", "B"], ["1", "3", "5"], ["Yes", "No"]]) | st.none() | st.lists(TEXT, max_size=3)
RESPONSES = {"pairwise": 2, "absolute": 1, "classification": 1}  # ingest makes an error of any other number


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that stages look rows up in."""
    folder = tmp_path_factory.mktemp("lists")
    pq.write_table(pa.table({"raw_id": ["s:9"], "rank": pa.array([1], pa.int32())}), folder / "duplicates.parquet")
    pq.write_table(pa.table({"raw_id": ["s:8"]}), folder / "near.parquet")
    pq.write_table(pa.table({"benchmark": ["b"], "text": ["a b c"]}), folder / "texts.parquet")
    return folder


def prepare(lists: Path) -> list[Stage]:
    """The stages between ingest and the reward model."""
    return [
        MarkDuplicates(lists / "duplicates.parquet"),
        NotNearDuplicate(lists / "near.parquet"),
        *cleaning_stages(CleanConfig()),
        Decontaminate(lists / "texts.parquet", DecontaminateConfig()),
        Contrast(3),
    ]


@st.composite
def ingested(draw: st.DrawFn) -> Row:
    task = draw(st.sampled_from(sorted(RESPONSES)))
    row: dict[str, Any] = {name: draw(TEXT) for name in ("instruction", "context", "reference", "rubric", "verdict")}
    row |= {"task": task, "allowed": draw(LIST), "split": draw(TEXT), "status": "ok", "source": "s"}
    row["responses"] = draw(st.lists(TEXT, min_size=RESPONSES[task], max_size=RESPONSES[task]) | st.none())
    row["published"] = draw(st.sampled_from([2024, 2024, 2024, -1, None]))
    return row


GOOD: Row = {
    **dict.fromkeys(EXAMPLE.names),
    "raw_id": "s:0",
    "row_id": "good",
    "source": "s",
    "task": "pairwise",
    "instruction": "Say hello.",
    "status": "ok",
    "responses": ["Hello.", "Bye."],
    "allowed": ["A", "B"],
    "verdict": "A",
    "published": 2024,
}


def through(stages: list[Stage], rows: list[Row], schema: pa.Schema) -> list[Row]:
    """The rows after the stages, as a Ray task runs them."""
    batch = to_table(copy.deepcopy(rows), schema)
    found: list[Row] = RowTask(stages, check_columns(schema, stages))(batch).to_pylist()
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ingested(), min_size=1, max_size=6))
def test_whatever_a_source_holds_leaves_cleaning_with_a_status(lists: Path, drawn: list[Row]) -> None:
    rows = [row | {"raw_id": f"s:{n}", "row_id": str(n)} for n, row in enumerate(drawn, start=1)]
    found = through(prepare(lists), [GOOD, *rows], EXAMPLE)
    assert found[0] == through(prepare(lists), [GOOD], EXAMPLE)[0] and found[0]["status"] == "ok"
    assert all(row["status"] == "ok" or kind(row["status"]) in ("filtered", "error") for row in found)
    for row in (row for row in found if row["status"] == "ok"):
        # What comes after may rely on this much.
        assert row["instruction"].strip() and all(text.strip() for text in row["responses"])
        assert row["verdict"] in row["allowed"] and row["rejected_verdict"] in row["allowed"]


@settings(max_examples=100, deadline=None)
@given(ingested())
def test_every_ingested_row_can_be_signed(row: Row) -> None:
    assert isinstance(label(row), str) and similarity(row, row, 5) == 1.0 and bands([row], 5).shape[0] == 1


REWARDS: st.SearchStrategy[Any] = (
    st.none() | st.just([]) | st.lists(st.sampled_from([0.5, -1.0, math.inf, math.nan]), min_size=2, max_size=2)
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ingested(), REWARDS), min_size=1, max_size=6))
def test_whatever_leaves_cleaning_passes_the_filters_by_score_and_becomes_a_pair(
    lists: Path, tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[Row, Any]]
) -> None:
    rows = [row | {"raw_id": f"s:{n}", "row_id": str(n)} for n, (row, _) in enumerate(drawn, start=1)]
    rows = [
        row | {"rewards": found[1]} for row, found in zip(through(prepare(lists), rows, EXAMPLE), drawn, strict=True)
    ]
    folder = tmp_path_factory.mktemp("scored")
    pq.write_table(to_table(rows, PAIR), folder / "0.parquet")
    threshold = RewardThreshold({"s": Quantile(quantile=0.5)})
    stages: list[Stage] = [threshold, SourceCap({"s": 3}, 1)]
    for stage in stages:
        stage.open(folder)
    critiques = {"chosen_critique": "Good.", "rejected_critique": "Bad."}
    found = through([*stages, pair_stage()], [row | critiques for row in rows], PAIR)
    assert all(row["status"] == "ok" or kind(row["status"]) in ("filtered", "error") for row in found)
    assert sum(row["status"] == "ok" for row in found) <= 3


def test_a_mistake_in_a_template_is_the_users_and_no_rows(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("{name: own, task: pairwise, origin: here, text: '{{ no_such_value }}'}")
    rows = [GOOD | {"rejected_verdict": "B", "chosen_critique": "x", "rejected_critique": "y"}]
    with pytest.raises(UserError, match="unknown value"):
        through([pair_stage(templates={"pairwise": str(own)})], rows, PAIR)
