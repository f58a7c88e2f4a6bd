"""The prompts that the paper prints (Figures 5 and 7 to 10), byte for byte: wording that is ours must not creep in."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.judging.templates import load, render

PRINTED = sorted((Path(__file__).parent / "printed").glob("*.txt"))


@pytest.mark.parametrize("file", PRINTED, ids=lambda file: file.stem)
def test_a_row_without_reference_and_ties_is_asked_in_the_papers_words(file: Path) -> None:
    pair = {"instruction": "{user_input}", "responses": ["{assistant_response_a}", "{assistant_response_b}"]}
    score = {"instruction": "{instruction}", "responses": ["{response}"], "rubric": "{rubric}"}
    rest = {"context": None, "reference": None, "rubric": None}
    template = load(file.stem)
    row = rest | ({**pair, "allowed": ["A", "B"]} if template.task == "pairwise" else {**score, "allowed": [*"12345"]})
    assert render(template, row | {"task": template.task}) + "\n" == file.read_text(encoding="utf-8")


def test_every_printed_figure_is_there() -> None:
    assert {file.stem for file in PRINTED} == {
        "absolute_original",
        "pairwise_json",
        "pairwise_markdown",
        "pairwise_prepair",
        "pairwise_simplified",
    }
