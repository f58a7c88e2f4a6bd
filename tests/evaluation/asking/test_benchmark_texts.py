"""The benchmarks' texts, and the overlaps with training sets that are known from the real files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.evaluation.asking.benchmark_texts import texts_file, texts_of, write_texts
from pipelines.evaluation.benchmarks.registry import BENCHMARKS

HELDOUT = ["heldout_pairwise", "heldout_absolute", "heldout_classification"]
DATA_ROOT = os.environ.get("OPENSELENE_DATA_ROOT")


def test_the_texts_of_all_benchmarks_are_written_once_whatever_their_order(tmp_path: Path) -> None:
    run = Run(tmp_path / "out")
    file = write_texts(run, HELDOUT[:2])
    assert file == texts_file(run)
    benchmarks = pq.read_table(file)["benchmark"].to_pylist()
    assert set(benchmarks) == set(HELDOUT) and benchmarks == sorted(benchmarks)  # also the one not named
    before = file.stat().st_mtime_ns
    assert write_texts(run, HELDOUT[1::-1]) == write_texts(run, HELDOUT) == file
    assert file.stat().st_mtime_ns == before
    other = write_texts(Run(tmp_path / "other"), HELDOUT[::-1])
    assert other.read_bytes() == file.read_bytes()


def test_a_benchmark_whose_file_has_changed_is_noticed(tmp_path: Path, write_benchmark: Callable[..., str]) -> None:
    record = {"q": "Which?", "a": "x", "b": "y", "label": "A"}
    run, mine = Run(tmp_path / "out"), write_benchmark([record])
    texts = pq.read_table(write_texts(run, [mine]))
    assert "Which?" in texts["text"].to_pylist()
    write_benchmark([{**record, "q": "Whose?"}])  # as long as before
    seen: list[list[str]] = []

    def keep(answer: bool) -> Callable[[Path], bool]:
        return lambda added: seen.append(pq.read_table(added)["text"].to_pylist()) or answer

    kept = pq.read_table(write_texts(run, [mine], keep(True)))["text"].to_pylist()
    assert seen == [["Whose?"]]  # what the old file lacks
    assert "Which?" in kept and "Whose?" not in kept
    changed = pq.read_table(write_texts(run, [mine], keep(False)))["text"].to_pylist()
    assert "Whose?" in changed and "Which?" not in changed
    write_texts(run, [mine], keep(False))
    assert len(seen) == 2  # nothing has changed since


WITH_CONTEXT = {
    "instruction": "record.q",
    "context": "record.c",
    "responses": "[record.a, record.b]",
    "verdict": "record.label",
}
ANSWERS = {"a": "x", "b": "y", "label": "A"}


@pytest.mark.parametrize(("constant", "varied"), [("q", "c"), ("c", "q")])  # an instruction; a system's prompt
def test_the_wording_of_a_benchmarks_task_is_no_prompt(
    write_benchmark: Callable[..., str], constant: str, varied: str
) -> None:
    rows = [{constant: "Be helpful.", varied: f"text {n}", **ANSWERS} for n in range(11)]
    few = BENCHMARKS.load(write_benchmark(rows[:10], fields=WITH_CONTEXT))
    assert "Be helpful." in texts_of(few, None)
    many = BENCHMARKS.load(write_benchmark(rows, fields=WITH_CONTEXT))
    assert texts_of(many, None) == {f"text {n}" for n in range(11)}


def test_a_document_of_many_questions_is_a_text(write_benchmark: Callable[..., str]) -> None:
    rows = [{"q": f"Question {n}?", "c": "word " * 30, **ANSWERS} for n in range(20)]
    assert len(texts_of(BENCHMARKS.load(write_benchmark(rows, fields=WITH_CONTEXT)), None)) == 21


def test_what_a_file_of_the_users_does_not_hold_out_may_be_trained_on(write_benchmark: Callable[..., str]) -> None:
    rows = [{"q": f"Question {n}?", "c": f"text {n}", "part": n % 2, **ANSWERS} for n in range(4)]
    held = BENCHMARKS.load(write_benchmark(rows, fields=WITH_CONTEXT, where={"trained_on": "record.part == 0"}))
    assert texts_of(held, None) == {"Question 0?", "text 0", "Question 2?", "text 2"}
    ours = held.model_copy(update={"name": "financebench"})  # whose other rows are public
    assert len(texts_of(ours, None)) == 8


def test_a_named_benchmark_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        write_texts(Run(tmp_path / "out", data_root=tmp_path), ["hhh_alignment"])


@pytest.mark.skipif(DATA_ROOT is None, reason="OPENSELENE_DATA_ROOT is not set: no real data")
@pytest.mark.integration  # eleven seconds of reading
def test_known_overlaps_of_real_files_are_found(tmp_path: Path) -> None:
    """As measured on the same files by other means: 67 (at least, of shared text), 25 and 14 prompts."""
    from pipelines.curation.config import DecontaminateConfig
    from pipelines.curation.decontaminate import build_index
    from pipelines.curation.registry import SOURCES
    from pipelines.datasets.reading import ingest_rows

    table = pq.read_table(write_texts(Run(tmp_path, Path(DATA_ROOT or "")), HELDOUT))
    texts = zip(table["benchmark"].to_pylist(), table["text"].to_pylist(), strict=True)
    index = build_index(texts, DecontaminateConfig())
    found = {}
    for source, benchmark in (("auto_j_train", "auto_j"), ("tulu1_human_eval", "infobench"), ("pandalm", "infobench")):
        rows = ingest_rows(SOURCES.load(source), Path(DATA_ROOT or ""))
        prompts = {row["instruction"]: row["context"] or "" for row in rows if row["instruction"]}
        hits = [
            prompt
            for prompt, context in prompts.items()
            if any(one.benchmark == benchmark for text in (prompt, context) for one in index.overlaps(text))
        ]
        found[source] = len(hits)
    assert found["auto_j_train"] >= 67 and found["tulu1_human_eval"] == 25 and found["pandalm"] == 14
