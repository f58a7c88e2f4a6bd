"""What a finished run says of itself, on a run of four rows written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.storage import write_json
from pipelines.experiments.estimate.measured import rows_like, seconds_of
from ray_jobs import plan

LOCAL = Path(__file__).parents[2] / "ray_jobs" / "configs" / "local.yaml"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    pairs = [
        {
            "prompt": "x" * 400,
            "responses": ["y" * 40, "y" * 80],
            "prompt_tokens": 100,
            "chosen_tokens": 10,
            "rejected_tokens": 30,
        },
        {
            "prompt": "x" * 800,
            "responses": ["y" * 20],
            "prompt_tokens": 200,
            "chosen_tokens": 10,
            "rejected_tokens": 10,
        },
    ]
    (tmp_path / "curated" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(pairs), tmp_path / "curated" / "data" / "0.parquet")
    total = {
        "a": {"in": 3, "pairs": 2, "filtered": 1, "error": 0},
        "b": {"in": 1, "pairs": 0, "filtered": 0, "error": 1},
    }
    write_json(tmp_path / "curated" / "ledger.json", {"total": total, "segments": {}})
    for name, seconds in (("ingest", 2), ("select", 1), ("mix", 3), ("synthesize", 50)):
        step.once(tmp_path / "work" / name, {}, lambda _, seconds=seconds: {"seconds": seconds})
    step.once(tmp_path / "curated" / "reference", {}, lambda _: {"seconds": 4})
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metrics.jsonl").write_text(
        json.dumps({"elapsed": 1.5}) + "\n" + json.dumps({"elapsed": 7}) + "\n"
    )
    return Run(tmp_path)


def test_rows_are_described_by_their_means(run: Run) -> None:
    assert rows_like(run) == {
        "per_source": 2,
        "prompt_tokens": 150,
        "response_tokens": pytest.approx((60 + 20) / 2 / 4),  # four characters a token
        "critique_tokens": 15,
        "kept": 0.5,
    }


def test_a_folder_without_pairs_is_a_users_mistake(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UserError, match="no curated set"):
        rows_like(Run(tmp_path / "elsewhere"))
    empty = pq.read_table(run.pairs / "0.parquet").schema.empty_table()
    pq.write_table(empty, run.pairs / "0.parquet")
    with pytest.raises(UserError, match="no pairs"):
        rows_like(run)


def test_seconds_are_those_of_the_stages_that_have_finished(run: Run) -> None:
    assert seconds_of(run) == {"clean and mix": 6, "synthesize": 50, "reference": 4, "train": 7}


def test_an_estimate_can_be_made_like_a_run_and_compared_with_it(run: Run) -> None:
    options = ["--config", str(LOCAL), "--curation", "laptop", "--training", "laptop", "--judgments", "60"]
    like, checked = (
        CliRunner().invoke(plan.app, [*options, "--like", str(run.out), *more]) for more in ([], ["--check"])
    )
    assert like.exit_code == checked.exit_code == 0
    assert "measured s" in checked.output and "measured s" not in like.output
    synthesize = next(line for line in checked.output.splitlines() if "synthesize" in line)
    assert synthesize.split("│")[-2].strip() == "50"
    assert "108,000" in like.output  # rows of three sources as plan.yaml assumes them, not the run's own
    assert CliRunner().invoke(plan.app, [*options[:-2], "--check"]).exit_code == 2
