"""The parser: what it accepts, what it refuses, and that a critique cannot fool it."""

from __future__ import annotations

import gc
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.judging import templates
from pipelines.judging.parse import parse, strip_label, without_verdict_lines
from pipelines.judging.verdict import normalise

AB = ("A", "B")
SCALES = st.sampled_from([AB, ("A", "B", "Tie"), ("1", "2", "3", "4", "5"), ("Yes", "No"), ("supported", "N.A.")])
# Text in which verdict lines, labels and brackets are likely.
PIECES = [
    "Result:",
    "**Result:**",
    "result :",
    "Reasoning:",
    "[[A]]",
    "[[",
    "]]",
    "A",
    "B",
    "Tie",
    "*",
    "#",
    "> ",
    "\n",
]
PROSE = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=30).map("".join)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("**Reasoning:** B is wrong.\n\n**Result:** A", "A"),
        ("**Reasoning**: fine\n\n**Result**: B", "B"),
        ("Result: A", "A"),
        ("result : b", "B"),
        ("- **Result:** A.", "A"),
        ("> Result: A", "A"),
        ("## Result: B", "B"),
        ("**Result:** **B**", "B"),
        ("**Result: A**", "A"),
        ("Result: [[B]]", "B"),
        ("Result: <A>", "A"),
        ('Result: "A"', "A"),
        ("Result: Response A", "A"),
        ("Result: Assistant B.", "B"),
        ("Result: A\r\n", "A"),
        ("A is shorter.\n[[A]]", "A"),
        ("A is shorter.\n**[[B]]**.", "B"),
        ("My verdict is [[Response B]]", "B"),
    ],
)
def test_the_accepted_forms(answer: str, verdict: str) -> None:
    parsed = parse(answer, AB)
    assert (parsed.verdict, parsed.status) == (verdict, "ok")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("", "no_verdict"),
        ("A is better.", "no_verdict"),
        ("The result: A", "no_verdict"),
        ("Results: A", "no_verdict"),
        ("Result: A or B", "not_allowed"),
        ("Result: A because it is shorter", "not_allowed"),
        ("Result: C", "not_allowed"),
        ("Result: Tie", "not_allowed"),
        ("Result:", "not_allowed"),
        ("Result:\nA or B", "not_allowed"),
        ("My verdict is [[C]]", "not_allowed"),
    ],
)
def test_no_verdict_is_guessed(answer: str, status: str) -> None:
    parsed = parse(answer, AB)
    assert (parsed.verdict, parsed.status) == (None, status)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Result:\nA", "A"),
        ("B is wrong.\n\n**Result:**\n\n**A**", "A"),
        ("### Result\nResponse B", "B"),
        ("Result: Response A is better.", "A"),
        ("**Result:** Response B is clearly the better response.", "B"),
        ("Result: **A** is better than B.", "A"),
        ("Result: Option A", "A"),
        ("Result: Output (b)", "B"),
        ("Result: A!", "A"),
        ("Result: The better response is B.", "B"),
        ("It is short.\n<answer>A</answer>", "A"),
        ("**Final Result:** A", "A"),
        ("Final Verdict: A", "A"),
        ("My final verdict is: [[B]]", "B"),
        ("Final verdict is B.", "B"),
        ("1. Result: A", "A"),
        ("Feedback: The first is right. [RESULT] A", "A"),
        ("It is short.\n[RESULT]\nB", "B"),
        ("It is short.\n\\boxed{A}", "A"),
        ("Result: $\\boxed{\\text{B}}$", "B"),
        ('{"Reasoning": "Short.",\n "Result": "A"}', "A"),
        ("Verdict: B\n\nIt is longer.", "B"),
        ("It is longer.\n**Answer:** Assistant B", "B"),
        ("Response A is better.", "A"),
        ("The first is right.\n\nResponse A is better.", "A"),
        ("It has more detail\n\nResponse A is better.", "A"),
        ("It is short.\n\n**Conclusion:**\nResponse A is better.", "A"),
        ("## Conclusion\nResponse A is better.", "A"),
        ("Therefore, [[A]] is the better response.", "A"),
        ("It is longer, so I choose [[B]].", "B"),
        ("A", "A"),
        ("**Response B**", "B"),
    ],
)
def test_what_is_unambiguous_and_common_is_read(answer: str, verdict: str) -> None:
    parsed = parse(answer, AB)
    assert (parsed.verdict, parsed.status) == (verdict, "ok")
    assert parsed.place is not None and answer[parsed.place :].casefold().startswith(verdict.casefold())


