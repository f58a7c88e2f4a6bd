"""The drift gate: a planted 1% is caught, no change passes, and what is not comparable is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.core import storage
from pipelines.core.errors import Drifted, UserError
from pipelines.release import drift
from pipelines.release.config import CertifyConfig
from pipelines.release.drift import Pinned, compare, passes, power, read_pin, require_same, told, write_pin
from tests.release.made import config_of
from tests.training.tiny import write_model

NAMES = [f"b:{n}:given" for n in range(400)]
BOUND = CertifyConfig().most


def judge(turned: int = 0, **digests: Any) -> Pinned:
    """400 answers, the first `turned` of them the other verdict."""
    probabilities = {name: {"A": 0.7, "B": 0.3} for name in NAMES}
    probabilities |= {name: {"A": 0.3, "B": 0.7} for name in NAMES[:turned]}
    return Pinned(
        {"model": "m", "engine": "vllm", "packages": {"vllm": "1"}, **digests},
        dict.fromkeys(NAMES, "prompt"),
        {name: name for name in NAMES},
        {name: ["A", "B"] for name in NAMES},
        probabilities,
    )


def test_a_planted_one_percent_is_caught_and_no_change_passes() -> None:
    require_same(compare(judge(), judge()), BOUND)
    with pytest.raises(Drifted, match=r"4 of 400 verdicts turned: 1\.00%, more than 0\.50%"):
        require_same(compare(judge(), judge(4)), BOUND)


def test_the_bound_itself_passes_and_one_more_does_not() -> None:
    require_same(compare(judge(), judge(2)), BOUND)
    with pytest.raises(Drifted):
        require_same(compare(judge(), judge(3)), BOUND)


def test_an_answer_that_is_no_number_fails() -> None:
    new = judge()
    new.probabilities[NAMES[0]] = {"A": float("nan"), "B": float("nan")}
    with pytest.raises(Drifted, match=f"1 questions have no answer, such as {NAMES[0]}"):
        require_same(compare(judge(), new), BOUND)


def test_other_questions_are_refused() -> None:
    fewer = judge()
    del fewer.probe[NAMES[0]]
    with pytest.raises(UserError, match="1 questions are not those of the pin"):
        compare(judge(), fewer)


def test_what_changed_is_named_by_its_digest() -> None:
    new = judge(4, model="other", packages={"vllm": "2"})
    new = replace(new, probe={**new.probe, NAMES[1]: "another wording"})
    lines = told(judge(), new, compare(judge(), new), BOUND)
    assert lines[0].endswith("changed since the pin: model, packages.vllm; 1 prompts have other words")
    assert "1.0% (" in lines[1] and "  A -> B: 4" in lines


def test_how_much_a_probe_set_can_show_is_the_binomial() -> None:
    assert passes(240, 0.005, 0.01) == pytest.approx(0.99**240 + 240 * 0.01 * 0.99**239)  # 0 or 1 flip
    assert passes(400, 0.0, 0.01) == pytest.approx(0.99**400)
    assert "probability 0.31" in power(240, 0.005)


def test_a_pin_is_read_as_written_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    write_pin(tmp_path, judge(1))
    assert read_pin(tmp_path) == judge(1)
    write_pin(tmp_path, judge(1))  # the same judge again
    with pytest.raises(UserError, match="another judge is pinned there"):
        write_pin(tmp_path, judge(1, model="other"))
    text = (tmp_path / "answers.json").read_text()
    (tmp_path / "answers.json").write_text(text.replace("0.7", "0.6", 1))
    with pytest.raises(UserError, match="not those that were pinned"):
        read_pin(tmp_path)


def test_without_a_pin_nothing_passes(tmp_path: Path) -> None:
    config = config_of(tmp_path, ["heldout_pairwise"], certify={"model": str(write_model(tmp_path / "m"))})
    with pytest.raises(UserError, match=r"no judge is pinned there \(pin one: certify\.write=true\)"):
        drift.describe(config.run, config.evaluation, config.certify)


def test_engine_and_file_go_together(tmp_path: Path) -> None:
    config = config_of(tmp_path, ["heldout_pairwise"], certify={"engine": "llama.cpp"})
    with pytest.raises(UserError, match=r"certify\.gguf: llama\.cpp runs a GGUF file"):
        drift.column_of(config.run, config.certify, config.evaluation.engine)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines answer in this process."""
    from pipelines.release.parity import column

    monkeypatch.setattr(drift, "ask_on_ray", lambda one, what: column.ask(one.reader(), what))


@pytest.mark.integration  # 20 s
@pytest.mark.usefixtures("without_ray")
def test_a_real_model_is_itself_and_another_is_not(tmp_path: Path) -> None:
    """Pinned, compared with itself, with a planted flip, and with other weights."""
    model, other = (str(write_model(tmp_path / name, seed)) for name, seed in (("a", 0), ("b", 1)))
    certify = {"model": model, "engine": "transformers", "benchmarks": ["heldout_pairwise"], "sample": 20}
    config = config_of(tmp_path, ["heldout_pairwise"], certify=certify)

    def gate(**changes: Any) -> Any:
        return drift.certify(config.run, config.evaluation, config.certify.model_copy(update=changes))

    assert gate(write=True) == config.run.pin / "pin.json"
    found = storage.read_json(gate())
    assert found["share"] == 0.0 and found["compared"] == 40
    pin = json.loads((config.run.pin / "answers.json").read_text())
    name, probabilities = next(iter(pin["probabilities"].items()))
    pin["probabilities"][name] = dict(zip(probabilities, reversed(probabilities.values()), strict=True))
    storage.write_json(config.run.pin / "answers.json", pin)
    head = storage.read_json(config.run.pin / "pin.json")
    head["answers"] = storage.content_digest(config.run.pin / "answers.json")
    storage.write_json(config.run.pin / "pin.json", head)
    with pytest.raises(Drifted, match="1 of 40 verdicts turned"):
        gate()
    with pytest.raises(Drifted, match="verdicts turned"):
        gate(model=other, most=0.025)
