"""A source of your own: read it, clean it, and print what becomes of each row.

    python examples/own_source.py [SOURCE.yaml]

The same file in a whole run, from the checkout's folder:

    openselene curate --config local data_root=examples/own_source 'curation.sources=[examples/own_source/my_set.yaml]'
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines.core.stage import apply_stages
from pipelines.curation.clean import cleaning_stages
from pipelines.curation.config import CleanConfig
from pipelines.curation.contrast import Contrast
from pipelines.curation.registry import load_source
from pipelines.datasets.reading import ingest_rows
from pipelines.judging.templates import load, render

SOURCE = Path(__file__).parent / "own_source" / "my_set.yaml"


def main(source: Path) -> None:
    """Print the status of every row, and the first prompt."""
    rows = list(ingest_rows(load_source(str(source)), data_root=source.parent))
    apply_stages([*cleaning_stages(CleanConfig()), Contrast(seed=0)], rows)
    for row in rows:
        print(f"{row['status']:<35} {row['instruction']}")
    row = next(row for row in rows if row["status"] == "ok")
    print(f"\nThe first prompt; chosen verdict {row['verdict']}, rejected verdict {row['rejected_verdict']}:\n")
    print(render(load(f"{row['task']}_compact"), row, cot=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE)
