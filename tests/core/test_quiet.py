"""Noise is dropped at the level of file descriptors; everything else passes."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, sys
from pipelines.core.quiet import quiet_output
with quiet_output():
    os.write(2, b"[E 1] core_worker.cc:2465: Actor with class name: 'MapWorker(x)' and ID\\n")
    os.write(1, b"(raylet) WARNING: 8 PYTHON worker processes have been started on node: a\\n")
    print("a line for the user", file=sys.stderr)
    print("a result")
    os.system("echo from a child")
print("after", file=sys.stderr)
"""


def test_known_noise_is_dropped_and_the_rest_kept() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines() == ["a line for the user", "after"]
    assert done.stdout.splitlines() == ["a result", "from a child"]


def test_traceback_of_a_crash_survives() -> None:
    script = "from pipelines.core.quiet import quiet_output\nwith quiet_output():\n    raise ValueError('boom')\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "ValueError: boom" in done.stderr
