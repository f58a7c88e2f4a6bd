"""The benchmark job: judge every example with every model, then score and report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.core.config import Config
from pipelines.core.determinism import digest
from pipelines.core.endpoint import EndpointConfig
from pipelines.core.errors import UserError
from pipelines.core.files import read_json, write_json
from pipelines.core.progress import say
from pipelines.core.segment import DONE, Segment, claim
from pipelines.core.stage import Stage
from pipelines.engines.endpoint_stage import EndpointStage
from pipelines.engines.vllm_stage import PromptStage
from pipelines.evaluation.judge import Judge

Model = str | EndpointConfig


def models(config: Config) -> dict[str, Model]:
    """Name -> model to judge with: those of the config, else the base model and, once it exists, the trained one."""
    if config.evaluation.models:
        return dict(config.evaluation.models)
    found: dict[str, Model] = {"base": config.train.model}
    if (trained := config.out_dir / "model").exists():
        found["trained"] = str(trained)
    return found


def run(config: Config) -> dict:
    """Judge, score and report; returns the results as they stand in results.json."""
    from pipelines.evaluation.exports import write_exports
    from pipelines.evaluation.report import write_report
    from pipelines.evaluation.results import summarise
    from pipelines.evaluation.summary import terminal_summary

    examples, prepared = prepare(config)
    judgments = judge(config, "judgments", examples, prepared)
    formats = ask_formats(config, examples, prepared)
    results = summarise(judgments, examples, config.evaluation, config.seed, formats, check(config, judgments))
    write_json(config.out_dir / "benchmark" / "results.json", results)
    write_exports(results, config.out_dir / "benchmark")
    report = write_report(results, judgments, config.out_dir)
    say(terminal_summary(results, config.out_dir, report))
    return results


def judge(config: Config, kind: str, examples: Path, prepared: str) -> dict[str, Path]:
    """Let every model judge every row of a folder; model -> its file in OUT/benchmark/`kind`."""
    from pipelines.evaluation.judgments import write_judgments

    judges, ending = models(config), "" if kind == "judgments" else f".{kind}"
    segments = {name: segment_of(config, name + ending, model, examples, prepared) for name, model in judges.items()}
    for name, model in judges.items():
        if not (segments[name].folder / DONE).exists():  # its judgments are scored again without the model
            require_judge(name, model)
    found: dict[str, Path] = {}
    for name, segment in segments.items():
        segment.run()
        found[name] = config.out_dir / "benchmark" / kind / f"{name}.parquet"
        write_judgments(segment.rows, examples, found[name])
    return found


def ask_formats(config: Config, examples: Path, prepared: str) -> dict[str, Path]:
    """Model -> its judgments of the pairs in further prompt formats; empty where none is asked for."""
    from pipelines.evaluation.formats import prepare_formats

    evaluation, folder = config.evaluation, config.out_dir / "work" / "formats"
    if not evaluation.formats:
        return {}
    asked = prepare_formats(evaluation.formats, examples, prepared, folder, evaluation.format_benchmarks)
    return judge(config, "formats", *asked) if asked else {}


def check(config: Config, judgments: dict[str, Path]) -> dict[str, Path]:
    """Model -> its critiques as the checker found them; empty where none are to be checked."""
    from pipelines.engines.models import require
    from pipelines.evaluation import critique_check

    asked, found = config.evaluation.critique_check, dict[str, Path]()
    if asked is None:
        return found
    require(asked.engine.model, "evaluation.critique_check.engine.model")
    for name, path in judgments.items():
        try:
            segment = critique_check.segment_of(
                name,
                path,
                asked.engine,
                config.out_dir / "work",
                mode=asked.mode,
                rows=asked.rows,
                probe_share=asked.probe_share,
                seed=config.seed,
                rows_per_block=config.evaluation.rows_per_block,
                max_error_share=config.max_error_share,
            )
        except critique_check.NoCritiques as exc:  # a base model that never keeps to the format, say
            say(f"check-{name}: {exc.what}")
            continue
        segment.run()
        found[name] = segment.rows
    return found


def require_judge(name: str, model: Model) -> None:
    """Find out in the driver whether a judge can be had, before any of them begins.

    Raises:
        UserError: it cannot, and why.
    """
    from pipelines.engines.endpoint import require_endpoint
    from pipelines.engines.models import require

    where = f"evaluation.models.{name}"
    if isinstance(model, EndpointConfig):
        require_endpoint(model, where)
    else:
        require(model, where)


def segment_of(config: Config, name: str, model: Model, examples: Path, prepared: str) -> Segment:
    """The segment in which one model judges every example."""
    evaluation = config.evaluation
    steps = [Judge(evaluation.max_tokens, evaluation.format)]
    depends: dict[str, Any] = {
        "examples": prepared,
        "model": fingerprint(model),
        "format": evaluation.format,
        "max_tokens": evaluation.max_tokens,
    }
    stage: Stage
    if isinstance(model, EndpointConfig):
        if evaluation.format == "one_token":
            raise UserError(
                "an endpoint cannot be asked for the likelihood of a verdict",
                where=f"evaluation.models.{name}",
                fix="evaluation.format=judgment_only",
            )
        stage = EndpointStage("judge", model, steps)
    else:
        engine = evaluation.engine.model_copy(update={"model": model})
        stage = PromptStage("judge", engine, steps)
        depends |= {"dtype": engine.dtype, "max_model_len": engine.max_model_len}
    return Segment(
        name=f"judge-{name}",
        work=config.out_dir / "work",
        source=examples,
        stages=[stage],
        depends=depends,
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
        "whole": sorted(evaluation.whole),
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


def fingerprint(model: Model) -> str | dict[str, str]:
    """Tells one model from another: the name of a hub model or of the embedded one, the files of a local one, an
    endpoint's address and model."""
    if isinstance(model, EndpointConfig):
        return model.identity
    folder = Path(model)
    if not folder.is_dir():
        return model
    done = folder.parent / "train" / "done.json"
    trained = read_json(done)["fingerprint"] if done.exists() else None
    return digest(trained, sorted((path.name, path.stat().st_size) for path in folder.iterdir()))


def describe(config: Config) -> list[str]:
    """The plan, line by line, for `--dry-run`."""
    from pipelines.evaluation.registry import load_all

    judges = models(config)
    lines = [f"benchmark {', '.join(judges)} on {len(config.evaluation.benchmarks)} benchmarks"]
    for name, model in judges.items():
        if isinstance(model, EndpointConfig):
            key = f"the key in {model.api_key_env}" if model.api_key_env else "no key"
            lines.append(f"  {name}: endpoint {model}, at most {model.concurrency} requests at once, {key}")
    for benchmark in load_all(list(config.evaluation.benchmarks)):
        sample, rows = config.evaluation.sample_of(benchmark.name), str(benchmark.expected_n)
        if sample is not None and sample < benchmark.expected_n:
            rows = f"{sample} of {rows}"
        lines.append(f"  {benchmark.name}: {benchmark.task}, {benchmark.metric}, {rows} rows")
    if config.evaluation.formats:
        lines.append(f"  pairs again in the formats {', '.join(config.evaluation.formats)}")
    if check := config.evaluation.critique_check:
        lines.append(f"  critiques of at most {check.rows} judgments a model checked by {check.engine.model}")
    return lines
