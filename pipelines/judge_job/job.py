"""The batch judge: read requests, judge them, publish the judgments."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

from pipelines.core import step
from pipelines.core.run import Run
from pipelines.core.segment import Rows, Segment
from pipelines.core.stage import Stage
from pipelines.core.storage import Place
from pipelines.datasets.preview import look
from pipelines.datasets.readers import format_of
from pipelines.datasets.reading import Reading
from pipelines.engines import models
from pipelines.engines.endpoint_config import EndpointConfig
from pipelines.engines.llm.constrained import ConstrainedJudge
from pipelines.engines.llm.endpoint_stage import EndpointStage
from pipelines.engines.llm.fits import FitsJudge
from pipelines.engines.llm.judge import Judge, JudgeFormat
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.judge_job.both_orders import BothOrders
from pipelines.judge_job.config import JudgeConfig
from pipelines.judge_job.publish import check_output, publish, versions
from pipelines.judge_job.requests import Requests, template_for
from pipelines.judging.tasks import TASKS
from pipelines.judging.templates import identity

FILES_NAMED = 20  # in a manifest by name; all of them are in the claim of the step that reads them


def judge(run: Run, config: JudgeConfig) -> Place:
    """Judge every row of the input, or what is left of it.

    A work folder belongs to one input and config: with another, all is judged, and what was judged before is kept
    there. The output folder has the judgments of the last run.

    Args:
        run: whose work folder is used.
        config: what is judged, and how.

    Returns:
        The folder of the judgments.

    Raises:
        UserError: an input, a setting, a model or the output folder is unusable.
        TooManyErrors: more than `max_error_share` of the rows are errors.
    """
    requests, output = Requests(run, config), output_of(run, config)
    readings = requests.readings()
    check_output(output, [path for one in readings if (path := one.input.path)])
    segment = judge_segment(run, config)
    depends = {**requests.depends(), "judge": {stage.name: stage.depends() for stage in segment.stages}}
    work = run.judge_work / step.fingerprint(depends)[:16]
    if step.result_of(work / segment.name) is None:
        require_judge(config)
    rows = requests.run(work)
    judged = segment.run(work, rows)
    return publish(output, rows, judged, manifest(config, readings, judged), digests(config))


def describe(run: Run, config: JudgeConfig) -> list[str]:
    """What the job would do, line by line, for `--dry-run`: of each kind of file, what the first rows become.

    Raises:
        UserError: an input or a setting is unusable.
    """
    requests, output = Requests(run, config), output_of(run, config)
    readings = requests.readings()
    check_output(output, [path for one in readings if (path := one.input.path)])
    kinds = Counter(kind_of(one, config) for one in readings)
    lines = [f"judge {len(readings)} files ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())})"]
    for kind, ones in groupby(sorted(readings, key=lambda one: kind_of(one, config)), lambda one: kind_of(one, config)):
        own = list(ones)
        lines.append(f"  {kind}: {own[0].input.name}" + (f" and {len(own) - 1} more" if len(own) > 1 else ""))
        lines += [f"    {line}" for line in look(own)]
    order = "pairs in both orders" if config.both_orders else "one order"
    critique = f"a critique of at most {config.max_tokens} tokens" if config.with_critique else "no critique"
    engine = config.engine
    model = f"endpoint {engine}" if isinstance(engine, EndpointConfig) else engine.model
    templates = dict.fromkeys(template_for(config.template, task) for task in TASKS)
    lines.append(f"judged by {model}: {order}, {critique}, templates {', '.join(templates)}")
    lines += [f"  {line}" for line in judge_segment(run, config).describe()]
    return [*lines, f"publish in {output}"]


def kind_of(reading: Reading, config: JudgeConfig) -> str:
    """How a file is read."""
    return str(format_of(reading.input.path, config.mapping.format)) if reading.input.path else "hub"


def output_of(run: Run, config: JudgeConfig) -> Place:
    """The folder of the judgments."""
    return config.output or run.judged


def judge_segment(run: Run, config: JudgeConfig) -> Segment:
    """The segment that judges the rows; those too long for an engine are filtered before it starts.

    An engine holds each answer to a verdict, as in the service; an endpoint cannot be told to, and is parsed.
    """
    format: JudgeFormat = "cot" if config.with_critique else "judgment_only"
    stages: list[Stage]
    if isinstance(config.engine, EndpointConfig):  # says itself what it finds too long
        plain = Judge(config.max_tokens, format)
        stages = [EndpointStage("judge", config.engine, [BothOrders(plain, config.both_orders)])]
    else:
        held = ConstrainedJudge(config.max_tokens, with_critique=config.with_critique)
        fits = FitsJudge(config.engine, config.max_tokens, format, closing=True)
        stages = [fits, PromptStage("judge", config.engine, [BothOrders(held, config.both_orders)])]
    return Segment(
        name="judge",
        stages=stages,
        id_column="raw_id",
        rows_per_block=config.rows_per_block,
        max_error_share=run.max_error_share,
        token_columns=["prompt_tokens", "output_tokens"],
    )


def require_judge(config: JudgeConfig) -> None:
    """Check in the driver that the judge is available.

    Raises:
        UserError: it is not, and why.
    """
    from pipelines.engines.llm.endpoint import require_endpoint
    from pipelines.engines.models import require
    from pipelines.engines.tokenizer_facts import require_chat

    if isinstance(config.engine, EndpointConfig):
        require_endpoint(config.engine, "judge.engine")
    else:
        require(config.engine.model, "judge.engine.model")
        require_chat(config.engine.model, "judge.engine.model")


def digests(config: JudgeConfig) -> dict[str, str]:
    """What tells each template, and the model, from all others."""
    named = {template_for(config.template, task) for task in TASKS}
    engine = config.engine
    model = str(engine) if isinstance(engine, EndpointConfig) else models.identity(engine.model)
    return {**identity(*named), "model": model}


def manifest(config: JudgeConfig, readings: list[Reading], judged: Rows) -> dict[str, Any]:
    """What the judgments were made from."""
    engine, found = config.engine, digests(config)
    names = [one.input.name for one in readings]
    return {
        "fingerprint": judged.fingerprint,
        "model": str(engine) if isinstance(engine, EndpointConfig) else engine.model,
        "model_digest": found.pop("model"),
        "templates": found,
        "files": {"count": len(names), "first": names[:FILES_NAMED]},
        "versions": versions(),
        "config": config.model_dump(mode="json"),
    }
