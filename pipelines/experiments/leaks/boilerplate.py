"""Runs of words that many rows of a set have in common with some benchmark text: the set's own boilerplate."""

from __future__ import annotations

import pyarrow as pa

from pipelines.core import sql, step, storage
from pipelines.core.determinism import digest
from pipelines.core.progress import say
from pipelines.core.segment import Rows
from pipelines.core.storage import Place
from pipelines.curation.config import DecontaminateConfig
from pipelines.curation.decontaminate import BOILERPLATE, Index
from pipelines.curation.words import words_of
from pipelines.experiments.leaks.hits import known_texts

NAME = "boilerplate"
SEEN = pa.schema([("run", pa.string()), ("content", pa.string())])
COMMON = pa.schema([("run", pa.string()), ("rows", pa.int64())])
FLUSH = 100_000  # pairs of run and row that are held at once


def find(work: Place, rows: Rows, texts: Place, config: DecontaminateConfig) -> Place:
    """List the runs of the set's boilerplate, once.

    A template around every prompt, or a system message, is in some benchmark text too, and a part of it: no row leaks
    for it. A run counts once for each content that a row may have, so neither copies of a row nor its place matter;
    and a message that is the same in all rows counts as often as there are others beside it.

    Args:
        work: of the job.
        rows: of the sets.
        texts: parquet file (benchmark, text).
        config: what counts as shared.

    Returns:
        A parquet file (run: words, rows: distinct ones that have it).
    """
    import ray

    depends = {"rows": rows.fingerprint, "texts": storage.content_digest(texts), "config": config.identity()}

    def write(folder: Place) -> step.Result:
        seen, task = storage.fresh(folder / "seen"), ray.remote(num_cpus=1)(note)
        paths = storage.files(rows.folder, ".parquet")
        ray.get([task.remote(path, seen / path.name, texts, config) for path in paths])
        runs = count(seen, folder / "runs.parquet")
        storage.remove(seen)
        return {"runs": runs}

    done = step.once(work / NAME, depends, write)
    say(f"{NAME}: {done['runs']} runs of {config.ngram} words are in more than {BOILERPLATE} different rows")
    return work / NAME / "runs.parquet"


def count(seen: Place, target: Place) -> int:
    """Write the runs that many rows have, and say how many they are.

    Args:
        seen: folder of what `note` has written.
        target: parquet file (run, rows).
    """
    many = f"count(distinct content) > {BOILERPLATE}"
    with sql.connect(seen=seen) as connection:
        found = connection.sql(
            f"select run, count(distinct content) as rows from seen group by run having {many} order by run"
        ).to_arrow_table()
    storage.write_table(target, found.cast(COMMON))
    return int(found.num_rows)


def note(rows: Place, target: Place, texts: Place, config: DecontaminateConfig) -> None:
    """Write which runs the ok rows of one file share with a benchmark text that they do not cover."""
    index = known_texts(storage.version(texts), config).words
    with storage.table_writer(target, SEEN) as writer:
        held: list[tuple[str, str]] = []

        def flush() -> None:
            runs, contents = zip(*held, strict=True) if held else ((), ())
            writer.write_table(pa.table({"run": list(runs), "content": list(contents)}, schema=SEEN))
            held.clear()

        for batch in storage.read_batches(rows, ["texts", "status"]):
            for row in batch.to_pylist():
                if row["status"] == "ok":
                    content = digest(row["texts"], size=8)
                    held += [(run, content) for run in sorted(partial_runs(row["texts"], index))]
                    if len(held) >= FLUSH:
                        flush()
        flush()


def partial_runs(texts: list[str], index: Index) -> set[str]:
    """The runs that texts share with those benchmark texts that they do not cover, be they an overlap or not."""
    ngram, found = index.config.ngram, set[str]()
    for text in texts:
        words = words_of(text)
        for shared in index.shared(words):
            if index.covers(shared) < index.config.coverage:
                found |= {" ".join(words[place : place + ngram]) for place in shared.here.tolist()}
    return found
