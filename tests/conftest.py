"""What every test shares: a quiet offline environment, the folder of real data, marks from the tree."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytest

from pipelines.core import metrics
from tests.counted import Counted

# Read by libraries when they are imported, so set before any test module is; a value from outside wins.
QUIET_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MPLBACKEND": "Agg",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
for _name, _value in QUIET_OFFLINE.items():
    os.environ.setdefault(_name, _value)

# Collecting imports torch, Ray and the rest, a million objects of which nearly none is garbage.
gc.disable()

ROOT = Path(__file__).parent.parent


def measure_child_processes() -> None:
    """Under coverage, have the processes that tests start measured too (see tests/worker_coverage)."""
    try:
        from coverage import Coverage
    except ImportError:
        return
    measured = Coverage.current()
    if measured is None:
        return
    folder = ROOT / "tests" / "worker_coverage"
    os.environ["OPENSELENE_ROOT"] = str(ROOT)
    os.environ["COVERAGE_PROCESS_START"] = str(folder / "coverage.toml")
    os.environ["COVERAGE_FILE"] = str(Path(measured.config.data_file).resolve())
    folders = [str(folder), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in folders if path)


measure_child_processes()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what lies in tests/integration; skip GPU tests, with the reason, where there is no GPU."""
    integration = Path(__file__).parent / "integration"
    has_gpu = shutil.which("nvidia-smi") is not None
    for item in items:
        if integration in item.path.parents:
            item.add_marker(pytest.mark.integration)
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a GPU: nvidia-smi is not on the path"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the collector of garbage from walking through a million objects of libraries again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real sources and benchmarks; the test is skipped where OPENSELENE_DATA_ROOT is unset."""
    value = os.environ.get("OPENSELENE_DATA_ROOT")
    if not value:
        pytest.skip("real data: set OPENSELENE_DATA_ROOT to the folder of sources and benchmarks")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"OPENSELENE_DATA_ROOT={value} is not a folder")
    return folder


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """What the metrics of this process count from here on, without Ray."""
    backend = Counted()
    meter = metrics.Meter(backend)
    monkeypatch.setattr(metrics, "here", lambda: meter)
    return backend
