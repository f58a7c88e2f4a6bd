"""Judge one pair of responses from Python.

python examples/judge_a_pair.py             # the embedded model, untrained
python examples/judge_a_pair.py out/local/model
"""

from __future__ import annotations

import asyncio
import os
import sys

from pipelines.core.records import Row
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.engine import engine_environment, start_engine
from pipelines.engines.llm.judge import Judge

PAIR: Row = {
    "task": "pairwise",
    "instruction": "Name the capital of France.",
    "context": "",
    "responses": ["The capital of France is Paris.", "I like trains."],
    "reference": "",
    "rubric": "The better response answers the question.",
    "allowed": ["A", "B"],
    "template": "pairwise_compact",
}


async def judge(model: str) -> None:
    """Load the model and print its verdict on PAIR."""
    config = EngineConfig(model=model, max_model_len=1024)
    os.environ.update(engine_environment(config))
    ask = start_engine(config)
    # `one_token` compares the verdicts at one token; `cot` has the judge write a critique first (`max_tokens`).
    row = dict(PAIR)
    await Judge(max_tokens=128, format="one_token").run(row, ask)
    print(f"verdict: {row['predicted']}")
    for verdict, probability in row["verdict_probs"]:
        print(f"  {verdict}: {probability:.3f}")
    ask.engine.shutdown()


if __name__ == "__main__":  # the engine starts a process that imports this file
    asyncio.run(judge(sys.argv[1] if len(sys.argv) > 1 else "embedded"))
