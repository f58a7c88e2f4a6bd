"""An engine that does not start, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.core.errors import UserError
from pipelines.engines.llm.start_errors import Printed, start_error, started

ENDED = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}")
CACHE = (
    "To serve at least one request with the model's max seq len (131072), (16.00 GiB KV cache is needed, which is "
    "larger than the available KV cache memory (4.20 GiB)."
)
CORE = f"""(EngineCore pid=77) Process EngineCore:
(EngineCore pid=77) Traceback (most recent call last):
(EngineCore pid=77)   File "core.py", line 1374, in run_engine_core
(EngineCore pid=77)     raise e
(EngineCore pid=77) ValueError: {CACHE}
"""


@pytest.mark.parametrize("printed", [CORE, CORE.replace("(EngineCore pid=77) ", "")])
def test_a_cache_that_does_not_fit_is_a_mistake_with_its_remedy(printed: str) -> None:
    said = start_error(ENDED, f"ValueError: another, before\n{printed}RuntimeError: {ENDED}\n", "org/model")
    assert isinstance(said, UserError)
    assert str(said).startswith("the engine of model 'org/model' cannot start: To serve at least one request")
    assert "lower max_model_len" in str(said) and "\n" not in str(said)


def test_what_vllm_refuses_at_once_is_a_mistake() -> None:
    said = start_error(ValueError("1 validation error\n  max_model_len (9) is greater than 8"), "", "m")
    assert isinstance(said, UserError)
    assert said.what == "1 validation error max_model_len (9) is greater than 8"


@pytest.mark.parametrize(
    "cause", ["torch.OutOfMemoryError: CUDA out of memory.", "ValueError: Free memory on device (1/80 GiB) is less."]
)
def test_what_may_be_the_machines_fault_is_none_of_the_users_and_says_its_cause(cause: str) -> None:
    said = start_error(ENDED, f"(EngineCore pid=1) {cause}\n", "m")
    assert not isinstance(said, UserError)
    assert str(said) == f"the engine of model 'm' did not start: {cause}"


def test_without_a_known_cause_the_exception_stays_as_it_is() -> None:
    assert start_error(ENDED, "killed\n", "m") is ENDED
    device = RuntimeError("CUDA error: no kernel image")
    assert start_error(device, CORE, "m") is device


def test_standard_error_is_read_from_where_it_was_children_included(tmp_path: Path) -> None:
    program = (
        "import os, subprocess\n"
        "from pipelines.engines.llm.start_errors import Printed\n"
        "os.write(2, b'before\\n'); printed = Printed()\n"
        "subprocess.run(['sh', '-c', 'echo child >&2']); os.write(2, b'own\\n'); print(printed.text(), end='')\n"
    )
    with (tmp_path / "err").open("ab") as file:
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=file, check=True)
    assert done.stdout == b"child\nown\n"
    assert (tmp_path / "err").read_bytes() == b"before\nchild\nown\n"


def test_a_pipe_tells_nothing() -> None:
    read, write = os.pipe()
    kept = os.dup(2)
    os.dup2(write, 2)
    try:
        assert Printed().text() == ""
    finally:
        os.dup2(kept, 2)
        for number in (read, write, kept):
            os.close(number)


def test_an_engine_that_starts_is_given_back_and_one_that_does_not_says_why() -> None:
    assert started(lambda: "engine", "m") == "engine"

    def refused() -> None:
        raise ValueError("max_model_len (1024) is greater than 512")

    def broken() -> None:
        raise OSError("a disk")

    with pytest.raises(UserError, match=r"the engine of model 'm' cannot start: max_model_len \(1024\)"):
        started(refused, "m")
    with pytest.raises(OSError, match="a disk"):
        started(broken, "m")
