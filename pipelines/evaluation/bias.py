"""Biases of a judge, from its judgments alone: for a place, for length, for its own answers.

Throughout, `lines` is a table with one line per judgment of one benchmark (`read_judgments`) and, for pairs, from
`response_lengths` the lengths of the two responses in the order shown.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as pads

from pipelines.core.config import EvaluationConfig
from pipelines.core.determinism import integer
from pipelines.evaluation import intervals, metrics, own_responses
from pipelines.evaluation.examples import GIVEN, SWAPPED, flip
from pipelines.evaluation.judgments import UNASKED
from pipelines.evaluation.metrics import UNPARSED

Entry = dict[str, Any]
PLACES = ((0, "a"), (1, "b"))
WINS = (("first", "A"), ("second", "B"))
PER = 100  # characters: the unit of the length coefficient
BY_KIND = "evalbiasbench"  # the benchmark whose parts are kinds of bias (arXiv 2407.06551)


def bias(judgments: Path, lines: pd.DataFrame, names: Collection[str], config: EvaluationConfig, seed: int) -> Entry:
    """The biases of one model on one pairwise benchmark.

    Args:
        judgments: the model's file or folder of judgments, for the responses.
        lines: its judgments of the benchmark.
        names: what the judge is called as a generator of responses (`own_responses.known_as`).
        config: bootstrap draws and confidence.
        seed: of the bootstrap.
    """
    name = str(lines["benchmark"].iloc[0])
    lines = lines[lines["outcome"] != UNASKED].merge(response_lengths(judgments), on="judgment_id", how="left")
    table, key = metrics.pairs(lines), integer(seed, "bias", name)
    entry = {
        "position": position(table, config.confidence),
        "length": length(lines, config.confidence, config.bootstrap, key),
        "self_preference": own_responses.choices(lines, names, config.confidence, config.bootstrap, key),
    }
    return entry | ({"kinds": kinds(table, config.confidence)} if name == BY_KIND else {})


def bias_of_scores(lines: pd.DataFrame, names: Collection[str], config: EvaluationConfig, seed: int) -> Entry:
    """The biases of one model on one absolute benchmark: that for its own responses. Arguments as for `bias`."""
    key = integer(seed, "bias", str(lines["benchmark"].iloc[0]))
    judged = lines[lines["outcome"] != UNASKED]
    return {"self_preference": own_responses.scores(judged, names, config.confidence, config.bootstrap, key)}


def response_lengths(judgments: Path) -> pd.DataFrame:
    """judgment_id, length_a and length_b (characters) of pairs."""
    dataset = pads.dataset(str(judgments), format="parquet")
    lengths = {f"length_{letter}": pc.utf8_length(pc.list_element(pc.field("responses"), i)) for i, letter in PLACES}
    # A row that could not be read may have no responses.
    pair = (pc.field("task") == "pairwise") & (pc.list_value_length(pc.field("responses")) == 2)
    columns = {"judgment_id": pc.field("judgment_id"), **lengths}
    return pd.DataFrame(dataset.to_table(columns=columns, filter=pair).to_pydict())


def position(table: pd.DataFrame, confidence: float) -> Entry:
    """Which place wins where a judge contradicts itself.

    Args:
        table: of `metrics.pairs`.
        confidence: of the Wilson intervals.

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
    off = read & (first.map(flip) != second)
    n = int(off.sum())
    counts = {place: int((off & (first == letter) & (second == letter)).sum()) for place, letter in WINS}
    found: Entry = {"pairs": len(first), "unread": int((~read).sum()), "contradicted": n, **counts}
    found["other"] = n - sum(counts.values())
    for name, count in zip(("primacy", "recency"), counts.values(), strict=True):
        low, high = intervals.wilson(count, n, confidence)
        found[name] = {"value": count / n if n else None, "ci_low": low, "ci_high": high}
    return found


