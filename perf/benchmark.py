"""Speed of the benchmark job's judge segment against raw vLLM on the same prompts, one after the other in the same run.

Ours: judgments of the packaged held-out rows through Ray Data, from the first row begun to the last one ended (engine
start left out). Raw: `vllm.LLM` with the same engine and sampling arguments, given all prompts of those rows at once;
it need not render, parse, write rows, nor carry them through Ray.

Then, on the raw engine with an empty prefix cache each time: what judging pairs in both orders costs against one, and
what the one token of a judgment costs against one with a critique.
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
from rounds import add_rounds, compared, interleaved

from pipelines.core import storage
from pipelines.core.cluster import RayConfig
from pipelines.core.records import Row
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.evaluation.config import EvaluationConfig
from pipelines.judging.tasks import PAIRWISE, TASKS

BENCHMARKS = [f"heldout_{task}" for task in TASKS]
CRITIQUE = 64  # most tokens of an answer, as in local.yaml
Prompts = list[list[int]]


class Began(PromptStep):
    """Notes when a row reaches an engine."""

    name = "began"
    adds = (pa.field("began", pa.float64()),)

    async def run(self, row: Row, ask: Ask) -> None:
        row["began"] = time.time()


class Ended(PromptStep):
    """Notes when a row is done."""

    name = "ended"
    adds = (pa.field("ended", pa.float64()),)

    async def run(self, row: Row, ask: Ask) -> None:
        row["ended"] = time.time()


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=90, help="of each task type")
    add_rounds(parser)
    parser.add_argument("--model", default="embedded", help="a trained one ends its answers; the embedded one does not")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(raw(Path(options.child), options.model)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(options.rows, options.rounds, options.model, Path(folder))))


def settings(model: str) -> EvaluationConfig:
    """As in local.yaml."""
    engine = EngineConfig(model=model, max_model_len=1024, max_num_seqs=32, batch_size=8, concurrent_batches=8)
    return EvaluationConfig(benchmarks=BENCHMARKS, engine=engine, max_tokens=CRITIQUE, rows_per_block=32)


def compare(rows: int, rounds: int, model: str, folder: Path) -> dict[str, Any]:
    """Run both, in turn."""
    from pipelines.core.cluster import connect

    config = settings(model)
    connect(RayConfig(num_cpus=4, object_store_memory_mb=512, dashboard=False))
    examples = folder / "examples"
    write_rows(examples, rows)
    asked = storage.read_table(examples).to_pylist()
    prompts = prompts_of(asked, config)
    numbers, costs = count(), []

    def ours() -> float:
        judged = run_segment(examples, config, folder / str(next(numbers)))
        rate = len(judged) / (max(row["ended"] for row in judged) - min(row["began"] for row in judged))
        print(f"segment: {rate:.2f} judgments/s", flush=True)
        return rate

    def baseline() -> float:
        last = len(costs) == rounds - 1  # the comparisons of orders and formats are made once
        (folder / "prompts.json").write_text(json.dumps(prompts if last else {"all": prompts["all"]}))
        costs.append(run_raw(folder / "prompts.json", model))
        rate = len(asked) / costs[-1]["all"]["seconds"]
        print(f"raw vLLM: {rate:.2f} judgments/s", flush=True)
        return rate

    found = interleaved({"ours": ours, "baseline": baseline}, rounds)
    return {
        "name": "benchmark",
        **compared(found["ours"], found["baseline"]),
        "unit": "judgments/s",
        "judgments": len(asked),
        # Of the last round; tokens that were computed, which those found in the prefix cache are not.
        "both_orders_to_one": relative(costs[-1]["both orders"], costs[-1]["one order"]),
        "one_token_to_critique": relative(costs[-1]["one token"], costs[-1]["all"]),
        "costs": costs[-1],
    }


def write_rows(folder: Path, size: int) -> None:
    """So many rows of each task type: the held-out ones over and over, told apart by a number before the instruction,
    so that none finds itself in the cache."""
    from pipelines.evaluation.asking.benchmark_rows import BENCHMARK_ROW, benchmark_examples

    for name in BENCHMARKS:
        asked = benchmark_examples([name], None).to_pylist()
        ids = list(dict.fromkeys(row["row_id"] for row in asked))
        rows = []
        for number in range(size):
            copy, which = divmod(number, len(ids))
            for row in (row for row in asked if row["row_id"] == ids[which]):
                new = {key: f"{copy}:{row[key]}" for key in ("judgment_id", "row_id")}
                rows.append(row | new | {"instruction": f"{copy + 1}. {row['instruction']}"})
        storage.write_table(folder / f"{name}.parquet", pa.Table.from_pylist(rows, schema=BENCHMARK_ROW))


def relative(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Seconds and computed tokens of one way, of the other's."""
    return {key: one[key] / other[key] for key in ("seconds", "computed")}


