"""What a finished run says of its rows and of the time they took, to plan a larger one from."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.core.errors import UserError
from pipelines.core.files import read_json
from pipelines.curation.duplicates import sql_files


def rows_like(out: Path) -> dict[str, float]:
    """Of a curated set: rows of a source, share of them that became pairs, and mean tokens of a pair's parts.

    Args:
        out: the run's folder.

    Raises:
        UserError: there is no curated set with pairs in it.
    """
    import duckdb

    ledger, pairs = out / "curated" / "ledger.json", out / "curated" / "data"
    if not ledger.exists():
        raise UserError("no curated set", where=str(out), fix="name the out_dir of a run that has finished curation")
    total = read_json(ledger)["total"]
    with duckdb.connect() as connection:
        found = connection.execute(
            f"""
            select count(*), avg(prompt_tokens), avg(chosen_tokens + rejected_tokens) / 2,
                avg(list_sum(list_transform(responses, lambda x: length(x))) / len(responses)),
                sum(length(prompt)) / sum(prompt_tokens)
            from read_parquet({sql_files(pairs)})
            """
        ).fetchone()
    if not found or not found[0]:
        raise UserError("the curated set has no pairs", where=str(pairs))
    count, prompt, completion, response_chars, chars_of_a_token = found
    read = sum(source["in"] for source in total.values())
    return {
        "per_source": round(read / len(total)),
        "prompt_tokens": prompt,
        "response_tokens": response_chars / chars_of_a_token,
        "critique_tokens": completion,
        "kept": count / read,
    }


def seconds_of(out: Path) -> dict[str, float]:
    """Stage of the plan -> wall time in the run, of the stages that have finished there."""
    files = {
        "clean and mix": ("work/ingest", "work/mix"),
        "reward": ("work/prepare",),
        "synthesize": ("work/synthesize",),
        "reference": ("curated/reference",),
        "judge base": ("work/judge-base",),
        "judge trained": ("work/judge-trained",),
    }
    found = {}
    for stage, folders in files.items():
        done = [out / folder / "done.json" for folder in folders]
        if all(path.exists() for path in done):
            found[stage] = sum(read_json(path)["seconds"] for path in done)
    metrics = out / "train" / "metrics.jsonl"
    if metrics.exists() and (lines := metrics.read_text().splitlines()):
        found["train"] = json.loads(lines[-1])["elapsed"]
    return found
