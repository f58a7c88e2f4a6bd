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
    right = {key(row): int(row["verdict"]) for row in rows("auto_j_train", data_root)}
    flipped, noisy = (rows(str(PLANTED / f"{name}.yaml"), data_root) for name in ("flipped", "noisy"))
    assert len(flipped) > 400 and len(noisy) > 400
    known = [(key(row), int(row["verdict"])) for row in flipped if key(row) in right]
    assert len(known) > 400 and all(verdict == 11 - right[name] for name, verdict in known)
    for row in noisy:
        name, verdict = key(row), int(row["verdict"])
        if name in right and abs(len(name[1]) - 400) > 5:  # the length is taken before the text is stripped
            assert verdict == (11 - right[name] if len(name[1]) < 400 else right[name])


def test_the_config_of_the_chain_is_whole(data_root: Path) -> None:
    config = load_config(PLANTED / "ablation.yaml", [f"data_root={data_root}"])
    held_out, reported = set(config.trials.heldout.benchmarks), set(config.evaluation.benchmarks)
    assert not held_out & reported and len(config.curation.sources) == 8
    assert {Path(name).stem for name in config.curation.sources} == set(config.curation.mix.caps)