def run_segment(examples: Path, config: EvaluationConfig, work: Path) -> list[Row]:
    """The judge segment as the job runs it, with two clocks; returns its rows."""
    from pipelines.core.segment import Rows, Segment
    from pipelines.engines.llm.judge import Judge
    from pipelines.engines.llm.vllm_stage import PromptStage

    steps: list[PromptStep] = [Began(), Judge(config.max_tokens), Ended()]
    stages = [PromptStage("judge", config.engine, steps)]
    segment = Segment("judge", stages, "judgment_id", config.rows_per_block)
    judged = segment.run(work, Rows(examples, "those of this process"))
    rows: list[Row] = storage.read_table(judged.folder).to_pylist()
    failed = [row["status"] for row in rows if row["status"] != "ok"]
    if failed:
        sys.exit(f"{len(failed)} rows were not judged, such as: {failed[0]}")
    return rows


def prompts_of(rows: list[Row], config: EvaluationConfig) -> dict[str, Prompts]:
    """Token ids of the prompts of each comparison, each pair in the orders in which it is judged."""
    from transformers import AutoTokenizer

    from pipelines.engines.llm.verdict_tokens import verdict_tokens
    from pipelines.engines.models import resolve
    from pipelines.judging.chat import encode_prompts
    from pipelines.judging.templates import load, render

    tokenizer = AutoTokenizer.from_pretrained(resolve(config.engine.model))

    def prompts(some: list[Row], cot: bool = True) -> Prompts:
        return encode_prompts(tokenizer, [render(load(row["template"]), row, cot=cot) for row in some])

    def begun(row: Row) -> list[int]:
        answers = [load(row["template"]).completion(verdict) for verdict in row["allowed"]]
        return verdict_tokens(tokenizer, answers)[0]

    pairs = [row for row in rows if row["task"] == PAIRWISE.name]
    return {
        "all": prompts(rows),
        "both orders": prompts(pairs),
        "one order": prompts([row for row in pairs if row["order"] == "given"]),
        "one token": [ids + begun(row) for row, ids in zip(rows, prompts(rows, cot=False), strict=True)],
    }


def run_raw(prompts: Path, model: str) -> dict[str, dict[str, float]]:
    """`raw` in a process of its own, with the variables that our engine gets."""
    from pipelines.engines.llm.engine import engine_environment

    done = subprocess.run(
        [sys.executable, __file__, "--model", model, "--child", str(prompts)],
        env={**os.environ, **engine_environment(settings(model).engine)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    found: dict[str, dict[str, float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def raw(path: Path, model: str) -> dict[str, dict[str, float]]:
    """The prompts of each comparison at once through `vllm.LLM`: seconds, and tokens read, computed and written."""
    from vllm import LLM, SamplingParams

    from pipelines.engines.llm.engine import engine_arguments
    from pipelines.engines.llm.judge import TOP
    from pipelines.engines.models import resolve

    engine = LLM(model=resolve(model), **engine_arguments(settings(model).engine))
    found = {}
    for name, prompts in json.loads(path.read_text()).items():
        sampling = SamplingParams(temperature=0, max_tokens=1 if name == "one token" else CRITIQUE, logprobs=TOP)
        engine.reset_prefix_cache()
        start = time.monotonic()
        outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
        seconds = time.monotonic() - start
        read = sum(len(ids) for ids in prompts)
        written = sum(len(output.outputs[0].token_ids) for output in outputs)
        cached = sum(output.num_cached_tokens or 0 for output in outputs)
        found[name] = {"seconds": seconds, "read": read, "computed": read - cached + written, "written": written}
    return found


if __name__ == "__main__":
    main()
