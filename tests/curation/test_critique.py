"""Critique and consistency steps against a recorded engine: a plain function in the engine's place."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.curation.config import CritiqueConfig
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.critique import Critique, whole_sentences, without_verdicts
from pipelines.engines.llm.ask import Answer
from pipelines.judging.parse import parse

NOTHING_SPENT = {"synthesis_tokens": 0, "synthesis_prompt_tokens": 0, "synthesis_cached_tokens": 0, "thought_tokens": 0}


class RecordedAsk:
    """Stand-in for an engine: answers by rule, remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.calls = answer, []

    async def __call__(self, prompt: str, **options: Any) -> Answer:
        self.calls.append((prompt, options))
        return Answer(self.answer(prompt, options), prompt_tokens=10, output_tokens=3, seconds=0.1, cached_tokens=8)


def example(**changes: Any) -> dict[str, Any]:
    row = {
        "row_id": "r1",
        "task": "pairwise",
        "instruction": "Name a colour.",
        "context": "",
        "responses": ["red", "dog"],
        "rubric": "",
        "reference": "",
        "allowed": ["A", "B"],
        "verdict": "A",
        "rejected_verdict": "B",
        "status": "ok",
    }
    return row | changes


def run(step: Any, row: dict[str, Any], answer: Any) -> RecordedAsk:
    ask = RecordedAsk(answer)
    asyncio.run(step.run(row, ask))
    return ask


@pytest.mark.parametrize(
    "line",
    [
        "Final Result: A",
        "**Final Verdict:** A.",
        "Verdict: A",
        "> *Verdict*: **Response A**",
        "My final judgment is A.",
        "The winner: A",
        "Overall score: B",
        "Answer: [[A]]",
        "Result: A",
        "[[B]]",
    ],
)
def test_no_form_of_a_verdict_is_left_in_a_critique(line: str) -> None:
    for text in (f"It is a colour.\n{line}", f"{line}\nIt is a colour.", f"It is\n\n{line}\n\na colour."):
        found = without_verdicts(text, ["A", "B"])
        assert "colour" in found and line not in found and not re.search(r"\b[AB]\b", found)


@pytest.mark.parametrize(
    "text",
    [
        "Response A is better because it answers.",
        "Its verdict: A good one, but for the ending.",
        "The answer is 4, which is right.",
        "The result is that both fail.\n\nB says more.",
        "Rating: A for effort, but B is right.",
    ],
)
def test_prose_about_responses_stays(text: str) -> None:
    assert without_verdicts(text, ["A", "B"]) == text


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            ["Result:", "Verdict:", "A", "B", "[[A]]", "[[", "]]", "**", "\n", " ", "Final", "good.", "Score: 1"]
        )
    ).map("".join)
)
def test_the_parser_reads_nothing_in_a_critique(text: str) -> None:
    assert parse(without_verdicts(text, ["A", "B"]), ["A", "B"]).verdict is None


def test_both_critiques_share_the_data_as_prefix() -> None:
    row = example()
    ask = run(Critique(CritiqueConfig(), seed=0), row, lambda prompt, _: "It is a colour.")
    first, second = (prompt for prompt, _ in ask.calls)
    shared = first[: first.index("Response B:\n```\ndog")]
    assert second.startswith(shared) and first != second
    assert row["chosen_critique"] == row["rejected_critique"] == "It is a colour."
    assert row["synthesis_tokens"] == 26
    assert (row["synthesis_prompt_tokens"], row["synthesis_cached_tokens"]) == (20, 16)


def test_sampling_seed_depends_on_side_and_row_only() -> None:
    config = CritiqueConfig(temperature=0.7)
    seeds = [
        tuple(options["seed"] for _, options in run(Critique(config, 5), example(row_id=key), lambda *_: "x").calls)
        for key in ("r1", "r1", "r2")
    ]
    assert seeds[0] == seeds[1] != seeds[2]
    assert seeds[0][0] != seeds[0][1]


