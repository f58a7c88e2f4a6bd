"""What a finished run says of its rows and of the time they took, to estimate a larger one from."""

from __future__ import annotations

import json

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.sql import connect

# Stage of the estimate -> the segments whose seconds it adds up.
SEGMENTS = {
    "clean and mix": ("ingest", "select", "mix"),
    "reward": ("prepare",),
    "synthesize": ("synthesize",),
    "judge base": ("judge-base",),
    "judge trained": ("judge-trained",),
}


def rows_like(run: Run) -> dict[str, float]:
    """Of a curated set: rows of a source, share of them that became pairs, and mean tokens of a pair's parts.

    Raises:
        UserError: there is no curated set with pairs in it.
    """
    if not storage.exists(run.ledger):
        fix = "name the out_dir of a run that has finished curation"
        raise UserError("no curated set", where=str(run.out), fix=fix)
    total = storage.read_json(run.ledger)["total"]
    with connect(pairs=run.pairs) as connection:
        found = connection.execute(
            """
            select count(*), avg(prompt_tokens), avg(chosen_tokens + rejected_tokens) / 2,
                avg(list_sum(list_transform(responses, lambda x: length(x))) / len(responses)),
                sum(length(prompt)) / sum(prompt_tokens)
            from pairs
            """
        ).fetchone()
    if not found or not found[0]:
        raise UserError("the curated set has no pairs", where=str(run.pairs))
    count, prompt, completion, response_chars, chars_of_a_token = found
    read = sum(source["in"] for source in total.values())
    return {
        "per_source": round(read / len(total)),
        "prompt_tokens": prompt,
        "response_tokens": response_chars / chars_of_a_token,
        "critique_tokens": completion,
        "kept": count / read,
    }


def seconds_of(run: Run) -> dict[str, float]:
    """Stage of the estimate -> wall time in the run, of the stages that have finished there."""
    folders = {stage: [run.work / name for name in names] for stage, names in SEGMENTS.items()}
    found = {}
    for stage, places in {**folders, "reference": [run.reference]}.items():
        done = [result["seconds"] for place in places if (result := step.result_of(place))]
        if len(done) == len(places):
            found[stage] = sum(done)
    log = storage.read_text(run.training_log).splitlines() if storage.exists(run.training_log) else []
    if log:
        found["train"] = json.loads(log[-1])["elapsed"]
    return found
