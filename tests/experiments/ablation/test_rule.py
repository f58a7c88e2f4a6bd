"""The rule: what is more than chance, in which direction, and what the evidence says."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.scoring.intervals import Measured, normal
from pipelines.experiments.ablation.config import RuleConfig
from pipelines.experiments.ablation.rule import beyond, decide, sentence


@pytest.fixture(autouse=True)
def _no_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statsmodels collects garbage at each of thousands of calls: 0.1 s each in the process of all tests."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def gain(value: float, error: float) -> Measured:
    """A gain with a normal interval."""

    def bounds(confidence: float) -> tuple[float, float]:
        reach = normal(confidence) * error
        return value - reach, value + reach

    return Measured(value, bounds)


def verdicts(gains: dict[str, Measured], **rule: object) -> dict[str, str]:
    found = decide(gains, RuleConfig.model_validate(rule), "alone")
    return {source: one.verdict for source, one in found.items()}


def test_a_source_is_in_or_out_only_by_more_than_chance() -> None:
    gains = {
        "good": gain(0.1, 0.02),
        "bad": gain(-0.1, 0.02),
        "unclear": gain(0.03, 0.02),
        "none": Measured(None, None, "x"),
    }
    assert verdicts(gains) == {"good": "include", "bad": "exclude", "unclear": "undecided", "none": "undecided"}


def test_what_one_source_alone_would_show_several_together_do_not() -> None:
    lucky = gain(0.05, 0.023)  # p 0.03
    assert verdicts({"a": lucky}) == {"a": "include"}
    assert set(verdicts(dict.fromkeys("abcd", lucky)).values()) == {"undecided"}  # Holm: 0.12 each


def test_a_gain_must_be_above_the_least_by_more_than_chance() -> None:
    gains = {"large": gain(0.2, 0.02), "small": gain(0.04, 0.005), "worse": gain(-0.2, 0.02)}
    assert verdicts(gains) == {"large": "include", "small": "include", "worse": "exclude"}
    assert verdicts(gains, least=0.05) == {"large": "include", "small": "undecided", "worse": "exclude"}


@given(st.dictionaries(st.text("abcdef", min_size=1), st.floats(-0.3, 0.3), min_size=1, max_size=6))
def test_the_opposite_gains_are_decided_the_opposite_way(values: dict[str, float]) -> None:
    opposite = {"include": "exclude", "exclude": "include", "undecided": "undecided"}
    ours = verdicts({name: gain(value, 0.05) for name, value in values.items()}, least=0.01)
    theirs = verdicts({name: gain(-value, 0.05) for name, value in values.items()}, least=0.01)
    assert {name: opposite[one] for name, one in ours.items()} == theirs


@pytest.mark.parametrize("count", [1, 5])
def test_false_claims_are_as_rare_as_the_rule_says(count: int) -> None:
    """Of 300 ablations of sources without any effect, about 5 in 100 have a false decision among all sources."""
    random = np.random.default_rng(0)
    false = sum(
        any(beyond({str(i): gain(float(random.normal(0, 0.05)), 0.05) for i in range(count)}, RuleConfig()).values())
        for _ in range(300)
    )
    assert 4 <= false <= 27


def test_the_evidence_is_said_in_figures() -> None:
    found = decide({"a": gain(0.1, 0.02), "b": Measured(0.1, None, "one group")}, RuleConfig(), "alone")
    assert found["a"].why.startswith("alone: +0.100 [+0.061, +0.139], p 5.7e-07: more than chance")
    assert found["b"].why == "alone: +0.100, no interval (one group)"
    assert "trained on all sources" in sentence(RuleConfig(evidence="left_out", least=0.02))
