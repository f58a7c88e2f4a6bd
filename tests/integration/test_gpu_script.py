"""`perf/gpu.py` on a CPU, where neither Ray nor vLLM is: the logic that a GPU will run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Not on a machine that has PyTorch, transformers and TRL only.
ABSENT = ("ray", "vllm", "duckdb", "fastokens", "limits", "openpyxl", "rensa", "statsmodels")


def test_the_parts_run_without_ray_and_vllm(tmp_path: Path) -> None:
    for name in ABSENT:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not here')\n")
    done = subprocess.run(
        [sys.executable, "perf/gpu.py", "--tiny", "--device", "cpu", "--only", "check,reward,ours,trl_cached"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ok"], found
    assert found["parts"]["reward"]["same"] and found["ratio"] > 0 and found["cached_ratio"] > 0, found
    first, last = found["parts"]["ours"]["losses"]
    assert 0 < last < first  # it trains
    assert "reached" not in found and found["device"] is None  # a CPU reaches no bar of a GPU
