"""How often the intervals of `openselene calibrate` hold the truth, on six benchmarks that have a label for every row.

    python perf/calibration.py --data-root DATA --draws 500

Each draw takes prompts with replacement and leaves 5% of the labels. Only BiGGen's file has a judge's scores; elsewhere
what stands in for a judge is cheap, and named in the table: coverage is a property of the intervals, and a bad judge
makes them wide. The labels are people's, but for MT-Bench, whose labels are GPT-4's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.evaluation.asking.benchmark_rows import GIVEN, benchmark_examples
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.coverage import Coverage, some, summarise, truths
from pipelines.experiments.calibrate.estimate import ALL
from pipelines.experiments.calibrate.values import Judged

FIGURE = re.compile(r"[\d.e-]*\d")
WORD = re.compile(r"\w+")
BAR = (0.93, 0.97)
PART = 10  # draws of a task


def words(text: str | None) -> Counter[str]:
    """Its words, in lower case."""
    return Counter(WORD.findall((text or "").lower()))


def word_f1(row: dict[str, Any]) -> float:
    """Of the response and the reference."""
    one, other = words(row["responses"][0]), words(row["reference"])
    return 2 * (one & other).total() / max(1, one.total() + other.total())


def share_of_first(row: dict[str, Any]) -> float:
    """Of the words of both responses, those of the first."""
    first, second = (words(text).total() for text in row["responses"])
    return first / max(1, first + second)


def share_supported(row: dict[str, Any]) -> float:
    """Of the claim's words, those that the document has."""
    claim = words(row["responses"][0])
    return (claim & words(row["context"])).total() / max(1, claim.total())


def share_of_asked(row: dict[str, Any]) -> float:
    """Of the instruction's different words, those that the response has."""
    asked = set(words(row["instruction"]))
    return len(asked & set(words(row["responses"][0]))) / max(1, len(asked))


def rows_of(benchmark: str, data: Path, score: Callable[[dict[str, Any]], float]) -> list[Judged]:
    """A benchmark's rows under a stand-in; its systems count as one, as most have too few labels for themselves."""
    label = {"A": 1.0, "B": 0.0, "Tie": 0.5, "Yes": 1.0, "No": 0.0}
    found = []
    for row in benchmark_examples([benchmark], data).to_pylist():
        if row["status"] == "ok" and row["order"] == GIVEN:
            gold = row["gold"]
            true = label[gold] if gold in label else float(gold)
            found.append(Judged(row["row_id"], "all", row["group_id"], score(row), true))
    return found


def biggen(data: Path) -> Iterator[Judged]:
    """Its rows with Claude's scores."""
    for path in sorted((data / "benchmarks" / "biggen_bench").glob("human_eval_*.jsonl")):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if row["human_score"] > 0 and row["claude_score"] is not None:
                scores = float(row["claude_score"]), float(row["human_score"])
                yield Judged(str(row["uuid"]), row["model_name"], str(row["id"]), *scores)


SETS: dict[str, tuple[str, Callable[[Path], list[Judged]]]] = {
    "biggen_bench": ("Claude's scores", lambda data: list(biggen(data))),
    "mt_bench": ("word F1 with the reference", lambda data: rows_of("mt_bench", data, word_f1)),
    "financebench": ("word F1 with the gold answer", lambda data: rows_of("financebench", data, word_f1)),
    "auto_j": ("share of the first response in the words", lambda data: rows_of("auto_j", data, share_of_first)),
    # Labels of two values: one of them rare in the first, both common in the second.
    "infobench": ("share of the instruction's words", lambda data: rows_of("infobench", data, share_of_asked)),
    "llm_aggrefact": ("share of the claim's words", lambda data: rows_of("llm_aggrefact", data, share_supported)),
}


def measure(name: str, data: Path, draws: int, seed: int, processes: int) -> list[Coverage]:
    """The coverage of every figure of one benchmark."""
    rows = SETS[name][1](data)
    parts = [range(first, min(first + PART, draws)) for first in range(0, draws, PART)]
    with ProcessPoolExecutor(processes) as pool:
        lines = [line for part in pool.map(partial(some, rows, CalibrateConfig(), seed), parts) for line in part]
    # Without the figures in it, a reason is one of a few.
    reasons = Counter(FIGURE.sub("#", line["refused"]) for line in lines if line["refused"] and line["of"] == ALL)
    for reason, count in reasons.most_common():
        print(f"{name}: refused in {count} draws: {reason}")
    return summarise(lines, truths(rows))


def main() -> None:
    """Print a line a figure, and all as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path, default=os.environ.get("OPENSELENE_DATA_ROOT"))
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    if options.data_root is None:
        sys.exit("set OPENSELENE_DATA_ROOT or --data-root to the folder of the real data")
    found: dict[str, Any] = {}
    for name in options.sets:
        made = measure(name, options.data_root, options.draws, options.seed, options.processes)
        whole = {one.way: one for one in made if one.of == "all systems"}
        found[name] = {"judge": SETS[name][0], **{way: one.model_dump() for way, one in whole.items()}}
        for way, one in whole.items():
            share = "none" if one.covered is None else f"{one.covered:.1%} [{one.ci_low:.1%}, {one.ci_high:.1%}]"
            print(f"{name}, {way}: {share} of {one.draws}, refused {one.refused}, width {one.width}", flush=True)
    print(json.dumps({"name": "calibration", "bar": BAR, "sets": found}))


if __name__ == "__main__":
    main()
