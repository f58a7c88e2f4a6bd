"""What it is worth that a row's prompts begin with its data: the same rows data-first against verdict-first.

A row asks four things: two critiques and two checks. Our prompts put the data first and what differs last, so vLLM
computes the data once. The other order says the same words with what depends on the verdict, and all after it, in
front. Both go through the same engine in the same run, rows in the same order, the prefix cache emptied between.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from rounds import add_rounds, compared, interleaved

from pipelines.core.determinism import unit
from pipelines.core.records import Row
from pipelines.engines.config import EngineConfig

SOURCES = ("alce_human_eval", "halueval", "vicuna_eval", "finegrained_rlhf")
CRITIQUE = "It answers what was asked, and it says where the answer comes from."
MOST = 40  # tokens of a critique, as in local.yaml


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("OPENSELENE_DATA_ROOT"))
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, nargs=2, default=(800, 1300), help="least and most tokens of a prompt")
    add_rounds(parser)
    options = parser.parse_args()
    if options.data_root is None:
        sys.exit("set OPENSELENE_DATA_ROOT or --data-root to the folder of the real data")
    print(json.dumps(compare(options.data_root, options.rows, options.rounds, *options.tokens)))


def compare(data_root: Path, count: int, rounds: int, least: int, most: int) -> dict[str, Any]:
    """Both orders through one engine, in turn."""
    from pipelines.engines.llm.engine import engine_arguments, engine_environment

    config = EngineConfig(max_model_len=2048, max_num_seqs=8)
    os.environ.update(engine_environment(config))
    from vllm import LLM, SamplingParams

    from pipelines.engines.models import resolve
    from pipelines.judging.chat import encode_prompt
    from pipelines.training.pairs import load_tokenizer

    model = resolve("embedded")
    tokenizer = load_tokenizer(model)
    rows = long_rows(data_root, count, least, most, tokenizer)
    texts = asked(rows)
    orders = {
        name: [encode_prompt(tokenizer, text) for text in some]
        for name, some in (("ours", texts), ("baseline", verdict_first(texts)))
    }
    engine = LLM(model=model, disable_log_stats=False, **engine_arguments(config))
    sampling = [
        SamplingParams(temperature=0, max_tokens=MOST if i % 4 < 2 else 2, ignore_eos=True) for i in range(4 * count)
    ]

    def run(name: str) -> float:
        engine.reset_prefix_cache()
        start = time.monotonic()
        engine.generate([{"prompt_token_ids": ids} for ids in orders[name]], sampling, use_tqdm=False)
        seconds = time.monotonic() - start
        print(f"{name}: {seconds:.1f} s", flush=True)
        return seconds

    found = interleaved({name: partial(run, name) for name in orders}, rounds)
    tokens = sum(len(ids) for ids in orders["ours"]) / len(orders["ours"])
    return {
        "name": "prefix",
        **compared(found["ours"], found["baseline"], less_is_better=True),
        "unit": "s",
        "rows": count,
        "prompt_tokens": round(tokens),
    }


def long_rows(data_root: Path, count: int, least: int, most: int, tokenizer: Any) -> list[Row]:
    """Rows of real sets whose prompts have so many tokens, by hash."""
    from pipelines.curation.registry import load_source
    from pipelines.datasets.reading import ingest_rows
    from pipelines.judging.templates import load, render

    found: list[Row] = []
    for name in SOURCES:
        for row in ingest_rows(load_source(name), data_root):
            if row["status"] == "ok" and row["verdict"] in row["allowed"]:
                size = len(tokenizer(render(load("critique"), row, verdict=row["verdict"]))["input_ids"])
                found += [row] if least <= size <= most else []
    return sorted(found, key=lambda row: unit(0, "perf", row["row_id"]))[:count]


def asked(rows: list[Row]) -> list[str]:
    """The four prompts of each row, one row after the other."""
    from pipelines.judging.templates import load, render

    texts = []
    for row in rows:
        other = next(verdict for verdict in row["allowed"] if verdict != row["verdict"])
        for verdict in (row["verdict"], other):
            texts.append(render(load("critique"), row, verdict=verdict))
        for verdict in (row["verdict"], other):
            texts.append(render(load("check_prompted"), row, critique=CRITIQUE, verdict=verdict))
    return texts


def verdict_first(texts: list[str]) -> list[str]:
    """The prompts, two by two of one question, with the lines from the first on that differs in front of the others."""
    found = []
    for pair in zip(texts[::2], texts[1::2], strict=True):
        same = next(at for at, letters in enumerate(zip(*pair, strict=False)) if len(set(letters)) > 1)
        cut = pair[0].rfind("\n", 0, same) + 1
        found += [f"{text[cut:]}\n\n{text[:cut].rstrip()}" for text in pair]
    return found


if __name__ == "__main__":
    main()
