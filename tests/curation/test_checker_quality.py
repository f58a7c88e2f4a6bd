"""The checker's error rates and the correction, on made rows whose truth is known."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.records import CHECKED
from pipelines.curation.checker_quality import checker_quality
from pipelines.judging.tasks import TASKS

SCHEMA = pa.schema([("source", pa.string()), *CHECKED])


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "0.parquet")
    return folder


def checks(n: int, source: str, truly_off: float, tpr: float, fpr: float, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as a checker with these error rates would leave them; a quarter of them test the checker."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        off = rng.random() < truly_off
        row: dict[str, Any] = {"source": source, "chosen_consistent": rng.random() >= (tpr if off else fpr)}
        row["rejected_consistent"] = True
        if i % 4 == 0:
            row |= {"probe_negative_flagged": rng.random() < tpr, "probe_positive_flagged": rng.random() < fpr}
        rows.append(row)
    return rows


def test_the_corrected_share_is_near_the_truth_and_its_interval_holds_it(tmp_path: Path) -> None:
    found = checker_quality(write(tmp_path, checks(8000, "s", 0.1, tpr=0.9, fpr=0.2)), seed=0)
    assert found["negatives"]["rate"] == pytest.approx(0.9, abs=0.03)
    assert found["positives"]["rate"] == pytest.approx(0.2, abs=0.03)
    chosen = found["sources"]["s"]["chosen"]
    assert chosen["rate"] == pytest.approx(0.1 * 0.9 + 0.9 * 0.2, abs=0.02)  # what the checker says, far off
    assert chosen["corrected"] == pytest.approx(0.1, abs=0.04)
    low, high = chosen["corrected_interval"]
    assert low < 0.1 < high and high - low < 0.15


def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    held = 0
    for seed in range(40):
        rows = checks(600, "s", 0.3, tpr=0.8, fpr=0.1, seed=seed)
        low, high = checker_quality(write(tmp_path, rows), seed)["sources"]["s"]["chosen"]["corrected_interval"]
        held += low <= 0.3 <= high
    assert held >= 34  # of 40 at 95%; fewer than 34 has a chance of about 1 in 400


def test_a_checker_that_says_no_to_everything_corrects_nothing(tmp_path: Path) -> None:
    found = checker_quality(write(tmp_path, checks(400, "s", 0.1, tpr=0.9, fpr=0.9)), seed=0)
    chosen = found["sources"]["s"]["chosen"]
    assert found["tells_apart"] is False
    assert chosen["corrected"] is None and chosen["corrected_interval"] is None and chosen["rate"] > 0.8


def test_without_probes_there_is_the_rate_alone(tmp_path: Path) -> None:
    found = checker_quality(write(tmp_path, [{"source": "s", "chosen_consistent": False}]), seed=0)
    assert found["negatives"]["rate"] is None and not found["tells_apart"]
    assert found["sources"]["s"]["chosen"]["rate"] == 1.0
    assert found["sources"]["s"]["rejected"] == {
        "n": 0,
        "flagged": 0,
        "rate": None,
        "interval": None,
        "corrected": None,
        "corrected_interval": None,
    }


def test_the_same_seed_gives_the_same_intervals(tmp_path: Path) -> None:
    rows = write(tmp_path, checks(200, "s", 0.2, 0.9, 0.1))
    assert checker_quality(rows, 3) == checker_quality(rows, 3) != checker_quality(rows, 4)


@pytest.mark.parametrize(
    ("task", "verdict"), [("pairwise", "A"), ("pairwise", "Tie"), ("absolute", "4"), ("classification", "No")]
)
def test_a_statement_names_its_verdict_or_says_tie(task: str, verdict: str) -> None:
    text = TASKS[task].statement(verdict)
    assert verdict in text or "equally good" in text
