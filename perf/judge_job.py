"""Speed of the batch judge against one request after another, in turn, with the same model, prompts and settings.

Ours: the judge step of the job, from the first row begun to the last one ended (engine start left out). One by one:
the same judge, asked for a judgment and then for the next, as a caller in a loop would.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from rounds import add_rounds, compared, interleaved
from synthesis import Began, Ended

from pipelines.core import storage
from pipelines.core.cluster import RayConfig, connect
from pipelines.core.run import Run
from pipelines.engines.config import EngineConfig
from pipelines.judge_job.config import JudgeConfig

SOURCES = ("sample_pairwise", "sample_absolute", "sample_classification")
BAR = 4.0


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--max-tokens", type=int, default=32, help="of a critique")
    parser.add_argument("--model", default="embedded")
    add_rounds(parser)
    parser.add_argument("--child", nargs=2, metavar=("ROWS", "INPUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        rows, source = map(Path, options.child)
        print(json.dumps(asyncio.run(one_by_one(rows, judge_config(source, options.model, options.max_tokens)))))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(options, Path(folder))))


def judge_config(source: Path, model: str, max_tokens: int) -> JudgeConfig:
    """As in judge.yaml, one order."""
    engine = EngineConfig(model=model, max_model_len=1024, max_num_seqs=32, batch_size=8, concurrent_batches=8)
    return JudgeConfig(input=[str(source)], template="compact", max_tokens=max_tokens, engine=engine, rows_per_block=32)


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run both, in turn."""
    from pipelines.judge_job.requests import Requests

    connect(RayConfig(num_cpus=4, object_store_memory_mb=512, dashboard=False))
    source = folder / "requests.jsonl"
    source.write_text("".join(json.dumps(one) + "\n" for one in requests(options.rows)))
    config = judge_config(source, options.model, options.max_tokens)
    rows = Requests(Run(folder / "out"), config).run(folder / "read")
    numbers, whole = count(), list[float]()

    def ours() -> float:
        start = time.monotonic()
        found = run_segment(rows, config, Run(folder / "out"), folder / str(next(numbers)))
        whole.append(time.monotonic() - start)
        print(f"job: {found:.2f} judgments/s, {whole[-1]:.0f} s with the engine's start", flush=True)
        return found

    def baseline() -> float:
        from pipelines.engines.llm.engine import engine_environment

        command = [sys.executable, __file__, "--child", str(rows.folder), str(source), "--model", options.model]
        command += ["--max-tokens", str(options.max_tokens)]
        assert isinstance(config.engine, EngineConfig)
        variables = {**os.environ, **engine_environment(config.engine)}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        found: float = json.loads(done.stdout.strip().splitlines()[-1])["judgments_per_second"]
        print(f"one by one: {found:.2f} judgments/s", flush=True)
        return found

    found = compared(*interleaved({"ours": ours, "baseline": baseline}, options.rounds).values())
    facts = {"rows": options.rows, "max_tokens": options.max_tokens, "model": options.model, "segment_seconds": whole}
    return {"name": "judge_job", **found, "bar": BAR, "unit": "judgments/s", **facts}


def requests(size: int) -> list[dict[str, Any]]:
    """Rows of the sample set under the API's names, over and over under new ids."""
    from pipelines.curation.registry import load_source
    from pipelines.datasets.reading import ingest_rows

    found = [row for name in SOURCES for row in ingest_rows(load_source(name), None) if row["status"] == "ok"]
    names = ("task", "instruction", "context", "responses", "reference", "rubric", "allowed")
    usable = [{name: row[name] for name in names} for row in found if row["instruction"] and all(row["responses"])]
    step = max(1, len(usable) // size)  # of all tasks
    return [{"id": f"{i}", **usable[i * step % len(usable)]} for i in range(size)]


def run_segment(rows: Any, config: JudgeConfig, run: Run, work: Path) -> float:
    """The judge segment as the job runs it, with two clocks; judgments a second."""
    from pipelines.engines.llm.vllm_stage import PromptStage
    from pipelines.judge_job.job import judge_segment

    segment = judge_segment(run, config)
    *before, stage = segment.stages
    assert isinstance(stage, PromptStage)
    timed = PromptStage("judge", stage.engine, [Began(), *stage.steps, Ended()])
    judged = replace(segment, stages=[*before, timed]).run(work, rows)
    table = storage.read_table(judged.folder)
    ended = [at for at in table["ended"].to_pylist() if at]
    return len(ended) / (max(ended) - min(at for at in table["began"].to_pylist() if at))


async def one_by_one(folder: Path, config: JudgeConfig) -> dict[str, float]:
    """The same judge and rows, each asked once the one before is answered."""
    from pipelines.engines.llm.engine import start_engine
    from pipelines.engines.llm.vllm_stage import PromptStage
    from pipelines.judge_job.job import judge_segment

    *_, stage = judge_segment(Run(folder), config).stages
    assert isinstance(stage, PromptStage)
    rows = [row for row in storage.read_table(folder).to_pylist() if row["status"] == "ok"]
    ask = start_engine(stage.engine, closing=True)
    start = time.monotonic()
    for row in rows:
        for one in stage.steps:
            await one.run(row, ask)
    return {"judgments_per_second": len(rows) / (time.monotonic() - start)}


if __name__ == "__main__":
    main()