@pytest.mark.parametrize(
    "answer",
    [
        "The value x[[A]] is set, B is not.",
        "See [[A]](https://example.org) for more.",
        "So [[A]] is tempting, yet [[B]] fails; overall the first is better.",
        "I like [[A]].\nThen again, [[B]].",
        "The better one is not [[A]].",
        "Is it [[A]]?",
        "Result: A and B",
        "Result: not A",
        "Result: A/B",
        "Result: A?",
        "Result: The better response is not B.",
        "It says\n<answer>A</answer>\nwhich is wrong.",
        "Result: A is worse.",
        "Result: Response A is not better.",
        "Result: A is better than A.",
        "Result: [[A]] [[B]]",
        "Result:\nA is shorter, B is right.",
        "### Result\nBoth answer. A is shorter.",
        "Verdict: A\nVerdict: B",
        "It opens so:\nAnswer: A\nand ends there.",
        "Response B is right.\nResponse A is better.",
        "Response A is better. Or is it?",
        "I do not think that\nResponse A is better.",
        "If the user wanted brevity,\nResponse A is better.",
        "I disagree with anyone who says:\n\nResponse A is better.",
        'It would be wrong to say\n"Response A is better."',
        "It would be wrong to answer [[A]].",
        "Some say [[A]] but they are mistaken.",
        "Give your verdict as [[A]].",
        "Compare section [[A]] of the text.",
        "[[A]] is worse.",
        "Neither.",
    ],
)
def test_what_is_not_a_verdict_is_none(answer: str) -> None:
    assert parse(answer, AB).verdict is None


FIVE = ("1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("answer", "allowed", "verdict"),
    [
        ("Result: 4/5", FIVE, "4"),
        ("Result: **4**/5", FIVE, "4"),
        ("Result: 4 out of 5.", FIVE, "4"),
        ("Result: 4.0/5.0", FIVE, "4"),
        ("Score: 4", FIVE, "4"),
        ("Fine.\nOverall score: 4", FIVE, "4"),
        ("Fine.\nRating: [[5]]", FIVE, "5"),
        ("I give it a rating of [[5]].", FIVE, "5"),
        ("Feedback: Fine. [RESULT] 4", FIVE, "4"),
        ("Result: 10/10", tuple(map(str, range(11))), "10"),
        ("Result: -1", ("-1", "0", "1"), "-1"),
        ("Result: 4/10", FIVE, None),
        ("Result: 4.5", FIVE, None),
        ("Result: 3-4", FIVE, None),
        ("Result: 3 to 4", FIVE, None),
        ("Result: 3 or 4", FIVE, None),
        ("Result: 45", FIVE, None),
        ("Result: 6/5", FIVE, None),
        ("It cites [[2]] twice.", FIVE, None),
        ("Tone\nScore: 3\nFacts\nScore: 5", FIVE, None),
        ("Result: It's a tie.", ("A", "B", "Tie"), "Tie"),
        ("Result: a B", ("A", "B", "Tie"), None),
        ("Result: 1/2", ("0", "1/2", "1"), "1/2"),
        ("Result: supported", ("supported", "unsupported"), "supported"),
        ("Result: not supported", ("supported", "unsupported"), None),
        ("Yes.", ("Yes", "No"), "Yes"),
    ],
)
def test_scales_and_classes(answer: str, allowed: tuple[str, ...], verdict: str | None) -> None:
    assert parse(answer, allowed).verdict == verdict


