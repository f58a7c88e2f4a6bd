"""Rows that do not fit a judge: filtered before the engine, told per benchmark, and scored as unread."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.engines import tokenizer_facts
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.fits import FitsJudge
from pipelines.evaluation.asking.judgments import JUDGMENT, read_judgments, write_judgments
from pipelines.evaluation.asking.room import too_long
from pipelines.evaluation.scoring.results import summarise
from tests.evaluation.conftest import judge_all


class Words:
    """Counts words; a chat template of two tokens."""

    facts = SimpleNamespace(around=2)

    def texts(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def prompts(self, texts: list[str]) -> list[int]:
        return [2 + count for count in self.texts(texts)]


@pytest.fixture
def asked(make_run: Callable, write_benchmark: Callable, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(tokenizer_facts, "shared_counter", lambda model: Words())
    records = [
        {"q": "word " * (900 if number < 3 else 1), "a": "x", "b": str(number), "label": "A"} for number in range(8)
    ]
    return make_run({}, [write_benchmark(records, template="pairwise_compact")])


def stage(room: int, **changes: Any) -> FitsJudge:
    engine = EngineConfig(model="embedded", max_model_len=room)
    return FitsJudge(engine, **{"max_tokens": 64, "format": "cot"} | changes)


def rows_of(asked: Any) -> list[dict[str, Any]]:
    return [row for path in sorted(asked.examples.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_row_that_does_not_fit_is_filtered_and_its_neighbours_go_on(asked: Any) -> None:
    rows = rows_of(asked)
    stage(512).apply_batch(rows)
    assert sorted({row["status"] for row in rows}) == ["filtered:too_long", "ok"]
    assert sum(row["status"] == "filtered:too_long" for row in rows) == 6  # three pairs in both orders


def test_a_row_that_fits_exactly_is_asked(asked: Any) -> None:
    rows = rows_of(asked)
    longest = max(stage(512).needed(rows))
    for space, kept in ((longest, 16), (longest - 1, 10)):
        judged = rows_of(asked)
        stage(space).apply_batch(judged)
        assert sum(row["status"] == "ok" for row in judged) == kept
    assert max(stage(512, max_tokens=65).needed(rows)) == longest + 1


def test_what_does_not_fit_is_said_per_benchmark_with_the_length_that_would(asked: Any) -> None:
    (line,) = too_long(stage(512), asked.examples, "trained")
    longest = max(stage(512).needed(rows_of(asked)))
    assert line == (
        "mine: 6 of 16 prompts do not fit trained in max_model_len 512; they count as unread "
        f"(evaluation.engine.max_model_len={longest} would fit them all)"
    )
    assert too_long(stage(longest), asked.examples, "trained") == []


def test_rows_that_do_not_fit_are_unread_counted_apart_and_the_others_are_scored(asked: Any) -> None:
    judged = judge_all(asked.examples, lambda row: f"Result: {row['gold']}", asked.out / "judged" / "base")
    for path in sorted(judged.glob("*.parquet")):
        rows = pq.read_table(path).to_pylist()
        stage(512).apply_batch(rows)
        for row in rows:
            if row["status"] != "ok":
                row |= {"raw": None, "predicted": None, "parse_status": None, "verdict_probs": None}
        pq.write_table(pa.Table.from_pylist(rows, JUDGMENT), path)
    place = write_judgments(judged, asked.examples, asked.out / "base.parquet")
    assert sorted(read_judgments(place)["outcome"].unique()) == ["ok", "too_long"]
    (entry,) = summarise({"base": place}, None, asked.config, 0).models["base"].values()
    assert (entry.n, entry.judgments, entry.too_long, entry.failed) == (8, 16, 6, 0)
    assert (entry.value, entry.parse_rate) == (0.625, 0.625)
