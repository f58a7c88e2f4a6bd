"""The curation job between its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.segment import Rows
from pipelines.curation.job import check_sources


def rows(folder: Path, ledger: dict[str, Any]) -> Rows:
    """What a step hands on."""
    return Rows(folder / "rows", step.once(folder, {}, lambda _: {"ledger": ledger})["fingerprint"])


def entry(ok: int, **reasons: int) -> dict[str, Any]:
    named = {f"filtered:{name}": n for name, n in reasons.items()}
    return {"in": ok + sum(reasons.values()), "ok": ok, "reasons": named}


def test_a_source_without_a_row_left_is_an_error_with_its_commonest_reasons(tmp_path: Path) -> None:
    ledger = {"good": entry(1, year_unknown=9), "mine": entry(0, a=1, year_unknown=95, b=2, duplicate=4)}
    said = (
        r"source 'mine' has no row left after prepare \(102 rows in: filtered:year_unknown 95, filtered:duplicate 4, "
    )
    with pytest.raises(UserError, match=said + r"filtered:b 2 and 1 more\).*--skip mine") as caught:
        check_sources("prepare", rows(tmp_path, ledger))
    assert "\n" not in str(caught.value)


def test_an_empty_source_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'mine' has no row left after ingest \(there are no rows in it\)"):
        check_sources("ingest", rows(tmp_path, {"mine": entry(0)}))


def test_steps_whose_sources_have_rows_go_on(tmp_path: Path) -> None:
    check_sources("mix", rows(tmp_path / "a", {"mine": entry(1, a=3)}))
    step.once(tmp_path / "b", {}, lambda _: {"rows": 1})  # a step without a ledger
    check_sources("publish", Rows(tmp_path / "b" / "rows", ""))
