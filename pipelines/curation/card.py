"""The data set card of a curated set, in Markdown."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.core import sql
from pipelines.core.ledger import Entry
from pipelines.core.storage import Place

Labels = list[tuple[str, str, str, int]]


def label_counts(pairs: Place) -> Labels:
    """(source, format, verdict, pairs): whether A and B, the scores, yes and no are in balance."""
    with sql.connect(rows=pairs) as connection:
        found: Labels = connection.execute(
            "select source, format, verdict, count(*) from rows group by all order by all"
        ).fetchall()
    return found


def card(
    totals: Entry,
    ledger: dict[str, Entry],
    manifest: dict[str, Any],
    labels: Labels,
    quality: dict[str, Any] | None = None,
) -> str:
    """The text of the card.

    Args:
        totals: per source, over all steps.
        ledger: step -> its entry.
        manifest: what the set was made from.
        labels: of the pairs.
        quality: of the consistency checker.
    """
    environment = Environment(
        loader=PackageLoader("pipelines.curation"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    reasons = [
        (source, segment, reason, n)
        for segment, entry in ledger.items()
        for source, counts in entry.items()
        for reason, n in counts.get("reasons", {}).items()
    ]
    return environment.get_template("card.md.j2").render(
        totals=totals,
        about=manifest["sources"],
        generator=manifest["generator"],
        reward_model=manifest.get("reward_model"),
        synthesis=manifest.get("synthesis"),
        conflicts=manifest.get("conflicts"),
        policy=manifest.get("config", {}).get("clean", {}).get("conflicts", "keep"),
        reasons=sorted(reasons),
        labels=labels,
        quality=quality,
        percent=percent,
    )


def percent(found: dict[str, Any], name: str = "rate") -> str:
    """A share with its interval, as '12.5% (8.0–17.1, n = 200)'."""
    low, high = found["interval" if name == "rate" else f"{name}_interval"]
    return f"{found[name]:.1%} ({100 * low:.1f}–{100 * high:.1f}, n = {found['n']})"
