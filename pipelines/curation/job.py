"""The curation job: its steps in order, each once."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.ledger import top
from pipelines.core.records import filtered
from pipelines.core.run import Run
from pipelines.core.segment import Rows, Step
from pipelines.curation.cap import check_caps
from pipelines.curation.config import CurationConfig
from pipelines.curation.critique import check_template
from pipelines.curation.fit import check_room
from pipelines.curation.mix import check_templates
from pipelines.curation.mixture import EXCLUDED, check_mixture, load_mixture
from pipelines.curation.registry import load_sources
from pipelines.curation.threshold import check_thresholds


def run(steps: Sequence[Step], where: Run, curation: CurationConfig) -> Rows:
    """Run the steps, each on the rows of the one before, or what is left of them.

    Args:
        steps: in order.
        where: the run.
        curation: the config that they were built from.

    Returns:
        What the last step wrote.
    """
    check(curation)
    rows = Rows(where.work, "")  # the first step reads none
    for one in steps:
        rows = one.run(where.work, rows)
        check_sources(one.name, rows)
    return rows


def check_sources(name: str, rows: Rows) -> None:
    """Refuse to go on without a source that has lost all its rows.

    Args:
        name: of the step.
        rows: what it has written.

    Raises:
        UserError: naming the source and what its rows were lost for.
    """
    for source, counts in ((step.result_of(rows.folder.parent) or {}).get("ledger") or {}).items():
        if not counts["ok"] and filtered(EXCLUDED) not in counts["reasons"]:
            why = f"{counts['in']} rows in: {top(counts['reasons'])}" if counts["in"] else "there are no rows in it"
            raise UserError(
                f"source '{source}' has no row left after {name} ({why})",
                where=str(rows.folder.parent),
                fix=f"mend the source or the settings, or leave it out: --skip {source} and another out_dir",
            )


def check(curation: CurationConfig) -> None:
    """Find what can be wrong in a config before the first row is read.

    Raises:
        UserError: a source, threshold or template does not fit the others, or a model is not available.
    """
    from pipelines.engines.models import require
    from pipelines.engines.reward.stage import resolve_reward
    from pipelines.engines.tokenizer_facts import require_chat

    check_names(curation)
    if curation.reward.enabled:
        resolve_reward(curation.reward)
    require(curation.critique.engine.model, "curation.critique.engine.model")
    require(curation.mix.tokenizer, "curation.mix.tokenizer")
    require_chat(curation.critique.engine.model, "curation.critique.engine.model")
    require_chat(curation.mix.tokenizer, "curation.mix.tokenizer", trained=True)


def check_names(curation: CurationConfig) -> None:
    """Find what needs no model to be found wrong in a config: names, templates, and the room for a critique.

    Raises:
        UserError: a source, threshold, cap or template does not fit the others.
    """
    sources = load_sources(curation.sources)
    tasks = {source.name: source.task for source in sources}
    if curation.reward.thresholds and not curation.reward.enabled:
        fix = "enable curation.reward, or remove the thresholds"
        raise UserError("there are thresholds, but no reward model", where="curation.reward.thresholds", fix=fix)
    check_thresholds(curation.reward.thresholds, tasks)
    if mixture := load_mixture(curation.mixture):
        check_mixture(mixture, tasks, curation.reward.enabled, curation.reward.thresholds)
    check_caps(curation.mix.caps, tasks)
    check_templates(curation.mix.templates, tasks)
    check_template(curation.critique.template, set(tasks.values()))
    check_room(curation.critique, [source.allowed for source in sources])


def describe(steps: Sequence[Step]) -> list[str]:
    """The steps, line by line, for `--dry-run`."""
    return [line for one in steps for line in one.describe()]
