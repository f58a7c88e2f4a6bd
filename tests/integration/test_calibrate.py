"""Coverage measured in Ray tasks: the same lines as in one process, and parts that are there are not drawn again."""

from __future__ import annotations

from pathlib import Path

from pipelines.core import storage
from pipelines.experiments.calibrate import coverage
from pipelines.experiments.calibrate.config import CalibrateConfig
from tests.experiments.test_calibrate import judged


def test_draws_in_parts_are_those_of_one_process_and_are_kept(plain_ray: None, tmp_path: Path) -> None:
    rows = judged(60, share=1.0)
    config = CalibrateConfig(coverage={"draws": 4, "share": 0.3, "draws_per_task": 2})
    found = coverage.measure(rows, config, tmp_path, 0, "rows")
    alone = coverage.summarise(coverage.some(rows, config, 0, range(4)), coverage.truths(rows))
    assert found == alone
    assert {one.of for one in found} >= {"all systems", "each system", "each difference"}
    storage.remove(tmp_path / "000002-000004")  # as if it had been stopped there
    before = (tmp_path / "000000-000002" / "draws.json").stat().st_mtime_ns
    assert coverage.measure(rows, config, tmp_path, 0, "rows") == alone
    assert (tmp_path / "000000-000002" / "draws.json").stat().st_mtime_ns == before
