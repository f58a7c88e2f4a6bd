"""Transfer: which rows are asked in which cell, and what base and trained judge make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.config import Config
from pipelines.core.errors import UserError
from pipelines.core.records import Row
from pipelines.experiments.transfer.cells import Cell, Part, ask, cells_of, chosen, parts_of, template_of
from pipelines.experiments.transfer.config import TransferConfig
from pipelines.experiments.transfer.job import compared, describe, models_of
from pipelines.judging.templates import load
from pipelines.training.config import TrainConfig


def config(**changes: Any) -> TransferConfig:
    domains = {"notes": ["heldout_pairwise"], "sums": ["heldout_absolute: arith*", "heldout_pairwise"]}
    return TransferConfig.model_validate({"domains": domains, "formats": ["compact", "brackets"], **changes})


def rows(count: int = 10) -> list[Row]:
    """Pairs in both orders, and scores of two subsets."""
    texts = {"instruction": "x", "context": None, "reference": None, "rubric": None, "status": "ok", "group_id": "g"}
    found: list[Row] = []
    for i in range(count):
        for order in ("given", "swapped"):
            pair = {"task": "pairwise", "allowed": ["A", "B"], "gold": "A", "responses": ["a", "b"], "order": order}
            about = {"row_id": f"p{i}", "benchmark": "heldout_pairwise", "judgment_id": f"p{i}:{order}", "subset": None}
            found.append({**texts, **pair, **about})
        one = {"task": "absolute", "allowed": ["1", "2", "3"], "gold": "2", "responses": ["a"], "order": "given"}
        about = {"row_id": f"a{i}", "benchmark": "heldout_absolute", "judgment_id": f"a{i}"}
        found.append({**texts, **one, **about, "subset": "arithmetic" if i < 4 else "other"})
    return found


class Counter:
    """Counts words."""

    def prompts(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def asked_of(found: list[Row], **changes: Any) -> tuple[list[Row], dict[str, int]]:
    return ask(found, config(**changes), 0, Counter())  # type: ignore[arg-type]


def test_every_packaged_domain_and_format_is_there() -> None:
    own = TransferConfig()
    for cell in cells_of(own.model_copy(update={"formats": ["original", "compact", "json", "prepair", "brackets"]})):
        assert load(str(template_of(cell.task, cell.format))).task == cell.task
    assert set(parts_of(own.domains)) == {"medicine", "finance", "summaries", "dialogue", "code", "mathematics"}


def test_a_part_of_a_benchmark_is_named_by_a_pattern() -> None:
    parts = parts_of(config().domains)
    assert parts == {
        "notes": [Part("heldout_pairwise", "heldout_pairwise", "*")],
        "sums": [
            Part("heldout_absolute", "heldout_absolute", "arith*"),
            Part("heldout_pairwise", "heldout_pairwise", "*"),
        ],
    }
    assert {row["row_id"] for row in chosen(rows(), parts["sums"][0], None, 0)} == {"a0", "a1", "a2", "a3"}


def test_formats_of_pairs_are_none_for_other_tasks() -> None:
    assert cells_of(config()) == [
        *(Cell("notes", "pairwise", form) for form in ("compact", "brackets")),
        *(Cell("sums", "pairwise", form) for form in ("compact", "brackets")),
        Cell("sums", "absolute", "compact"),
    ]


def test_each_pair_is_asked_in_one_order_and_all_formats() -> None:
    asked, left_out = asked_of(rows())
    notes = [row for row in asked if row["benchmark"].startswith("notes")]
    assert len(notes) == 20 and not left_out and len({row["judgment_id"] for row in asked}) == len(asked)
    by_format = [
        {row["judgment_id"].split(": ")[1] for row in notes if form in row["benchmark"]}
        for form in ("compact", "brackets")
    ]
    assert by_format[0] == by_format[1] and {name.split(":")[1] for name in by_format[0]} == {"given", "swapped"}
    assert asked_of(rows()[::-1])[0] and {row["judgment_id"] for row in asked_of(rows()[::-1])[0]} == {
        row["judgment_id"] for row in asked
    }
    assert len([row for row in asked_of(rows(), sample=8)[0] if row["benchmark"] == "notes, pairwise, compact"]) == 8


def test_a_row_too_long_in_one_format_is_in_none() -> None:
    found = rows()
    lengths = Counter().prompts([row["prompt"] for row in asked_of(found)[0]])
    asked, left_out = asked_of(found, max_tokens=max(max(lengths) - 1, 16))
    forms = {row["benchmark"].rsplit(" ", 1)[1] for row in asked}
    assert left_out and forms <= {"compact"}  # the longest format is one of pairs, so no pair is left


def judged(shares: dict[str, float], n: int = 80) -> dict[str, pd.DataFrame]:
    random = np.random.default_rng(0).random(n)
    groups = [str(i) for i in range(n)]
    return {
        cell: pd.DataFrame({"group_id": groups, "points": (random < one).astype(float)}) for cell, one in shares.items()
    }


def test_a_cell_is_better_or_worse_by_more_than_chance_of_all() -> None:
    cells = [Cell(name, "pairwise", "compact") for name in ("up", "down", "same", "empty")]
    up, down, same, _ = map(str, cells)
    base, trained = judged({up: 0.5, down: 0.8, same: 0.6}), judged({up: 0.8, down: 0.5, same: 0.61})
    made, table, plot = compared(cells, {"base": base, "trained": trained}, [], config(), {"up": 3}, 1.0)
    assert [(one.about, one.verdict) for one in made.decisions] == [
        (up, "better"),
        (down, "worse"),
        (same, "no difference shown"),
    ]
    assert table[0]["trained minus base"] == pytest.approx(table[0]["trained"] - table[0]["base"])
    assert "empty, pairwise: no row is left" in made.notes and "up: 3 rows are too long and left out" in made.notes
    assert plot.startswith("<svg")


def test_one_model_alone_is_refused(tmp_path: Path) -> None:
    run = Config.model_validate({"out_dir": tmp_path, "evaluation": {"benchmarks": ["heldout_pairwise"]}}).run
    with pytest.raises(UserError, match=r"nothing to compare \(train first"):
        models_of(run, TrainConfig(), config())
    assert models_of(run, TrainConfig(), config(models={"a": "x", "b": "y"})) == {"a": "x", "b": "y"}
    with pytest.raises(UserError, match="comes twice"):
        describe(run, TrainConfig(), config(domains={"d": ["auto_j: a*", "auto_j: b*"]}))
    assert "transfer of base, trained: 5 cells" in describe(run, TrainConfig(), config())[0]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("heldout_pairwise: zzz*", r"no subset matches 'zzz\*', of ''"),
        ("heldout_absolute: arithmetik", "no subset matches 'arithmetik', of 'arithmetic', 'other'"),
        ("heldout_classification", "the benchmark has no usable row"),
    ],
)
def test_a_part_without_a_row_is_refused_beside_others_that_have_some(named: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        asked_of(rows(), domains={"notes": ["heldout_pairwise"], "both": [named]})
    with pytest.raises(UserError, match=r"transfer\.domains\.both: heldout_"):
        asked_of(rows(), domains={"notes": ["heldout_pairwise"], "both": [named]})


def test_rows_that_are_all_too_long_are_refused() -> None:
    with pytest.raises(UserError, match=r"transfer\.max_tokens: no row is short enough"):
        asked_of(rows(), max_tokens=16, domains={"notes": ["heldout_pairwise"]})


def test_a_file_is_known_by_the_name_in_it(tmp_path: Path) -> None:
    place = tmp_path / "mine.yaml"
    packaged = Path(__file__).parents[2] / "examples" / "planted" / "compliance_heldout.yaml"
    place.write_text(packaged.read_text())
    (part,) = parts_of({"own": [f"{place}: a:b*"]})["own"]
    assert part == Part(str(place), "compliance_heldout", "a:b*")
    with pytest.raises(UserError, match="comes twice"):
        parts_of({"own": [str(place), str(packaged)]})


def test_a_format_that_comes_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"transfer\.formats"):
        cells_of(config(formats=["compact", "compact"]))
