"""Faults on a real Ray: a reward actor, a generator or a node killed in mid-run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import Config, load_config
from pipelines.core.cluster import configure_data, connect
from pipelines.core.determinism import digest
from pipelines.core.records import Row
from pipelines.core.segment import Rows, Segment
from pipelines.core.stage import PooledStage
from pipelines.curation.config import CritiqueConfig
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.critique import Critique
from pipelines.engines.config import EngineConfig, RewardModelConfig
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.engines.reward.stage import RewardStage
from ray_jobs.curate import build
from tests.engines.conftest import armorm_folder, tiny_armorm, tiny_config, tokenizer  # noqa: F401

from . import faults
from .conftest import LOCAL
from .faults import (
    BLOCK,
    Call,
    Damage,
    Work,
    at_work,
    calls,
    committed,
    dawdle,
    examples,
    fault,
    note,
    reward_config,
    rows_of,
    write_rows,
)

COST = ("synthesis_cached_tokens",)  # what a cache happened to hold


@pytest.fixture(scope="module", autouse=True)
def classes_travel() -> None:
    """Workers need not be able to import these files."""
    import ray

    for module in (sys.modules[__name__], faults):
        ray.cloudpickle.register_pickle_by_value(module)


@pytest.fixture
def local_ray(own_ray: None) -> None:
    """The local cluster of the other integration tests."""
    connect(load_config(LOCAL, ["ray.dashboard=false"]).ray)


# A reward actor


class NotedReward(RewardStage):
    """The real stage, slow enough to be hit in mid-batch."""

    reads = (*RewardStage.reads, "raw_id")

    def __init__(self, config: RewardModelConfig, notes: Path) -> None:
        super().__init__(config)
        self.notes = notes

    def apply_batch(self, rows: list[Row]) -> None:
        note(self.notes, [row["raw_id"] for row in rows])
        dawdle(self.notes)
        super().apply_batch(rows)


def prepare(config: Config, reward: RewardStage) -> Work:
    """The job's own segment, but for its last stage, and the steps before it done."""
    rows, steps = Rows(config.run.work, ""), build(config.run, config.curation)
    while (step := steps.pop(0)).name != "prepare":
        rows = step.run(config.run.work, rows)
    assert isinstance(step, Segment)
    return Work(replace(step, stages=[*step.stages[:-1], reward]), config.run.work, rows)


@pytest.mark.usefixtures("local_ray")
def test_a_killed_reward_actor_costs_the_blocks_in_flight(tmp_path: Path, armorm_folder: Path) -> None:  # noqa: F811
    undisturbed, killed = (
        reward_config(tmp_path / name, armorm_folder, ["sample_pairwise", "sample_absolute"], sample_per_source=64)
        for name in ("undisturbed", "killed")
    )
    expected = prepare(undisturbed, RewardStage(undisturbed.curation.reward.scorer))
    expected.run()

    notes = tmp_path / "notes"
    segment = prepare(killed, NotedReward(killed.curation.reward.scorer, notes))
    damage = Damage(segment, notes)
    with fault(
        lambda: committed(segment) and at_work(notes),
        lambda call: damage.kill(lambda: os.kill(call.pid, signal.SIGKILL)),
    ):
        segment.run()
    damage.check()
    assert len({call.pid for call in calls(notes)}) == 2
    for found, wanted in zip(rows_of(segment), rows_of(expected), strict=True):
        assert scores(found) == pytest.approx(scores(wanted), abs=1e-5)
        assert found == wanted
    assert sum(row["status"] == "ok" for row in rows_of(expected)) > 16
    assert segment.ledger == expected.ledger


def scores(row: Row) -> list[float]:
    """The numbers of a row, taken out of it."""
    found = row.pop("rewards"), row.pop("reward_objectives")
    return [*(found[0] or []), *(number for numbers in found[1] or [] for number in numbers)]


# A node


class Hashed(PooledStage):
    """A stage without a model."""

    name = "hashed"
    reads = ("instruction",)
    adds = (pa.field("hashed", pa.string()),)
    actors = (3, 3)  # spread over both nodes
    rows_per_batch = BLOCK

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def apply_batch(self, rows: list[Row]) -> None:
        note(self.notes, [row["row_id"] for row in rows])
        dawdle(self.notes)
        for row in rows:
            row["hashed"] = digest(row["instruction"])


