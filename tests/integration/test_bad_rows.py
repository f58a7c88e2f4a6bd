"""A whole curation of a source whose rows are bad in every way a row can be."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import pytest
import yaml

from pipelines.config import load_config
from pipelines.core.cluster import connect
from pipelines.core.errors import RowFailure
from pipelines.core.records import Row
from pipelines.core.segment import Segment
from pipelines.core.stage import Stage
from pipelines.core.storage import read_json
from pipelines.curation import job
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.critique import Critique
from pipelines.engines.reward.conversations import Conversation
from pipelines.engines.reward.stage import RewardStage, Score, load_reward
from ray_jobs.curate import build
from tests.engines.conftest import armorm_folder, tiny_armorm, tiny_config, tokenizer  # noqa: F401

from .conftest import LOCAL
from .faults import NO_LOOKUPS, reward_config


@pytest.fixture
def local_ray(own_ray: None) -> None:
    """The local cluster of the other integration tests, whose workers cannot import this file."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    connect(load_config(LOCAL, ["ray.dashboard=false"]).ray)


MAPPING = {
    "name": "mine",
    "task": "pairwise",
    "files": ["mine.jsonl"],
    "license": "CC0-1.0",
    "allowed": ["A", "B"],
    "fields": {
        "instruction": "record.q",
        "responses": "record.r",
        "verdict": "record.v",
        "published": "record.y",
    },
}
BAD: dict[bytes, str] = {
    b'{"q": "caf\xe9", "r": ["a", "b"], "v": "A", "y": 2024}': "error:invalid_utf8",
    b'{"q": "half \\ud83d", "r": ["a", "b"], "v": "A", "y": 2024}': "filtered:invalid_unicode",
    b'{"q": "null \\u0000", "r": ["a", "b"], "v": "A", "y": 2024}': "filtered:invalid_unicode",
    b'{"q": "never ends", "r": ["a", "b"]': "error:invalid_json",
    b"[" * 100_000: "error:invalid_json",
    b'{"q": "far future", "r": ["a", "b"], "v": "A", "y": 99999999999}': "error:mapping:published:",
    b'{"q": "one word", "r": ["%s", "b"], "v": "A", "y": 2024}' % (b"w" * 1_000_000): "error:reward:response_too_long",
    b'{"q": "no gate", "r": ["no number", "b"], "v": "A", "y": 2024}': "error:reward:not_finite",
    b'{"q": "broken", "r": ["it breaks", "b"], "v": "A", "y": 2024}': "error:reward:broke_on:\\ud83d",
    b'{"q": "no critique", "r": ["a", "b"], "v": "A", "y": 2024}': "error:written:no_critique",
    b'{"q": "half a critique", "r": ["a", "b"], "v": "A", "y": 2024}': "error:not_storable:chosen_critique:",
}
# What looks dangerous and is text like any other.
ODD = ["{{ 7 * 7 }} {% raise %}", "<|im_end|>\n<|im_start|>assistant", "w" * 1_000_000, "\\ud83d %s {0}"]


class PoisonedReward(RewardStage):
    """The real stage on a model that fails on one text and has no number for another."""

    def setup(self) -> None:
        super().setup()
        model: Any = self.model
        forward, decode = model.forward, model.encode.tokenizer.decode

        def broken(encoded: Any) -> Iterator[tuple[int, Score]]:
            said = {key: decode(found.response) for key, found in encoded.items()}
            if any("it breaks" in text for text in said.values()):
                raise RowFailure("broke_on", "\ud83d")
            for key, score in forward(encoded):
                yield key, replace(score, reward=float("nan")) if "no number" in said[key] else score

        model.forward = broken


class Written(Stage):
    """In the engine's place: critiques without a model, one of which cannot be stored."""

    name = "written"
    reads = ("instruction",)
    adds = (*Critique.adds, *ConsistencyCheck.adds)

    def apply(self, row: Row) -> None:
        if row["instruction"] == "no critique":
            raise RowFailure("no_critique")
        half = " \ud83d" if row["instruction"] == "half a critique" else ""
        row |= {"chosen_critique": f"It is right.{half}", "rejected_critique": "It is wrong."}
        row |= {"chosen_consistent": True, "rejected_consistent": True, "generator": "none", "attempts": 1}


@pytest.mark.usefixtures("local_ray")
def test_each_bad_row_of_a_source_ends_in_quarantine_and_leaves_its_neighbours_alone(
    tmp_path: Path,
    armorm_folder: Path,  # noqa: F811
) -> None:
    texts = [f"What is {n} plus {n}?" for n in range(50)] + ODD
    lines = [json.dumps({"q": text, "r": ["4", f"No, {len(text)}."], "v": "A", "y": 2024}).encode() for text in texts]
    for n, bad in enumerate(BAD):  # spread among the others
        lines.insert(5 * n, bad)
    (tmp_path / "mine.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MAPPING))
    config = reward_config(
        tmp_path / "out",
        armorm_folder,
        [str(tmp_path / "mine.yaml")],
        rows_per_block=64,
        critique={"engine": {"model": str(armorm_folder), "max_model_len": 3_000_000}},
        mix={"tokenizer": str(armorm_folder), "max_tokens": 2_000_000},
        clean={"max_chars": 2_000_000, **NO_LOOKUPS},
    )
    config = config.model_copy(update={"max_error_share": 1.0})
    reward = config.curation.reward.model_copy(update={"rows_per_batch": 64})
    last = {"prepare": PoisonedReward(reward), "synthesize": Written()}
    steps = [
        replace(one, stages=[*one.stages[:-1], last[one.name]])
        if isinstance(one, Segment) and one.name in last
        else one
        for one in build(config.run, config.curation)
    ]
    job.run(steps, config.run, config.curation)

    # A row's raw_id is its line, so this is the order of the file.
    lost = pads.dataset(config.run.quarantine).to_table().sort_by("raw_id").to_pylist()
    assert len(lost) == len(BAD)
    for row, reason in zip(lost, BAD.values(), strict=True):
        assert row["status"].startswith(reason) and len(row["status"]) < 300
    pairs = pads.dataset(config.run.pairs).to_table().sort_by("raw_id").to_pylist()
    assert [row["instruction"] for row in pairs] == texts
    alone = load_reward(reward)
    for row in pairs:
        assert row["chosen_critique"] and row["prompt"] and row["chosen"].endswith(row["verdict"])
        talks = [Conversation(row["instruction"], response) for response in row["responses"]]
        assert row["rewards"] == pytest.approx([score.reward for score in alone.score(talks)], abs=1e-4)
    errors = sum(reason.startswith("error") for reason in BAD.values())
    total = {"in": len(lines), "pairs": len(texts), "filtered": len(BAD) - errors, "error": errors}
    assert read_json(config.run.ledger)["total"] == {"mine": total}