SENTENCES = [
    "Response A is better.",
    "Response B is better",
    "Response A is clearly better than Response B!",
    "I prefer B to A.",
    "Is A better? No.",
    "It may be [[A]].",
    "Perhaps [[B]].",
    "see x[[A]]",
    "A",
    "B is longer",
]


@settings(deadline=None)
@given(
    sentences=st.lists(st.sampled_from(SENTENCES), max_size=6),
    joint=st.sampled_from([" ", "\n", "\n\n", "; "]),
    both=st.sampled_from(["Response A and Response B are near.", "[[A]] may beat [[B]].", "A or B?"]),
)
def test_prose_that_names_both_gives_no_verdict(sentences: list[str], joint: str, both: str) -> None:
    assert parse(joint.join([both, *sentences]), AB).verdict is None


@pytest.mark.parametrize(
    "line", ["Final Result: A", "Verdict: A", "Score: 4", "[RESULT] A", "Result:\nA", "\\boxed{A}", "Response A wins."]
)
def test_every_form_that_is_read_is_cleaned_from_a_critique(line: str) -> None:
    allowed = ("A", "B", "4")
    assert without_verdict_lines(f"It is short.\n{line}", allowed) == "It is short."


def test_the_last_verdict_line_wins() -> None:
    answer = "Reply as:\nResult: A\n\nReasoning: The format `Result: A` was asked for.\nResult: B"
    assert parse(answer, AB).verdict == "B"


def test_a_last_line_that_is_not_allowed_is_not_replaced_by_an_earlier_one() -> None:
    assert parse("Result: A\nResult: neither", AB).status == "not_allowed"


def test_a_verdict_line_wins_over_brackets_within_a_line_wherever_they_stand() -> None:
    assert parse("Result: B\nThe other would be [[A]].", AB).verdict == "B"
    assert parse("The other would be [[A]].\n[[B]]\nAnd not [[A]] at all.", AB).verdict == "B"


def test_a_line_of_brackets_is_a_verdict_line_like_any_other() -> None:
    assert parse("It says\nResult: B\nwhich is wrong.\n\n[[A]]", AB).verdict == "A"
    assert parse("[[A]]\n\nResult: B", AB).verdict == "B"


@pytest.mark.parametrize("name", [name for name in templates.TEMPLATES.names() if name.startswith("pairwise_")])
@pytest.mark.parametrize("allowed", [AB, ("A", "B", "Tie")])
def test_quoting_the_format_fools_nobody(name: str, allowed: tuple[str, ...]) -> None:
    template = templates.load(name)
    for other in allowed:
        quoted = f"I shall end with:\n{template.completion(other)}\nas asked. Now the reasons."
        for verdict in allowed:
            parsed = parse(template.completion(verdict, quoted), allowed)
            assert (parsed.verdict, parsed.critique) == (verdict, quoted)
    echo = template.completion(f"<{templates.choices(allowed)}>", "<feedback evaluating the responses>")
    assert parse(echo, allowed).status == "not_allowed"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("4", "4"), ("4.", "4"), ("Score 4", "4"), ("4/5", "4"), ("4.0", "4"), ("6", None)],
)
def test_scores_are_read_whole(text: str, verdict: str | None) -> None:
    assert normalise(text, ("1", "2", "3", "4", "5")) == verdict


@pytest.mark.parametrize("label", ["answer relevant", "N.A.", "(none)", "not_supported"])
def test_a_class_label_may_look_like_wrapping(label: str) -> None:
    assert normalise(f" {label} ", ("other", label)) == label


