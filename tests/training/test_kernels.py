"""Which kernels a device gets, and what is refused. The kernels themselves need a GPU."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers.integrations.liger  # noqa: F401  (before a test hides what is installed)

from pipelines.core.errors import UserError
from pipelines.training import kernels


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if these were installed, and no other."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in names else None)


@pytest.mark.parametrize(
    ("asked", "gpu", "names", "given"),
    [
        ("auto", True, ["liger_kernel"], "liger"),
        ("liger", True, ["liger_kernel"], "liger"),
        ("none", True, ["liger_kernel"], "none"),
        ("auto", True, [], "none"),
        ("none", False, ["liger_kernel"], "none"),
        ("onednn", False, [], "onednn"),
    ],
)
def test_a_gpu_gets_them_where_they_are_installed(
    asked: Any, gpu: bool, names: list[str], given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, *names)
    assert kernels.choose(asked, gpu) == given


@pytest.mark.parametrize(
    ("has", "built", "given"), [("AVX512", True, "onednn"), ("AVX2", True, "none"), ("AVX512", False, "none")]
)
def test_a_cpu_gets_onednns_where_they_are_quicker(
    has: str, built: bool, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: has)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: built)
    assert kernels.choose("auto", gpu=False) == given
    assert kernels.fuse(model(), "auto", gpu=False) == given


def test_onednns_are_for_cpus() -> None:
    with pytest.raises(UserError, match="for CPUs"):
        kernels.choose("onednn", gpu=True)


@pytest.mark.parametrize(("gpu", "what"), [(False, "need a GPU"), (True, r"not installed \(pip install 'openselene")])
def test_asked_for_by_name_they_must_be_there(gpu: bool, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(UserError, match=rf"train\.kernels: .*{what}"):
        kernels.choose("liger", gpu)


def model() -> Any:
    made = torch.nn.Sequential(torch.nn.Linear(2, 2))
    made.config = SimpleNamespace(model_type="nosuch")
    return made


def test_the_loss_and_the_head_stay_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "liger_kernel")
    asked: list[dict[str, bool]] = []

    def apply(made: Any, config: dict[str, bool]) -> None:
        asked.append(config)

        def forward(x: Any) -> Any:
            return x

        forward.__module__ = "liger_kernel.transformers.rms_norm"
        made[0].forward = forward

    monkeypatch.setattr("transformers.integrations.liger.apply_liger_kernel", apply)
    assert kernels.fuse(model(), "auto", gpu=True) == "liger"
    assert asked == [{"cross_entropy": False, "fused_linear_cross_entropy": False}]


def test_a_model_that_liger_does_not_know_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library leaves it as it is, and says nothing."""
    installed(monkeypatch, "liger_kernel")
    monkeypatch.setattr("transformers.integrations.liger.apply_liger_kernel", lambda made, config: None)
    assert kernels.fuse(model(), "auto", gpu=True) == "none"
    with pytest.raises(UserError, match="no kernels for a model of type 'nosuch'"):
        kernels.fuse(model(), "liger", gpu=True)


def test_without_torchao_there_are_no_products_in_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(UserError, match="torchao is not installed"):
        kernels.use_float8(model())
