"""Random choices: functions of (seed, purpose, row_id) alone, uniform, and the same on every machine."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipelines.core.determinism import choose, digest, integer, unit

IDS = [f"row-{n}" for n in range(4000)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_digests_are_the_same_for_ever() -> None:
    # Ids are stored in data sets: a change of this function orphans them. The value is BLAKE2b, 16 bytes, of
    # the text ["a",1,null,["é"],{"a":2,"b":1}].
    assert digest("a", 1, None, ["é"], {"b": 1, "a": 2}) == "2344c56979e4afba57be86292bbc3c54"


def test_digests_do_not_depend_on_the_process() -> None:
    # PYTHONHASHSEED changes str.__hash__ and set order between processes.
    code = (
        "from pipelines.core.determinism import digest, unit; print(digest('x', {'b': 1, 'a': [2]}), unit(1, 'p', 'r'))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {f"{digest('x', {'a': [2], 'b': 1})} {unit(1, 'p', 'r')}\n"}


@settings(deadline=None)
@given(JSON, JSON)
def test_digests_are_equal_exactly_for_equal_values(a: object, b: object) -> None:
    # 1, 1.0 and True are equal in Python and different in JSON, so types are compared as well.
    same = repr(_canonical(a)) == repr(_canonical(b))
    assert (digest(a) == digest(b)) == same
    assert digest(a) == digest(a)


def _canonical(value: object) -> object:
    if isinstance(value, dict):
        return {key: _canonical(value[key]) for key in sorted(value)}
    return [_canonical(member) for member in value] if isinstance(value, list) else value


def test_parts_do_not_run_together() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", None) != digest("a")
    assert len(digest("a", size=8)) == 16


def test_units_are_uniform() -> None:
    numbers = [unit(7, "swap", row) for row in IDS]
    assert all(0 <= number < 1 for number in numbers)
    assert stats.kstest(numbers, "uniform").pvalue > 0.001


@pytest.mark.parametrize("others", [(8, "swap"), (7, "reject")])
def test_seed_and_purpose_give_independent_numbers(others: tuple[int, str]) -> None:
    mine = [unit(7, "swap", row) for row in IDS]
    theirs = [unit(*others, row) for row in IDS]
    assert abs(stats.pearsonr(mine, theirs).statistic) < 0.06


def test_choices_are_uniform_and_within_the_options() -> None:
    counts = dict.fromkeys("abc", 0)
    for row in IDS:
        counts[choose("abc", 0, "which", row)] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


@settings(deadline=None)
@given(st.lists(st.integers(), min_size=1), st.integers(), st.text(), st.text())
def test_a_choice_is_an_option_and_stays_it(options: list[int], seed: int, purpose: str, row: str) -> None:
    assert choose(options, seed, purpose, row) in options
    assert choose(options, seed, purpose, row) == choose(options, seed, purpose, row)


def test_there_must_be_something_to_choose() -> None:
    with pytest.raises(ValueError, match="nothing to choose"):
        choose([], 0, "p", "r")


@settings(deadline=None)
@given(st.integers(), st.text(), st.integers(1, 64))
def test_integers_fit_their_bits(seed: int, row: str, bits: int) -> None:
    assert 0 <= integer(seed, "sampling", row, bits) < 2**bits
