"""The curation job: its segments in order, one ledger, one set of products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.core.config import Config, CurationConfig
from pipelines.core.determinism import digest
from pipelines.core.files import read_json, write_json
from pipelines.core.ledger import Entry
from pipelines.core.progress import say
from pipelines.core.segment import Segment, count_tokens
from pipelines.core.stage import Stage
from pipelines.curation.ingest import ingest
from pipelines.curation.publish import publish
from pipelines.curation.registry import load_sources

Segments = dict[str, list[Stage]]

# What each segment's result depends on: a change anywhere else leaves its finished work valid.
DEPENDS = {
    "prepare": {"clean": True, "reward": {"kind", "model", "dtype", "max_tokens"}},
    "synthesize": {
        "reward": {"thresholds"},
        "critique": {
            "engine": {"model", "dtype", "max_model_len"},
            "max_tokens": True,
            "temperature": True,
            "top_p": True,
            "attempts": True,
            "retry_temperature": True,
            "check_mode": True,
            "drop_inconsistent_chosen": True,
            "drop_inconsistent_rejected": True,
            "probe_share": True,
        },
    },
    "mix": {"mix": True},
}
ID = {"prepare": "raw_id"}
TOKENS = {"synthesize": ["synthesis_tokens"]}


def work_folder(config: Config) -> Path:
    """Where the intermediate files of a run live."""
    return config.out_dir / "work"


def curated_folder(config: Config) -> Path:
    """Where the products of curation live."""
    return config.out_dir / "curated"


def run(config: Config, segments: Segments, depends: dict[str, dict[str, Any]] | None = None) -> Path:
    """Ingest the sources, run the segments, publish the products; returns the folder of the pairs.

    Args:
        config: of the run.
        segments: name -> stages, in order.
        depends: segment -> what its result depends on beside the config.

    Every part is skipped when it is already done for this config, and resumed when it was cut off.
    """
    import ray

    from pipelines.curation.checker_quality import checker_quality
    from pipelines.curation.decontaminate import overlap_table
    from pipelines.curation.duplicates import find_duplicates
    from pipelines.curation.near_duplicates import find_near_duplicates
    from pipelines.curation.threshold import check_thresholds
    from pipelines.engines.models import require
    from pipelines.engines.reward import resolve_reward

    work = work_folder(config)
    tasks = {source.name: source.task for source in load_sources(config.curation.sources)}
    check_thresholds(config.curation.reward.thresholds, tasks)
    if config.curation.reward.enabled:
        resolve_reward(config.curation.reward)  # a missing model is found out before anything is read
    require(config.curation.critique.engine.model, "curation.critique.engine.model")
    require(config.curation.mix.tokenizer, "curation.mix.tokenizer")
    rows = ingest(config, work)
    folders: dict[str, Path] = {"ingest": rows}
    ingested = read_json(rows.parent / "done.json")
    ledger: dict[str, Entry] = {"ingest": ingested["ledger"]}
    if not duplicates_file(config).exists():
        # In a worker: the driver's memory stays flat however large the mixture is.
        ray.get(ray.remote(find_duplicates).remote(rows, duplicates_file(config)))
    if (near := config.curation.clean.near_duplicates).enabled:
        find_near_duplicates(rows, duplicates_file(config), near_duplicates_file(config), near)
    before: Any = ingested["fingerprint"]
    for name, stages in segments.items():
        segment = Segment(
            name=name,
            work=work,
            source=rows,
            stages=stages,
            depends={
                "before": before,
                "seed": config.seed,
                **_depends(config.curation, name),
                **(depends or {}).get(name, {}),
            },
            id_column=ID.get(name, "row_id"),
            rows_per_block=config.curation.rows_per_block,
            max_error_share=config.max_error_share,
            token_columns=TOKENS.get(name, ()),
        )
        ledger[name] = segment.run()
        rows, before = segment.rows, segment.fingerprint
        folders[name] = rows
    out = curated_folder(config)
    if not _published(out, before):
        if config.curation.clean.decontaminate.enabled:
            write_json(out / "contamination.json", overlap_table(folders["prepare"]))
        quality = checker_quality(folders["synthesize"], config.seed)
        write_json(out / "checker.json", quality)
        manifest = {**_manifest(config, before, ledger), "synthesis": engine_cost(folders["synthesize"])}
        pairs = publish(out, ledger, folders, manifest, quality)
        say(f"curated set: {pairs}")
    return out / "data"


def engine_cost(rows: Path) -> dict[str, Any]:
    """What the generator and checker read and wrote, and how much of it the prefix cache saved."""
    spent = {name: count_tokens(rows, [f"synthesis_{name}"]) for name in ("tokens", "prompt_tokens", "cached_tokens")}
    hit = spent["cached_tokens"] / spent["prompt_tokens"] if spent["prompt_tokens"] else 0.0
    say(f"synthesize: {hit:.0%} of {spent['prompt_tokens']} prompt tokens came from the prefix cache")
    return {**spent, "prefix_cache_hit_rate": hit}


def duplicates_file(config: Config) -> Path:
    """The list of rows that repeat an earlier one."""
    return work_folder(config) / "ingest" / "duplicates.parquet"


def near_duplicates_file(config: Config) -> Path:
    """The list of rows that nearly repeat an earlier one."""
    key = digest(config.curation.clean.near_duplicates.model_dump(mode="json"))[:8]
    return work_folder(config) / "ingest" / f"near-duplicates-{key}.parquet"


def describe(config: Config, segments: Segments) -> list[str]:
    """The plan, line by line, for `--dry-run`."""
    lines = [f"curate {len(config.curation.sources)} sources into {curated_folder(config)}"]
    for source in load_sources(config.curation.sources):
        lines.append(f"  source {source.name}: {source.task}, {source.license}")
    for name, stages in segments.items():
        lines.append(f"segment {name}")
        lines += [f"  {stage.contract()}" for stage in stages]
    return lines


def _depends(config: CurationConfig, segment: str) -> dict[str, Any]:
    return config.model_dump(mode="json", include=DEPENDS[segment])  # type: ignore[arg-type]


def _published(out: Path, fingerprint: str) -> bool:
    manifest = out / "manifest.json"
    return manifest.exists() and read_json(manifest)["fingerprint"] == fingerprint


def _manifest(config: Config, fingerprint: str, ledger: dict[str, Entry]) -> dict[str, Any]:
    sources = load_sources(config.curation.sources)
    return {
        "fingerprint": fingerprint,
        "seed": config.seed,
        "generator": config.curation.critique.engine.model,
        "reward_model": config.curation.reward.model if config.curation.reward.enabled else None,
        "sources": {source.name: {"task": source.task, "license": source.license} for source in sources},
        "config": config.curation.model_dump(mode="json"),
    }
