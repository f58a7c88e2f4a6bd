"""The constrained judge on a stub in place of an engine: what it asks, and what it keeps of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.engines.llm.ask import Answer, Closing
from pipelines.engines.llm.constrained import ConstrainedJudge, closing_of
from pipelines.judging.parse import parse
from pipelines.judging.templates import TEMPLATES, load

VERDICTS = {"pairwise": ["A", "B"], "absolute": ["1", "2", "10"], "classification": ["Yes", "No"]}


def row(template: str = "pairwise_original", **values: Any) -> dict[str, Any]:
    task = load(template).task
    return {
        "task": task,
        "template": template,
        "instruction": "i",
        "context": None,
        "responses": ["a", "b"][: 2 if task == "pairwise" else 1],
        "reference": None,
        "rubric": "RUBRIC",
        "allowed": VERDICTS[task],
        **values,
    }


class Stub:
    """In an engine's place: always the same answer."""

    def __init__(self, text: str, verdict: str, *, forced: bool = False) -> None:
        self.answer = Answer(text, 7, 4, 0.5, verdict=verdict, verdict_probs={verdict: 1.0}, forced=forced)
        self.asked: list[tuple[str, int, Closing]] = []

    async def __call__(
        self, prompt: str, *, max_tokens: int, closing: Closing, on_text: Callable[[str], None] | None = None
    ) -> Answer:
        self.asked.append((prompt, max_tokens, closing))
        if on_text:
            for piece in closing.before(self.answer.text, self.answer.verdict or "").split(" "):
                on_text(f"{piece} ")
        return self.answer


def judge(stub: Stub, example: dict[str, Any], max_tokens: int = 9, **options: Any) -> dict[str, Any]:
    heard: list[str] = []
    asyncio.run(ConstrainedJudge(max_tokens, **options).run(example, stub, heard.append))  # type: ignore[arg-type]
    return example | {"heard": "".join(heard)}


@pytest.mark.parametrize(("forced", "status"), [(False, "ok"), (True, "completed")])
def test_a_judgment_says_who_wrote_the_label(forced: bool, status: str) -> None:
    stub = Stub("**Reasoning:** It is fine.\n\n**Result:** B", "B", forced=forced)
    found = judge(stub, row())
    assert (found["predicted"], found["critique"], found["parse_status"]) == ("B", "It is fine.", status)
    assert found["raw"] == stub.answer.text and found["verdict_probs"] == [("B", 1.0)]
    assert (found["prompt_tokens"], found["output_tokens"], found["latency"]) == (7, 4, 0.5)
    assert found["heard"].strip() == "It is fine."
    ((_, budget, closing),) = stub.asked
    assert budget == 9 and closing == Closing("**Result:**", {"A": "**Result:** A", "B": "**Result:** B"}, "\n\n")


def test_a_verdict_alone_has_no_critique_and_no_free_text() -> None:
    stub = Stub("**Result:** B", "B")
    found = judge(stub, row(), with_critique=False)
    assert (found["predicted"], found["critique"], found["parse_status"], found["heard"]) == ("B", "", "ok", "")
    ((prompt, budget, closing),) = stub.asked
    assert budget == 0 and "Reasoning" not in prompt
    assert closing.endings == {"A": "**Result:** A", "B": "**Result:** B"}


def test_the_rubric_may_come_last() -> None:
    stub = Stub("**Result:** B", "B")
    judge(stub, row(), rubric_last=True)
    assert stub.asked[0][0].endswith("RUBRIC")


def judge_templates() -> list[str]:
    return [name for name in TEMPLATES.names() if load(name).task != "any"]


@pytest.mark.parametrize("name", judge_templates())
@pytest.mark.parametrize("critique", ["Fine.", "Two.\n\nParagraphs: Result", "Result: none\nof these", ""])
def test_the_critique_is_the_one_that_the_parser_reads(name: str, critique: str) -> None:
    template, allowed = load(name), VERDICTS[load(name).task]
    closing = closing_of(template, allowed)
    for verdict in allowed:
        text = template.completion(verdict, critique)
        assert text.endswith(closing.separator + closing.endings[verdict]) or not critique
        parsed = parse(text, allowed)
        found = judge(Stub(text, verdict), row(name))
        assert (parsed.verdict, parsed.critique) == (verdict, found["critique"]) == (found["predicted"], critique)


def test_a_template_without_a_label_is_refused_with_a_critique_only(tmp_path: Path) -> None:
    path = tmp_path / "bare.yaml"
    path.write_text("name: bare\ntask: classification\norigin: test\nresult: ''\ntext: '{{ instruction }}'\n")
    example = row(str(path)) | {"task": "classification"}
    with pytest.raises(UserError, match="no label between critique and verdict") as refused:
        judge(Stub("Yes", "Yes"), example)
    assert "\n" not in refused.value.what
    assert judge(Stub("Yes", "Yes"), example, with_critique=False)["predicted"] == "Yes"


def test_a_result_depends_on_how_it_is_asked_for() -> None:
    ways = [ConstrainedJudge(9), ConstrainedJudge(8), ConstrainedJudge(9, with_critique=False)]
    ways.append(ConstrainedJudge(9, rubric_last=True))
    assert len({str(way.depends()) for way in ways}) == 4
