"""The training mixture: 70% critique and judgment, 30% judgment only, as preference pairs (§2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.core.determinism import choose, unit
from pipelines.core.errors import UserError
from pipelines.core.records import PAIRED, Row, filtered
from pipelines.core.stage import BatchStage
from pipelines.curation.config import MixConfig
from pipelines.engines import models
from pipelines.judging.count_tokens import TokenCounter
from pipelines.judging.tasks import TASKS
from pipelines.judging.templates import READS, identity, load, render, sample

SIDES = ("chosen", "rejected")


class Pair(BatchStage):
    """Fill the prompt template and both completions, and count their tokens."""

    name = "pair"
    reads: tuple[str, ...] = (
        *READS,
        "row_id",
        "source",
        "verdict",
        "rejected_verdict",
        "chosen_critique",
        "rejected_critique",
    )
    adds = tuple(PAIRED)

    def __init__(self, config: MixConfig, seed: int) -> None:
        self.config, self.seed = config, seed

    def depends(self) -> dict[str, Any]:
        names = [name for value in self.config.templates.values() for name in _listed(value)]
        config = self.config.identity() | {"tokenizer": models.identity(self.config.tokenizer)}
        return {"config": config, "seed": self.seed, "templates": identity(*names)}

    def apply_batch(self, rows: list[Row]) -> None:
        counter = self.counter()
        for row in rows:
            self._pair(row)
        prompts = counter.prompts([row["prompt"] for row in rows])
        chosen, rejected = (counter.completions([row[side] for row in rows]) for side in SIDES)
        for row, *lengths in zip(rows, prompts, chosen, rejected, strict=True):
            row["prompt_tokens"], row["chosen_tokens"], row["rejected_tokens"] = lengths
            if lengths[0] + max(lengths[1:]) > self.config.max_tokens:
                row["status"] = filtered("too_many_tokens")  # never cut: a cut completion loses its verdict

    def counter(self) -> TokenCounter:
        """Of the model's tokens."""
        from pipelines.engines.tokenizer_facts import shared_counter

        return shared_counter(self.config.tokenizer)

    def shortest(self, row: Row) -> Iterator[tuple[str, list[str]]]:
        """Prompt and completions of every form the row can take, with empty critiques: no pair of it is shorter."""
        for name in _named(self.config.templates, row["source"], row["task"]):
            template = load(name)
            for cot in (True, False):
                verdicts = (row["verdict"], row["rejected_verdict"])
                ends = [template.completion(verdict, "" if cot else None) for verdict in verdicts]
                yield render(template, row, cot=cot), ends

    def shortest_depends(self) -> dict[str, Any]:
        """What `shortest` and the limit depend on: not the share of critiques, nor the caps."""
        depends = self.depends()
        return {
            "max_tokens": self.config.max_tokens,
            "tokenizer": depends["config"]["tokenizer"],
            "names": self.config.templates,
            "templates": depends["templates"],
        }

    def _pair(self, row: Row) -> None:
        cot = unit(self.seed, "format", row["row_id"]) < self.config.cot_share
        template = load(self._template(row))
        row["format"], row["template"] = "cot" if cot else "judgment_only", template.name
        row["prompt"] = render(template, row, cot=cot)
        row["chosen"] = template.completion(row["verdict"], row["chosen_critique"] if cot else None)
        row["rejected"] = template.completion(row["rejected_verdict"], row["rejected_critique"] if cot else None)

    def _template(self, row: Row) -> str:
        """The template of the source, or of its task; one of several variants by the row's hash."""
        return choose(_named(self.config.templates, row["source"], row["task"]), self.seed, "template", row["row_id"])


def check_templates(templates: Mapping[str, str | list[str]], tasks: Mapping[str, str]) -> None:
    """Check `curation.mix.templates` against the sources that are read.

    Args:
        templates: task or source -> template, or several.
        tasks: source -> its task.

    Raises:
        UserError: a key is neither a task nor a source; a source has no template; a template is unknown, not well
            formed, or another task's.
    """
    for key, value in templates.items():
        where = f"curation.mix.templates.{key}"
        if (task := tasks.get(key) or (key if key in TASKS else None)) is None:
            raise UserError("no such task or source", where=where, fix=f"known: {', '.join([*TASKS, *sorted(tasks)])}")
        for name in _listed(value):
            if (found := load(name)).task != task:
                raise UserError(f"the template '{name}' is for {found.task} rows, not for {task}", where=where)
            for cot in (True, False):
                render(found, sample(task), cot=cot)  # or it asks for a value that no row has
    for source, task in tasks.items():
        _named(templates, source, task)


def _named(templates: Mapping[str, str | list[str]], source: str, task: str) -> list[str]:
    value = templates.get(source) or templates.get(task)
    if not value:
        fix = f"name one for '{task}' or '{source}'"
        raise UserError(f"no template for {task} rows", where="curation.mix.templates", fix=fix)
    return _listed(value)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
