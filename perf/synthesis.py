"""Speed of the synthesize segment against raw vLLM on the same prompts, one after the other in the same run.

Ours: rows through Ray Data, two critiques and two checks a row, from the first row begun to the last one ended (engine
start left out). Raw: `vllm.LLM` with the same engine arguments, given all prompts of those rows at once; it need not
wait for a critique before its check, nor write rows, nor carry them through Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rounds import add_rounds, compared, interleaved

from pipelines.core import storage
from pipelines.core.cluster import RayConfig
from pipelines.core.records import CONTRASTED, EXAMPLE, Row
from pipelines.core.stage import apply_stages, to_table
from pipelines.curation.config import CritiqueConfig
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.contrast import Contrast
from pipelines.curation.critique import Critique
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep

SOURCES = ("sample_pairwise", "sample_absolute", "sample_classification")
SCHEMA = pa.schema([*EXAMPLE, *CONTRASTED])


class Began(PromptStep):
    """Notes when a row reaches an engine."""

    name = "began"
    adds = (pa.field("began", pa.float64()),)

    async def run(self, row: Row, ask: Ask) -> None:
        row["began"] = time.time()


class Ended(PromptStep):
    """Notes when a row is done, and the tokens it took."""

    name = "ended"
    adds = (pa.field("ended", pa.float64()),)

    async def run(self, row: Row, ask: Ask) -> None:
        row["ended"] = time.time()


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=192)
    add_rounds(parser)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(raw(Path(options.child))))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(options.rows, options.rounds, Path(folder))))


def critique_config() -> CritiqueConfig:
    """As in local.yaml, without the rows that test the checker."""
    engine = EngineConfig(max_model_len=1024, max_num_seqs=32, batch_size=8, concurrent_batches=8)
    return CritiqueConfig(engine=engine, max_tokens=40, drop_inconsistent_chosen=False, probe_share=0)


def compare(rows: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Run both, in turn."""
    from pipelines.core.cluster import connect

    connect(RayConfig(num_cpus=4, object_store_memory_mb=512, dashboard=False))
    write_rows(folder / "source", rows)
    numbers, prompts = count(), folder / "prompts.json"

    def ours() -> float:
        out = run_segment(folder / "source", folder / str(next(numbers)))
        found = rate(out)
        print(f"segment: {found:.0f} output tokens/s", flush=True)
        prompts.write_text(json.dumps(prompts_of(out)))  # of the last run of ours, which is the first of all
        return found

    def baseline() -> float:
        command = [sys.executable, __file__, "--child", str(prompts)]
        variables = {**os.environ, **environment()}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        found: float = json.loads(done.stdout.strip().splitlines()[-1])["tokens_per_second"]
        print(f"raw vLLM: {found:.0f} output tokens/s", flush=True)
        return found

    found = interleaved({"ours": ours, "baseline": baseline}, rounds)
    return {
        "name": "synthesis",
        **compared(found["ours"], found["baseline"]),
        "unit": "output tokens/s",
        "rows": rows,
    }


def write_rows(folder: Path, size: int) -> None:
    """Rows of the sample set as `prepare` would leave them, over and over under new ids."""
    from pipelines.curation.registry import load_source
    from pipelines.datasets.reading import ingest_rows

    found = [row for name in SOURCES for row in ingest_rows(load_source(name), None) if row["status"] == "ok"]
    found = [row for row in found if all(row["responses"]) and row["instruction"] and row["verdict"] in row["allowed"]]
    rows = [{**found[i % len(found)], "row_id": f"{i:06d}"} for i in range(size)]
    apply_stages([Contrast(0)], rows)
    folder.mkdir()
    pq.write_table(to_table([row for row in rows if row["status"] == "ok"], SCHEMA), folder / "0.parquet")


def run_segment(source: Path, work: Path) -> pa.Table:
    """The synthesize segment as the job runs it, with two clocks; returns its rows."""
    from pipelines.core.segment import Rows, Segment
    from pipelines.engines.llm.vllm_stage import PromptStage

    config = critique_config()
    steps: list[PromptStep] = [Began(), Critique(config, 0), ConsistencyCheck(config, 0), Ended()]
    stage = PromptStage("synthesize", config.engine, steps)
    rows = Segment("synthesize", [stage], rows_per_block=32).run(work, Rows(source, ""))
    return storage.read_table(rows.folder)


def rate(rows: pa.Table) -> float:
    """Output tokens a second between the first row's beginning and the last one's end."""
    seconds = max(t for t in rows["ended"].to_pylist() if t) - min(rows["began"].to_pylist())
    written = sum(prompt["written"] for prompt in prompts_of(rows))
    return written / seconds


def prompts_of(rows: pa.Table) -> list[dict[str, Any]]:
    """The prompts that were sent for some rows, in the order of the rows, each with the tokens it was answered by."""
    from pipelines.engines.models import resolve
    from pipelines.judging.chat import encode_prompt, encode_text
    from pipelines.judging.templates import load, render
    from pipelines.training.pairs import load_tokenizer

    tokenizer = load_tokenizer(resolve("embedded"))
    prompts = []
    for row in rows.to_pylist():
        if row["status"] != "ok":
            continue
        sides = (("chosen", row["verdict"]), ("rejected", row["rejected_verdict"]))
        for side, verdict in sides:
            ids = encode_prompt(tokenizer, render(load("critique"), row, verdict=verdict))
            prompts.append({"ids": ids, "written": len(encode_text(tokenizer, row[f"{side}_critique"])) + 1})
        for side, verdict in sides:
            text = render(load("check_prompted"), row, critique=row[f"{side}_critique"], verdict=verdict)
            prompts.append({"ids": encode_prompt(tokenizer, text), "written": 2, "choices": ["Yes", "No"]})
    return prompts


def environment() -> dict[str, str]:
    """The variables our own engine gets."""
    from pipelines.engines.llm.engine import engine_environment

    return engine_environment(critique_config().engine)


def raw(path: Path) -> dict[str, float]:
    """All prompts at once through `vllm.LLM`."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from pipelines.engines.llm.engine import engine_arguments
    from pipelines.engines.models import resolve

    prompts, config = json.loads(path.read_text()), critique_config()
    engine = LLM(model=resolve("embedded"), **engine_arguments(config.engine))
    sampling = [
        SamplingParams(
            temperature=0,
            max_tokens=16 if "choices" in prompt else config.max_tokens,
            structured_outputs=StructuredOutputsParams(choice=prompt["choices"]) if "choices" in prompt else None,
        )
        for prompt in prompts
    ]
    start = time.monotonic()
    engine.generate([{"prompt_token_ids": p["ids"]} for p in prompts], sampling, use_tqdm=False)
    seconds = time.monotonic() - start
    # The same tokens are counted as for ours: both were asked the same and answer greedily.
    return {"tokens_per_second": sum(prompt["written"] for prompt in prompts) / seconds}


if __name__ == "__main__":
    main()
