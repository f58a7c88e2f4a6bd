"""The benchmark job asks the pairs again in other prompt formats, and lets a checker read the critiques.

The judge stands in for one: a real HTTP server that answers in the format asked for and knows no model. The checker is
the embedded model on vLLM.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.config import load_config
from pipelines.core.determinism import choose
from pipelines.evaluation import job
from tests.engines.llm.endpoint_standin import Body, Reply, Standin, completion

from .conftest import LOCAL

ROWS = 4


def answer(body: Body) -> Reply:
    """A judgment that hangs on the prompt alone, with a critique; of the model `mute` no judgment at all."""
    prompt = body["messages"][0]["content"]
    verdict = choose(["A", "B"] if re.search(r"\bB\b", prompt) else ["1", "4"], 0, "stand-in", prompt)
    text = f"**Reasoning:** The first is what was asked for.\n\n**Result:** {verdict}\n\n[[{verdict}]]"
    return Reply(body=completion("" if body["model"] == "mute" else text))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    import ray

    from pipelines.core.cluster import connect

    out = tmp_path_factory.mktemp("formats")
    server = Standin(answer)
    judge = {"endpoint": server.url, "model": "m", "concurrency": 8}
    engine = {"max_model_len": 1024, "max_num_seqs": 16, "batch_size": 4}
    config = load_config(
        LOCAL,
        [
            f"out_dir={out}",
            "ray.dashboard=false",
            "evaluation.benchmarks=[heldout_pairwise, heldout_absolute]",
            f"evaluation.models={json.dumps({'judge': judge, 'mute': {**judge, 'model': 'mute'}})}",
            f"evaluation.sample={ROWS}",
            "evaluation.max_tokens=32",
            "evaluation.formats=[json, brackets]",
            f"evaluation.critique_check={json.dumps({'engine': engine, 'rows': 6})}",
        ],
    )
    ray.shutdown()  # of the modules before
    connect(config.ray)
    with server:
        job.evaluate(config.run, config.evaluation, config.train.model)
    # Scored again from the files: nothing is judged twice, as the server no longer answers.
    return out, job.evaluate(config.run, config.evaluation, config.train.model).to_json()


@pytest.mark.slow
def test_pairs_are_asked_in_every_format_and_in_both_orders(results: tuple[Path, dict[str, Any]]) -> None:
    out, found = results
    formats = found["robustness"]["judge"]["heldout_pairwise"]["formats"]
    assert {"json", "brackets"} < set(formats) and len(formats) == 3  # and the benchmark's own
    lines = pd.read_parquet(out / "benchmark" / "formats" / "judge.parquet")
    assert set(lines["benchmark"]) == {"heldout_pairwise"}
    assert lines.groupby(["template", "order"]).size().to_dict() == {
        (template, order): ROWS for template in ("pairwise_json", "pairwise_brackets") for order in ("given", "swapped")
    }
    assert (out / "benchmark" / "formats.csv").read_text().count("\njudge,heldout_pairwise") == 3
    assert all(form["parse_rate"] == 1.0 for form in formats.values())


@pytest.mark.slow
def test_critiques_are_checked_and_so_is_the_checker(results: tuple[Path, dict[str, Any]]) -> None:
    out, found = results
    checked = found["critiques"]["judge"]
    judged = pd.read_parquet(out / "benchmark" / "judgments" / "judge.parquet")
    with_critique = judged[(judged["parse_status"] == "ok") & (judged["critique"].fillna("") != "")]
    assert checked["all"]["n"] + checked["failed"] == min(6, len(with_critique)) > 0
    assert checked["positives"]["n"] == checked["all"]["n"]
    assert "mute" not in found["critiques"]
    page = (out / "benchmark" / "report.html").read_text()
    assert "brackets" in page and not re.search(r'(?:src|href)="https?:', page)
