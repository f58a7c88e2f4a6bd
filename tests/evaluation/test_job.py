"""The benchmark job's plan: models and endpoints, what their judgments depend on, and what a dry run shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import Config, load_config
from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.segment import Rows, Segment
from pipelines.engines.llm.endpoint_stage import EndpointStage
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.evaluation import job
from pipelines.evaluation.config import EvaluationConfig

LOCAL = Path(__file__).parents[2] / "ray_jobs" / "configs" / "local.yaml"
GPT: dict[str, Any] = {"endpoint": "https://host.example/v1", "model": "m", "api_key_env": "STANDIN_KEY"}
ROWS = Rows(Path("rows"), "fingerprint of the rows")


def config(out: Path, *overrides: str, **models: Any) -> Config:
    chosen = [f"evaluation.models={yaml.safe_dump(models, default_flow_style=True)}"] if models else []
    return load_config(LOCAL, [f"out_dir={out}", *chosen, *overrides])


def describe(read: Config) -> list[str]:
    return job.describe(read.run, read.evaluation, read.train.model)


def segment(out: Path, model: dict[str, Any], **settings: Any) -> Segment:
    read = config(out, gpt=model)
    evaluation = read.evaluation.model_copy(update=settings)
    return job.judge_segment(read.run, evaluation, "gpt", job.models(read.run, evaluation, "embedded")["gpt"])


def test_judgments_of_an_endpoint_depend_on_where_and_which_and_not_on_how(tmp_path: Path) -> None:
    first = segment(tmp_path, GPT)
    assert isinstance(first.stages[0], EndpointStage)
    same = GPT | {"api_key_env": "ANOTHER_KEY", "concurrency": 2, "timeout_s": 1, "retries": 0}
    assert segment(tmp_path, same).depends(ROWS) == first.depends(ROWS)
    for change in ({"model": "n"}, {"endpoint": "https://other.example/v1"}):
        assert segment(tmp_path, GPT | change).depends(ROWS) != first.depends(ROWS)


def test_judgments_depend_on_the_rows_and_on_what_is_asked_for(tmp_path: Path) -> None:
    first = segment(tmp_path, GPT).depends(ROWS)
    assert segment(tmp_path, GPT).depends(Rows(ROWS.folder, "of other rows")) != first
    for settings in ({"format": "cot"}, {"max_tokens": 9}):
        assert segment(tmp_path, GPT, **settings).depends(ROWS) != first
    assert segment(tmp_path, GPT, rows_per_block=3).depends(ROWS) == first


def test_a_name_is_judged_by_an_engine_that_loads_it(tmp_path: Path) -> None:
    read = config(tmp_path)
    _, stage = job.judge_segment(read.run, read.evaluation, "base", "org/name").stages
    assert isinstance(stage, PromptStage) and stage.engine.model == "org/name"


def test_base_and_trained_are_judged_and_half_a_model_is_not(tmp_path: Path) -> None:
    read = config(tmp_path)

    def judges() -> dict[str, Any]:
        return job.models(read.run, read.evaluation, "embedded")

    assert judges() == {"base": "embedded"}
    (tmp_path / "model").mkdir()
    assert judges() == {"base": "embedded", "trained": str(tmp_path / "model")}

    def half(folder: Path) -> None:
        assert judges() == {"base": "embedded"}

    step.once(read.run.training, {}, half)
    assert list(judges()) == ["base", "trained"]


def test_a_dry_run_shows_what_is_sampled(tmp_path: Path) -> None:
    said = describe(config(tmp_path, "evaluation.sample=12", "evaluation.whole=[heldout_absolute]"))
    assert "  heldout_pairwise: pairwise, accuracy, 12 of 60 rows" in said
    assert "  heldout_absolute: absolute, pearson, 60 rows" in said


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("evaluation.benchmarks=[autoj]", "did you mean 'auto_j'"),
        ("evaluation.whole=[auto_j]", r"evaluation\.whole: no benchmark 'auto_j'"),
        ("evaluation.formats=[yaml]", r"evaluation\.formats: no format 'yaml'"),
        ("evaluation.format_benchmarks=[auto_j]", r"evaluation\.format_benchmarks: 'auto_j'"),
    ],
)
def test_a_dry_run_and_the_job_refuse_what_cannot_be_asked(tmp_path: Path, override: str, words: str) -> None:
    read = config(tmp_path, override)
    for work in (lambda: describe(read), lambda: job.prepare(read.run, read.evaluation)):
        with pytest.raises(UserError, match=words):
            work()


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": "pearson"},
        {"metric": "no_such_metric"},
        {"authors": "no_such_authors"},
        {"authors": "llm_aggrefact"},
        {
            "task": "absolute",
            "metric": "pearson",
            "allowed": ["1", "2", "3"],
            "sections": {"x": ["one"]},
        },
    ],
)
def test_a_benchmark_that_cannot_be_scored_is_refused_before_any_work(
    tmp_path: Path, write_benchmark: Any, changes: dict[str, Any]
) -> None:
    path = write_benchmark([{"q": "q", "a": "x", "b": "y", "label": "A"}], **changes)
    read = config(tmp_path / "out", f"evaluation.benchmarks=[{path}]")
    for work in (lambda: describe(read), lambda: job.prepare(read.run, read.evaluation)):
        with pytest.raises(UserError, match="benchmark 'mine'") as caught:
            work()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_endpoint_is_not_asked_for_one_token(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluation\.models\.gpt: an endpoint cannot .*judgment_only"):
        segment(tmp_path, GPT, format="one_token")


def test_a_dry_run_shows_the_endpoint_and_the_name_of_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_KEY", "sk-standin-0123456789")
    read = config(tmp_path, base="embedded", gpt=GPT)
    said = "\n".join(describe(read))
    assert "gpt: endpoint m at https://host.example/v1, at most 16 requests at once, the key in STANDIN_KEY" in said
    assert "sk-standin" not in said + yaml.safe_dump(read.model_dump(mode="json"))


def test_every_judge_is_asked_for_before_the_first_one_begins_and_a_finished_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    def begin(self: Any, work: Path, before: Rows) -> None:
        raise Stop

    asked: list[str] = []
    monkeypatch.setattr(Segment, "run", begin)
    monkeypatch.setattr(job, "require_judge", lambda name, model: asked.append(name))
    read = config(tmp_path, one=GPT, two={**GPT, "model": "n"}, three=GPT)
    judges = job.models(read.run, read.evaluation, "embedded")
    finished = job.judge_segment(read.run, read.evaluation, "two", judges["two"])
    step.once(read.run.work / finished.name, finished.depends(ROWS), lambda folder: None)
    with pytest.raises(Stop):
        job.judge(read.run, read.evaluation, judges, ROWS)
    assert asked == ["one", "three"]


def test_a_user_s_template_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read = EvaluationConfig(benchmarks=[], templates={"pairwise": "mine.yaml", "absolute": "absolute_compact"})
    assert read.templates == {"pairwise": str(tmp_path / "mine.yaml"), "absolute": "absolute_compact"}
