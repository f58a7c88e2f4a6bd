"""The main job on real engines: vLLM, the reward head, DeepSpeed on two training workers, the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.dataset as pads
import pytest

from pipelines.config import Config
from pipelines.core.records import kind
from pipelines.experiments.data_map import job as data_map
from ray_jobs.pipeline import pipeline
from tests.integration.scraped import total, until

KEYS = {"n", "metric", "value", "ci_low", "ci_high", "parse_rate", "partial"}


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*.parquet")}


@pytest.fixture(scope="module")
def page(finished_run: Config) -> str:
    """What stands on the metrics port of the run's cluster: asked for first, as later modules start others."""
    pairs = read(finished_run.out_dir / "train" / "done.json")["pairs"]

    def there(page: str) -> bool:
        judged = total(page, "ray_openselene_job_rows_total", 'step="judge"')
        trained = total(page, "ray_openselene_job_trained_pairs_total")
        return (
            judged >= rows_of(finished_run, "judge-base") + rows_of(finished_run, "judge-trained") and trained >= pairs
        )

    return until(there)


def rows_of(run: Config, step: str) -> int:
    return int(read(run.out_dir / "work" / step / "done.json")["rows"])


def test_the_port_has_the_rows_of_every_step_by_status(finished_run: Config, page: str) -> None:
    work = finished_run.out_dir / "work"
    done = {name: [work / name] for name in ("ingest", "prepare", "select", "synthesize", "mix")}
    done |= {"reference": [finished_run.out_dir / "curated" / "reference"]}
    done |= {"judge": [work / "judge-base", work / "judge-trained"]}
    for name, folders in done.items():
        for status in ("ok", "filtered", "error"):
            expected = sum(
                source[status] for folder in folders for source in read(folder / "done.json")["ledger"].values()
            )
            found = total(page, "ray_openselene_job_rows_total", f'step="{name}"', f'status="{status}"')
            assert found == expected, (name, status)
    assert total(page, "ray_openselene_job_rows_total") > 0


def test_the_port_has_what_the_models_did(finished_run: Config, page: str) -> None:
    rows = pads.dataset(finished_run.out_dir / "work" / "synthesize" / "rows").to_table().to_pylist()
    asked = [row for row in rows if row["synthesis_prompt_tokens"] is not None]
    prompt, cached = (sum(row[f"synthesis_{kind}_tokens"] for row in asked) for kind in ("prompt", "cached"))
    tokens = "ray_openselene_job_tokens_total"
    assert total(page, tokens, 'stage="synthesize"', 'kind="prompt"') == prompt > 0
    assert total(page, tokens, 'stage="synthesize"', 'kind="cached"') == cached
    written = sum(row["synthesis_tokens"] for row in asked) - prompt
    assert total(page, tokens, 'stage="synthesize"', 'kind="output"') == written
    for critique in ("chosen", "rejected"):
        for truth in (True, False):
            expected = sum(row[f"{critique}_consistent"] is truth for row in asked)
            labels = (f'critique="{critique}"', f'consistent="{str(truth).lower()}"')
            assert total(page, "ray_openselene_job_checks_total", *labels) == expected
    scored = pads.dataset(finished_run.out_dir / "work" / "prepare" / "rows").to_table().to_pylist()
    expected = sum(row["rewards"] is not None for row in scored)
    assert total(page, "ray_openselene_job_reward_scores_total", 'outcome="scored"') == expected > 0
    judged = [
        row["parse_status"]
        for name in ("base", "trained")
        for row in pads.dataset(finished_run.out_dir / "work" / f"judge-{name}" / "rows").to_table().to_pylist()
        if row["parse_status"] is not None
    ]
    for status in set(judged):
        labels = (f'parse_status="{status}"',)
        assert total(page, "ray_openselene_job_judgments_total", *labels) == judged.count(status)
    assert total(page, "ray_openselene_job_answer_seconds_count", 'stage="judge"') == len(judged)


def test_the_port_has_the_training_and_no_waste_where_nothing_was_killed(finished_run: Config, page: str) -> None:
    done = read(finished_run.out_dir / "train" / "done.json")
    assert total(page, "ray_openselene_job_trained_pairs_total") == done["pairs"] * finished_run.train.epochs
    assert total(page, "ray_openselene_job_computed_rows_total", 'stage="reference"') == done["pairs"]
    for waste in ("repeated_rows", "repeated_pairs", "workers_gave_up"):
        assert total(page, f"ray_openselene_job_{waste}_total") == 0


def test_ray_data_s_own_metrics_name_the_segment(page: str) -> None:
    assert 'dataset="synthesize_' in page and 'dataset="judge-base_' in page


def test_run_json_has_the_run(finished_run: Config) -> None:
    (entry,) = read(finished_run.out_dir / "run.json")["runs"]
    assert entry["job"] == "pipeline" and entry["exit_code"] == 0 and entry["seconds"] > 0
    (node,) = entry["nodes"]
    assert node["count"] == 1 and node["cpus"] >= 1 and node["hours"] > 0 and entry["cost"]["dollars"] == 0
    steps = {one["step"]: one for one in entry["steps"]}
    assert {"work/ingest", "work/synthesize", "curated", "train", "work/judge-trained"} <= steps.keys()
    assert all(one["state"] == "done" for one in steps.values())
    assert steps["work/synthesize"]["tokens"] > 0
    assert steps["work/mix"]["rows"] == rows_of(finished_run, "mix")


