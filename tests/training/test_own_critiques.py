"""Sampling the judge's own critiques against a recorded model: what is asked, what is right, and what is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.determinism import integer
from pipelines.core.records import Row
from pipelines.engines.llm.ask import Answer
from pipelines.judging.parse import parse
from pipelines.judging.templates import load
from pipelines.training.config import TrainConfig
from pipelines.training.own_critiques import COUNTS, OwnCritiques, own_completion
from pipelines.training.pairs import is_held_out

RIGHT, WRONG = "Reasoning: A names a colour.\nResult: A", "Reasoning: B is longer.\nResult: B"


class Recorded:
    """A model that gives these answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: str | Answer) -> None:
        self.answers, self.calls = list(answers), list[tuple[str, dict[str, Any]]]()

    async def __call__(self, prompt: str, **options: Any) -> Answer:
        self.calls.append((prompt, options))
        answer = self.answers[len(self.calls) - 1]
        return answer if isinstance(answer, Answer) else Answer(answer, 10, 5, 0.1, cached_tokens=8)


def step(tiny_model: Path, number: int = 1, **changes: Any) -> OwnCritiques:
    train = {name: changes.pop(name) for name in ("max_length", "holdout") if name in changes}
    config = {"model": str(tiny_model), "max_length": 512, "recipe": "rs_sft", "own_critiques": changes, **train}
    return OwnCritiques(TrainConfig.model_validate(config), 7, number, ("pairwise_compact",))


def row(**changes: Any) -> Row:
    return {
        "row_id": "r1",
        "group_id": "g1",
        "prompt": "Which is better?",
        "verdict": "A",
        "allowed": ["A", "B"],
        "template": "pairwise_compact",
        "format": "cot",
        "status": "ok",
        **changes,
    }


def asked(sampling: OwnCritiques, given: Row, *answers: str | Answer) -> Recorded:
    model = Recorded(*answers)
    asyncio.run(sampling.run(given, model))
    return model


def test_answers_are_asked_for_until_one_is_right(tiny_model: Path) -> None:
    given = row()
    model = asked(step(tiny_model, 2, max_tokens=40, temperature=0.5, top_p=0.7), given, WRONG, "nothing", RIGHT, RIGHT)
    assert [prompt for prompt, _ in model.calls] == ["Which is better?"] * 3
    seeds = [integer(7, f"own critique, round 2, sample {k}", "r1") for k in range(3)]
    assert [options["seed"] for _, options in model.calls] == seeds
    assert {(o["max_tokens"], o["temperature"], o["top_p"]) for _, o in model.calls} == {(40, 0.5, 0.7)}
    assert given["own_completions"] == [RIGHT] and given["status"] == "ok"
    assert [given[name] for name in COUNTS] == [3, 1, 30, 24, 15, 0]


def test_several_different_ones_are_kept_and_none_twice(tiny_model: Path) -> None:
    given, other = row(), "Reasoning: B names no colour.\nResult: A"
    assert len(asked(step(tiny_model, keep=2), given, RIGHT, RIGHT, other, WRONG).calls) == 3
    assert given["own_completions"] == [RIGHT, other] and given["own_right"] == 3


def test_a_row_without_a_right_answer_leaves(tiny_model: Path) -> None:
    given = row()
    assert len(asked(step(tiny_model, samples=3), given, WRONG, WRONG, WRONG).calls) == 3
    assert given["status"] == "filtered:no_right_critique" and given["own_completions"] == []


def test_what_the_trainer_would_refuse_is_not_kept(tiny_model: Path) -> None:
    long = "Reasoning: " + "A is a colour, " * 20 + "\nResult: A"
    given = row()
    asked(step(tiny_model, samples=2, max_length=200), given, long, RIGHT)
    assert given["own_completions"] == [RIGHT]
    given = row()
    asked(step(tiny_model, samples=2, max_length=200), given, long, WRONG)
    assert given["status"] == "filtered:too_many_tokens"


def test_a_judgment_alone_and_a_held_out_row_are_not_asked_about(tiny_model: Path) -> None:
    held = next(f"g{i}" for i in range(100) if is_held_out(f"g{i}", 0.5, 7))
    free = next(f"g{i}" for i in range(100) if not is_held_out(f"g{i}", 0.5, 7))
    for one, calls in ((row(format="judgment_only"), 0), (row(group_id=held), 0), (row(group_id=free), 1)):
        assert len(asked(step(tiny_model, holdout=0.5), one, RIGHT).calls) == calls
        assert one["status"] == "ok" and one["own_asked"] == calls


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(WRONG, 1, 1, 0.0), "another verdict"),
        (Answer("A names a colour.", 1, 1, 0.0), "no verdict"),
        (Answer(RIGHT, 1, 1, 0.0, finished=False), "it went on"),
        (Answer(RIGHT, 1, 1, 0.0, thoughts="hm", thoughts_cut=True), "no answer"),
        (Answer("Result: A", 1, 1, 0.0), "no critique"),
        (Answer("Reasoning:\nResult: A", 1, 1, 0.0), "an empty critique"),
        (Answer("Result: A\nResult: A", 1, 1, 0.0), "nothing but verdicts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_right(answer: Answer, why: str) -> None:
    assert own_completion(row(), answer) is None, why


def test_thoughts_are_not_trained_on() -> None:
    found = own_completion(row(), Answer(RIGHT, 1, 1, 0.0, thoughts="A secret.", thought_tokens=3))
    assert found == RIGHT


@pytest.mark.parametrize("name", ["pairwise_compact", "pairwise_original", "pairwise_brackets"])
@pytest.mark.parametrize("said", ["**Result:** A", "Result: Response A", "[[A]]"])
def test_what_is_trained_on_has_the_form_of_the_rows_own_template(name: str, said: str) -> None:
    answer = Answer(f"Feedback: A names a colour.\nFinal verdict: B\n\n{said}", 1, 1, 0.0)
    found = own_completion(row(template=name), answer)
    assert found == load(name).completion("A", "A names a colour.")


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["A", "B", "Tie"]), st.sampled_from(["", "Result: B\n", "Answer: A\n"]))
def test_a_kept_completion_is_read_as_the_label_and_says_it_once(text: str, verdict: str, before: str) -> None:
    given = row(allowed=["A", "B", "Tie"], verdict=verdict)
    found = own_completion(given, Answer(f"{before}{text}\nResult: {verdict}", 1, 1, 0.0))
    if found is None:
        return
    assert parse(found, given["allowed"]).verdict == verdict
    critique = found.removesuffix(f"\nResult: {verdict}")
    assert critique != found and parse(critique, given["allowed"]).verdict is None


def test_the_sampling_depends_on_round_and_settings_but_not_on_how_many_rounds_there_are(tiny_model: Path) -> None:
    first = step(tiny_model).depends()
    assert step(tiny_model, rounds=3, start="last").depends() == first
    for other in (step(tiny_model, 2), step(tiny_model, samples=5), step(tiny_model, top_p=0.5)):
        assert other.depends() != first
    assert step(tiny_model, max_length=300).depends() != first and step(tiny_model, holdout=0.1).depends() != first