def test_critique_that_smuggles_a_verdict_line_loses_it() -> None:
    row = example()
    run(Critique(CritiqueConfig(), 0), row, lambda *_: "Reasoning: Clear and right.\n**Result:** B\n[[B]]")
    assert row["chosen_critique"] == "Clear and right."


def test_critique_of_nothing_but_a_verdict_is_filtered() -> None:
    row = example()
    run(Critique(CritiqueConfig(), 0), row, lambda *_: "Result: A")
    assert row["status"] == "filtered:empty_chosen_critique"


def test_critique_that_the_token_limit_cut_keeps_its_whole_sentences() -> None:
    row = example()
    run(Critique(CritiqueConfig(max_tokens=8), 0), row, lambda *_: "Short.")  # 3 tokens: not cut
    assert row["chosen_critique"] == "Short."
    assert whole_sentences('It is 2.5 times "better." It also has a') == 'It is 2.5 times "better."'
    assert whole_sentences("no end in sight") == ""


def test_cut_critique_without_a_sentence_is_filtered() -> None:
    class Cut(RecordedAsk):
        async def __call__(self, prompt: str, **options: Any) -> Answer:
            return Answer("it goes on and", prompt_tokens=1, output_tokens=8, seconds=0, finished=False)

    row = example()
    asyncio.run(Critique(CritiqueConfig(), 0).run(row, Cut(None)))
    assert row["status"] == "filtered:empty_chosen_critique"


def checked(config: CritiqueConfig, answer: Any, **changes: Any) -> dict[str, Any]:
    row = example(chosen_critique="good", rejected_critique="bad", **NOTHING_SPENT, **changes)
    run(ConsistencyCheck(config, seed=0), row, answer)
    return row


def test_inconsistent_chosen_critique_leaves_and_rejected_stays_by_default() -> None:
    row = checked(CritiqueConfig(), lambda prompt, _: "No" if "Critique:\n```\ngood" in prompt else "Yes")
    assert (row["chosen_consistent"], row["rejected_consistent"]) == (False, True)
    assert row["status"] == "filtered:inconsistent_chosen"
    row = checked(CritiqueConfig(), lambda prompt, _: "Yes" if "Critique:\n```\ngood" in prompt else "No")
    assert row["status"] == "ok" and row["rejected_consistent"] is False


def test_dropping_inconsistent_rejected_is_an_option() -> None:
    config = CritiqueConfig(drop_inconsistent_rejected=True)
    row = checked(config, lambda prompt, _: "Yes" if "Critique:\n```\ngood" in prompt else "No")
    assert row["status"] == "filtered:inconsistent_rejected"


def test_blind_mode_hides_the_verdict_and_compares_the_answer_with_it() -> None:
    config = CritiqueConfig(check_mode="blind")
    row = example(chosen_critique="good", rejected_critique="bad", **NOTHING_SPENT)
    ask = run(ConsistencyCheck(config, seed=0), row, lambda *_: "A")
    assert all("Verdict:" not in prompt and options["choices"] == ["A", "B"] for prompt, options in ask.calls)
    assert (row["chosen_consistent"], row["rejected_consistent"]) == (True, False)


def test_a_share_of_the_rows_tests_the_checker_with_a_wrong_and_a_right_pair() -> None:
    row = example(chosen_critique="good", rejected_critique="bad", **NOTHING_SPENT)
    ask = run(ConsistencyCheck(CritiqueConfig(probe_share=1.0), seed=0), row, lambda *_: "No")
    wrong, right = (prompt for prompt, _ in ask.calls[2:])
    assert "Critique:\n```\ngood" in wrong and "Verdict: Response B" in wrong
    assert "Response A is clearly the better" in right and "Verdict: Response A" in right
    assert row["probe_negative_flagged"] is row["probe_positive_flagged"] is True
    row = example(chosen_critique="good", rejected_critique="bad", **NOTHING_SPENT)
    assert len(run(ConsistencyCheck(CritiqueConfig(probe_share=0.0), seed=0), row, lambda *_: "No").calls) == 2
    assert "probe_negative_flagged" not in row


