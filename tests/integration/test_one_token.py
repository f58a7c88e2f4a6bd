"""Judgments by one token against transformers, and the same judgments whatever the batches and engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.config import Config, load_config
from pipelines.evaluation import job

from .conftest import LOCAL

ENGINE = {"dtype": "float32", "max_model_len": 1024}
Judged = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Judge some held-out rows of each task type with the embedded model in float32; the judgments by their id."""
    import ray

    from pipelines.core.cluster import connect

    ray.shutdown()  # of the modules before

    def run(engine: dict[str, Any], *overrides: str) -> dict[str, dict[str, Any]]:
        out = tmp_path_factory.mktemp("judged")
        settings = [f"out_dir={out}", "ray.dashboard=false", f"evaluation.engine={json.dumps(ENGINE | engine)}"]
        config: Config = load_config(LOCAL, [*settings, *overrides])
        connect(config.ray)
        job.evaluate(config.run, config.evaluation, config.train.model)
        return read(out)

    return run


def read(out: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(out / "benchmark" / "judgments" / "base.parquet").to_pylist()
    found = {row["judgment_id"]: row for row in rows}
    assert len(found) == len(rows) and {row["status"] for row in rows} == {"ok"}
    return found


@pytest.mark.slow  # test_constrained.py compares probabilities with transformers, too
def test_one_token_has_the_probabilities_that_transformers_computes(judged: Judged) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.engines.llm.verdict_tokens import verdict_tokens
    from pipelines.engines.models import resolve
    from pipelines.judging.chat import encode_prompt
    from pipelines.judging.templates import load, render

    rows = judged({"batch_size": 4}, "evaluation.format=one_token", "evaluation.sample=5")
    assert len(rows) == 20  # pairs in both orders
    assert {(row["parse_status"], row["output_tokens"]) for row in rows.values()} == {("ok", 1)}
    tokenizer = AutoTokenizer.from_pretrained(resolve("embedded"))
    model = AutoModelForCausalLM.from_pretrained(resolve("embedded"), dtype=torch.float32)
    for row in rows.values():
        template = load(row["template"])
        shared, paths = verdict_tokens(tokenizer, [template.completion(verdict) for verdict in row["allowed"]])
        ids = encode_prompt(tokenizer, render(template, row, cot=False)) + shared
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, -1, [path[0] for path in paths]]
        expected = dict(zip(row["allowed"], logits.softmax(-1).tolist(), strict=True))
        assert dict(row["verdict_probs"]) == pytest.approx(expected, abs=1e-4)
        assert row["predicted"] == max(expected, key=expected.__getitem__)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["cot", "one_token"])
def test_batches_and_engines_change_no_judgment_in_float32(judged: Judged, form: str) -> None:
    how = [f"evaluation.format={form}", "evaluation.max_tokens=48", "evaluation.sample=12"]
    one = judged({"batch_size": 16, "concurrent_batches": 4, "max_num_seqs": 32}, *how, "evaluation.rows_per_block=64")
    # Two engines at once need two cores' worth of Ray's four.
    several = {"batch_size": 3, "concurrent_batches": 2, "max_num_seqs": 5, "engines": [2, 2]}
    other = judged(several, *how, "evaluation.rows_per_block=7")
    assert len(one) == 48 and set(one) == set(other)
    for name, mine in one.items():
        theirs = other[name]
        assert (mine["raw"], mine["predicted"]) == (theirs["raw"], theirs["predicted"])
        assert dict(theirs["verdict_probs"]) == pytest.approx(dict(mine["verdict_probs"]), abs=1e-4)
