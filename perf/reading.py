"""A big file of JSON Lines read in parts, against one task: the ingest step, rows and time.

The file has made-up words, about 800 bytes a record; it is removed afterwards. Both ways write the same rows, which is
checked. With two cores the best ratio is 2.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from rounds import add_rounds, compared, interleaved

from pipelines.config import load_config
from pipelines.core import cluster, storage
from pipelines.core.run import Run
from pipelines.curation.ingest import Ingest
from pipelines.datasets import parts
from pipelines.datasets.spec import DatasetSpec

CONFIG = Path(__file__).parent.parent / "ray_jobs" / "configs" / "local.yaml"
SOURCE = DatasetSpec(
    name="made_up",
    task="pairwise",
    files=["big.jsonl"],
    license="none",
    published=2025,
    allowed=["A", "B"],
    fields={"instruction": "record.q", "responses": "[record.a, record.b]", "verdict": "record.v"},
)


def main() -> None:
    """Write the file, read it both ways in turn; print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=200, help="of the file")
    parser.add_argument("--folder", type=Path, help="where to write")
    add_rounds(parser)
    options = parser.parse_args()
    cluster.connect(load_config(CONFIG, ["ray.dashboard=false"]).ray)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_file(folder / "big.jsonl", options.mb * 10**6)
        size = (folder / "big.jsonl").stat().st_size
        numbers = iter(range(100))
        sizes = {"parts": parts.PART_BYTES, "one": size}
        read(folder, "warm", size)

        def timed(way: str) -> tuple[int, float]:
            return read(folder, f"{way}-{next(numbers)}", sizes[way])

        ways = {way: partial(timed, way) for way in sizes}
        found = interleaved(ways, options.rounds)
    rows = {count for runs in found.values() for count, _ in runs}
    assert len(rows) == 1, f"the two ways differ: {rows}"
    seconds = {way: [spent for _, spent in runs] for way, runs in found.items()}
    print(
        json.dumps(
            {
                "name": "reading",
                **compared(seconds["parts"], seconds["one"], less_is_better=True),
                "unit": "s for the file; baseline: one task",
                "mb": options.mb,
                "rows": rows.pop(),
                "parts": -(-size // sizes["parts"]),
                "seconds": seconds,
            }
        )
    )


def read(folder: Path, name: str, most: int) -> tuple[int, float]:
    """Rows and seconds of the step, with parts of at most so many bytes."""
    parts.PART_BYTES = most
    start = time.monotonic()
    rows = Ingest(Run(folder / name, data_root=folder), [SOURCE]).run(folder / name)
    spent = time.monotonic() - start
    return storage.row_count(rows.folder), round(spent, 1)


def write_file(path: Path, size: int) -> None:
    """Records of made-up words, until the file has its size."""
    draw = np.random.default_rng(0)
    words = np.array(["".join(draw.choice(list("abcdefghijklmnopqrstuvwxyz"), n)) for n in draw.integers(2, 9, 5000)])
    with path.open("w") as file:
        while file.tell() < size:
            lines = []
            for text in words[draw.integers(0, len(words), (500, 120))]:
                record = {"q": " ".join(text[:40]), "a": " ".join(text[40:80]), "b": " ".join(text[80:]), "v": "A"}
                lines.append(json.dumps(record) + "\n")
            file.write("".join(lines))


if __name__ == "__main__":
    main()
