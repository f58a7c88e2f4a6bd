"""What can be measured of critiques without a model: length, substance, overlap of both sides, leaks of the verdict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from pipelines.core.records import Row
from pipelines.curation.near_duplicates import shingles
from pipelines.curation.words import words_of
from pipelines.experiments.audit.sample import SIDES
from pipelines.judging.verdict import read_verdict

QUOTED = 4  # words of a run that a critique takes from the row
FORM = 3  # words of a run that critiques of other rows have too
VERDICT_WORDS = re.compile(
    r"\b(?:response|answer|assistant|option)s?\s+[ab]\b|\b[ab]\b(?=\s+(?:is|was|does|has))|\btie\b|\byes\b|\bno\b"
    r"|\b(?:score|rating)s?\s+(?:of\s+|is\s+)?\d+\b|\b\d+\s*(?:/\s*\d+|out of \d+)\b|\b(?:better|worse|best|worst)\b",
    re.IGNORECASE,
)

_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_BETTER = "(?:better|superior|best|stronger|preferred|preferable|wins?)"
# Task -> how a sentence says a verdict `{{v}}`.
_SAID = {
    "pairwise": rf"\b(?:response|answer|assistant|option)?\s*{{v}}\b[^.,;]{{{{0,30}}}}\b{_BETTER}\b",
    "absolute": r"\b(?:scores?|scored|ratings?|rated|grade)\b\D{{0,20}}\b{v}\b|\b{v}\s*(?:/|out of)\s*\d",
    "classification": r"^\W*{v}\b\W|\b(?:answer|verdict|judg\w+|label|result)\b[^.,;]{{0,20}}\b{v}\b",
}


def measure(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line a critique: which row and side it is of, and its measures.

    `words`; `grounded`, share of its content words that are in the responses, context or reference and not in the
    instruction; `quotes`, whether it has a run of QUOTED words of these; `form`, share of its runs of FORM words that
    critiques of other rows have too; `overlap`, Jaccard similarity of the words' pairs of both critiques of the row,
    verdict words left out; `states_verdict`, whether a sentence says the verdict outright.
    """
    texts = {(row["row_id"], side): row[f"{side}_critique"] or "" for row in rows for side in SIDES}
    forms = {key: shingles(plain(text), FORM) for key, text in texts.items()}
    rows_with: Counter[str] = Counter()
    for row in rows:
        rows_with.update(forms[row["row_id"], "chosen"] | forms[row["row_id"], "rejected"])
    lines = []
    for row in rows:
        overlap = jaccard(*(shingles(plain(texts[row["row_id"], side]), 2) for side in SIDES))
        for side in SIDES:
            text, own = texts[row["row_id"], side], forms[row["row_id"], side]
            verdict = row["verdict" if side == "chosen" else "rejected_verdict"]
            line = {"row_id": row["row_id"], "source": row["source"], "side": side, "words": len(words_of(text))}
            shared = sum(rows_with[form] > 1 for form in own) / len(own) if own else None
            line |= {**grounding(text, row), "form": shared, "overlap": overlap}
            lines.append({**line, "states_verdict": states(text, row, verdict)})
    return lines


def states(text: str, row: Row, verdict: str) -> bool:
    """Whether a critique says outright which verdict it argues for, so that a reader needs no reason of it."""
    said = _SAID[row["task"]].format(v=re.escape(verdict))
    for sentence in _SENTENCES.split(text):
        found = read_verdict(sentence.strip(), row["allowed"])
        if (found and found.label == verdict) or re.search(said, sentence, re.IGNORECASE):
            return True
    return False


def plain(text: str) -> str:
    """A critique without the words that name a verdict."""
    return VERDICT_WORDS.sub(" ", text)


def grounding(text: str, row: Row) -> dict[str, Any]:
    """How far a critique speaks of this row: its content words, and runs of words that it quotes."""
    asked = set(words_of(row["instruction"] or ""))
    material = [one for one in (*(row["responses"] or []), row["context"], row["reference"]) if one]
    known = {word for one in material for word in words_of(one)}
    content = [word for word in words_of(plain(text)) if word not in stop_words() and word not in asked]
    runs = {run for one in material for run in _runs(one)}
    quotes = any(run in runs for run in _runs(text))
    return {"grounded": sum(word in known for word in content) / len(content) if content else None, "quotes": quotes}


def _runs(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[place : place + QUOTED]) for place in range(len(words) - QUOTED + 1)}


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Share of the runs of either text that both have; two empty texts are the same."""
    return len(one & other) / len(one | other) if one or other else 1.0


@cache
def stop_words() -> frozenset[str]:
    """Words that any text has."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


def style_leak(rows: Sequence[Row], seed: int, folds: int = 5) -> dict[str, Any]:
    """Whether the side can be told from the critique's words alone, without the row: 0.5 is chance.

    A judge that learns such a style learns nothing of responses. A logistic regression on words and pairs of words,
    verdict words left out, is scored by the area under the ROC curve on folds it has not seen; both critiques of a row
    are in one fold. The interval is a bootstrap over rows.

    Returns:
        `auc`, `low`, `high`, `n` of critiques; None where there are fewer than 20 rows.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    if len(rows) < 20:
        return {"auc": None, "low": None, "high": None, "n": 2 * len(rows)}
    texts = [plain(row[f"{side}_critique"] or "") for row in rows for side in SIDES]
    is_chosen = np.tile([1, 0], len(rows))
    groups = np.repeat(np.arange(len(rows)), 2)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
        LogisticRegression(C=1.0, max_iter=1000),
    )
    try:
        apart = {"groups": groups, "cv": GroupKFold(folds), "method": "predict_proba"}
        told = cross_val_predict(model, texts, is_chosen, **apart)[:, 1]
    except ValueError:  # no word comes twice
        told = np.full(len(texts), 0.5)
    draw = np.random.default_rng(seed)
    pairs = told.reshape(-1, 2)
    drawn = [pairs[draw.integers(len(rows), size=len(rows))] for _ in range(500)]
    areas = [roc_auc_score(np.tile([1, 0], len(rows)), one.ravel()) for one in drawn]
    low, high = np.quantile(areas, [0.025, 0.975])
    return {"auc": float(roc_auc_score(is_chosen, told)), "low": float(low), "high": float(high), "n": len(texts)}
