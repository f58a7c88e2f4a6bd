"""Connect to Ray: the cluster that is there, or a local one."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.core import ray_internals, storage
from pipelines.core.errors import UserError, unshared
from pipelines.core.progress import say
from pipelines.core.storage import Place
from pipelines.core.yaml_model import Strict

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    # A warning of Ray's own about a default that changes; nothing a user of ours can act on.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# What a stream has asked of a cluster stays its own until it takes that back, which a killed driver never does: the job
# that goes on in its place would have half of the cluster, and after a few kills none of it, for Ray's three minutes. A
# living one asks again every ten seconds.
SOON = {"RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S": "30"}
# For a cluster of this one machine. Ray Data reads the footers of parquet files in 16 processes of its own, which pays
# for thousands of files far away; here starting them takes longer than all else a small segment does.
LOCAL = {"RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1"}


class RayConfig(Strict):
    """Where the job runs: a running cluster if there is one (RAY_ADDRESS, `ray job submit`), else a local one."""

    address: str | None = None
    """Cluster to join; null takes RAY_ADDRESS, then a cluster that `ray start` started, else starts a local one."""
    num_cpus: int | None = Field(None, ge=1)
    """Logical CPUs of a local cluster that this job starts itself; null means the machine's own count."""
    object_store_memory_mb: int | None = Field(None, ge=80)
    """Object store of a local cluster, in MiB; null lets Ray choose."""
    dashboard: bool = True
    """Start the dashboard with a local cluster."""
    readers: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that read, clean and write, as in `placement.labels`; empty means any with CPUs. Engines
    and the trainer have a `placement` of their own."""


def connect(config: RayConfig, out: Place | None = None) -> None:
    """Join the cluster that `address` or RAY_ADDRESS names, else one started by `ray start`, else start one.

    Args:
        config: which cluster.
        out: the run's folder, which all nodes must see.

    Raises:
        UserError: nothing answers at the address that was named, or a node does not see the folder.
    """
    import ray

    if not ray.is_initialized():
        _join(config)
    if isinstance(out, Path):
        check_shared(out)


def check_shared(folder: Path) -> None:
    """Refuse a local folder that is another one on some node: rows would be scattered and lost.

    Raises:
        UserError: naming the node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(nodes) < 2:
        return
    note = folder / f".seen-{uuid.uuid4().hex}"
    storage.write_text(note, "")
    try:
        look = ray.remote(num_cpus=0)(storage.exists)
        own = {node: NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes}
        seen = {node: look.options(scheduling_strategy=on).remote(note) for node, on in own.items()}
        blind = [nodes[node] for node, found in seen.items() if not _told(found)]
    finally:
        storage.remove(note)
    if blind:
        raise unshared(blind[0], f"out_dir {folder}")


def _told(found: Any) -> bool:
    """What a node says; True of one that has gone meanwhile, as spot machines do."""
    import ray
    from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError

    try:
        return bool(ray.get(found))
    except (NodeDiedError, TaskUnschedulableError, WorkerCrashedError):
        return True


def _join(config: RayConfig) -> None:
    import ray

    for key, value in (QUIET | SOON).items():
        os.environ.setdefault(key, value)
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    memory = config.object_store_memory_mb
    own: dict[str, Any] = {
        "num_cpus": config.num_cpus or os.cpu_count(),
        "object_store_memory": memory * 2**20 if memory else None,
        "include_dashboard": config.dashboard,
    }
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address:
        if not answers(address):
            raise UserError(
                "no Ray cluster answers", where=address, fix="start it, or unset ray.address and RAY_ADDRESS"
            )
        _ready(ray.init(address=address, **quiet).dashboard_url)
        return place_readers(config.readers)
    for key, value in LOCAL.items():
        os.environ.setdefault(key, value)
    left = ray_internals.left_address()
    if left and not answers(left):
        own["address"] = "local"
    try:
        # Without an address Ray joins what `ray start` has left running, and refuses to size it. Not "auto":
        # that also joins another job's own cluster, and goes down with it.
        context = ray.init(**own, **quiet)
    except ValueError as exc:
        if "existing cluster" not in str(exc):
            raise
        context = ray.init(**quiet)
    _ready(context.dashboard_url)
    place_readers(config.readers)


def place_readers(labels: dict[str, str]) -> None:
    """Keep the tasks of Ray Data on nodes with these labels; stages with a placement of their own override them."""
    if labels:
        import ray

        ray.data.DataContext.get_current().execution_options.label_selector = dict(labels)


def answers(address: str) -> bool:
    """Whether something listens at `host:port`; an address of another form is left to Ray."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        return True
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            return True
    except OSError:
        return False


def _ready(dashboard: str | None) -> None:
    import ray

    say(f"ray {ray.__version__}: {ray.get_runtime_context().gcs_address}{shown(dashboard)}")
    configure_data()


def shown(dashboard: str | None) -> str:
    """Where the dashboard is, and what it will ask for. Ray turns the token on by itself where this user has one."""
    if not dashboard:
        return ""
    token = " (its token: `ray get-auth-token`)" if os.environ.get("RAY_AUTH_MODE") == "token" else ""
    return f", dashboard http://{dashboard}{token}"


def configure_data() -> None:
    """Let a worker's UserError through as it is, and silence Ray Data's own progress: ours counts rows written."""
    import logging

    import ray

    data = ray.data.DataContext.get_current()
    data.raise_original_map_exception = True
    data.enable_progress_bars = False
    data.print_on_execution_start = False
    # Ray does not try again after "too many requests" and some failures of a store's server.
    data.retried_io_errors = list(dict.fromkeys([*data.retried_io_errors, *storage.PASSING]))
    for name in ("ray", "ray.train", "DeepSpeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs, twice and as a fault of Ray's own, the exception that it then raises.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
