"""What a release may say of its judge: figures of the benchmark job, of this model, and of benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.evaluation.scoring.entries import BenchmarkEntry
from pipelines.evaluation.scoring.results import About, Results
from pipelines.release.config import ReleaseConfig

SAMPLE = "packaged sample set"
BENCHMARK_FIRST = "run the benchmark job first: a release needs its figures"


@dataclass(frozen=True)
class Evidence:
    """The figures of one judge.

    Attributes:
        judge: its name in the results.
        results: all of them.
        benchmarks: figures of public benchmarks, by name.
        samples: figures of the packaged sample set, which are no benchmark's.
    """

    judge: str
    results: Results
    benchmarks: dict[str, BenchmarkEntry]
    samples: dict[str, BenchmarkEntry]

    def about(self, name: str) -> About:
        """A benchmark in words."""
        return self.results.settings.about[name]


def evidence(run: Run, config: ReleaseConfig) -> Evidence:
    """The figures of the judge that is to be released.

    Raises:
        UserError: there are none, they are of the packaged sample set alone and the config takes them for benchmarks,
            or nothing could be scored.
    """
    if not storage.exists(run.results):
        raise UserError("no benchmark results", where=str(run.results), fix=BENCHMARK_FIRST)
    results = Results.from_json(storage.read_json(run.results))
    if config.judge not in results.models:
        known = ", ".join(results.models)
        raise UserError(f"no judge '{config.judge}' in {run.results}: {known}", where="release.judge")
    scored = {name: entry for name, entry in results.models[config.judge].items() if entry.value is not None}
    packaged = {name for name, about in results.settings.about.items() if about.packaged}
    found = Evidence(
        config.judge,
        results,
        {name: entry for name, entry in scored.items() if name not in packaged},
        {name: entry for name, entry in scored.items() if name in packaged},
    )
    if not scored:
        raise UserError("no benchmark has a figure", where=str(run.results), fix=BENCHMARK_FIRST)
    if not found.benchmarks and config.figures == "benchmarks":
        names = ", ".join(found.samples)
        raise UserError(
            f"all figures are of the packaged sample set ({names}), which shows that the system works and not how good "
            "a judge is",
            where="release.figures",
            fix=f"benchmark the judge on public data, or say so: release.figures='{SAMPLE}'",
        )
    if found.benchmarks and config.figures == SAMPLE:
        names = ", ".join(found.benchmarks)
        raise UserError(f"there are figures of benchmarks too: {names}", where="release.figures", fix="leave it out")
    return found


def require_same_model(run: Run, judge: str, identity: str, model: str) -> None:
    """Check that the judgments behind the figures are those of the model that is released.

    Args:
        run: of the results.
        judge: its name there.
        identity: digest of the model's folder.
        model: its folder, for the message.

    Raises:
        UserError: another model was judged, or it is not known which.
    """
    claim = step.depends_of(run.work / f"judge-{judge}") or {}
    judged = claim.get("judge", {}).get("engine", {}).get("model")
    if judged is None:
        what = f"which model gave the judgments of '{judge}' is not known"
        raise UserError(what, where=str(run.work), fix=f"benchmark it: evaluation.models.{judge}={model}")
    if judged != identity:
        what = f"the figures of '{judge}' are not of this model: another one was judged"
        raise UserError(what, where=model, fix=f"benchmark it: evaluation.models.{judge}={model}, in a new out_dir")
