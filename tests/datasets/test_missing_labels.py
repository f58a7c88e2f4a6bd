"""A missing label in a file is no label: neither of the two that an expression chooses between."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.core.yaml_model import parse_model
from pipelines.datasets.spec import DatasetSpec, RawRecord, adapt
from tests.datasets.test_spec import PAIR


@pytest.mark.parametrize("missing", [None, "", float("nan")])
@pytest.mark.parametrize(
    "verdict",
    ["'A' if record.winner == 'model_a' else 'B'", "'A' if record.winner in ['a', 'model_a'] else 'Tie'"],
)
def test_a_missing_winner_is_an_error_of_its_row(verdict: str, missing: Any) -> None:
    spec = parse_model(DatasetSpec, {**PAIR, "fields": {**PAIR["fields"], "verdict": verdict}}, where="mine")
    record = {"q": "?", "response 1": "x", "response 2": "y", "winner": missing}
    (row,) = adapt(spec, RawRecord("0000.0", "line 1", record))
    assert row["status"].startswith("error:mapping:verdict:ValueError: a missing value")
    assert row["verdict"] is None
    (row,) = adapt(spec, RawRecord("0000.0", "line 1", {**record, "winner": "model_a"}))
    assert (row["status"], row["verdict"]) == ("ok", "A")


def test_a_null_label_is_not_no() -> None:
    fields = {**PAIR["fields"], "responses": "[record.q]", "verdict": "'Yes' if record.label else 'No'"}
    raw = {**PAIR, "task": "classification", "allowed": ["Yes", "No"], "fields": fields}
    spec = parse_model(DatasetSpec, raw, where="mine")
    rows = [adapt(spec, RawRecord("0000.0", "line 1", {"q": "?", "label": label}))[0] for label in (True, False, None)]
    assert [row["verdict"] for row in rows] == ["Yes", "No", None]
    assert rows[2]["status"].startswith("error:mapping:verdict:ValueError: a missing value (null)")
