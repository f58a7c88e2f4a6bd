"""Make the parity certificate of a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.evaluation.config import EvaluationConfig
from pipelines.judging.chat_template import control_tokens
from pipelines.release import go_template
from pipelines.release.config import ParityConfig
from pipelines.release.parity.asking import (
    answers_of,
    asked_of,
    critiques_of,
    probe_config,
    probe_rows,
    tokenizer_of,
    write_answers,
)
from pipelines.release.parity.certificate import Certificate, parity
from pipelines.release.parity.column import Column
from pipelines.release.parity.hostile import hostile_texts

REFERENCE = "transformers float32"


@dataclass(frozen=True)
class Released:
    """What is compared.

    Attributes:
        model: folder of the released model.
        gguf: name of each GGUF file's column -> the file.
        template: Ollama's; empty without a GGUF file.
        judgments: of the benchmark job, for the judge's own critiques.
    """

    model: Place
    gguf: Mapping[str, Place]
    template: str
    judgments: Place


def columns(config: ParityConfig, evaluation: EvaluationConfig, released: Released) -> list[Column]:
    """The reference, then every engine and file that is compared with it."""
    model, engine = str(released.model), evaluation.engine
    found = [Column(REFERENCE, "transformers", model, engine, threads=config.threads)]
    if "vllm" in config.engines:
        found.append(Column("vLLM", "vllm", model, engine.model_copy(update={"model": model})))
    if "llama.cpp" in config.engines:
        for name, file in released.gguf.items():
            found.append(Column(f"llama.cpp {name}", "llama.cpp", model, engine, str(file), config.threads))
    return found


def certify(
    run: Run, work: Place, config: ParityConfig, evaluation: EvaluationConfig, released: Released
) -> Certificate:
    """Ask every column the same and compare.

    Args:
        run: whose judge it is.
        work: folder of what need not be done again.
        config: of the certificate.
        evaluation: of the run: its engine, templates and confidence.
        released: model and files.

    Raises:
        UserError: a benchmark or engine is not usable.
    """
    from pipelines.evaluation.scoring.results import summarise

    probe = probe_config(evaluation, config.benchmarks, config.sample)
    examples, rows = probe_rows(run, work, probe)
    tokenizer = tokenizer_of(str(released.model))
    controls = list(control_tokens(tokenizer).values())
    critiques = critiques_of(released.judgments) if evaluation.format == "cot" else {}
    what = replace(asked_of(rows, tokenizer, critiques), texts=hostile_texts(controls))
    why = ""
    if released.template and go_template.go() is None:
        why = "Go, whose template engine Ollama uses, is not installed"
    elif released.template:
        turns = [[{"role": "user", "content": message.strip()}] for message in what.messages]
        what = replace(what, ollama=go_template.render(released.template, turns))
    every = columns(config, evaluation, released)
    found, judgments = {}, {}
    for column in every:
        folder = work / column.name.replace(" ", "-")
        found[column.name] = answers_of(folder, column, what)
        judgments[column.name] = write_answers(
            found[column.name], what, examples, folder, work / "judgments" / f"{folder.name}.parquet"
        )
    results = summarise(judgments, examples.folder, probe, run.seed)
    return Certificate(
        reference=REFERENCE,
        questions=len(what.questions),
        after_critique=sum(question.row["judgment_id"] in critiques for question in what.questions),
        texts=len(what.texts),
        most_flips=config.most_flips,
        columns={
            column.name: parity(
                what,
                found[REFERENCE],
                found[column.name],
                column.engine,
                controls,
                results.comparison.get(column.name),
                config.most_flips,
            )
            for column in every
        },
        versions={column.name: column.identity()["packages"] for column in every},
        ollama=why,
    )


def require_same_tokens(certificate: Certificate, otherwise: Literal["refuse", "tell"]) -> None:
    """Say which engines read other prompts than the trainer, and refuse the release unless it is only to be told.

    Raises:
        UserError: some message has other tokens in one of them.
    """
    for name, column in certificate.columns.items():
        for route, tokens in column.required():
            if tokens.all_equal:
                continue
            different = tokens.of - tokens.equal
            what = f"{different} of {tokens.of} {route}prompts have other tokens, such as {tokens.differ[0]}"
            if otherwise == "refuse":
                fix = "leave that engine out, or have the card tell it: release.parity.other_prompts=tell"
                raise UserError(what, where=f"parity, {name}", fix=fix)
            say(f"{name}: {what}")


def write(certificate: Certificate, place: Place) -> None:
    """Write it as JSON."""
    from pipelines.evaluation.scoring.figures import plain

    storage.write_json(place, plain(certificate.model_dump()))
