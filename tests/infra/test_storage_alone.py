"""Run data is reached through pipelines/core/storage alone, so that it may lie in any store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What opens, lists, writes, moves or removes files, wherever it is called.
FILE_CALLS = re.compile(
    r"\.(?:exists|is_file|is_dir|glob|rglob|iterdir|mkdir|unlink|rmdir|rename|touch|stat|open|read_text|write_text"
    r"|read_bytes|write_bytes)\("
    r"|\bos\.(?:replace|rename|remove|makedirs|listdir)\(|\bshutil\.|\btempfile\.|(?<!def )\bopen\("
    r"|\bpq\.|\bpads\.|\bpyarrow\.(?:parquet|dataset)\b|read_parquet\(|write_parquet\(|\bduckdb\.connect"
    r"|\"done\.json\"|\"plan\.json\"|\"depends\.json\""
)
# Not run data: why each of these may touch files of its own.
OWN_FILES = {
    **{
        f"pipelines/core/storage/{name}.py": "the one door to run data"
        for name in ("digests", "files", "places", "stores", "tables")
    },
    "pipelines/core/sql.py": "DuckDB itself",
    "pipelines/core/step.py": "the names of claim and marker",
    "pipelines/core/segment.py": "Ray Data reads and writes a segment's rows",
    "pipelines/core/registry.py": "packaged YAML files",
    "pipelines/core/yaml_model.py": "YAML files of the user",
    "pipelines/core/quiet.py": "pipes",
    "pipelines/datasets/delimited.py": "files of a user's sources",
    "pipelines/datasets/json_records.py": "files of a user's sources",
    "pipelines/datasets/opened.py": "files of a user's sources",
    "pipelines/datasets/readers.py": "files of a user's sources",
    "pipelines/datasets/sheets.py": "files of a user's sources",
    "pipelines/config.py": "the user's configs, and packaged ones",
    "pipelines/engines/llm/start_errors.py": "its own standard error",
    "pipelines/engines/models.py": "the model cache, models in the user's folders",
    "pipelines/evaluation/report/published_judges.py": "packaged tables",
    "pipelines/experiments/data_map/embed.py": "a packaged model",
    "pipelines/training/checkpoints.py": "a worker's own disk",
    "pipelines/training/sharded.py": "a worker's own disk",
    "pipelines/training/worker.py": "a worker's own disk",
}


def stray_file_access(root: Path) -> list[str]:
    """Lines of the library that reach for files without going through storage."""
    return [
        f"{relative}:{number}: {line.strip()}"
        for path in sorted((root / "pipelines").rglob("*.py"))
        if (relative := path.relative_to(root).as_posix()) not in OWN_FILES
        and not relative.startswith("pipelines/data/")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if FILE_CALLS.search(line) and "storage." not in line
    ]


def test_run_data_is_reached_through_storage_alone() -> None:
    assert stray_file_access(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "rows = pq.read_table(folder / 'a.parquet')",
        "if (folder / 'x').exists():",
        "with path.open() as file:",
        "os.replace(draft, target)",
        'if (folder / "done" + ".json")'.replace('" + "', "") + ":",
        "shutil.rmtree(folder)",
        'connection.execute(f"select * from read_parquet({files})")',
    ],
)
def test_planted_file_access_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "pipelines" / "curation").mkdir(parents=True)
    (tmp_path / "pipelines" / "curation" / "a.py").write_text(line)
    assert len(stray_file_access(tmp_path)) == 1


def test_every_exception_to_that_is_still_a_file() -> None:
    assert [name for name in OWN_FILES if not (ROOT / name).exists()] == []
