"""What the benchmarks ask, in one file: curation keeps it out of the training data."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.config import Config
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.mapping import adapt
from pipelines.core.progress import say
from pipelines.core.readers import inputs, read_raw
from pipelines.core.segment import claim
from pipelines.evaluation.registry import Benchmark, load_all, names

PROMPTS = pa.schema([("benchmark", pa.string()), ("text", pa.string())])


def prompts_file(config: Config) -> Path:
    """Where the prompts of a run's benchmarks are."""
    return config.out_dir / "work" / "prompts" / "prompts.parquet"


def write_prompts(config: Config) -> str:
    """Write instruction and context of every row of every benchmark at hand, once for a run.

    The benchmarks of the config must be there; the packaged ones are added as far as their local files are.

    Returns:
        Fingerprint of the file.

    Raises:
        UserError: a benchmark of the config cannot be read, or the folder holds those of another config.
    """
    wanted = load_all(config.evaluation.benchmarks)
    known = {benchmark.name for benchmark in wanted}
    more = [benchmark for benchmark in load_all([n for n in names() if n not in known]) if local(benchmark, config)]
    target = prompts_file(config)
    depends = {
        "benchmarks": [benchmark.model_dump(mode="json") for benchmark in [*wanted, *more]],
        "data_root": str(config.data_root) if config.data_root else None,
    }
    key = digest("prompts", depends)
    claim(target.parent, key, depends)
    if not target.exists():
        draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with pq.ParquetWriter(draft, PROMPTS) as writer:
            for benchmark in [*wanted, *more]:
                texts = sorted(texts_of(benchmark, config.data_root))
                columns = {"benchmark": [benchmark.name] * len(texts), "text": texts}
                writer.write_table(pa.table(columns, schema=PROMPTS))
        os.replace(draft, target)
        absent = sorted(set(names()) - known - {benchmark.name for benchmark in more})
        without = f", without {', '.join(absent)}: their files are not here" if absent else ""
        say(f"decontamination: against {len(wanted) + len(more)} benchmarks{without}")
    return key


def local(benchmark: Benchmark, config: Config) -> bool:
    """Whether a benchmark's files are on this machine."""
    try:
        return all(source.path is not None for source in inputs(benchmark, config.data_root))
    except UserError:
        return False


def texts_of(benchmark: Benchmark, data_root: Path | None) -> set[str]:
    """The different instructions and contexts of a benchmark.

    Raises:
        UserError: a file cannot be read.
    """
    rows = (row for raw in read_raw(benchmark, data_root) for row in adapt(benchmark, raw))
    return {text for row in rows for text in (row["instruction"], row["context"]) if text}
