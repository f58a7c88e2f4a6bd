"""All that a run needs on a cluster, from its config and the cluster's file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.cluster import RayConfig
from pipelines.core.environment import VARIABLE
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.yaml_model import read_yaml
from pipelines.curation.config import CurationConfig
from pipelines.curation.registry import load_sources
from pipelines.engines.endpoint_config import EndpointConfig
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.evaluation.config import EvaluationConfig
from pipelines.experiments.needs.roles import roles
from pipelines.fetch.wanted import wanted
from pipelines.training.config import TrainConfig

HUB = re.compile(r"[\w.-]+/[\w.-]+")
CLOUDS = {
    "aws": "credentials of AWS, by the environment or `aws configure`, that may start instances and pass the role",
    "gcp": "credentials of Google Cloud, by `gcloud auth application-default login`, that may start instances",
}
TRACKERS = {"wandb": "WANDB_API_KEY", "mlflow": "MLFLOW_TRACKING_URI"}


@dataclass(frozen=True)
class Need:
    """One thing.

    Attributes:
        kind: node, image, secret, mount, place, model or file.
        name: of the thing.
        origin: where it comes from.
        what: that uses it.
    """

    kind: str
    name: str
    origin: str
    what: str


def needs_of(
    ray: RayConfig, curation: CurationConfig, train: TrainConfig, evaluation: EvaluationConfig, run: Run, cluster: Path
) -> list[Need]:
    """Nodes, images, secrets, mounts, places, models and files, in this order.

    Raises:
        UserError: the cluster's file has no node type for a role, or is none.
    """
    file = read_yaml(cluster)
    if not isinstance(file, dict) or "available_node_types" not in file:
        raise UserError("not a cluster file of `ray up`: it has no available_node_types", where=str(cluster))
    models = list(_models(curation, train, evaluation))
    files = [
        Need("file", one.place, one.by_hand or one.url or f"hub dataset {one.hub.id if one.hub else ''}", one.source)
        for one in wanted([*load_sources(curation.sources), *BENCHMARKS.load_all(evaluation.benchmarks, "benchmarks")])
    ]
    nodes = [*_nodes(ray, curation, train, evaluation, file, cluster)]
    gated = any("hub " in one.origin or "huggingface" in one.origin for one in [*models, *files])
    secrets = [*_secrets(train, evaluation, file, gated)]
    places = [
        Need("place", _as_written(str(place)), f"{key} of the config", what)
        for key, place, what in (("out_dir", run.out, "results"), ("data_root", run.data_root, "public data"))
        if place
    ]
    named = dict.fromkeys(name for one in places for name in VARIABLE.findall(one.name))
    secrets += [Need("secret", name, "~/.openselene/env: the store's URL, no secret in it", "places") for name in named]
    return [*nodes, *_images(file), *secrets, *_mounts(file), *places, *models, *files]


def _as_written(place: str) -> str:
    """Without this machine's folder before a variable that is not set."""
    found = VARIABLE.search(place)
    return place[found.start() :] if found else place


def _nodes(
    ray: RayConfig,
    curation: CurationConfig,
    train: TrainConfig,
    evaluation: EvaluationConfig,
    file: dict[str, Any],
    cluster: Path,
) -> Iterator[Need]:
    head = file["available_node_types"].get(file.get("head_node_type"), {})
    yield Need("node", str(file.get("head_node_type")), _machine(head), "drivers, dashboard, autoscaler")
    for role in roles(ray, curation, train, evaluation):
        fitting = {name: node for name, node in file["available_node_types"].items() if role.fits(node)}
        if not fitting:
            asked = f"{role.cpus:g} CPU, {role.gpus:g} GPU, {role.placement.options() or 'any node'}"
            raise UserError(f"no node type holds the role {role.name} ({asked})", where=str(cluster))
        for name, node in fitting.items():
            yield Need(
                "node", name, _machine(node), f"{role.name}, {role.least} to {role.most or 'any number of'} workers"
            )


def _machine(node: dict[str, Any]) -> str:
    config = node.get("node_config", {})
    spot = "SPOT" in str(config.get("scheduling")) or "spot" in str(config.get("InstanceMarketOptions"))
    name = config.get("InstanceType") or config.get("machineType") or "?"
    return f"{name}, {'spot' if spot else 'on demand'}, at most {node.get('max_workers', 0)}"


def _images(file: dict[str, Any]) -> Iterator[Need]:
    docker = file.get("docker", {})
    for key in ("image", "head_image", "worker_image"):
        if docker.get(key):
            yield Need("image", docker[key], "the public container registry that the name is of", "every node")
    disks = [disk for node in file["available_node_types"].values() for disk in node["node_config"].get("disks", [])]
    named = dict.fromkeys(disk["initializeParams"]["sourceImage"] for disk in disks)
    for name in named or ["Ray's default image of the region"]:
        yield Need("image", name, "the cloud's machine images", "every machine")


def _secrets(train: TrainConfig, evaluation: EvaluationConfig, file: dict[str, Any], hub: bool) -> Iterator[Need]:
    kind = file["provider"]["type"]
    yield Need("secret", f"{kind} credentials", CLOUDS.get(kind, "the provider's own"), "`ray up`")
    yield Need("secret", "~/.ray/auth_token", "`ray get-auth-token --generate`", "clients and nodes of Ray")
    configs = [node["node_config"] for node in file["available_node_types"].values()]
    rights = [config["IamInstanceProfile"]["Name"] for config in configs if "IamInstanceProfile" in config]
    rights += [account["email"] for config in configs for account in config.get("serviceAccounts", [])]
    for name in dict.fromkeys(rights):
        yield Need("secret", name, "made by you: a role of the nodes that may read and write the store", "every node")
    if hub:
        yield Need("secret", "HF_TOKEN", "~/.openselene/env: a token with access to the gated sets and models", "hub")
    for name in train.trackers:
        if name in TRACKERS:
            yield Need("secret", TRACKERS[name], "~/.openselene/env", f"tracker {name}")
    for name, model in evaluation.models.items():
        if isinstance(model, EndpointConfig) and model.api_key_env:
            yield Need("secret", model.api_key_env, "~/.openselene/env", f"judge {name}")


def _mounts(file: dict[str, Any]) -> Iterator[Need]:
    for place, origin in file.get("file_mounts", {}).items():
        yield Need("mount", place, f"{origin} of the machine where `ray up` runs", "every node")


def _models(curation: CurationConfig, train: TrainConfig, evaluation: EvaluationConfig) -> Iterator[Need]:
    named = [("reward", curation.reward.model)] if curation.reward.enabled else []
    named += [
        ("generator and checker", curation.critique.engine.model),
        ("tokenizer of the mixture", curation.mix.tokenizer),
    ]
    named += [("trainer, and judge `base`", train.model)]
    named += [(f"judge {name}", model) for name, model in evaluation.models.items() if isinstance(model, str)]
    used: dict[str, list[str]] = {}
    for what, model in named:
        used.setdefault(model, []).append(what)
    for model, users in used.items():
        origin = f"hub model {model}, cached on each node" if HUB.fullmatch(model) else "a folder, or the package"
        yield Need("model", model, origin, "; ".join(users))
