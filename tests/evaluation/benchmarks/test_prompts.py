"""Every text that a benchmark's row has is in its prompt: a question asked without its answer key is another task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.core.errors import UserError
from pipelines.evaluation.asking.benchmark_rows import benchmark_rows
from pipelines.evaluation.asking.prompt_formats import FORMATS
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.judging.templates import load, render

ROWS = 60  # of each benchmark, by hash: all of them would take minutes
COMPACT = {"pairwise": "pairwise_compact", "absolute": "absolute_compact", "classification": "classification_compact"}


@pytest.mark.parametrize("name", BENCHMARKS.names())
def test_every_field_of_a_row_is_in_its_prompt_in_every_format(name: str, data_root: Path) -> None:
    benchmark = BENCHMARKS.load(name)
    try:
        rows = [row for row in benchmark_rows(benchmark, data_root, ROWS) if row["status"] == "ok"]
    except UserError:
        pytest.skip("only on the hub")
    templates = {benchmark.template_name, COMPACT[benchmark.task]}
    templates |= set(FORMATS.values()) if benchmark.task == "pairwise" else set()
    for row in rows:
        texts = [row["instruction"], row["context"], row["reference"], row["rubric"], *row["responses"]]
        for template in sorted(templates):
            for cot in (True, False):
                prompt = render(load(template), row, cot=cot)
                for text in filter(None, texts):
                    shown = (
                        text.strip(),
                        json.dumps(text, ensure_ascii=False),
                        json.dumps(text.strip(), ensure_ascii=False),
                    )
                    assert any(form in prompt for form in shown), (name, template, text[:80])
