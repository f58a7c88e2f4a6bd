"""The planted sources of examples/planted on the real data: turned round as they say, no prompt of them held out."""

from __future__ import annotations

from pathlib import Path

from pipelines.config import load_config
from pipelines.core.records import Row
from pipelines.curation.registry import load_source
from pipelines.datasets.readers import read_raw
from pipelines.datasets.spec import adapt
from pipelines.evaluation.asking.benchmark_rows import benchmark_rows
from pipelines.evaluation.asking.benchmark_texts import texts_of
from pipelines.evaluation.benchmarks.registry import BENCHMARKS

ROOT = Path(__file__).parents[3]
PLANTED = ROOT / "examples" / "planted"
SOURCES = ("compliance", "flipped", "noisy")


def rows(name: str, data_root: Path) -> list[Row]:
    source = load_source(name)
    found = [row for raw in read_raw(source, data_root) for row in adapt(source, raw)]
    return [row for row in found if row["status"] == "ok" and row["verdict"] in row["allowed"]]


def key(row: Row) -> tuple[str, str]:
    """Instruction and response."""
    return row["instruction"], row["responses"][0]


def test_labels_are_turned_round_where_the_example_says_so(data_root: Path) -> None:
    score = {"full compliance": 5, "partial refusal": 3, "full refusal": 1}
    right = {(*key(row), score[row["verdict"]]) for row in rows("xstest", data_root)}
    clean, flipped, noisy = (rows(str(PLANTED / f"{name}.yaml"), data_root) for name in SOURCES)
    assert min(map(len, (clean, flipped, noisy))) > 150
    assert all((*key(row), int(row["verdict"])) in right for row in clean)
    assert all((*key(row), 6 - int(row["verdict"])) in right for row in flipped)
    # The length is taken before the text is stripped.
    sure = [row for row in noisy if abs(len(row["responses"][0]) - 1013) > 5]
    turned = [6 - int(row["verdict"]) if len(row["responses"][0]) < 1013 else int(row["verdict"]) for row in sure]
    assert all((*key(row), verdict) in right for row, verdict in zip(sure, turned, strict=True))
    assert 0.6 < sum(len(row["responses"][0]) < 1013 for row in sure) / len(sure) < 0.75


def test_no_prompt_is_trained_on_and_held_out(data_root: Path) -> None:
    benchmark = BENCHMARKS.load(str(PLANTED / "compliance_heldout.yaml"))
    asked = [row for row in benchmark_rows(benchmark, data_root, None, 0, {}) if row["status"] == "ok"]
    held = {row["instruction"] for row in asked}
    assert len(asked) == benchmark.expected_n
    assert held == texts_of(benchmark, data_root)
    for name in SOURCES:
        assert not held & {row["instruction"] for row in rows(str(PLANTED / f"{name}.yaml"), data_root)}


def test_the_config_of_the_chain_is_whole(data_root: Path) -> None:
    config = load_config(PLANTED / "ablation.yaml", [f"data_root={data_root}"])
    held_out, reported = set(config.trials.heldout.benchmarks), set(config.evaluation.benchmarks)
    assert not held_out & reported and len(config.curation.sources) == 8
    assert {Path(name).stem for name in config.curation.sources} == set(config.curation.mix.caps)
