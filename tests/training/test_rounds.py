"""Rounds without an engine: who is asked, who is trained, in which order; what is refused; what it all cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.training import rounds
from pipelines.training.config import TrainConfig
from pipelines.training.own_critiques import COUNTS
from pipelines.training.rounds import Cost, Material, cost_of, own_rows, round_of
from tests.training.tiny import pair_rows, write_pairs


def curated(n: int = 4) -> list[dict[str, Any]]:
    more = {"source": "s", "allowed": ["A", "B"], "template": "pairwise_compact", "format": "cot"}
    return [{**row, **more, "group_id": row["row_id"], "verdict": row["chosen"][-1]} for row in pair_rows(n)]


@dataclass
class Sampled:
    """In the segment's place: each row comes to one right answer, or none at all."""

    asked: str
    number: int
    found: int

    def run(self, work: Path, before: Rows) -> Rows:
        table = storage.read_table(before.folder)
        own = [[f"own {self.number}"] * self.found] * len(table)
        counts = {name: pa.array([self.number] * len(table), pa.int64()) for name in COUNTS}
        table = table.append_column("own_completions", pa.array(own, pa.list_(pa.string())))
        for name, values in counts.items():
            table = table.append_column(name, values)
        folder = work / rounds.SEGMENT

        def write(folder: Path) -> dict[str, Any]:
            (folder / "rows").mkdir()
            pq.write_table(table, folder / "rows" / "x.parquet")
            return {"seconds": 1.5 * self.number, "resumed_from": 2 if self.number == 2 else 0}

        result = step.once(folder, {"before": before.fingerprint, "asked": self.asked}, write)
        return Rows(folder / "rows", result["fingerprint"], (before,))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were asked, one a round, each with one right answer a row."""
    models: list[str] = []

    def segment(config: TrainConfig, model: str, run: Run, number: int, pairs: Path) -> Sampled:
        models.append(model)
        return Sampled(model, number, 1)

    monkeypatch.setattr(rounds, "segment", segment)
    return models


def config(tiny_model: Path, **own: Any) -> TrainConfig:
    return TrainConfig.model_validate({"model": str(tiny_model), "recipe": "rs_sft", "own_critiques": own})


def fit_into(trained: list[tuple[Material, Run]]) -> rounds.Fit:
    def fit(config: TrainConfig, given: Material, run: Run) -> None:
        trained.append((given, run))
        step.once(run.training, {"of": given.made_from}, lambda _: {"tokens": 100, "seconds": 3.0})

    return fit


def test_each_round_asks_the_model_of_the_round_before_and_trains_the_base(
    tmp_path: Path, tiny_model: Path, asked: list[str]
) -> None:
    pairs, run, trained = write_pairs(tmp_path / "pairs", curated()), Run(tmp_path / "out"), list[Any]()
    given = own_rows(config(tiny_model, rounds=3), pairs, run, fit_into(trained))
    assert asked == [str(tiny_model), str(run.rounds / "1" / "model"), str(run.rounds / "2" / "model")]
    assert [(one.pairs, own.out) for one, own in trained] == [
        (run.rounds / "1" / "curated" / "data", run.rounds / "1"),
        (run.rounds / "2" / "curated" / "data", run.rounds / "2"),
    ]
    assert given.pairs == round_of(run, 3).pairs and {one.model for one, _ in trained} == {given.model} == {None}
    assert storage.read_table(given.pairs)["chosen"].to_pylist() == ["own 3"] * 4
    assert len({given.made_from, *(one.made_from for one, _ in trained)}) == 3


def test_a_round_may_go_on_training_the_model_of_the_round_before(
    tmp_path: Path, tiny_model: Path, asked: list[str]
) -> None:
    pairs, run, trained = write_pairs(tmp_path / "pairs", curated()), Run(tmp_path / "out"), list[Any]()
    given = own_rows(config(tiny_model, rounds=3, start="last"), pairs, run, fit_into(trained))
    assert [*(one.model for one, _ in trained), given.model] == asked == [str(tiny_model), asked[1], asked[2]]


def test_one_round_trains_nothing_before_its_end(tmp_path: Path, tiny_model: Path, asked: list[str]) -> None:
    trained: list[Any] = []
    pairs = write_pairs(tmp_path / "pairs", curated())
    given = own_rows(config(tiny_model), pairs, Run(tmp_path / "out"), fit_into(trained))
    assert not trained and asked == [str(tiny_model)] and given.model is None


def test_pairs_that_no_curation_wrote_are_refused(tmp_path: Path, tiny_model: Path, asked: list[str]) -> None:
    pairs = write_pairs(tmp_path / "pairs", pair_rows(3))
    with pytest.raises(UserError, match=r"missing column\(s\): group_id, source, .*rs_sft asks for critiques again"):
        own_rows(config(tiny_model), pairs, Run(tmp_path / "out"), fit_into([]))
    assert not asked


def test_what_the_sampling_reads_of_the_pairs_counts(tmp_path: Path) -> None:
    whole = rounds.fingerprint_of(write_pairs(tmp_path / "a", curated()))
    assert rounds.fingerprint_of(write_pairs(tmp_path / "b", curated()[::-1])) == whole
    for name, value in (("verdict", "Tie"), ("allowed", ["A", "B", "Tie"]), ("template", "x"), ("group_id", "y")):
        changed = [{**row, name: value} for row in curated()]
        assert rounds.fingerprint_of(write_pairs(tmp_path / name, changed)) != whole, name


def test_a_model_that_is_never_right_is_one_clear_line(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "segment", lambda config, model, run, number, pairs: Sampled(model, number, 0))
    with pytest.raises(UserError, match="no row has a right critique of the model's own"):
        pairs = write_pairs(tmp_path / "pairs", [*curated(3), {**curated(4)[3], "format": "judgment_only"}])
        own_rows(config(tiny_model), pairs, Run(tmp_path / "out"), fit_into([]))


def test_the_cost_is_that_of_all_rounds(tmp_path: Path, tiny_model: Path, asked: list[str]) -> None:
    pairs, run = write_pairs(tmp_path / "pairs", curated(4)), Run(tmp_path / "out")
    own_rows(config(tiny_model, rounds=2), pairs, run, fit_into([]))
    # Every count of the stand-in is the number of the round, for each of four rows.
    same = {"answers": 12, "right": 12, "prompt_tokens": 12, "cached_tokens": 12, "output_tokens": 12}
    assert cost_of(run, 2) == Cost(**same, seconds=4.5, resumed=True, trained_tokens=100, training_seconds=3.0)
    assert cost_of(run, 1).trained_tokens == 0 and not cost_of(run, 1).resumed
