"""What the page shows of the run before the benchmarks: the rows that curation kept, and the curves of training."""

from __future__ import annotations

import json
from typing import Any

from pipelines.core import storage
from pipelines.core.storage import Place

# Panels of the training curve: what is in the log of these is drawn, by its name in words.
PANELS = {
    "loss": {"loss": "loss", "loss_dpo": "of the preference (DPO)", "loss_nll": "of the chosen text (NLL)"},
    "reward": {
        "rewards/chosen": "of chosen",
        "rewards/rejected": "of rejected",
        "rewards/margins": "chosen minus rejected",
    },
    "accuracy": {"rewards/accuracies": "pairs whose chosen side has the higher reward"},
}
Ledger = dict[str, Any]
LogLine = dict[str, Any]
Panels = dict[str, dict[str, list[float | None]]]


def training_log(place: Place) -> list[LogLine]:
    """The lines of a training log; one that is not whole, as a killed job may leave, is left out."""
    if not storage.exists(place):
        return []
    lines = []
    for line in storage.read_text(place).splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int | float):
            lines.append(value)
    return lines


def training_panels(log: list[LogLine]) -> tuple[list[float], Panels] | None:
    """The steps and the curves to draw; None without any."""
    panels: Panels = {}
    for title, keys in PANELS.items():
        for key, label in keys.items():
            values = [line[key] if isinstance(line.get(key), int | float) else None for line in log]
            if any(value is not None for value in values):
                panels.setdefault(title, {})[label] = values
    return ([line["step"] for line in log], panels) if panels else None


def funnel_stages(ledger: Ledger | None) -> list[tuple[str, int]]:
    """Rows read, and rows left after each segment of curation."""
    segments = (ledger or {}).get("segments") or {}
    if not segments:
        return []
    first = next(iter(segments.values()))
    stages = [("rows read", sum(source["in"] for source in first.values()))]
    return stages + [
        (f"after {name}", sum(source["ok"] for source in entry.values())) for name, entry in segments.items()
    ]


def reasons(ledger: Ledger | None) -> list[tuple[str, str, int]]:
    """(segment, reason, rows) of the rows that left, most frequent first within a segment."""
    lost: list[tuple[str, str, int]] = []
    for name, entry in ((ledger or {}).get("segments") or {}).items():
        counts: dict[str, int] = {}
        for source in entry.values():
            for reason, rows in source["reasons"].items():
                counts[reason] = counts.get(reason, 0) + rows
        lost += [(name, reason, counts[reason]) for reason in sorted(counts, key=lambda r: (-counts[r], r))]
    return lost