def test_results_have_every_key_for_both_models(finished_run: Config) -> None:
    results = read(finished_run.out_dir / "benchmark" / "results.json")
    assert set(results["models"]) == {"base", "trained"}
    for benchmarks in results["models"].values():
        assert set(benchmarks) == {"heldout_pairwise", "heldout_absolute", "heldout_classification"}
        for entry in benchmarks.values():
            assert set(entry) >= KEYS
            assert entry["ci_low"] is None or entry["ci_low"] <= entry["value"] <= entry["ci_high"]
            assert (entry["ci_low"] is None) == bool(entry["no_interval"])
            assert 0 <= entry["parse_rate"] <= 1 and entry["partial"] is True  # a sample of five


def test_ledger_balances_with_the_files(finished_run: Config) -> None:
    curated = finished_run.out_dir / "curated"
    ledger = read(curated / "ledger.json")
    data = pads.dataset(curated / "data").to_table()
    quarantine = pads.dataset(curated / "quarantine").to_table()
    assert sum(s["in"] for s in ledger["total"].values()) == data.num_rows + quarantine.num_rows
    assert set(data["status"].to_pylist()) == {"ok"}
    assert all(kind(status) != "ok" for status in quarantine["status"].to_pylist())
    ids = data["raw_id"].to_pylist() + quarantine["raw_id"].to_pylist()
    assert len(ids) == len(set(ids))


def test_pairs_are_scored_critiqued_checked_and_fit(finished_run: Config) -> None:
    rows = pads.dataset(finished_run.out_dir / "curated" / "data").to_table().to_pylist()
    assert {row["task"] for row in rows} == {"pairwise", "absolute", "classification"}
    for row in rows:
        assert row["verdict"] != row["rejected_verdict"]
        assert len(row["rewards"]) == len(row["responses"]) and all(map(math.isfinite, row["rewards"]))
        assert row["chosen_critique"] and row["rejected_critique"]
        assert row["chosen_consistent"] is not None and row["rejected_consistent"] is not None
        assert row["chosen"].endswith(row["verdict"]) and row["rejected"].endswith(row["rejected_verdict"])
        assert row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]) <= 512


def test_the_checker_was_tested_on_some_rows(finished_run: Config) -> None:
    found = read(finished_run.out_dir / "curated" / "checker.json")
    assert found["negatives"]["n"] == found["positives"]["n"] > 0
    assert set(found["sources"]) == set(finished_run.curation.sources)
    overlaps = read(finished_run.out_dir / "curated" / "contamination.json")
    reasons = read(finished_run.out_dir / "curated" / "ledger.json")["segments"]["prepare"]
    for source, benchmarks in overlaps.items():  # every row that overlaps has left
        left = sum(n for why, n in reasons[source]["reasons"].items() if why.startswith("filtered:contaminated:"))
        assert left >= max(found["rows"] for found in benchmarks.values())
    card = (finished_run.out_dir / "curated" / "README.md").read_text()
    assert "sample_pairwise | cot" in card and "consistency checker" in card


def test_the_reference_is_kept_beside_the_pairs(finished_run: Config) -> None:
    rows = pads.dataset(finished_run.out_dir / "curated" / "reference" / "rows").to_table().to_pylist()
    pairs = pads.dataset(finished_run.out_dir / "curated" / "data").to_table()
    assert sorted(row["row_id"] for row in rows) == sorted(pairs["row_id"].to_pylist())
    assert all(row["ref_chosen_logp"] < 0 and row["ref_rejected_logp"] < 0 for row in rows)


def test_model_is_safetensors_and_loads(finished_run: Config) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished_run.out_dir / "model"
    assert list(folder.glob("*.safetensors")) and not list(folder.glob("*.bin"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template and model.config.vocab_size >= len(tokenizer)


def test_report_stands_alone(finished_run: Config) -> None:
    html = (finished_run.out_dir / "benchmark" / "report.html").read_text()
    assert "heldout_pairwise" in html
    assert 'src="http' not in html and "<link" not in html and 'href="http' not in html


def test_every_segment_logs_what_it_cost(finished_run: Config) -> None:
    for name in ("prepare", "synthesize", "mix", "judge-base", "judge-trained"):
        done = read(finished_run.out_dir / "work" / name / "done.json")
        assert done["seconds"] > 0 and done["rows"] > 0
    assert read(finished_run.out_dir / "work" / "synthesize" / "done.json")["tokens"] > 0


def test_second_run_touches_nothing(finished_run: Config, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(finished_run.out_dir / "work") | snapshot(finished_run.out_dir / "curated")
    pipeline(finished_run)
    assert snapshot(finished_run.out_dir / "work") | snapshot(finished_run.out_dir / "curated") == before
    said = capsys.readouterr().err
    assert said.count("already done") >= 6


def test_other_config_in_the_same_folder_is_refused(finished_run: Config) -> None:
    from pipelines.core.errors import UserError

    other = finished_run.model_copy(update={"seed": 1})
    with pytest.raises(UserError, match="another config"):
        pipeline(other)


def test_the_curated_set_has_a_map(finished_run: Config, capsys: pytest.CaptureFixture[str]) -> None:
    curated = finished_run.out_dir / "curated"
    page = data_map.run(finished_run.run, finished_run.data_map)
    pairs = pads.dataset(curated / "data").to_table(columns=["row_id", "source"])
    points = pads.dataset(curated / "map.parquet").to_table().to_pylist()
    assert sorted(point["row_id"] for point in points) == sorted(pairs["row_id"].to_pylist())
    assert all(math.isfinite(point["x"]) and math.isfinite(point["y"]) and point["topic"] for point in points)
    assert (curated / "map.png").read_bytes().startswith(b"\x89PNG") and "<html" in page.read_text()
    data_map.run(finished_run.run, finished_run.data_map)
    assert "map: already done" in capsys.readouterr().err
