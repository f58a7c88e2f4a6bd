"""Decontamination: whole prompts, runs of words, boilerplate, and what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.core.records import EXAMPLE, OVERLAPS
from pipelines.core.stage import apply_stages, to_table
from pipelines.curation.config import DecontaminateConfig
from pipelines.curation.decontaminate import BOILERPLATE, Decontaminate, build_index, overlap_table
from pipelines.curation.registry import load_source
from pipelines.datasets.reading import ingest_rows
from pipelines.evaluation.asking.benchmark_texts import texts_of
from pipelines.evaluation.benchmarks.registry import BENCHMARKS

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def check(folder: Path, prompts: list[tuple[str, str]], *instructions: str, **more: Any) -> list[tuple[str, list[str]]]:
    path = folder / "prompts.parquet"
    pq.write_table(pa.table({"benchmark": [b for b, _ in prompts], "text": [t for _, t in prompts]}), path)
    rows = [{"instruction": text, "context": None, "status": "ok", **more} for text in instructions]
    apply_stages([Decontaminate(path, DecontaminateConfig(ngram=13))], rows)
    return [(row["status"], row["overlaps"]) for row in rows]


def words(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def found(mine: str, theirs: str, **config: Any) -> list[str]:
    """What a text is said to share with the one text of a benchmark."""
    index = build_index([("b", theirs)], DecontaminateConfig(**{"ngram": 8, **config}))
    return [one.run for one in index.overlaps(mine)]


def test_an_equal_prompt_leaves_whatever_its_case_and_punctuation(tmp_path: Path) -> None:
    found = check(tmp_path, [("mt_bench", "Who wrote Hamlet?")], "who wrote hamlet", "who wrote Macbeth?")
    assert found == [("filtered:contaminated:mt_bench:who wrote hamlet", ["mt_bench"]), ("ok", [])]


def test_a_shared_run_of_words_leaves_and_a_shorter_one_stays(tmp_path: Path) -> None:
    words = LONG.split()
    found = check(
        tmp_path,
        [("lfqa", f"Before it: {LONG} and after")],
        "Other words, then " + " ".join(words[1:14]),
        "Other words, then " + " ".join(words[1:13]),
    )
    shared = " ".join(words[1:14])
    assert [status for status, _ in found] == [f"filtered:contaminated:lfqa:{shared}", "ok"]


def test_the_context_counts_as_well(tmp_path: Path) -> None:
    found = check(tmp_path, [("aggrefact", LONG)], "Is it so?", context=f"{LONG}.")
    assert found == [(f"filtered:contaminated:aggrefact:{LONG}", ["aggrefact"])]


def test_every_benchmark_is_named_and_the_first_is_the_reason(tmp_path: Path) -> None:
    found = check(tmp_path, [("b", "same prompt"), ("a", "same prompt")], "Same prompt!")
    assert found == [("filtered:contaminated:a:same prompt", ["a", "b"])]


def test_a_phrase_in_a_long_text_is_no_overlap() -> None:
    greeting = ["I", "hope", "this", "email", "finds", "you", "well.", "My", "name", "is"]
    mail, theirs = [*greeting, *words("mine", 60)], [*words("theirs", 40), *greeting]
    assert found(" ".join(mail), " ".join(theirs)) == []
    assert found(" ".join(mail), " ".join(theirs), coverage=0) == ["i hope this email finds you well my name is"]


@pytest.mark.parametrize(
    ("shared", "others", "overlaps"), [(10, 10, True), (9, 10, False), (19, 80, False), (20, 80, True)]
)
def test_half_of_the_shorter_text_or_a_long_run_is_an_overlap(shared: int, others: int, overlaps: bool) -> None:
    same = words("same", shared)
    short, long = " ".join([*same, *words("x", others)]), " ".join([*words("y", 200), *same, *words("z", 200)])
    assert bool(found(short, long)) is bool(found(long, short)) is overlaps


def test_two_runs_around_a_changed_word_count_together_and_the_longer_is_named() -> None:
    theirs = words("w", 19)
    mine = [*theirs[:8], "other", *theirs[9:]]
    assert found(" ".join(mine), " ".join(theirs)) == [" ".join(theirs[9:])]


def test_a_run_that_is_repeated_counts_once_of_the_text_that_has_it_once() -> None:
    run = words("w", 8)
    mine = " ".join([*run, *words("a", 9), *run, *words("b", 9), *run, *words("c", 90)])
    assert found(mine, " ".join([*run, *words("z", 12)])) == []
    assert found(mine, " ".join([*run, *words("z", 8)])) == [" ".join(run)]


def test_texts_of_one_word_ten_thousand_times_are_compared_quickly() -> None:
    assert found("no " * 10_000, "no " * 9_000)


@settings(deadline=None)
@given(st.lists(st.sampled_from("ab"), max_size=40), st.lists(st.sampled_from("abc"), min_size=1, max_size=40))
def test_the_index_finds_what_comparing_word_by_word_finds(mine: list[str], theirs: list[str]) -> None:
    n = 3

    def runs(text: list[str]) -> list[tuple[str, ...]]:
        return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]

    def covered(text: list[str], other: list[str]) -> list[bool]:
        places = [i for i, run in enumerate(runs(text)) if run in runs(other)]
        return [any(i <= at < i + n for i in places) for at in range(len(text))]

    shorter, longer = (mine, theirs) if len(mine) <= len(theirs) else (theirs, mine)
    chain = longest = 0
    for run in runs(mine):
        chain = chain + 1 if run in runs(theirs) else 0
        longest = max(longest, chain)
    expected = longest and (longest + n - 1 >= 6 or 2 * sum(covered(shorter, longer)) >= len(shorter))
    assert bool(found(" ".join(mine), " ".join(theirs), ngram=n, long_run=6)) == bool(expected or mine == theirs)


def test_what_many_prompts_of_a_benchmark_share_is_boilerplate() -> None:
    config = DecontaminateConfig(ngram=13)
    run = " ".join(LONG.split()[:13])
    prompts = [("a", f"{run} {i}") for i in range(BOILERPLATE + 1)]
    assert not list(build_index(prompts, config).overlaps(f"{run} other"))
    assert list(build_index(prompts[1:], config).overlaps(f"{run} other"))
    assert list(build_index(prompts, config).overlaps(f"{run} 3"))  # the whole prompt is still found
    twice = [("a", f"{run} x {run}"), *prompts[2:]]  # ten texts, eleven times
    assert list(build_index(twice, config).overlaps(f"{run} other"))


def test_a_long_run_is_cut_in_the_status(tmp_path: Path) -> None:
    ((status, _),) = check(tmp_path, [("a", "word " * 100)], "word " * 100)
    assert status.endswith("word ...") and len(status.split()) == 31


# Source -> rows that overlap with the local benchmarks, of which runs of eight words alone dropped
# 522, 210, 190, 26, 84, 133, 36 and 164: of the first four, nearly all for a phrase.
REAL = {
    "summedits": (0, 0),
    "finegrained_rlhf": (0, 20),
    "mr_ben": (0, 0),
    "halueval_qa": (0, 5),
    "pandalm": (84, 84),
    "tulu1_human_eval": (129, 133),
    "vicuna_eval": (32, 36),
    "auto_j_train": (150, 164),
}


@pytest.mark.integration  # whole public sets: several seconds
def test_leaks_of_the_real_sources_are_found_and_phrases_are_not(data_root: Path) -> None:
    texts: list[tuple[str, str]] = []
    for name in BENCHMARKS.names():
        try:
            texts += [(name, text) for text in texts_of(BENCHMARKS.load(name), data_root)]
        except UserError:
            continue  # its files are not there
    index = build_index(texts, DecontaminateConfig())
    for source, (least, most) in REAL.items():
        rows = [row for row in ingest_rows(load_source(source), data_root) if row["status"] == "ok"]
        hits = sum(any(any(index.overlaps(row[name] or "")) for name in ("instruction", "context")) for row in rows)
        assert least <= hits <= most, (source, hits)


def test_a_text_without_words_overlaps_with_nothing(tmp_path: Path) -> None:
    assert check(tmp_path, [("a", "?!")], "?!", "") == [("ok", []), ("ok", [])]


def test_the_report_counts_rows_and_instructions(tmp_path: Path) -> None:
    rows = [
        {"source": "s", "instruction": "p", "overlaps": ["a", "b"]},
        {"source": "s", "instruction": "p", "overlaps": ["a"]},
        {"source": "t", "instruction": "q", "overlaps": []},
        {"source": "t", "instruction": "q", "overlaps": None},
    ]
    pq.write_table(to_table(rows, pa.schema([*EXAMPLE, *OVERLAPS])), tmp_path / "0.parquet")
    assert overlap_table(tmp_path) == {"s": {"a": {"rows": 2, "instructions": 1}, "b": {"rows": 1, "instructions": 1}}}
