"""The benchmark job: judge every benchmark row with every model, then score and report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.segment import Rows, Segment
from pipelines.core.storage import Place
from pipelines.engines.endpoint_config import EndpointConfig
from pipelines.engines.llm.endpoint_stage import EndpointStage
from pipelines.engines.llm.fits import FitsJudge
from pipelines.engines.llm.judge import Judge
from pipelines.engines.llm.steps import StepStage
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.evaluation.asking.benchmark_rows import benchmarks_of, write_benchmark_rows
from pipelines.evaluation.asking.critique_check import NoCritiques, check_segment, write_critiques
from pipelines.evaluation.asking.judgments import write_judgments
from pipelines.evaluation.asking.prompt_formats import check_formats, write_formats
from pipelines.evaluation.asking.room import too_long
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.config import EvaluationConfig

if TYPE_CHECKING:
    from pipelines.evaluation.scoring.results import Results

Model = str | EndpointConfig


def evaluate(run: Run, config: EvaluationConfig, base: str) -> Results:
    """Judge, score and report; finished judgments are only scored again.

    Args:
        run: gets `benchmark/`.
        config: the benchmarks and how they are judged.
        base: the model that training starts from, judged as `base` where the config names no models.

    Returns:
        The figures of results.json.

    Raises:
        UserError: a benchmark, model or setting is unusable, or the run holds judgments of another config.
    """
    from pipelines.evaluation.report.exports import write_exports
    from pipelines.evaluation.report.page import write_report
    from pipelines.evaluation.report.terminal import terminal_summary
    from pipelines.evaluation.scoring.results import summarise

    judges, rows = models(run, config, base), prepare(run, config)
    judgments = judge(run, config, judges, rows)
    pairs = write_formats(run, config, rows) if config.formats else None
    formats = judge(run, config, judges, pairs, "formats") if pairs else {}
    checked = check_critiques(run, config, judgments)
    results = summarise(judgments, rows.folder, config, run.seed, formats, checked)
    storage.write_json(run.results, results.to_json())
    write_exports(results, run.benchmark)
    report = write_report(results, judgments, run)
    say(terminal_summary(results, run, report))
    return results


def describe(run: Run, config: EvaluationConfig, base: str) -> list[str]:
    """What the job would do, line by line, for `--dry-run`.

    Raises:
        UserError: a benchmark or a setting is unusable.
    """
    benchmarks, judges = usable_benchmarks(config), models(run, config, base)
    lines = [f"benchmark {', '.join(judges)} on {len(benchmarks)} benchmarks"]
    for name, model in judges.items():
        if isinstance(model, EndpointConfig):
            key = f"the key in {model.api_key_env}" if model.api_key_env else "no key"
            lines.append(f"  {name}: endpoint {model}, at most {model.concurrency} requests at once, {key}")
    for benchmark in benchmarks:
        sample, rows = config.sample_of(benchmark.name), str(benchmark.expected_n)
        if sample is not None and sample < benchmark.expected_n:
            rows = f"{sample} of {rows}"
        lines.append(f"  {benchmark.name}: {benchmark.task}, {benchmark.metric}, {rows} rows")
    if config.formats:
        lines.append(f"  pairs again in the formats {', '.join(config.formats)}")
    if check := config.critique_check:
        lines.append(f"  critiques of at most {check.rows} judgments a model checked by {check.engine.model}")
    return lines


def prepare(run: Run, config: EvaluationConfig) -> Rows:
    """Check the benchmarks and write their rows, once a run; needs no model and no cluster.

    Raises:
        UserError: a benchmark or a setting is unusable, or the run holds the rows of another config.
    """
    usable_benchmarks(config)
    return write_benchmark_rows(run, config)


def usable_benchmarks(config: EvaluationConfig) -> list[Benchmark]:
    """The benchmarks of a config, once it is clear that they can be asked and scored.

    Raises:
        UserError: a benchmark, metric or prompt format is unknown.
    """
    from pipelines.evaluation.scoring.metrics.registry import require_metrics

    benchmarks = benchmarks_of(config)
    require_metrics(benchmarks)
    check_formats(config, [benchmark.name for benchmark in benchmarks])
    return benchmarks


def models(run: Run, config: EvaluationConfig, base: str) -> dict[str, Model]:
    """Name -> model to judge with: those of the config, else the base model and, once it exists, the trained one."""
    if config.models:
        return dict(config.models)
    found: dict[str, Model] = {"base": base}
    if storage.exists(run.model) and step.is_whole(run.training):
        found["trained"] = str(run.model)
    return found


def judge(
    run: Run, config: EvaluationConfig, judges: dict[str, Model], rows: Rows, kind: str = "judgments"
) -> dict[str, Place]:
    """Let every model judge every row; model -> its judgments, a file of `benchmark/<kind>`.

    Every model that is still needed is checked before the first one starts.
    """
    suffix = "" if kind == "judgments" else f".{kind}"
    segments = {name: judge_segment(run, config, name + suffix, model) for name, model in judges.items()}
    for name, model in judges.items():
        if segments[name].finished(run.work, rows) is None:
            require_judge(name, model)
            for line in lengths(segments[name], rows, name):
                say(line)
    found: dict[str, Place] = {}
    for name, segment in segments.items():
        judged = segment.run(run.work, rows)
        found[name] = write_judgments(judged.folder, rows.folder, run.benchmark / kind / f"{name}.parquet")
    return found


def judge_segment(run: Run, config: EvaluationConfig, name: str, model: Model) -> Segment:
    """The segment in which one model judges every row.

    Raises:
        UserError: an endpoint is to be asked for the likelihood of one token.
    """
    steps = [Judge(config.max_tokens, config.format)]
    stage: StepStage
    before: list[FitsJudge] = []  # an endpoint says itself what it finds too long
    if not isinstance(model, EndpointConfig):
        engine = config.engine.model_copy(update={"model": model})
        stage = PromptStage("judge", engine, steps)
        before = [FitsJudge(engine, config.max_tokens, config.format)]
    elif config.format == "one_token":
        raise UserError(
            "an endpoint cannot be asked for the likelihood of a verdict",
            where=f"evaluation.models.{name}",
            fix="evaluation.format=judgment_only",
        )
    else:
        stage = EndpointStage("judge", model, steps)
    return Segment(
        name=f"judge-{name}",
        stages=[*before, stage],
        id_column="judgment_id",
        rows_per_block=config.rows_per_block,
        max_error_share=run.max_error_share,
        token_columns=["prompt_tokens", "output_tokens"],
    )


def lengths(segment: Segment, rows: Rows, judge: str) -> list[str]:
    """A line for each benchmark some of whose rows are too long for a judge, before its engine starts."""
    fits = [stage for stage in segment.stages if isinstance(stage, FitsJudge)]
    return [line for stage in fits for line in too_long(stage, rows.folder, judge)]


def require_judge(name: str, model: Model) -> None:
    """Check in the driver that a judge is available.

    Raises:
        UserError: it is not, and why.
    """
    from pipelines.engines.llm.endpoint import require_endpoint
    from pipelines.engines.models import require
    from pipelines.engines.tokenizer_facts import require_chat

    where = f"evaluation.models.{name}"
    if isinstance(model, EndpointConfig):
        require_endpoint(model, where)
    else:
        require(model, where)
        require_chat(model, where)


def check_critiques(run: Run, config: EvaluationConfig, judgments: dict[str, Place]) -> dict[str, Place]:
    """Model -> folder of its critiques with the checker's answers; empty unless the config asks for the check."""
    from pipelines.engines.models import require

    check, found = config.critique_check, dict[str, Place]()
    if check is None:
        return found
    require(check.engine.model, "evaluation.critique_check.engine.model")
    for name, file in judgments.items():
        try:
            critiques = write_critiques(run, check, name, file)
        except NoCritiques as exc:  # a base model that never keeps to the format, say
            say(f"check-{name}: {exc.what}")
            continue
        found[name] = check_segment(run, check, name, config.rows_per_block).run(run.work, critiques).folder
    return found
