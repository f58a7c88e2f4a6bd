"""The benchmarks' prompts, and the overlaps with training sets that are known from the real files."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.core.config import DecontaminateConfig, load_config
from pipelines.core.errors import UserError
from pipelines.curation.decontaminate import build_index, keys
from pipelines.curation.ingest import ingest_rows
from pipelines.curation.registry import load_source
from pipelines.evaluation.prompts import prompts_file, write_prompts

LOCAL = Path(__file__).parents[2] / "ray_jobs" / "configs" / "local.yaml"
DATA_ROOT = os.environ.get("OPENSELENE_DATA_ROOT")


def test_the_benchmarks_of_the_config_are_all_there(tmp_path: Path) -> None:
    config = load_config(LOCAL, [f"out_dir={tmp_path}"])
    key = write_prompts(config)
    table = pq.read_table(prompts_file(config))
    assert set(table["benchmark"].to_pylist()) >= set(config.evaluation.benchmarks)
    before = prompts_file(config).stat().st_mtime_ns
    assert write_prompts(config) == key and prompts_file(config).stat().st_mtime_ns == before


def test_a_benchmark_of_the_config_that_is_not_at_hand_is_an_error(tmp_path: Path) -> None:
    config = load_config(
        LOCAL, [f"out_dir={tmp_path}", "evaluation.benchmarks=[hhh_alignment]", f"data_root={tmp_path}"]
    )
    with pytest.raises(UserError):
        write_prompts(config)


@pytest.mark.skipif(DATA_ROOT is None, reason="OPENSELENE_DATA_ROOT is not set: the real data are not at hand")
@pytest.mark.integration  # eleven seconds of reading
def test_known_overlaps_of_real_files_are_found(tmp_path: Path) -> None:
    """As measured on the same files by other means: 67 (at least, of shared text), 25 and 14 prompts."""
    config = load_config(LOCAL, [f"out_dir={tmp_path}", f"data_root={DATA_ROOT}"])
    write_prompts(config)
    table = pq.read_table(prompts_file(config))
    ngram = DecontaminateConfig().ngram
    index = build_index(zip(table["benchmark"].to_pylist(), table["text"].to_pylist(), strict=True), ngram)
    found = {}
    for source, benchmark in (("auto_j_train", "auto_j"), ("tulu1_human_eval", "infobench"), ("pandalm", "infobench")):
        rows = ingest_rows(load_source(source), Path(DATA_ROOT or ""))
        prompts = {row["instruction"]: row["context"] or "" for row in rows if row["instruction"]}
        hits = [
            prompt
            for prompt, context in prompts.items()
            if any(benchmark in index.get(key, ()) for text in (prompt, context) for key in keys(text, ngram))
        ]
        found[source] = len(hits)
    assert found["auto_j_train"] >= 67 and found["tulu1_human_eval"] == 25 and found["pandalm"] == 14
