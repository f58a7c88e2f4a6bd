"""What the page shows of curation and training."""

from __future__ import annotations

from pathlib import Path

from pipelines.evaluation.report import history
from tests.evaluation.report.conftest import LEDGER


def test_the_funnel_adds_up_over_sources() -> None:
    assert history.funnel_stages(LEDGER) == [("rows read", 9), ("after ingest", 8), ("after prepare", 5)]
    assert history.reasons(LEDGER)[1:] == [("prepare", "filtered:duplicate", 3)]
    assert history.funnel_stages(None) == [] and history.reasons(None) == []


def test_a_training_log_with_a_broken_line_is_still_drawn(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\nnot json\n[1]\n{"loss": 3}\n{"step": 2, "loss": null, "loss_dpo": 1}\n')
    steps, panels = history.training_panels(history.training_log(path)) or ([], {})
    assert steps == [1, 2]
    assert panels == {"loss": {"loss": [2.0, None], "of the preference (DPO)": [None, 1]}}
    assert history.training_panels([]) is None
    assert history.training_log(tmp_path / "none") == []
