"""The planted sources of examples/planted on the real data: halves of one file, turned round as they say."""

from __future__ import annotations

from pathlib import Path

from pipelines.config import load_config
from pipelines.core.records import Row
from pipelines.curation.registry import load_source
from pipelines.datasets.readers import read_raw
from pipelines.datasets.spec import adapt

ROOT = Path(__file__).parents[3]
PLANTED = ROOT / "examples" / "planted"


def rows(name: str, data_root: Path) -> list[Row]:
    source = load_source(name)
    found = [row for raw in read_raw(source, data_root) for row in adapt(source, raw)]
    return [row for row in found if row["status"] == "ok" and row["verdict"] in row["allowed"]]


def key(row: Row) -> tuple[str, str]:
    """Instruction and response."""
    return row["instruction"], row["responses"][0]


def test_labels_are_turned_round_where_the_example_says_so(data_root: Path) -> None:
    right = {(*key(row), int(row["verdict"])) for row in rows("auto_j_train", data_root)}
    flipped, noisy = (rows(str(PLANTED / f"{name}.yaml"), data_root) for name in ("flipped", "noisy"))
    assert len(flipped) > 400 and len(noisy) > 400
    # All but a few, whose rating is half a point and is cut.
    assert sum((*key(row), 11 - int(row["verdict"])) in right for row in flipped) >= len(flipped) - 10
    # The length is taken before the text is stripped.
    sure = [row for row in noisy if abs(len(row["responses"][0]) - 400) > 5]
    turned = [11 - int(row["verdict"]) if len(row["responses"][0]) < 400 else int(row["verdict"]) for row in sure]
    assert sum((*key(row), verdict) in right for row, verdict in zip(sure, turned, strict=True)) >= len(sure) - 10


def test_the_config_of_the_chain_is_whole(data_root: Path) -> None:
    config = load_config(PLANTED / "ablation.yaml", [f"data_root={data_root}"])
    held_out, reported = set(config.trials.heldout.benchmarks), set(config.evaluation.benchmarks)
    assert not held_out & reported and len(config.curation.sources) == 8
    assert {Path(name).stem for name in config.curation.sources} == set(config.curation.mix.caps)
