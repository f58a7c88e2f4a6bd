"""The roles of a run, and what one worker of each asks of a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.core.cluster import RayConfig
from pipelines.core.placement import Placement
from pipelines.curation.config import CurationConfig
from pipelines.engines.config import EngineConfig
from pipelines.evaluation.config import EvaluationConfig
from pipelines.training.config import TrainConfig


@dataclass(frozen=True)
class Role:
    """Workers of one kind.

    Attributes:
        name: reader, reward, generator, checker, sampler, trainer or judge.
        cpus: of one worker.
        gpus: of one worker.
        least: workers at the start.
        most: workers at most.
        placement: nodes they may use.
    """

    name: str
    cpus: float
    gpus: float
    least: int
    most: int
    placement: Placement

    def fits(self, node: dict[str, Any]) -> bool:
        """Whether a node type of a cluster file can hold one worker."""
        has, labels = node["resources"], node.get("labels", {})
        kind = self.placement.accelerator_type
        return (
            has.get("CPU", 0) >= max(self.cpus, 0.001)
            and has.get("GPU", 0) >= self.gpus
            and (kind is None or f"accelerator_type:{kind}" in has)
            and all(labels.get(key) == value for key, value in self.placement.labels.items())
        )


def roles(ray: RayConfig, curation: CurationConfig, train: TrainConfig, evaluation: EvaluationConfig) -> list[Role]:
    """The roles in the order in which a run uses them; the checker is the generator's own engine."""
    reward, generator = curation.reward, curation.critique.engine
    found = [Role("reader", 1, 0, 1, 0, Placement(labels=ray.readers))]
    if reward.enabled:
        found.append(Role("reward", reward.num_cpus, reward.num_gpus, *reward.actors, reward.placement))
    found += [_engine("generator", generator), _engine("checker", generator)]
    if train.recipe == "rs_sft":
        found.append(_engine("sampler", train.own_critiques.engine))
    least = train.min_workers or train.workers
    found.append(Role("trainer", train.cpus_per_worker, train.gpus_per_worker, least, train.workers, train.placement))
    return [*found, _engine("judge", evaluation.engine)]


def _engine(name: str, engine: EngineConfig) -> Role:
    cpus = engine.num_cpus * max(engine.num_gpus, 1)
    return Role(name, cpus, engine.num_gpus, *engine.engines, engine.placement)
