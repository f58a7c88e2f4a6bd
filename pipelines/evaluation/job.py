"""The benchmark job: judge every example with every model, then score and report."""

from __future__ import annotations

from pathlib import Path

from pipelines.core.config import Config
from pipelines.core.determinism import digest
from pipelines.core.files import read_json, write_json
from pipelines.core.progress import say
from pipelines.core.segment import Segment, claim
from pipelines.engines.vllm_stage import PromptStage
from pipelines.evaluation.judge import Judge


def models(config: Config) -> dict[str, str]:
    """Name -> model to judge with: those of the config, else the base model and, once it exists, the trained one."""
    if config.evaluation.models:
        return dict(config.evaluation.models)
    found = {"base": config.train.model}
    if (trained := config.out_dir / "model").exists():
        found["trained"] = str(trained)
    return found


def run(config: Config) -> dict:
    """Judge, score and report; returns the results as they stand in results.json."""
    from pipelines.engines.models import require
    from pipelines.evaluation.exports import write_exports
    from pipelines.evaluation.judgments import write_judgments
    from pipelines.evaluation.report import write_report
    from pipelines.evaluation.results import summarise
    from pipelines.evaluation.summary import terminal_summary

    out = config.out_dir / "benchmark"
    examples, prepared = prepare(config)
    judgments: dict[str, Path] = {}
    for name, model in models(config).items():
        require(model, f"evaluation.models.{name}")
        segment = segment_of(config, name, model, examples, prepared)
        segment.run()
        judgments[name] = out / "judgments" / f"{name}.parquet"
        write_judgments(segment.rows, examples, judgments[name])
    results = summarise(judgments, examples, config.evaluation, config.seed)
    write_json(out / "results.json", results)
    write_exports(results, config.out_dir / "benchmark")
    report = write_report(results, judgments, config.out_dir)
    say(terminal_summary(results, config.out_dir, report))
    return results


def segment_of(config: Config, name: str, model: str, examples: Path, prepared: str) -> Segment:
    """The segment in which one model judges every example."""
    evaluation = config.evaluation
    engine = evaluation.engine.model_copy(update={"model": model})
    return Segment(
        name=f"judge-{name}",
        work=config.out_dir / "work",
        source=examples,
        stages=[PromptStage("judge", engine, [Judge(evaluation.max_tokens, cot=evaluation.format == "cot")])],
        depends={
            "examples": prepared,
            "model": fingerprint(model),
            "dtype": engine.dtype,
            "format": evaluation.format,
            "max_tokens": evaluation.max_tokens,
            "max_model_len": engine.max_model_len,
        },
        id_column="judgment_id",
        rows_per_block=evaluation.rows_per_block,
        max_error_share=config.max_error_share,
        token_columns=["prompt_tokens", "output_tokens"],
    )


def prepare(config: Config) -> tuple[Path, str]:
    """Write the examples of all benchmarks as parquet; returns the folder and its fingerprint."""
    from pipelines.evaluation.examples import write_examples
    from pipelines.evaluation.registry import load_all

    evaluation = config.evaluation
    folder = config.out_dir / "work" / "examples"
    depends = {
        "benchmarks": [b.model_dump(mode="json") for b in load_all(list(evaluation.benchmarks))],
        "sample": evaluation.sample,
        "templates": dict(evaluation.templates),
        "data_root": str(config.data_root) if config.data_root else None,
        "seed": config.seed,
    }
    key = digest("examples", depends)
    claim(folder, key, depends)
    if not (folder / "done.json").exists():
        write_examples(folder / "rows", evaluation, config.data_root, config.seed)
        write_json(folder / "done.json", {"fingerprint": key})
    return folder / "rows", key


def fingerprint(model: str) -> str:
    """Tells one model from another: the name of a hub model or of the embedded one, the files of a local one."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    done = folder.parent / "train" / "done.json"
    trained = read_json(done)["fingerprint"] if done.exists() else None
    return digest(trained, sorted((path.name, path.stat().st_size) for path in folder.iterdir()))


def describe(config: Config) -> list[str]:
    """The plan, line by line, for `--dry-run`."""
    from pipelines.evaluation.registry import load_all

    lines = [f"benchmark {', '.join(models(config))} on {len(config.evaluation.benchmarks)} benchmarks"]
    for benchmark in load_all(list(config.evaluation.benchmarks)):
        lines.append(f"  {benchmark.name}: {benchmark.task}, {benchmark.metric}, {benchmark.expected_n} rows")
    return lines
