"""Closed sets of verdicts: what a task cannot use is refused, with a mapping; what prompts say of a scale is true."""

from __future__ import annotations

import pytest

from pipelines.judging.closed_sets import as_listed, choices, scale, score_range
from pipelines.judging.tasks import ABSOLUTE, CLASSIFICATION, PAIRWISE, Task
from pipelines.judging.templates import TEMPLATES, load, render


@pytest.mark.parametrize(
    ("allowed", "maps"),
    [
        (["model_a", "model_b", "tie"], "map model_a -> A, model_b -> B, tie -> Tie, and allow [A, B] or [A, B, Tie]"),
        (["a", "b"], "map a -> A, b -> B"),
        (["1", "2", "0"], "map 1 -> A, 2 -> B, 0 -> Tie"),
        (["chosen", "rejected"], "map chosen -> A, rejected -> B"),
        (["Response 1", "response-2"], "map Response 1 -> A, response-2 -> B"),
        (["A", "B", "tie"], "map tie -> Tie"),
        (["A", "B", "TIE"], "map TIE -> Tie"),
        (["A", "B", "Tie", "bothbad"], "map bothbad -> Tie"),
        (["left", "right", "both_bad"], "map left -> A, right -> B, both_bad -> Tie"),
        (["human", "machine"], "map human -> A, B or Tie, machine -> A, B or Tie"),
        (["A", "Tie"], "A and B are both needed"),
    ],
)
def test_a_comparison_is_told_which_label_is_which_response(allowed: list[str], maps: str) -> None:
    assert maps in (PAIRWISE.problem_of_verdicts(allowed) or "")


@pytest.mark.parametrize(
    ("allowed", "says"),
    [
        (["bad", "fair", "good"], "map bad -> 1, fair -> 2, good -> 3, from worst to best"),
        (["bad", "good"], "map bad -> 1, good -> 3"),
        (["1", "1.5", "2"], "map 1 -> 2, 1.5 -> 3, 2 -> 4"),
        (["0", "0.25", "1"], "map 0 -> 0, 0.25 -> 1, 1 -> 4"),
        (["1", "2", "N/A"], "map 1 -> 1, 2 -> 2, N/A -> 3"),
        (["1", "2"], "a score needs another that is at least 2 away"),
        (["3"], "name at least two verdicts"),
        (["1", "²", "3"], "a score is an integer"),
        (["1", "٣"], "a score is an integer"),
    ],
)
def test_a_scale_is_told_how_to_become_one_of_integers(allowed: list[str], says: str) -> None:
    assert says in (ABSOLUTE.problem_of_verdicts(allowed) or "")


@pytest.mark.parametrize("task", [CLASSIFICATION, ABSOLUTE, PAIRWISE])
@pytest.mark.parametrize(
    ("allowed", "says"),
    [
        ([], "at least two"),
        (["Yes", ""], "empty"),
        (["Yes", "  "], "empty"),
        (["Yes", "Yes", "No"], "'Yes' is there twice"),
        (["Yes", "yes"], "'Yes' and 'yes' differ in letter case or spaces only"),
        (["not sure", "not  Sure"], "differ in letter case or spaces only"),
        (["Yes", "No "], "white space"),
        (["Yes", "No\nmore"], "breaks the line"),
    ],
)
def test_labels_that_cannot_be_told_apart_or_read_are_refused(task: Task, allowed: list[str], says: str) -> None:
    assert says in (task.problem_of_verdicts(allowed) or "")


@pytest.mark.parametrize(
    ("task", "allowed"),
    [
        (PAIRWISE, ["A", "B"]),
        (PAIRWISE, ["A", "B", "Tie"]),
        (ABSOLUTE, ["0", "10"]),
        (ABSOLUTE, ["-1", "0", "1"]),
        (CLASSIFICATION, ["a", "b", "c d"]),
        (CLASSIFICATION, ["0", "1"]),
    ],
)
def test_what_a_task_can_use_is_left_alone(task: Task, allowed: list[str]) -> None:
    assert task.problem_of_verdicts(allowed) is None