def test_which_rows_test_the_checker_hangs_on_the_row_alone() -> None:
    def probed(row_id: str) -> bool:
        row = example(row_id=row_id, chosen_critique="good", rejected_critique="bad", **NOTHING_SPENT)
        run(ConsistencyCheck(CritiqueConfig(probe_share=0.3), seed=0), row, lambda *_: "Yes")
        return "probe_negative_flagged" in row

    first = [probed(f"r{i}") for i in range(200)]
    assert first == [probed(f"r{i}") for i in range(200)] and 30 < sum(first) < 90


def test_an_inconsistent_chosen_critique_is_written_anew_up_to_k_times() -> None:
    config = CritiqueConfig(attempts=3, probe_share=0)
    written: list[float] = []

    def answer(prompt: str, options: dict[str, Any]) -> str:
        if "choices" not in options:
            written.append(options["temperature"])
            return f"draft {len(written)}"
        return "Yes" if "\ndraft 2\n" in prompt or "\nbad\n" in prompt else "No"

    row = example(chosen_critique="good", rejected_critique="bad", **NOTHING_SPENT)
    ask = run(ConsistencyCheck(config, seed=0), row, answer)
    assert (row["chosen_critique"], row["attempts"], row["status"]) == ("draft 2", 3, "ok")
    assert written == [0.7, 0.7] and len({o["seed"] for _, o in ask.calls if "seed" in o}) == 2
    row = example(chosen_critique="good", rejected_critique="bad", **NOTHING_SPENT)
    run(ConsistencyCheck(config, seed=0), row, lambda prompt, options: "No" if "choices" in options else "draft")
    assert (row["chosen_critique"], row["attempts"]) == ("good", 3) and row["status"] == "filtered:inconsistent_chosen"


def thinker(text: str, thoughts: str, *, cut: bool = False) -> Any:
    """An engine that thinks first."""

    async def ask(prompt: str, **options: Any) -> Answer:
        said = text if "choices" not in options else "Yes"
        return Answer(said, 10, 3, 0.1, thoughts=thoughts, thought_tokens=5, thoughts_cut=cut)

    return ask


def test_thoughts_of_the_generator_are_counted_and_kept_out_of_the_critique() -> None:
    row = example()
    asyncio.run(Critique(CritiqueConfig(), 0).run(row, thinker("It is a colour.", "The verdict was given.")))
    assert row["chosen_critique"] == row["rejected_critique"] == "It is a colour."
    assert row["chosen_thoughts"] == row["rejected_thoughts"] == "The verdict was given."
    assert row["thought_tokens"] == 10


def test_a_generator_that_was_cut_off_while_it_thought_wrote_no_critique() -> None:
    row = example()
    asyncio.run(Critique(CritiqueConfig(), 0).run(row, thinker("", "Hm.", cut=True)))
    assert row["status"] == "filtered:unfinished_chosen_thoughts"
    assert row["chosen_thoughts"] == "Hm." and "chosen_critique" not in row


def test_the_generator_s_template_is_the_config_s() -> None:
    for name, words in (("critique", "one paragraph"), ("critique_compact", "in one sentence")):
        ask = run(Critique(CritiqueConfig(template=name), 0), example(), lambda *_: "It is a colour.")
        assert all(words in prompt for prompt, _ in ask.calls)
    depends = [Critique(CritiqueConfig(template=name), 0).depends() for name in ("critique", "critique_compact")]
    assert depends[0] != depends[1]


def test_the_checker_has_room_for_the_longest_label() -> None:
    labels = ["the claim is supported by the document as a whole, but one of its details is nowhere to be found", "No"]
    row = example(task="classification", responses=["x"], allowed=labels, verdict=labels[0], rejected_verdict="No")
    row |= {"chosen_critique": "good", "rejected_critique": "bad", **NOTHING_SPENT}
    ask = run(ConsistencyCheck(CritiqueConfig(check_mode="blind", probe_share=0), 0), row, lambda *_: labels[0])
    assert all(options["max_tokens"] > len(labels[0]) for _, options in ask.calls)
    assert row["chosen_consistent"]
