"""Prompt templates: one YAML file each, rendered with the row's texts as plain values."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, Literal

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipelines.core.determinism import digest
from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import Row
from pipelines.core.registry import Named, Registry
from pipelines.judging.closed_sets import choices, score_range
from pipelines.judging.tasks import TASKS

_FENCE = re.compile("`{3,}")
Format = Literal["cot", "judgment_only"]
READS = ("instruction", "context", "responses", "reference", "rubric", "allowed", "task")  # of a row, by `render`


class Template(Named):
    """A prompt format.

    Attributes:
        name: what configs call it.
        task: `pairwise`, `absolute` or `classification`; `any` fits all three.
        origin: where the wording comes from.
        text: Jinja text of the user message. Besides the row's texts it sees `cot`, which of the two formats to ask
            for, and `fence`, a line of backticks that is longer than any within the texts.
        reasoning: label before the critique in an answer; may be empty.
        result: label before the verdict in an answer; empty if the verdict is alone on its line.
        around: text right before and right after the verdict.
        separator: between critique and verdict line.
    """

    task: Literal["pairwise", "absolute", "classification", "any"]
    origin: str
    text: str
    reasoning: str = "**Reasoning:**"
    result: str = "**Result:**"
    around: tuple[str, str] = ("", "")
    separator: str = "\n\n"

    def completion(self, verdict: str, critique: str | None = None) -> str:
        """The answer this template asks for; without a critique, the judgment alone."""
        line = f"{self.result} {verdict.join(self.around)}".lstrip()
        return line if critique is None else f"{self.reasoning} {critique}{self.separator}{line}".lstrip()


TEMPLATES = Registry("template", Template, "pipelines.judging", "templates")


@cache
def load(name: str) -> Template:
    """A packaged template by name, or a user's own by the path of its YAML file.

    Raises:
        UserError: no such template, or it is not well formed.
    """
    template = TEMPLATES.load(name)
    try:
        _environment().from_string(template.text)
    except TemplateSyntaxError as exc:
        raise UserError(f"the template text has an error: {exc.message}", where=f"{name}:{exc.lineno}") from None
    return template


def identity(*wanted: str) -> dict[str, str]:
    """Name -> digest of a template's content: a result depends on that, not on the name."""
    return {name: digest(load(name).model_dump(mode="json")) for name in sorted(set(wanted))}


def render(template: Template, row: Row, *, cot: bool = True, rubric_last: bool = False, **extra: Any) -> str:
    """The user message for a row.

    The row's texts are values, never template source: braces, markup or special tokens in them stay as they are.

    Args:
        template: the format.
        row: a record with the Example columns.
        cot: ask for a critique and a judgment, else for the judgment alone.
        rubric_last: put the rubric after everything else that is judged, so that prompts of several rubrics about the
            same responses begin alike.
        extra: further values, such as the `verdict` to argue for, which adds its `statement` in words.

    Raises:
        RowFailure: the row has no responses, or no verdicts to choose from.
        UserError: the template uses an unknown value.
    """
    for name in ("responses", "allowed"):
        if not row[name]:
            raise RowFailure(f"no_{name}")
    values = {
        "instruction": row["instruction"],
        "context": row["context"] or "",
        "responses": [text or "" for text in row["responses"]],
        "reference": row["reference"] or "",
        "rubric": row["rubric"] or "",
        "allowed": list(row["allowed"]),
        "choices": choices(row["allowed"]),
        "score_range": score_range(row["allowed"]),
        "task": row["task"],
        "cot": cot,
        "rubric_last": rubric_last,
        **extra,
    }
    values["fence"] = fence(*values["responses"], *(text for text in values.values() if isinstance(text, str)))
    if verdict := extra.get("verdict"):
        values["statement"] = TASKS[row["task"]].statement(verdict)
    try:
        return _compiled(template.text).render(values).strip()
    except UndefinedError as exc:
        raise UserError(f"the template asks for an unknown value: {exc}", where=template.name) from None


def sample(task: str) -> Row:
    """A row that has every text, to try a template on."""
    found = TASKS[task]
    texts = {name: name for name in ("instruction", "context", "reference", "rubric")}
    return {**texts, "responses": ["response"] * found.responses, "allowed": list(found.verdicts), "task": task}


def fence(*texts: str) -> str:
    """Backticks that open and close a text: more than stand together anywhere in the texts, and three at least."""
    return "`" * max(3, *(len(run) + 1 for text in texts for run in _FENCE.findall(text)), 0)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment


@cache
def _compiled(text: str) -> Any:
    return _environment().from_string(text)
