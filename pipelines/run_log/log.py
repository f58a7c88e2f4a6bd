"""The log of a run's folder, `run.json`: an entry for each job, written when it starts and again when it ends.

Several jobs in one `out_dir` each have an entry, the newest last. One without an end was killed: nobody else is at work
in the folder while an entry is written (`core/lock.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pipelines.config import PACKAGED, Config
from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.step import Visit
from pipelines.core.storage import Place, path_in
from pipelines.core.yaml_model import read_model
from pipelines.experiments.estimate.estimate import Constants
from pipelines.run_log import facts
from pipelines.run_log.hidden import hidden
from pipelines.run_log.nodes import NodeHours, cost, counting

PRICES = PACKAGED / "plan.yaml"

Entry = dict[str, Any]


@contextmanager
def logged(config: Config, job: str, outcome: Callable[[BaseException], tuple[int, str]]) -> Iterator[None]:
    """Keep the entry of a job while the block does its work.

    Args:
        config: of the job.
        job: its name.
        outcome: exit code and one line of an exception that ends the job.

    Raises:
        UserError: the log cannot be read.
    """
    place = config.run.log
    read(place)  # before any work
    start = datetime.now().astimezone()
    entry: Entry = {
        "id": uuid.uuid4().hex,
        "job": job,
        "started": start.isoformat(timespec="seconds"),
        "ended": None,
        "seconds": None,
        "exit_code": None,
        "error": None,
        "versions": facts.versions(),
        "commit": facts.commit(),
        "config": hidden(config.model_dump(mode="json")),
    }
    write(place, entry)
    code, error = 0, None
    with step.visited() as visits, counting() as hours:
        try:
            yield
        except BaseException as exc:
            code, error = outcome(exc)
            raise
        finally:
            hours.tick(look=code == 0)
            end = datetime.now().astimezone()
            entry |= {
                "ended": end.isoformat(timespec="seconds"),
                "seconds": round((end - start).total_seconds(), 2),
                "exit_code": code,
                "error": hidden(error),
                **ending(visits, config.out_dir, hours),
            }
            finish(place, entry)


def ending(visits: Mapping[Place, Visit], out: Place, hours: NodeHours) -> Entry:
    """What is known of a job at its end: steps, rows, tokens, nodes, cost.

    Args:
        visits: the steps that it met.
        out: the run's folder.
        hours: of the nodes.
    """
    steps, nodes = [step_entry(folder, visit, out) for folder, visit in visits.items()], hours.summary()
    done = [one for one in steps if one["state"] == "done"]
    prices = {name: device.dollars_per_hour for name, device in read_model(Constants, PRICES).devices.items()}
    return {
        "steps": steps,
        "tokens": sum(one.get("tokens") or 0 for one in done),
        "nodes": nodes,
        "cost": cost(nodes, prices),
    }


def step_entry(folder: Place, visit: Visit, out: Place) -> Entry:
    """A step of a job: its state, the job's own seconds for it, and the numbers of its marker.

    `state` is `done`, `done before` or `not finished`. The marker's `seconds` are of the attempt that finished it.
    """
    state = "not finished" if visit.result is None else "done before" if visit.seconds is None else "done"
    result = visit.result or {}
    try:
        name = path_in(folder, out)
    except ValueError:  # a reference or an output elsewhere
        name = str(folder)
    entry: Entry = {"step": name, "state": state}
    if visit.seconds is not None:
        entry["seconds_in_this_job"] = round(visit.seconds, 2)
    entry |= {key: value for key, value in result.items() if isinstance(value, int | float)}
    if isinstance(ledger := result.get("ledger"), dict):
        entry |= {
            status: sum(source.get(status, 0) for source in ledger.values()) for status in ("ok", "filtered", "error")
        }
    return entry


def finish(place: Place, entry: Entry) -> None:
    """Write the entry of a job that ends; where that fails, say so, and let the job end as it does."""
    try:
        write(place, entry)
    except (OSError, UserError) as exc:
        say(f"{place}: not written, {getattr(exc, 'strerror', None) or exc}")


def write(place: Place, entry: Entry) -> None:
    """Put an entry in its place in the log, or at its end.

    Raises:
        UserError: the log cannot be read.
    """
    runs = read(place)
    place_of = {one.get("id"): number for number, one in enumerate(runs)}
    if (number := place_of.get(entry["id"])) is None:
        runs.append(entry)
    else:
        runs[number] = entry
    storage.write_json(place, {"runs": runs})


def read(place: Place) -> list[Entry]:
    """The entries of a log, the newest last; none where there is no log.

    Raises:
        UserError: it is not one of ours.
    """
    if not storage.exists(place):
        return []
    try:
        found = storage.read_json(place)
        runs = found["runs"]
        if not all(isinstance(one, dict) for one in runs):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise UserError("is not a log of runs", where=str(place), fix="move it away") from None
    return list(runs)