def length(lines: pd.DataFrame, confidence: float, draws: int, seed: int) -> Entry:
    """Whether a judge favours the longer response.

    Args:
        lines: judgments with length_a and length_b.
        confidence: of the intervals.
        draws: of the bootstrap over groups.
        seed: of the bootstrap.

    Returns:
        `longer_right` and `shorter_right` (n, accuracy): judgments in which the right response is the longer, or the
        shorter, one; `difference` of the two accuracies, with a bootstrap interval; `regression`: log-odds of
        choosing a response per 100 characters that it is longer, by a logistic regression on the length difference
        with errors clustered by group; `given_gold` the same with the right verdict (1, 0 or −1) beside it: right
        responses may well be longer. Ties, gold or said, are no choice between the two and are left out of what needs
        one.
    """
    known = lines[lines["length_a"].notna() & lines["length_b"].notna()]
    decided = known[known["gold"].isin(("A", "B")) & (known["length_a"] != known["length_b"])]
    longer = ((decided["gold"] == "A") == (decided["length_a"] > decided["length_b"])).to_numpy()
    right = metrics.right(decided).to_numpy()
    parts = {"longer_right": longer, "shorter_right": ~longer}
    found: Entry = {
        name: {"n": int(part.sum()), "accuracy": float(right[part].mean()) if part.any() else None}
        for name, part in parts.items()
    }
    one, two = (found[name]["accuracy"] for name in parts)
    found["difference"] = {"value": None if one is None or two is None else one - two, "ci_low": None, "ci_high": None}
    if found["difference"]["value"] is not None and decided["group_id"].nunique() > 1:
        columns = np.column_stack([right & longer, longer, right & ~longer, ~longer])
        sums = intervals.resample(columns, decided["group_id"], draws, seed)
        whole = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)]  # a resample without one of the two kinds has no difference
        values = whole[:, 0] / whole[:, 1] - whole[:, 2] / whole[:, 3]
        low, high = intervals.percentile(values, confidence)
        found["difference"] |= {"ci_low": low, "ci_high": high}
    return found | {
        "regression": _choice_of_a(known, confidence),
        "given_gold": _choice_of_a(known, confidence, gold=True),
    }


def _choice_of_a(lines: pd.DataFrame, confidence: float, gold: bool = False) -> Entry:
    """Logistic regression of choosing response A; without coefficient where the data determine none."""
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import ModelWarning, PerfectSeparationError

    chosen = lines[(lines["outcome"] == "ok") & lines["predicted"].isin(("A", "B"))]
    y = (chosen["predicted"] == "A").to_numpy(dtype=float)
    columns = [((chosen["length_a"] - chosen["length_b"]) / PER).to_numpy(dtype=float)]
    columns += [chosen["gold"].map({"A": 1.0, "B": -1.0}).fillna(0.0).to_numpy()] if gold else []
    groups = pd.factorize(chosen["group_id"])[0]
    found: Entry = {"n": len(chosen), "coefficient": None, "ci_low": None, "ci_high": None}
    if len(set(groups)) <= len(columns) + 1 or any(np.ptp(values) == 0 for values in (y, *columns)):
        return found
    design = sm.add_constant(np.column_stack(columns))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)  # separation, or no convergence
        warnings.simplefilter("ignore", RuntimeWarning)  # an overflow on the way to separation
        try:
            fit = sm.Logit(y, design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": groups})
        except (ModelWarning, PerfectSeparationError, np.linalg.LinAlgError):
            return found
    low, high = fit.conf_int(1 - confidence)[1]
    return found | {"coefficient": float(fit.params[1]), "ci_low": float(low), "ci_high": float(high)}


def kinds(table: pd.DataFrame, confidence: float) -> dict[str, Entry]:
    """Accuracy by kind of bias, over both orders, with Wilson intervals as if the orders were one trial."""
    found = {}
    for name, part in table.dropna(subset=["subset"]).groupby("subset", sort=True):
        low, high = intervals.wilson(float(part["points"].sum()), len(part), confidence)
        found[str(name)] = {"n": len(part), "value": float(part["points"].mean()), "ci_low": low, "ci_high": high}
    return found
