"""The reference's log-probabilities: what they depend on, how they are computed, and which are refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.errors import UserError
from pipelines.core.segment import Rows, Segment
from pipelines.training.config import TrainConfig
from pipelines.training.reference import ReferenceScores, reference_log_probs, refuse_infinite
from tests.training.fakes import Judge, pair
from tests.training.tiny import write_pairs


def stage(pairs: list[dict[str, Any]], **changes: Any) -> ReferenceScores:
    made = ReferenceScores(TrainConfig.model_validate({"bin_tokens": 16, **changes}), "org/model")
    made.device, made.model = torch.device("cpu"), Judge(pairs)
    return made


def test_every_row_gets_its_own_values_whatever_shares_its_bin() -> None:
    pairs = [pair(i, -float(i), -float(10 + i)) for i in range(5)]
    scores = stage(pairs)
    scores.apply_batch(pairs)
    assert [(row["ref_chosen_logp"], row["ref_rejected_logp"]) for row in pairs] == [
        (-float(i), -float(10 + i)) for i in range(5)
    ]
    assert scores.model.tokens == [12, 12, 6]
    scores.apply_batch([])
    assert len(scores.model.tokens) == 3


@pytest.mark.parametrize(
    ("precision", "strategy", "half"),
    [("float32", "ddp", False), ("bfloat16_autocast", "ddp", True), ("bfloat16_autocast", "fsdp", False)],
)
def test_the_reference_has_the_precision_of_training(precision: str, strategy: str, half: bool) -> None:
    pairs = [pair(0, -1.0, -2.0)]
    scores = stage(pairs, precision=precision, strategy=strategy)
    scores.apply_batch(pairs)
    assert scores.model.autocast == [half]


def test_it_depends_on_model_precision_and_attention() -> None:
    found = stage([], precision="bfloat16_autocast").depends()
    assert found == {"model": "org/model@unknown", "precision": "bfloat16_autocast", "attention": "split"}
    half = {"precision": "bfloat16_autocast"}
    assert stage([], workers=3, learning_rate=1.0, bin_tokens=99, **half).depends() == found
    assert "weights" not in found
    sharded = stage([], strategy="fsdp", **half).depends()
    assert (sharded["weights"], sharded["autocast"]) == ("bfloat16", False)
    assert stage([], attention="mask", **half).depends() != found != stage([], precision="float32").depends()


def test_it_is_kept_in_the_folder_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def run(self: Segment, work: Path, before: Rows) -> Rows:
        seen.append((work / self.name, before.fingerprint, self.max_error_share))
        return Rows(write_pairs(work / self.name, [{"row_id": "a", **values(-1.0, -2.0)}]), "x")

    monkeypatch.setattr(Segment, "run", run)
    rows = reference_log_probs(
        TrainConfig(), "org/model", Rows(tmp_path / "encoded", "of the pairs"), tmp_path / "kept"
    )
    assert seen == [(tmp_path / "kept", "of the pairs", 0.0)] and rows.fingerprint == "x"


def values(chosen: float, rejected: float) -> dict[str, float]:
    return {"ref_chosen_logp": chosen, "ref_rejected_logp": rejected}


@pytest.mark.parametrize("bad", [(-math.inf, -1.0), (-1.0, -math.inf), (math.nan, -1.0)])
def test_a_completion_without_any_chance_is_refused_by_name(bad: tuple[float, float], tmp_path: Path) -> None:
    good = {"row_id": "good", **values(-1.0, -2.0)}
    refuse_infinite(write_pairs(tmp_path / "good", [good]))
    folder = write_pairs(tmp_path / "bad", [good, {"row_id": "bad-one", **values(*bad)}])
    with pytest.raises(UserError, match=r"1 pair\(s\) have no finite reference log-probability: bad-one"):
        refuse_infinite(folder)