@pytest.fixture
def two_nodes(own_ray: None) -> Iterator[Any]:
    """A cluster of two nodes with the driver on the first; nothing of it stays."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()  # the local cluster of the other tests, which start it again
    quiet: dict[str, Any] = {"include_dashboard": False}
    # The first node has room for everything: where the lost one is not replaced, the run must still go on.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, **quiet})
    try:
        cluster.add_node(num_cpus=2, **quiet)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        configure_data()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_removed_node_costs_the_blocks_in_flight(tmp_path: Path, two_nodes: Any) -> None:
    (doomed,) = two_nodes.worker_nodes
    notes = tmp_path / "notes"
    source = examples(tmp_path / "in", 200)
    segment = Work(Segment("hash", [Hashed(notes)], rows_per_block=BLOCK), tmp_path / "work", Rows(source, ""))
    damage = Damage(segment, notes)

    def busy() -> Call | None:
        return at_work(notes, doomed.node_id) if len(committed(segment)) >= 2 * BLOCK else None

    with fault(busy, lambda _: damage.kill(lambda: two_nodes.remove_node(doomed, allow_graceful=False))):
        segment.run()
    damage.check()
    assert all(row["hashed"] == digest(row["instruction"]) for row in rows_of(segment))
    assert len({call.node for call in calls(notes)}) == 2


# A generator


class Noted(PromptStep):
    """Leaves a note that a row has come so far."""

    name = "noted"

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    async def run(self, row: Row, ask: Ask) -> None:
        note(self.notes, [row["row_id"]])


class Refused(PromptStep):
    """Asks for more than the engine gives, for rows that say so."""

    name = "refused"
    reads = ("rubric",)

    async def run(self, row: Row, ask: Ask) -> None:
        if row["rubric"] == "refuse":
            await ask("Yes or no?", max_tokens=4, logprobs=1000)


def synthesis(folder: Path, source: Path) -> Work:
    """Critiques and checks by the embedded model in float32."""
    engine = EngineConfig(
        dtype="float32", max_model_len=512, max_num_seqs=BLOCK, batch_size=BLOCK, concurrent_batches=1
    )
    config = CritiqueConfig(engine=engine, max_tokens=40, drop_inconsistent_chosen=False, probe_share=0.0)
    steps = [
        Noted(folder / "notes"),
        Refused(),
        Critique(config, 0),
        ConsistencyCheck(config, 0),
        Noted(folder / "ends"),
    ]
    stages = [PromptStage("synthesize", engine, steps)]
    return Work(Segment("synthesize", stages, rows_per_block=BLOCK), folder / "work", Rows(source, ""))


@pytest.fixture(scope="module")
def with_bad_rows(own_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """An undisturbed synthesis of good rows with bad ones among them."""
    connect(load_config(LOCAL, ["ray.dashboard=false"]).ray)
    folder = tmp_path_factory.mktemp("synthesis")
    source = examples(folder / "in", 16)
    (first,) = pq.read_table(source / "0.parquet").slice(0, 1).to_pylist()
    bad = {
        "bad-long": {"context": "a word " * 2000},
        "bad-refused": {"rubric": "refuse"},
        "bad-word": {"context": "w" * 1_000_000},
        "odd-null": {"context": "a \x00 in it"},
    }
    write_rows(source, [{**first, "row_id": name, "raw_id": name, **change} for name, change in bad.items()])
    segment = synthesis(folder, source)
    segment.run()
    return segment


@pytest.mark.timeout(600)
def test_rows_that_a_real_engine_cannot_answer_end_with_a_reason(with_bad_rows: Work) -> None:
    found = {row["row_id"]: row for row in rows_of(with_bad_rows)}
    assert len(found) == 20
    for name in ("bad-long", "bad-word"):
        assert found[name]["status"] == "filtered:too_long"
    refused = found["bad-refused"]["status"]
    assert refused.startswith("error:refused:not_accepted_by_the_engine:") and "1000" in refused
    others = [row for name, row in found.items() if not name.startswith("bad")]
    assert not any(row["status"].startswith("error") for row in others)
    assert sum(row["status"] == "ok" for row in others) > 8
    entry = with_bad_rows.ledger["s"]
    assert (entry["in"], entry["error"], entry["ok"] + entry["filtered"]) == (20, 1, 19)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_generator_costs_the_blocks_in_flight(with_bad_rows: Work, tmp_path: Path) -> None:
    segment = synthesis(tmp_path, examples(tmp_path / "in", 16))
    notes = tmp_path / "notes"
    damage = Damage(segment, notes)
    engines: list[psutil.Process] = []

    def writing() -> Call | None:
        ended = {(call.pid, call.ids) for call in calls(tmp_path / "ends")}
        latest = calls(notes)[-1:]
        return latest[0] if latest and (latest[0].pid, latest[0].ids) not in ended else None

    def kill_actor(call: Call) -> None:
        engines.extend(psutil.Process(call.pid).children(recursive=True))
        os.kill(call.pid, signal.SIGKILL)

    def kill_engine(call: Call) -> None:
        # The process in which vLLM computes: its actor lives on, finds the engine dead and makes way for another.
        (engine,) = (one for one in psutil.Process(call.pid).children() if "EngineCore" in " ".join(one.cmdline()))
        engines.extend(engine.children(recursive=True))
        engine.kill()

    def successor() -> Call | None:
        call = writing()
        return call if call and call.pid != calls(notes)[0].pid and len(committed(segment)) >= 2 * BLOCK else None

    with (
        fault(successor, lambda call: damage.kill(lambda: kill_engine(call))),
        fault(
            lambda: committed(segment) and writing(),
            lambda call: damage.kill(lambda: kill_actor(call)),
        ),
    ):
        segment.run()
    damage.check()
    assert len({call.pid for call in calls(notes)}) == 3
    left = [one for one in engines if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not left, "what a killed actor or engine leaves behind still holds memory"

    expected = {row["row_id"]: row for row in rows_of(with_bad_rows)}
    for row in rows_of(segment):
        wanted = expected[row["row_id"]]
        assert {k: v for k, v in row.items() if k not in COST} == {k: v for k, v in wanted.items() if k not in COST}
