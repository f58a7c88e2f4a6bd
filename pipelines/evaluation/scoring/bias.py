"""Biases of a judge, from its judgments alone: for a place, for length, for its own answers.

Throughout, `lines` is a table with one line per judgment of one benchmark (`read_judgments`) and, for pairs, from
`response_lengths` the lengths of the two responses in the order shown.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from pipelines.core import storage
from pipelines.core.storage import Place
from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED
from pipelines.evaluation.asking.judgments import SKIPPED
from pipelines.evaluation.scoring import intervals, self_preference, verdict_tables
from pipelines.evaluation.scoring.figures import Estimate, Figures, Part
from pipelines.evaluation.scoring.self_preference import SelfPreference
from pipelines.evaluation.scoring.verdict_tables import UNPARSED
from pipelines.judging.tasks import PAIRWISE

FIRST, SECOND = PAIRWISE.verdicts
PER = 100  # characters: the unit of the length coefficient
LEAST = 20  # read verdicts, groups or contradicted pairs from which a difference, a coefficient or an interval is shown
BY_KIND = "evalbiasbench"  # the benchmark whose parts are kinds of bias (arXiv 2407.06551)


class Position(Figures):
    """Which place wins where a judge contradicts itself; see `bias.position`."""

    pairs: int
    unread: int
    contradicted: int
    first: int
    second: int
    other: int
    primacy: Estimate
    recency: Estimate


class LengthShare(Figures):
    """Accuracy over some of the verdicts that were read."""

    n: int
    accuracy: float | None


class Coefficient(Figures):
    """A coefficient of a logistic regression."""

    n: int
    coefficient: float | None
    ci_low: float | None
    ci_high: float | None


class Length(Figures):
    """Whether a judge favours the longer response; see `bias.length`."""

    longer_right: LengthShare
    shorter_right: LengthShare
    difference: Estimate
    regression: Coefficient
    given_gold: Coefficient


class Bias(Figures):
    """The biases of one model on one benchmark; scores have self-preference alone."""

    position: Position | None = None
    length: Length | None = None
    self_preference: SelfPreference
    kinds: dict[str, Part] | None = None


def bias(judgments: Place, lines: pd.DataFrame, names: Collection[str], confidence: float) -> Bias:
    """The biases of one model on one pairwise benchmark.

    Args:
        judgments: the model's file or folder of judgments, for the responses.
        lines: its judgments of the benchmark.
        names: what the judge is called as a generator of responses (`self_preference.known_as`).
        confidence: of the intervals.
    """
    name = str(lines["benchmark"].iloc[0])
    lines = lines[lines["outcome"] != SKIPPED].merge(response_lengths(judgments), on="judgment_id", how="left")
    table = verdict_tables.pairs(lines)
    return Bias(
        position=position(table, confidence),
        length=length(lines, confidence),
        self_preference=self_preference.choices(lines, names, confidence),
        **({"kinds": kinds(table, confidence)} if name == BY_KIND else {}),
    )


def bias_of_scores(lines: pd.DataFrame, names: Collection[str], confidence: float) -> Bias:
    """The biases of one model on one absolute benchmark: that for its own responses. Arguments as for `bias`."""
    return Bias(self_preference=self_preference.scores(lines[lines["outcome"] != SKIPPED], names, confidence))


def response_lengths(judgments: Place) -> pd.DataFrame:
    """judgment_id, length_a and length_b (characters) of pairs."""
    responses = pc.field("responses")
    lengths = {
        f"length_{letter}": pc.utf8_length(pc.list_element(responses, place)) for place, letter in enumerate("ab")
    }
    # A row that could not be read may have no responses.
    pair = (pc.field("task") == PAIRWISE.name) & (pc.list_value_length(responses) == PAIRWISE.responses)
    columns = {"judgment_id": pc.field("judgment_id"), **lengths}
    return pd.DataFrame(storage.dataset(judgments).to_table(columns=columns, filter=pair).to_pydict())


def position(table: pd.DataFrame, confidence: float) -> Position:
    """Which place wins where a judge contradicts itself.

    Args:
        table: of `verdict_tables.pairs`.
        confidence: of the intervals.

    Returns:
        `pairs`; `unread`, pairs with an unread or missing verdict in either order, which tell nothing; `contradicted`,
        pairs whose two verdicts, both read, do not name the same response; of those `first` and `second`, the same
        place twice, and `other`, a tie in one order only; `primacy` and `recency`, the shares of first and second in
        the contradicted pairs, with intervals. Counts are 0 and shares None where one order was judged.
    """
    both = f"verdict_{SWAPPED}" in table
    first = table[f"verdict_{GIVEN}"] if both else pd.Series(dtype=object)
    second = table[f"verdict_{SWAPPED}"] if both else pd.Series(dtype=object)
    read = (first != UNPARSED) & (second != UNPARSED)
    off = read & (first.where(read).map(PAIRWISE.opposite, na_action="ignore") != second)
    n = int(off.sum())
    if not both:
        table = table[:0]
    twice = {letter: int((off & (first == letter) & (second == letter)).sum()) for letter in (FIRST, SECOND)}

    def share(letter: str) -> Estimate:
        same = (first == letter) & (second == letter)
        return intervals.of_mean(same, table["group_id"], off).estimate(confidence)

    return Position(
        pairs=len(first),
        unread=int((~read).sum()),
        contradicted=n,
        first=twice[FIRST],
        second=twice[SECOND],
        other=n - twice[FIRST] - twice[SECOND],
        primacy=share(FIRST),
        recency=share(SECOND),
    )


def length(lines: pd.DataFrame, confidence: float) -> Length:
    """Whether a judge favours the longer response, by the verdicts that were read.

    An unread verdict favours nothing: a judge that is unread on long prompts would seem to dislike length. Ties, gold
    or said, are no choice between the two and are left out of what needs one.

    Args:
        lines: judgments with length_a and length_b.
        confidence: of the intervals.

    Returns:
        `longer_right` and `shorter_right`: judgments in which the right response is the longer, or the shorter, one;
        `difference` of the two accuracies, None below LEAST judgments of either kind; `regression`: log-odds of
        choosing a response per 100 characters that it is longer, by a logistic regression on the length difference
        with errors clustered by group; `given_gold`: the same with the right verdict (1, 0 or −1) as a second
        regressor, since right responses may well be longer.
    """
    read = lines[(lines["outcome"] == "ok") & lines["length_a"].notna() & lines["length_b"].notna()]
    decided = read[read["gold"].isin(PAIRWISE.verdicts) & (read["length_a"] != read["length_b"])]
    longer = ((decided["gold"] == FIRST) == (decided["length_a"] > decided["length_b"])).to_numpy()
    right, groups = verdict_tables.right(decided).to_numpy(), decided["group_id"]
    one, two = (intervals.of_mean(right, groups, part) for part in (longer, ~longer))
    enough = min(longer.sum(), (~longer).sum()) >= LEAST
    gap = intervals.difference(one, two) if enough else intervals.Measured(None, None)
    return Length(
        longer_right=LengthShare(n=int(longer.sum()), accuracy=one.value),
        shorter_right=LengthShare(n=int((~longer).sum()), accuracy=two.value),
        difference=gap.estimate(confidence),
        regression=_choice_of_a(read, confidence),
        given_gold=_choice_of_a(read, confidence, gold=True),
    )


def _choice_of_a(lines: pd.DataFrame, confidence: float, gold: bool = False) -> Coefficient:
    """The coefficient of length for choosing response A."""
    chosen = lines[lines["predicted"].isin(PAIRWISE.verdicts)]
    columns = [((chosen["length_a"] - chosen["length_b"]) / PER).to_numpy(dtype=float)]
    columns += [chosen["gold"].map({FIRST: 1.0, SECOND: -1.0}).fillna(0.0).to_numpy()] if gold else []
    chose = (chosen["predicted"] == FIRST).to_numpy(dtype=float)
    return logistic(chose, columns, pd.factorize(chosen["group_id"])[0], confidence)


def logistic(
    y: NDArray[np.float64], columns: Sequence[NDArray[np.float64]], groups: ArrayLike, confidence: float
) -> Coefficient:
    """The first coefficient of a logistic regression with a constant; none where the data determine none."""
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import ModelWarning, PerfectSeparationError

    unknown = Coefficient(n=len(y), coefficient=None, ci_low=None, ci_high=None)
    if len(np.unique(groups)) < LEAST or any(np.ptp(values) == 0 for values in (y, *columns)):
        return unknown
    design = sm.add_constant(np.column_stack(columns))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)  # separation, or no convergence
        warnings.simplefilter("ignore", RuntimeWarning)  # an overflow on the way to separation
        try:
            fit = sm.Logit(y, design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
        except (ModelWarning, PerfectSeparationError, np.linalg.LinAlgError):
            return unknown
    low, high = fit.conf_int(1 - confidence)[1]
    return Coefficient(n=len(y), coefficient=float(fit.params[1]), ci_low=float(low), ci_high=float(high))


def kinds(table: pd.DataFrame, confidence: float) -> dict[str, Part]:
    """Accuracy by kind of bias, over both orders."""
    found = {}
    for name, part in table.dropna(subset=["subset"]).groupby("subset", sort=True):
        one = intervals.of_mean(part["points"], part["group_id"])
        low, high = one.interval(confidence)
        found[str(name)] = Part(n=len(part), value=one.value, ci_low=low, ci_high=high)
    return found
