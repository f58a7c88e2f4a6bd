"""The benchmark job's plan: models and endpoints, what their judgments depend on, and what a dry run shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.core.config import Config, load_config
from pipelines.core.errors import UserError
from pipelines.core.files import write_json
from pipelines.core.segment import DONE
from pipelines.engines.endpoint_stage import EndpointStage
from pipelines.engines.vllm_stage import PromptStage
from pipelines.evaluation import job

LOCAL = Path(__file__).parents[2] / "ray_jobs" / "configs" / "local.yaml"
GPT: dict[str, Any] = {"endpoint": "https://host.example/v1", "model": "m", "api_key_env": "STANDIN_KEY"}


def config(out: Path, **models: Any) -> Config:
    return load_config(
        LOCAL, [f"out_dir={out}", f"evaluation.models={yaml.safe_dump(models, default_flow_style=True)}"]
    )


def segment(out: Path, model: dict[str, Any]) -> Any:
    read = config(out, gpt=model)
    return job.segment_of(read, "gpt", job.models(read)["gpt"], out / "examples", "key of the examples")


def test_judgments_of_an_endpoint_depend_on_where_and_which_and_not_on_how(tmp_path: Path) -> None:
    first = segment(tmp_path, GPT)
    assert isinstance(first.stages[0], EndpointStage)
    assert first.depends["model"] == {"endpoint": "https://host.example/v1", "model": "m"}
    same = GPT | {"api_key_env": "ANOTHER_KEY", "concurrency": 2, "timeout_s": 1, "retries": 0}
    assert segment(tmp_path, same).fingerprint == first.fingerprint
    for change in ({"model": "n"}, {"endpoint": "https://other.example/v1"}):
        assert segment(tmp_path, GPT | change).fingerprint != first.fingerprint


def test_a_name_is_judged_by_an_engine(tmp_path: Path) -> None:
    read = config(tmp_path, base="embedded")
    found = job.segment_of(read, "base", "embedded", tmp_path, "key")
    assert isinstance(found.stages[0], PromptStage) and found.depends["dtype"] == "bfloat16"


def test_a_dry_run_shows_what_is_sampled(tmp_path: Path) -> None:
    read = load_config(LOCAL, [f"out_dir={tmp_path}", "evaluation.sample=12", "evaluation.whole=[heldout_absolute]"])
    said = job.describe(read)
    assert "  heldout_pairwise: pairwise, accuracy, 12 of 30 rows" in said
    assert "  heldout_absolute: absolute, pearson, 30 rows" in said


def test_an_endpoint_is_not_asked_for_one_token(tmp_path: Path) -> None:
    read = config(tmp_path, gpt=GPT)
    read = read.model_copy(update={"evaluation": read.evaluation.model_copy(update={"format": "one_token"})})
    with pytest.raises(UserError, match=r"evaluation\.models\.gpt: an endpoint cannot .*judgment_only"):
        job.segment_of(read, "gpt", job.models(read)["gpt"], tmp_path, "key")


def test_a_dry_run_shows_the_endpoint_and_the_name_of_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_KEY", "sk-standin-0123456789")
    read = config(tmp_path, base="embedded", gpt=GPT)
    said = "\n".join(job.describe(read))
    assert "gpt: endpoint m at https://host.example/v1, at most 16 requests at once, the key in STANDIN_KEY" in said
    assert "sk-standin" not in said + yaml.safe_dump(read.model_dump(mode="json"))


def test_every_judge_is_asked_for_before_the_first_one_begins_and_a_finished_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    def begin(self: Any) -> None:
        raise Stop

    asked: list[str] = []
    monkeypatch.setattr(job.Segment, "run", begin)
    monkeypatch.setattr(job, "require_judge", lambda name, model: asked.append(name))
    read = config(tmp_path, one=GPT, two=GPT, three="embedded")
    write_json(tmp_path / "work" / "judge-two" / DONE, {})
    with pytest.raises(Stop):
        job.run(read)
    assert asked == ["one", "three"]