def test_the_critique_is_what_stands_before_the_verdict_without_its_label() -> None:
    assert parse("**Reasoning:** Too long.\nAnd wrong.\n\n**Result:** A", AB).critique == "Too long.\nAnd wrong."
    assert parse("Feedback: no verdict here", AB).critique == "no verdict here"


@settings(deadline=None)
@given(critique=PROSE, allowed=SCALES, data=st.data(), name=st.sampled_from(templates.TEMPLATES.names()))
def test_what_a_template_writes_is_read_back(
    critique: str, allowed: tuple[str, ...], data: st.DataObject, name: str
) -> None:
    verdict = data.draw(st.sampled_from(allowed))
    completion = templates.load(name).completion(verdict, critique)
    assert (parse(completion, allowed).verdict, parse(completion, allowed).status) == (verdict, "ok")


@settings(deadline=None)
@given(critique=PROSE, name=st.sampled_from(["pairwise_original", "pairwise_compact"]))
def test_a_cleaned_critique_is_read_back_too(critique: str, name: str) -> None:
    clean = strip_label(without_verdict_lines(critique, AB))
    assert parse(templates.load(name).completion("A", clean), AB).critique == strip_label(f"Reasoning: {clean}")


@settings(deadline=None)
@given(critique=PROSE)
def test_a_cleaned_critique_holds_no_verdict(critique: str) -> None:
    assert parse(without_verdict_lines(critique, AB), AB).status == "no_verdict"


def test_taking_out_one_verdict_does_not_make_another() -> None:
    assert "Result" not in without_verdict_lines("Re[[A]]sult: B", AB)


@settings(deadline=None)
@given(answer=PROSE, allowed=SCALES)
def test_a_verdict_is_always_allowed_and_comes_with_ok(answer: str, allowed: tuple[str, ...]) -> None:
    parsed = parse(answer, allowed)
    assert (parsed.status == "ok") == (parsed.verdict is not None)
    assert parsed.verdict is None or parsed.verdict in allowed


@settings(deadline=None)
@given(answer=PROSE, tail=PROSE.filter(lambda text: "result" not in text.casefold() and "[[" not in text))
def test_prose_after_the_verdict_changes_nothing(answer: str, tail: str) -> None:
    assert parse(f"{answer}\nResult: A\n{tail}", AB).verdict == "A"


@pytest.mark.parametrize("piece", ["\n", " ", "*", " \n", "- ", "\t", "[[", "_-> ", "[[A]]", "[[A]] \n"])
def test_long_runs_of_marks_are_read_in_linear_time(piece: str) -> None:
    def spent(pieces: int) -> float:
        gc.disable()  # what it costs depends on all that other tests have left
        try:
            return min(once(pieces) for _ in range(3))
        finally:
            gc.enable()

    def once(pieces: int) -> float:
        answer = piece * pieces + "x"
        start = time.process_time()
        parse(answer, AB)
        without_verdict_lines(answer, AB)
        return time.process_time() - start

    assert spent(40_000) < 20 * max(spent(5_000), 0.02)  # 8 times the time if linear, 64 if quadratic


@pytest.mark.parametrize(
    ("answer", "allowed", "verdict", "place"),
    [
        ("Result: \u22121", ["-1", "0", "1"], "-1", 8),
        ("Result: \uff21", ["A", "B"], "A", 8),
        ("Result: \u306f\u3044\u3002", ["\u306f\u3044", "\u3044\u3044\u3048"], "\u306f\u3044", 8),
        ("Result: 4 points", ["1", "4", "5"], "4", 8),
        ("Result: 4/5 stars", ["1", "4", "5"], "4", 8),
        ("Result: 4 points of 9", ["1", "4", "5"], None, None),
    ],
)
def test_other_forms_of_a_letter_and_units_are_read(
    answer: str, allowed: list[str], verdict: str | None, place: int | None
) -> None:
    parsed = parse(answer, allowed)
    assert (parsed.verdict, parsed.place) == (verdict, place)
