"""What a judge is asked: both orders, stable samples, unique ids, and no row lost."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.step import DONE
from pipelines.evaluation.asking.benchmark_rows import BENCHMARK_ROW, benchmark_examples, write_benchmark_rows
from pipelines.evaluation.config import EvaluationConfig
from pipelines.judging import templates
from pipelines.judging.tasks import PAIRWISE

GOOD = {"q": "Which?", "a": "first", "b": "second", "label": "A"}


def test_a_pair_appears_in_both_orders_side_by_side() -> None:
    rows = benchmark_examples(["heldout_pairwise"], None).to_pylist()
    assert len(rows) == 120
    for given, swapped in zip(rows[::2], rows[1::2], strict=True):
        assert (given["order"], swapped["order"]) == ("given", "swapped")
        assert given["row_id"] == swapped["row_id"]
        assert given["responses"] == swapped["responses"][::-1]
        assert given["gold"] == given["verdict"] == PAIRWISE.opposite(swapped["gold"])
        assert swapped["verdict"] == swapped["gold"]
        assert given["responses"]["AB".index(given["gold"])] == swapped["responses"]["AB".index(swapped["gold"])]


def test_other_tasks_appear_once() -> None:
    rows = benchmark_examples(["heldout_absolute", "heldout_classification"], None).to_pylist()
    assert Counter(row["order"] for row in rows) == {"given": 120}
    assert [row["benchmark"] for row in rows] == ["heldout_absolute"] * 60 + ["heldout_classification"] * 60


def test_the_table_has_the_columns_of_an_example_and_its_own() -> None:
    table = benchmark_examples(["heldout_absolute"], None)
    assert table.schema == BENCHMARK_ROW
    assert set(table["template"].to_pylist()) == {"absolute_compact"}
    assert set(table["found"].to_pylist()) == {60}
    assert set(table["split"].to_pylist()) == {"test"}


def test_a_tie_stays_a_tie(write_benchmark: Callable[..., str]) -> None:
    path = write_benchmark([{**GOOD, "label": "Tie"}], allowed=["A", "B", "Tie"])
    assert benchmark_examples([path], None)["gold"].to_pylist() == ["Tie", "Tie"]


def test_one_order_on_request(write_benchmark: Callable[..., str]) -> None:
    path = write_benchmark([GOOD], orders="given")
    assert benchmark_examples([path], None)["order"].to_pylist() == ["given"]


def test_duplicates_are_kept_under_ids_of_their_own(write_benchmark: Callable[..., str]) -> None:
    rows = benchmark_examples([write_benchmark([GOOD, GOOD, GOOD])], None).to_pylist()
    first = rows[0]["row_id"]
    assert [row["row_id"] for row in rows[::2]] == [first, f"{first}-2", f"{first}-3"]
    assert len({row["judgment_id"] for row in rows}) == 6
    assert len({row["group_id"] for row in rows}) == 1


def test_rows_that_share_an_instruction_but_not_a_context_are_different_groups(
    write_benchmark: Callable[..., str],
) -> None:
    path = write_benchmark(
        [{**GOOD, "c": "one"}, {**GOOD, "c": "two"}, {**GOOD, "c": "two", "a": "third"}],
        fields={
            "instruction": "record.q",
            "context": "record.c",
            "responses": "[record.a, record.b]",
            "verdict": "record.label",
        },
    )
    groups = benchmark_examples([path], None)["group_id"].to_pylist()
    assert len(set(groups)) == 2


def test_a_sample_is_the_rows_of_smallest_hash_whatever_other_benchmarks_there_are() -> None:
    whole = benchmark_examples(["heldout_pairwise"], None)["judgment_id"].to_pylist()
    ten = benchmark_examples(["heldout_pairwise"], None, sample=10, seed=3)
    twenty = benchmark_examples(["heldout_absolute", "heldout_pairwise"], None, sample=20, seed=3)
    drawn = ten["judgment_id"].to_pylist()
    assert len(drawn) == 20
    assert drawn == [key for key in whole if key in set(drawn)]  # the old order
    assert set(drawn) < set(twenty["judgment_id"].to_pylist())
    assert set(ten["found"].to_pylist()) == {60}
    other = benchmark_examples(["heldout_pairwise"], None, sample=10, seed=4)["judgment_id"].to_pylist()
    assert other != drawn


def test_a_sample_larger_than_the_benchmark_is_the_benchmark() -> None:
    assert benchmark_examples(["heldout_absolute"], None, sample=61).num_rows == 60


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ("{not json", "error:invalid_json"),
        ({"q": "Which?", "a": "x", "b": "y"}, "error:missing_field:label"),
        ({**GOOD, "q": None}, "error:null_instruction"),
        ({**GOOD, "q": ""}, "error:null_instruction"),
        ({**GOOD, "b": None}, "error:null_response"),
        ({**GOOD, "label": "C"}, "error:gold_not_allowed"),
        ({**GOOD, "label": None}, "filtered:null_verdict"),
        ({**GOOD, "a": "\ud800"}, "filtered:invalid_unicode"),
        ({**GOOD, "part": "\ud800"}, "filtered:invalid_unicode"),
        ({**GOOD, "by": ["x", "\ud800"]}, "filtered:invalid_unicode"),
        ({**GOOD, "allowed": ["A", None]}, "error:unusable_verdicts"),
        ({**GOOD, "allowed": []}, "error:unusable_verdicts"),
        ({**GOOD, "year": 2**40}, "error:mapping:published:ValueError"),
    ],
)
def test_a_row_that_cannot_be_judged_is_kept_once_with_its_reason(
    write_benchmark: Callable[..., str], record: object, status: str
) -> None:
    further = {
        "allowed": "record.allowed | default(['A', 'B'])",
        "published": "record.year | default(2024)",
    }
    fields = {"instruction": "record.q", "responses": "[record.a, record.b]", "verdict": "record.label", **further}
    extra = {"subset": "record.part | default(none)", "generators": "record.by | default(none)"}
    path = write_benchmark([GOOD, record], fields=fields, extra=extra)
    rows = benchmark_examples([path], None).to_pylist()
    assert [":".join(row["status"].split(":")[: status.count(":") + 1]) for row in rows] == ["ok", "ok", status]
    assert len({row["judgment_id"] for row in rows}) == 3


def test_an_empty_response_is_judged(write_benchmark: Callable[..., str]) -> None:
    rows = benchmark_examples([write_benchmark([{**GOOD, "a": ""}])], None).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("label", "gold", "status"),
    [
        (4, "4", "ok"),
        (3.5, "3.5", "ok"),
        ([3, 4, 4], "3.6666666666666665", "ok"),
        (-1, "-1", "error:gold_not_on_the_scale"),
        (5.5, "5.5", "error:gold_not_on_the_scale"),
        ("good", "good", "error:gold_not_a_number"),
    ],
)
def test_a_gold_score_may_lie_between_two_verdicts_but_not_off_the_scale(
    write_benchmark: Callable[..., str], label: object, gold: str, status: str
) -> None:
    path = write_benchmark(
        [{"q": "x", "a": "y", "votes" if isinstance(label, list) else "label": label}],
        task="absolute",
        metric="pearson",
        allowed=["1", "2", "3", "4", "5"],
        fields={
            "instruction": "record.q",
            "responses": "[record.a]",
            "verdict": "record.votes | mean if record.votes is defined else record.label",
        },
    )
    (row,) = benchmark_examples([path], None).to_pylist()
    assert (row["gold"], row["status"]) == (gold, status)


@pytest.mark.parametrize("allowed", [["1", None], ["low", "high"], []])
def test_a_scale_of_a_row_s_own_must_be_one(write_benchmark: Callable[..., str], allowed: list[str | None]) -> None:
    fields = {"instruction": "record.q", "responses": "[record.a]", "verdict": "'2'", "allowed": "record.scale"}
    records = [{"q": "x", "a": "y", "scale": scale} for scale in (["1", "2", "3"], allowed)]
    path = write_benchmark(records, task="absolute", metric="pearson", allowed=["1", "2", "3"], fields=fields)
    statuses = benchmark_examples([path], None)["status"].to_pylist()
    assert statuses[0] == "ok" and statuses[1].startswith("error:unusable_verdicts:")


def test_the_run_s_templates_replace_the_benchmark_s_own() -> None:
    chosen = {"absolute": "absolute_original"}
    names = ["heldout_absolute", "heldout_classification"]
    table = benchmark_examples(names, None, templates=chosen)
    assert set(table["template"].to_pylist()) == {"absolute_original", "classification_compact"}


def test_a_template_of_another_task_is_refused() -> None:
    with pytest.raises(UserError, match="is for the task pairwise"):
        benchmark_examples(["heldout_absolute"], None, templates={"absolute": "pairwise_compact"})


def test_a_missing_file_and_an_empty_one_are_clear_errors(write_benchmark: Callable[..., str]) -> None:
    with pytest.raises(UserError, match="no such file"):
        benchmark_examples([write_benchmark([GOOD], files=["/nowhere/x.jsonl"])], None)
    with pytest.raises(UserError, match="hold no rows"):
        benchmark_examples([write_benchmark([], name="empty", expected_n=1)], None)


def rows_in(folder: Path) -> dict[str, int]:
    return {path.stem: pq.read_table(path).num_rows for path in sorted(folder.iterdir())}


def test_a_benchmark_may_be_judged_in_full_next_to_samples(tmp_path: Path) -> None:
    names = ["heldout_absolute", "heldout_classification"]
    config = EvaluationConfig(benchmarks=names, sample=5, whole=["heldout_absolute"])
    rows = write_benchmark_rows(Run(tmp_path / "one", seed=1), config)
    assert rows_in(rows.folder) == {"heldout_absolute": 60, "heldout_classification": 5}
    mistaken = config.model_copy(update={"whole": ["heldout_pairwise"]})
    with pytest.raises(UserError, match=r"evaluation\.whole: no benchmark 'heldout_pairwise'"):
        write_benchmark_rows(Run(tmp_path / "two", seed=1), mistaken)


def test_the_rows_are_written_once_and_a_killed_attempt_leaves_nothing_behind(
    tmp_path: Path, write_benchmark: Callable[..., str]
) -> None:
    run, mine = Run(tmp_path / "out", seed=1), write_benchmark([GOOD])
    config = EvaluationConfig(benchmarks=["heldout_pairwise", "heldout_absolute", mine], sample=5)
    rows = write_benchmark_rows(run, config)
    assert rows_in(rows.folder) == {"heldout_absolute": 5, "heldout_pairwise": 10, "mine": 2}
    assert pq.read_table(rows.folder / "mine.parquet").schema == BENCHMARK_ROW
    (run.work / "examples" / DONE).unlink()  # as if killed before the end
    (rows.folder / "mine.parquet").rename(rows.folder / "left.parquet")
    assert write_benchmark_rows(run, config) == rows
    assert list(rows_in(rows.folder)) == ["heldout_absolute", "heldout_pairwise", "mine"]
    (rows.folder / "mine.parquet").unlink()
    assert write_benchmark_rows(run, config) == rows
    assert list(rows_in(rows.folder)) == ["heldout_absolute", "heldout_pairwise"]  # nothing is written again


def test_a_missing_file_is_found_before_any_row_is_written(tmp_path: Path, write_benchmark: Callable[..., str]) -> None:
    broken = write_benchmark([GOOD], files=["/nowhere/x.jsonl"])
    run = Run(tmp_path / "out")
    with pytest.raises(UserError, match="no such file"):
        write_benchmark_rows(run, EvaluationConfig(benchmarks=["heldout_absolute", broken]))
    assert not run.out.exists()


def test_the_rows_depend_on_the_definitions_the_files_and_the_wording(
    tmp_path: Path, write_benchmark: Callable[..., str]
) -> None:
    mine = write_benchmark([GOOD])
    config = EvaluationConfig(benchmarks=[mine, "heldout_absolute"])
    template = tmp_path / "own.yaml"
    template.write_text("name: own\ntask: pairwise\norigin: here\ntext: '{{ instruction }}'\n")

    numbers = itertools.count()

    def fingerprint(config: EvaluationConfig = config, seed: int = 0) -> str:
        templates.load.cache_clear()
        return write_benchmark_rows(Run(tmp_path / "out" / str(next(numbers)), seed=seed), config).fingerprint

    first, own = fingerprint(), config.model_copy(update={"templates": {"pairwise": str(template)}})
    assert fingerprint(config.model_copy(update={"benchmarks": ["heldout_absolute", mine]})) == first
    seen = {first, fingerprint(own), fingerprint(seed=1), fingerprint(config.model_copy(update={"sample": 3}))}
    template.write_text(template.read_text().replace("instruction", "rubric"))
    seen.add(fingerprint(own))
    (tmp_path / "mine.jsonl").write_text(json.dumps({**GOOD, "label": "B"}) + "\n")
    seen.add(fingerprint())
    write_benchmark([GOOD], orders="given")
    seen.add(fingerprint())
    assert len(seen) == 7


def test_a_benchmark_without_a_row_to_ask_about_is_refused_before_any_judge_starts(
    write_benchmark: Callable[..., str], tmp_path: Path
) -> None:
    path = write_benchmark([{**GOOD, "q": ""}, {**GOOD, "label": "C"}, {**GOOD, "label": "D"}])
    said = r"benchmark 'mine': none of its 3 rows can be asked about: .* 2, .*null_instruction 1 \(mend its YAML"
    for _ in range(2):
        with pytest.raises(UserError, match=said):
            write_benchmark_rows(Run(tmp_path / "out"), EvaluationConfig(benchmarks=[path]))
    path = write_benchmark([GOOD])
    assert write_benchmark_rows(Run(tmp_path / "out"), EvaluationConfig(benchmarks=[path])).fingerprint
