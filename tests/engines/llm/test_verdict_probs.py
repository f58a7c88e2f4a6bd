"""The probabilities of the verdicts: read at the verdict's own place, over one token or several."""

from __future__ import annotations

from math import log

import pytest

from pipelines.engines.llm.verdict_probs import token_at, verdict_probs
from pipelines.judging.parse import parse

Tops = list[tuple[str, dict[str, float]]]  # of each position, the written token and the probabilities of likely ones
TEN = [str(number) for number in range(1, 11)]


def probs(positions: Tops, allowed: list[str], text: str | None = None) -> dict[str, float]:
    text = "".join(token for token, _ in positions) if text is None else text
    top = [{token: log(share) for token, share in likely.items()} for _, likely in positions]
    return verdict_probs(text, parse(text, allowed).place, [token for token, _ in positions], top, allowed)


def sure(*tokens: str) -> Tops:
    return [(token, {token: 1.0}) for token in tokens]


def test_a_later_token_that_reads_alike_does_not_count() -> None:
    said = [*sure("Result", ":"), (" A", {" A": 0.51, " B": 0.49}), *sure("\n", "Note", ":"), (" A", {" A": 0.999})]
    assert probs([*said, *sure(" is", " short", ".")], ["A", "B"]) == pytest.approx({"A": 0.51, "B": 0.49})


def test_an_earlier_token_that_reads_alike_does_not_count() -> None:
    verdict = (" B", {" B": 0.6, " A": 0.2, "\n": 0.2})
    said = [(" A", {" A": 0.9}), *sure("\n", "Result", ":"), verdict, *sure("<end>")]
    assert probs(said, ["A", "B"], "A\nResult: B") == pytest.approx({"A": 0.25, "B": 0.75})


def test_spaces_marks_and_letter_case_do_not_matter() -> None:
    said = [*sure("Result", ":"), (" **A", {" **A": 0.5, "B": 0.2, " b": 0.2, " not": 0.1}), *sure("**")]
    assert probs(said, ["A", "B"]) == pytest.approx({"A": 5 / 9, "B": 4 / 9})


def test_a_verdict_of_several_tokens_is_followed() -> None:
    said = [*sure("Result", ": "), ("Un", {"Un": 0.7, "Supp": 0.3}), ("supp", {"supp": 0.9, "x": 0.1}), *sure("orted")]
    assert probs(said, ["supported", "unsupported"]) == pytest.approx({"supported": 0.3, "unsupported": 0.7})
    said = [*sure("Result", ": "), ("Fully", {"Fully": 0.8, "Not": 0.2}), (" right", {" right": 0.75, " wrong": 0.25})]
    labels = ["Fully right", "Fully wrong", "Not right"]
    assert probs(said, labels) == pytest.approx({"Fully right": 0.6, "Fully wrong": 0.2, "Not right": 0.2})


@pytest.mark.parametrize("ending", [[], sure("<end>"), sure("\n")])
def test_ten_begins_as_one_does(ending: Tops) -> None:
    expected = pytest.approx(dict.fromkeys(TEN, 0.0) | {"10": 0.6, "1": 0.2, "9": 0.2})
    said = [*sure("Result", ":", " "), ("1", {"1": 0.8, "9": 0.2})]
    assert probs([*said, ("0", {"0": 0.75, "\n": 0.25}), *ending], TEN, "Result: 10") == expected
    after: Tops = [("\n", {"\n": 0.25, "0": 0.75})]
    assert probs([*said, *after], TEN, "Result: 1") == expected


def test_an_answer_that_ends_with_the_shorter_verdict_means_it() -> None:
    assert probs([*sure("Result", ":", " "), ("1", {"1": 0.8, "9": 0.2})], TEN)["1"] == pytest.approx(0.8)


def test_there_are_none_where_a_token_that_was_not_written_begins_two_verdicts() -> None:
    assert probs([*sure("Result", ":", " "), ("9", {"9": 0.8, "1": 0.2})], TEN) == {}
    assert probs([*sure("Result", ":", " "), ("9", {"9": 0.9995, "1": 0.0005})], TEN)["9"] == 1.0


def test_parts_of_characters_and_ends_of_turns_do_not_move_the_place() -> None:
    start = [*sure("Caf", "\ufffd", "\ufffd", "\nResult", ":"), (" A", {" A": 0.7, " B": 0.3})]
    expected = pytest.approx({"A": 0.7, "B": 0.3})
    assert probs([*start, *sure("<|im_end|>")], ["A", "B"], "Caf\u00e9\nResult: A") == expected
    assert (
        probs([*start, *sure("\n", "\ufffd", "", "\ufffd")], ["A", "B"], "Caf\u00e9\nResult: A\n\u2713\u00e9")
        == expected
    )


def test_thoughts_before_the_answer_do_not_move_the_place() -> None:
    said = [*sure("<think>", " A", "</think>", "\n\n", "Result", ":"), (" A", {" A": 0.6, " B": 0.4})]
    assert probs(said, ["A", "B"], "Result: A") == pytest.approx({"A": 0.6, "B": 0.4})


def test_there_are_none_without_a_verdict_its_token_or_log_probabilities() -> None:
    assert probs(sure("x"), ["A", "B"]) == {}
    assert verdict_probs("Result: A", 8, [], [], ["A", "B"]) == {}
    assert verdict_probs("Result: A", 8, ["other"], [{"other": 0.0}], ["A", "B"]) == {}


def test_a_place_has_the_token_that_holds_it() -> None:
    assert token_at("Result: A.", 8, ["Result", ": ", "A", "."]) == (2, "")
    assert token_at("Result: A.", 8, ["Result", ": A."]) == (1, ": ")
    assert token_at("Result: A.", 8, ["Result", ":"]) is None
