"""The questions of a certificate: benchmark rows as one forward pass each, the closed set of verdicts as tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy.special import softmax

from pipelines.core.records import OK, Row
from pipelines.engines.llm.verdict_tokens import Path, branches, path_logprobs, tree_of, verdict_tokens
from pipelines.judging.templates import load, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Question:
    """One judgment: what stands before the verdict, and the verdicts.

    Attributes:
        row: of a benchmark.
        message: of the user.
        shared: ids that every answer begins with; of a judge that criticises first, its critique too.
        paths: further ids of each verdict's answer.
    """

    row: Row
    message: str
    shared: list[int]
    paths: list[Path]

    @property
    def allowed(self) -> list[str]:
        """The verdicts, in the order of `paths`."""
        return list(self.row["allowed"])

    def places(self) -> list[tuple[Path, list[int]]]:
        """Where the verdicts part, and the tokens that may follow there."""
        return list(branches(tree_of(self.paths)))

    def probabilities(self, found: Mapping[Path, Mapping[int, float]]) -> dict[str, float]:
        """Verdict -> its probability among the allowed ones.

        Args:
            found: for each of `places`, the log-probability of each token.
        """
        likely = path_logprobs(self.paths, found)
        return dict(zip(self.allowed, softmax(likely).tolist(), strict=True))


def questions(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, critiques: Mapping[str, str] | None = None
) -> list[Question]:
    """One question for each row that can be asked about.

    Args:
        rows: of the benchmarks.
        tokenizer: of the judge.
        critiques: judgment id -> the judge's own critique, after which the verdict is asked for; without one it is
            asked for alone.
    """
    found = []
    for row in rows:
        if row["status"] != OK:
            continue
        template, critique = load(row["template"]), (critiques or {}).get(row["judgment_id"])
        answers = [template.completion(verdict, *([critique] if critique else [])) for verdict in row["allowed"]]
        shared, paths = verdict_tokens(tokenizer, answers)
        found.append(Question(row, render(template, row, cot=bool(critique)), shared, paths))
    return found


def asked(questions: Sequence[Question], prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """The prompts and tokens that an engine weighs for all questions, one of each for every place.

    Args:
        questions: in order.
        prompts: ids of each one's message.
    """
    ids, tokens = [], []
    for question, prompt in zip(questions, prompts, strict=True):
        for place, wanted in question.places():
            ids.append([*prompt, *question.shared, *place])
            tokens.append(wanted)
    return ids, tokens


def answered(questions: Sequence[Question], weights: Sequence[Mapping[int, float]]) -> list[dict[str, float]]:
    """Verdict -> probability, for each question.

    Args:
        questions: as given to `asked`.
        weights: what an engine made of it.
    """
    left, found = iter(weights), []
    for question in questions:
        found.append(question.probabilities({place: next(left) for place, _ in question.places()}))
    return found


def judged(question: Question, probabilities: Mapping[str, float]) -> dict[str, Any]:
    """The row as judged: the likeliest verdict, the first of equal ones."""
    best = max(question.allowed, key=lambda verdict: probabilities[verdict])
    if not all(map(math.isfinite, probabilities.values())):
        return {**question.row, "parse_status": None, "status": "error:judge:no_probability"}
    said = load(question.row["template"]).completion(best)
    return {
        **question.row,
        "raw": said,
        "predicted": best,
        "parse_status": OK,
        "verdict_probs": list(probabilities.items()),
    }
