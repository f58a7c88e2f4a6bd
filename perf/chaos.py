"""Kills that jobs survive: nodes taken away and drivers killed at random, job after job, until there were enough.

The jobs are those of tests/integration/test_chaos.py, on a real local cluster of several nodes; their models are
STAND-INS that wait a fixed time. What is counted: rows lost, rows doubled, and work that was done more than once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


JOBS = ("curate", "benchmark", "training")


def main() -> None:
    """Disturb jobs until there were enough kills; print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of nodes and drivers, over all jobs")
    parser.add_argument("--seed", type=int, default=0, help="of the first job; the next ones follow")
    parser.add_argument("--rows", type=int, default=800, help="of a curation")
    parser.add_argument("--pace", type=float, default=1.0, help="times between kills, of those in the tests")
    parser.add_argument("--most", type=int, help="kills of one job, after which it may end in peace")
    parser.add_argument("--limit", type=float, default=400.0, help="seconds that a job may take")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=["curate"], help="in turn")
    options = parser.parse_args()
    sys.path.append(str(ROOT))
    print(json.dumps({"name": "chaos", **disturb(options)}))


def disturb(options: argparse.Namespace) -> dict[str, Any]:
    """Job after job, each with a seed of its own; the sums."""
    from tests.integration import disturbed
    from tests.integration.storm import Storm, training_storm

    outcomes: list[disturbed.Outcome] = []
    start, seed = time.monotonic(), options.seed
    with tempfile.TemporaryDirectory(prefix="os-") as folder:
        os.environ["RAY_TMPDIR"] = folder
        while sum(one.kills.total() for one in outcomes) < options.kills:
            job, own = options.jobs[len(outcomes) % len(options.jobs)], seed + len(outcomes)
            storm = training_storm(own) if job == "training" else Storm(own)
            slower = {name: tuple(options.pace * at for at in getattr(storm, name)) for name in ("every", "lives")}
            storm = replace(storm, **slower, most=options.most)
            out = Path(folder) / f"seed-{own}"
            out.mkdir()
            with storm.cluster() as cluster:
                if job == "curate":
                    outcomes.append(disturbed.curate(storm, cluster, out, options.rows, options.limit))
                else:
                    outcomes.append(getattr(disturbed, job)(storm, cluster, out, options.limit))
            print(f"{job}, seed {own}: {outcomes[-1]}, {time.monotonic() - start:.0f} s", flush=True)
    begun, again = (sum(getattr(one, name) for one in outcomes) for name in ("begun", "again"))
    return {
        "kills": sum(one.kills.total() for one in outcomes),
        "nodes": sum(one.kills["nodes"] for one in outcomes),
        "drivers": sum(one.kills["drivers"] for one in outcomes),
        "jobs": len(outcomes),
        "seeds": [seed, seed + len(outcomes) - 1],
        "rows_lost": sum(one.lost for one in outcomes),
        "rows_doubled": sum(one.doubled for one in outcomes),
        "rows_that_differ": sum(one.differ for one in outcomes),
        "ratio": 1 - again / begun,
        "unit": "share of the rows begun by stages that were begun for the first time",
        "wasted": again / begun,
        "seconds": round(time.monotonic() - start),
        "models": "stand-ins",
    }


if __name__ == "__main__":
    main()
