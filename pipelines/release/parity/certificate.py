"""The figures of a parity certificate: each engine and quantisation against transformers in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.evaluation.scoring.comparison import Comparison, Difference
from pipelines.evaluation.scoring.figures import Figures, Part
from pipelines.evaluation.scoring.flips import Pair, Said, divergence, flips_of, largest_gap
from pipelines.release.parity.column import Answers, Asked

SHOWN = 5


class Tokens(Figures):
    """How many messages have the same prompt tokens as the judge was trained on.

    Attributes:
        of: messages compared.
        equal: of those.
        differ: some of the others, their beginnings.
    """

    of: int
    equal: int
    differ: list[str]

    @property
    def all_equal(self) -> bool:
        """Whether none differs."""
        return self.of == self.equal


class Spread(Figures):
    """Of a quantity over questions: mean, the 95th percentile, and the largest."""

    mean: float
    p95: float
    most: float


class Parity(Figures):
    """One engine with one file, against the reference.

    Attributes:
        encoded: prompts as openselene makes them, with the engine's own tokenizer, for messages without control tokens.
        marked: the same for messages with control tokens, which are made characters; the chat routes read them as such.
        chat: the engine's own chat route, for messages without control tokens.
        ollama: Ollama's template on this file, for the same messages; None where it was not compared.
        gap: largest |Δp| of a question's verdicts.
        divergence: KL(reference ‖ engine) of a question, nats.
        flips: share of verdicts that differ.
        margins: the same by the reference's margin.
        turned: verdict of the reference and of this one, and how often.
        drift: benchmark -> difference of the headline, on the same rows.
        within: whether the share of flips is at most the bound.
    """

    engine: str
    encoded: Tokens
    marked: Tokens
    chat: Tokens
    ollama: Tokens | None
    gap: Spread
    divergence: Spread
    flips: Part
    margins: dict[str, Part]
    turned: dict[str, int]
    drift: dict[str, Difference]
    within: bool

    def required(self) -> list[tuple[str, Tokens]]:
        """Route -> tokens, of those that must not differ."""
        found = [("", self.encoded), ("chat ", self.chat)]
        found += [("Ollama ", self.ollama)] if self.ollama else []
        return found if self.engine == "llama.cpp" else [*found, ("", self.marked)]


class Certificate(Figures):
    """All columns.

    Attributes:
        reference: the first column.
        questions: asked of each.
        after_critique: questions whose verdict came after the judge's own critique.
        texts: further messages, hostile ones.
        most_flips: the bound.
        columns: name -> figures.
        versions: column -> packages.
        ollama: why Ollama's template was not compared; empty where it was.
    """

    reference: str
    questions: int
    after_critique: int
    texts: int
    most_flips: float
    columns: dict[str, Parity]
    versions: dict[str, dict[str, str]]
    ollama: str = ""

    @property
    def same_tokens(self) -> bool:
        """Whether every engine reads the same prompts; llama.cpp's own way with control tokens is only told, as it is
        given ids."""
        return all(tokens.all_equal for one in self.columns.values() for _, tokens in one.required())


def parity(
    what: Asked,
    reference: Answers,
    answers: Answers,
    engine: str,
    controls: Sequence[str],
    comparison: Comparison | None,
    most: float,
) -> Parity:
    """The figures of one column.

    Args:
        what: was asked of both.
        reference: what the reference said.
        answers: what this column said.
        engine: its name.
        controls: control tokens as text.
        comparison: this column against the reference on the benchmarks; None for the reference itself.
        most: share of flips up to which it is the same judge.
    """
    messages = what.messages
    plain = [not any(token in message for token in controls) for message in messages]
    flips = flips_of(_pairs(what, reference, answers))
    low, high = flips.interval
    gaps, divergences = zip(
        *(
            (largest_gap(old, new), divergence(old, new))
            for old, new in zip(reference.probabilities, answers.probabilities, strict=True)
        ),
        strict=True,
    )
    return Parity(
        engine=engine,
        encoded=_tokens(messages, reference.encoded, answers.encoded, plain),
        marked=_tokens(messages, reference.encoded, answers.encoded, [not one for one in plain]),
        chat=_tokens(messages, reference.encoded, answers.chat, plain),
        ollama=_tokens(messages, reference.encoded, answers.ollama, plain) if answers.ollama else None,
        gap=_spread(gaps),
        divergence=_spread(divergences),
        flips=Part(n=flips.compared, value=flips.share, ci_low=low, ci_high=high),
        margins=flips.margins,
        turned=flips.turned,
        drift=dict(comparison.benchmarks) if comparison else {},
        within=(flips.share or 0.0) <= most,
    )


def said(probabilities: Mapping[str, float], allowed: Sequence[str]) -> Said:
    """A verdict by its probabilities: the likeliest, the first of equal ones."""
    return Said(max(allowed, key=lambda verdict: probabilities[verdict]), probabilities)


def _pairs(what: Asked, reference: Answers, answers: Answers) -> list[Pair]:
    return [
        Pair(
            question.row["judgment_id"],
            question.row["group_id"],
            said(old, question.allowed),
            said(new, question.allowed),
        )
        for question, old, new in zip(what.questions, reference.probabilities, answers.probabilities, strict=True)
    ]


def _tokens(messages: Sequence[str], wanted: Sequence[str], found: Sequence[str], chosen: Sequence[bool]) -> Tokens:
    compared = [
        (message, one == two) for message, one, two, yes in zip(messages, wanted, found, chosen, strict=True) if yes
    ]
    differ = [message for message, equal in compared if not equal]
    return Tokens(
        of=len(compared), equal=len(compared) - len(differ), differ=[repr(one[:60]) for one in differ[:SHOWN]]
    )


def _spread(values: Sequence[float]) -> Spread:
    array: Any = np.asarray(values, dtype=np.float64)
    return Spread(mean=float(array.mean()), p95=float(np.quantile(array, 0.95)), most=float(array.max()))
