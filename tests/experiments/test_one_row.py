"""One row's life: chosen by hash, the same whatever the order of the files, and no more than the run has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.core import storage
from pipelines.core.determinism import unit
from pipelines.core.run import Run
from pipelines.experiments.one_row import one_row


def pair(row_id: str, form: str = "cot") -> dict[str, Any]:
    return {
        "row_id": row_id,
        "source": "mine",
        "task": "pairwise",
        "instruction": f"Question {row_id}?",
        "responses": ["Yes.", "No."],
        "verdict": "A",
        "rejected_verdict": "B",
        "chosen_critique": "The first is right.",
        "rejected_critique": "The second is right.",
        "prompt": "word " * 400 + "the end",
        "chosen": "Result: A",
        "rejected": "Result: B",
        "format": form,
    }


def judgment(key: str, task: str = "pairwise") -> dict[str, Any]:
    return {
        "judgment_id": key,
        "task": task,
        "instruction": f"Held out {key}",
        "responses": ["One.", "Two."],
        "gold": "B",
        "raw": "no idea",
        "predicted": None,
        "parse_status": "no_verdict",
    }


def test_the_pair_is_the_one_of_smallest_hash_and_long_texts_are_cut_in_the_middle(tmp_path: Path) -> None:
    run = Run(tmp_path)
    ids = [f"row{n}" for n in range(9)]
    first = min(ids, key=lambda key: unit(0, "one_row", key))
    for name, some in (("a", ids[5:]), ("b", ids[:5])):
        storage.write_table(run.pairs / f"{name}.parquet", pa.Table.from_pylist([pair(key) for key in some]))
    text = one_row(run)
    assert f"Question {first}?" in text
    assert "argues for A: The first is right." in text and "argues for B: The second is right." in text
    assert " … " in text and "the end" in text
    assert "held out" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_pair_without_a_critique_is_never_shown(tmp_path: Path) -> None:
    run = Run(tmp_path)
    storage.write_table(run.pairs / "a.parquet", pa.Table.from_pylist([pair("x", "judgment_only")]))
    assert one_row(run) == ""
    assert one_row(Run(tmp_path / "none")) == ""


def test_the_trained_judge_s_judgment_is_of_the_same_task_and_an_unparsed_one_says_so(tmp_path: Path) -> None:
    run = Run(tmp_path)
    storage.write_table(run.pairs / "a.parquet", pa.Table.from_pylist([pair("x")]))
    base = pa.Table.from_pylist([judgment("of base")])
    judged = pa.Table.from_pylist([judgment("other", "absolute"), judgment("mine")], schema=base.schema)
    storage.write_table(run.judgments / "base.parquet", base)
    storage.write_table(run.judgments / "trained.parquet", judged)
    text = one_row(run)
    assert "Held out mine" in text
    assert "verdict: none (no_verdict)" in text and "gold: B" in text