def test_equal_numbers_are_equal_labels_and_nothing_else_is() -> None:
    assert [as_listed(text, ["3", "4"]) for text in ("4", "4.0", "4.00", "+4", "04", " 4 ")] == ["4"] * 6
    same = ["4.5", "four", "4,0", "4e0", "٤", "", "nan", "4_0"]
    assert [as_listed(text, ["3", "4", "40"]) for text in same] == same
    assert as_listed("1.0", ["1", "1.0"]) == "1.0"


def test_a_scale_runs_from_its_lowest_score_to_its_highest() -> None:
    assert scale(["5", "4.0", "+3", "02", "-1"]) == ["-1", "2", "3", "4", "5"]
    assert scale(["good", "1"]) == ["good", "1"]


SCALES = [
    ([str(n) for n in range(1, 6)], "an integer between 1 and 5", "between 1 and 5"),
    ([str(n) for n in range(11)], "an integer between 0 and 10", "between 0 and 10"),
    (["-1", "0", "1"], "an integer between -1 and 1", "between -1 and 1"),
    (["3", "2", "1"], "an integer between 1 and 3", "between 1 and 3"),
    (["0", "2", "5"], "0, 2 or 5", "of 0, 2 or 5"),
    (["1", "3"], "1 or 3", "of 1 or 3"),
]


@pytest.mark.parametrize(("allowed", "words", "after_score"), SCALES)
def test_a_scale_is_said_in_words_that_are_true(allowed: list[str], words: str, after_score: str) -> None:
    assert (choices(allowed), score_range(allowed)) == (words, after_score)


@pytest.mark.parametrize("name", [n for n in TEMPLATES.names() if load(n).task in ("absolute", "any")])
@pytest.mark.parametrize("allowed", [["0", "2", "5"], ["-1", "0", "1"]])
def test_no_prompt_says_anything_else_of_a_scale(name: str, allowed: list[str]) -> None:
    row = dict.fromkeys(("instruction", "context", "reference", "rubric"), "text")
    values = {"critique": "c", "verdict": allowed[1]}
    prompt = render(load(name), {**row, "task": "absolute", "responses": ["r"], "allowed": allowed}, **values)
    if allowed[0] == "0":
        assert "between" not in prompt and "out of" not in prompt
    else:
        assert "out of" not in prompt and ("between" not in prompt or "between -1 and 1" in prompt)


def test_a_scale_with_a_huge_gap_is_listed_and_no_range_is_built() -> None:
    wide = ["0", "1", "9" * 60]
    assert choices(wide) == f"0, 1 or {wide[2]}"


def test_a_label_that_differs_in_case_or_spaces_is_the_allowed_one() -> None:
    allowed = ["Yes", "No", "not enough info"]
    assert [as_listed(text, allowed) for text in ("yes", " No ", "Not  Enough Info", "ＹＥＳ")] == [
        "Yes",
        "No",
        "not enough info",
        "Yes",
    ]
    assert as_listed("true", ["Yes", "No"]) == "true"


@pytest.mark.parametrize(
    ("allowed", "says"),
    [
        (["0", "1"], "map 0 -> A, B or Tie, 1 -> A, B or Tie,"),
        (["-1", "0", "1"], "map -1 -> A, B or Tie, 0 -> A, B or Tie, 1 -> A, B or Tie,"),
        (["1", "2", "0"], "map 1 -> A, 2 -> B, 0 -> Tie,"),
        (["A > B", "B>A", "A = B"], "map A > B -> A, B>A -> B, A = B -> Tie,"),
        (["2 >> 1", "2 << 1"], "map 2 >> 1 -> B, 2 << 1 -> A,"),
    ],
)
def test_no_label_is_said_to_mean_what_it_may_not(allowed: list[str], says: str) -> None:
    assert says in (PAIRWISE.problem_of_verdicts(allowed) or "")
