"""The mixture file: what leaves and why, what is refused, and that it is read as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import Config
from pipelines.core.errors import UserError
from pipelines.core.records import EXAMPLE, SCORED
from pipelines.core.segment import Rows
from pipelines.core.stage import apply_stages
from pipelines.core.step import DONE
from pipelines.curation.job import check_sources
from pipelines.curation.mixture import (
    Chosen,
    InMixture,
    Mixture,
    ScoreFilter,
    check_mixture,
    in_mixture,
    load_mixture,
    to_yaml,
)
from ray_jobs.curate import build

OUT = Chosen(include=False, why="its labels are wrong")
IN = Chosen(include=True)


def row(source: str, reward: float, **changes: Any) -> dict[str, Any]:
    values = {"task": "pairwise", "allowed": ["A", "B"], "verdict": "A", "responses": ["a", "b"]}
    return {
        "source": source,
        "status": "ok",
        "row_id": f"{source}{reward}",
        **values,
        "rewards": [reward, 0.0],
        **changes,
    }


LATE = ScoreFilter(score="consistency", value=1)


def by(**how: Any) -> Chosen:
    return Chosen(include=True, filter=ScoreFilter(**how))


def test_each_row_leaves_with_its_reason() -> None:
    stage = InMixture({"out": OUT, "in": IN, "low": by(value=0.5), "high": by(value=0.5, drop="highest")})
    rows = [row(source, reward) for source in ("out", "in", "low", "high", "unnamed") for reward in (0.1, 0.5, 0.9)]
    apply_stages([stage], rows)
    assert [one["status"].removeprefix("filtered:") for one in rows] == [
        *["excluded_by_mixture"] * 3,
        *["ok"] * 3,
        *["reward_below_threshold", "ok", "ok"],
        *["ok", "ok", "reward_above_threshold"],
        *["ok"] * 3,
    ]


@pytest.mark.parametrize(("drop", "left"), [("lowest", range(25, 100)), ("highest", range(75))])
def test_a_quantile_is_of_the_sources_own_scored_rows(tmp_path: Path, drop: str, left: range) -> None:
    schema = pa.schema([*EXAMPLE, *SCORED])
    rows = [row("s", float(i)) for i in range(100)] + [row("t", -5.0 * i) for i in range(50)]
    rows += [row("s", -9.0, status="filtered:x") for _ in range(50)]
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "x.parquet")
    stage = InMixture({"s": by(quantile=0.25, drop=drop), "t": IN})
    stage.open(tmp_path)
    again = [row("s", float(i)) for i in range(100)]
    apply_stages([stage], again)
    assert [one["rewards"][0] for one in again if one["status"] == "ok"] == [float(i) for i in left]


def test_a_row_that_was_not_scored_is_an_error_row() -> None:
    one = row("s", 1.0, rewards=None)
    apply_stages([InMixture({"s": by(value=0.5)})], [one])
    assert one["status"] == "error:mixture:no_rewards"


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    mixture = Mixture(sources={"a": OUT, "b": by(score="length", drop="highest", quantile=0.25), "c": IN})
    place = tmp_path / "mixture.yaml"
    place.write_text(to_yaml(mixture, "mixture.yaml"))
    assert load_mixture(place) == mixture and place.read_text().startswith("#") and load_mixture(None) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources: {a: {include: true, filter: {score: reward}}}", "give either a quantile or a value"),
        ("sources: {a: {includ: true}}", "did you mean 'sources.a.include'|unknown key|missing key"),
        ("sources: {}", "sources"),
        ("- a", "not a mapping"),
        ("a: [", "not valid YAML"),
        ("sources: {a: {include: true}}\nsources: {a: {include: false}}", "line 2: the key 'sources' twice"),
        ("sources:\n  a: {include: false}\n  b: {include: true}\n  a: {include: true}", "line 4: the key 'a' twice"),
        ("sources: {a: {include: false, include: true}}", "the key 'include' twice"),
        ("sources: {a: {include: true, why: 2026-02-30}}", "not valid YAML: day is out of range"),
        ("sources: {a: {include: false, filter: {score: lenght, value: 1}}}", "no score 'lenght'; known: reward, "),
    ],
)
def test_a_file_that_is_not_one_is_refused(tmp_path: Path, text: str, words: str) -> None:
    place = tmp_path / "mixture.yaml"
    place.write_text(text)
    with pytest.raises(UserError, match=words):
        load_mixture(place)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder, not a file"):
        load_mixture(tmp_path)


def test_a_source_that_is_out_needs_no_score() -> None:
    out = Chosen(include=False, filter=ScoreFilter(score="reward", quantile=0.5))
    mixture = Mixture(sources={"a": IN, "b": out, "c": out.model_copy(update={"filter": LATE})})
    check_mixture(mixture, {"a": "pairwise", "b": "pairwise"}, False, ())
    (first,), second = in_mixture(mixture)
    assert (
        second == [] and "rewards" not in first.reads and [one.filter for one in first.sources.values()] == [None] * 3
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file \(openselene ablate writes one"):
        load_mixture(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("sources", "rewarded", "words"),
    [
        ({"a": IN}, True, "says nothing of source 'b'"),
        ({"a": OUT, "b": OUT}, True, "leaves no source in"),
        ({"a": by(quantile=0.5), "b": IN}, False, "no reward model"),
        ({"a": IN, "b": by(quantile=0.5)}, True, "endorses no response"),
    ],
)
def test_a_mixture_that_does_not_fit_the_sources_is_refused(
    sources: dict[str, Chosen], rewarded: bool, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        check_mixture(Mixture(sources=sources), {"a": "pairwise", "b": "classification"}, rewarded, ())


def test_two_thresholds_for_one_source_are_refused() -> None:
    mixture = Mixture(sources={"a": by(value=1)})
    with pytest.raises(UserError, match=r"so does curation\.reward\.thresholds"):
        check_mixture(mixture, {"a": "pairwise"}, True, ["a"])
    check_mixture(Mixture(sources={"a": by(value=1), "more": OUT}), {"a": "pairwise"}, True, ["more"])


def test_critiques_are_looked_at_once_they_are_written() -> None:
    late = by(score="consistency", value=2)
    first, second = in_mixture(Mixture(sources={"a": late, "b": by(value=0.1), "c": OUT}))
    assert first[0].sources == {"a": IN, "b": by(value=0.1), "c": OUT} and second[0].sources == {"a": late}
    assert in_mixture(Mixture(sources={"a": IN}))[1] == [] and in_mixture(None) == ([], [])


def test_curation_takes_the_file_as_it_stands(tmp_path: Path) -> None:
    names = ["sample_pairwise", "sample_absolute"]
    place = tmp_path / "mixture.yaml"
    raw = {
        "out_dir": tmp_path / "out",
        "curation": {"sources": names, "mixture": str(place)},
        "evaluation": {"benchmarks": ["heldout_pairwise"]},
    }
    place.write_text(to_yaml(Mixture(sources={names[0]: by(quantile=0.5), names[1]: OUT}), "mixture.yaml"))
    config = Config.model_validate(raw)
    select = next(one for one in build(config.run, config.curation) if one.name == "select")
    assert "mixture: reads source" in "\n".join(select.describe())
    place.write_text(to_yaml(Mixture(sources={names[0]: IN}), "mixture.yaml"))
    with pytest.raises(UserError, match="says nothing of source 'sample_absolute'"):
        build(config.run, config.curation)


def test_a_source_that_is_out_does_not_stop_curation(tmp_path: Path) -> None:
    def ledger(reason: str) -> None:
        counts = {"in": 3, "ok": 0, "filtered": 3, "error": 0, "reasons": {reason: 3}}
        (tmp_path / DONE).write_text(f'{{"ledger": {{"a": {str(counts).replace(chr(39), chr(34))}}}}}')
        check_sources("select", Rows(tmp_path / "rows", ""))

    ledger("filtered:excluded_by_mixture")
    with pytest.raises(UserError, match="'a' has no row left after select"):
        ledger("filtered:reward_below_threshold")
