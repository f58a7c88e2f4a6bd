"""Checksums that `sha256sum` agrees with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.release.digests import digests_of, write_sums


def test_checksums_are_those_of_the_tool_that_checks_them(tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "deep" / "b é.txt").write_text("b")
    assert write_sums(tmp_path).keys() == {"a.txt", "deep/b é.txt"} == digests_of(tmp_path).keys()
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "a.txt").write_text("b")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 1
