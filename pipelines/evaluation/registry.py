"""Benchmarks: one YAML file each, a mapping of raw records to rows plus how its judgments are scored."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pipelines.core.errors import UserError
from pipelines.core.mapping import Mapping
from pipelines.core.yaml_model import parse_model, read_yaml

# The paper's eleven (Table 1), by the names used here: an overall average needs all of them, whole.
PAPER_BENCHMARKS = (
    "mt_bench",
    "flask",
    "biggen_bench",
    "reward_bench",
    "lfqa",
    "hhh_alignment",
    "evalbiasbench",
    "instrusum",
    "auto_j",
    "infobench",
    "llm_aggrefact",
)
METRIC_OF_TASK = {"pairwise": "accuracy", "absolute": "pearson", "classification": "accuracy"}
# Figures of a benchmark's authors that the headline is not (`authors.py`), and the task they are for.
AUTHORS = {
    "auto_j": "pairwise",
    "judge_bench": "pairwise",
    "reward_bench": "pairwise",
    "rm_bench": "pairwise",
    "llm_aggrefact": "classification",
}


class Benchmark(Mapping):
    """A mapping, and the protocol its judgments are scored by.

    `extra.subset` names the part of the benchmark a row belongs to, `extra.generators` who wrote each response. For
    absolute benchmarks `fields.verdict` is the gold score and may lie between two allowed verdicts (a mean of raters):
    Pearson uses it as it is.
    """

    split: str = "test"
    expected_n: int = Field(ge=1)
    """Rows the loader must find; another count makes the benchmark partial and is reported."""
    whole_n: int | None = None
    """Rows of the published benchmark where the files hold only a part of it; with all of them it is not partial."""
    metric: Literal["accuracy", "pearson"]
    template: str | None = None
    """null means `<task>_original`."""
    orders: Literal["both", "given"] = "both"
    """Pairwise: judge each pair in both orders, or only as it stands in the file."""
    subset_file: str | None = None
    """Regular expression whose first group, found in the name of the file a row stands in, is its subset."""
    sections: dict[str, list[str]] = Field(default_factory=dict)
    """Section -> its subsets: the headline is the mean of the sections, each the mean of its rows."""
    row_weights: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """Subset -> [rows it counts as in its section, rows it has]; other rows count as one."""
    best_of: bool = False
    """Pairwise: rows of one instruction and subset are one item, right where each of them is."""
    balanced: bool = False
    """Classification: also score as many rows of each class as the smallest has, chosen by hash."""
    authors: str | None = None
    """Whose own figures to report beside the headline, one of AUTHORS."""
    partial: bool = False
    reason: str = ""
    """Why the benchmark is partial."""
    notes: str = ""
    """The published protocol and known flaws; printed as a footnote of the report."""

    @model_validator(mode="after")
    def _protocol(self) -> Benchmark:
        if self.metric != METRIC_OF_TASK[self.task]:
            raise ValueError(f"a benchmark of the task {self.task} is scored by {METRIC_OF_TASK[self.task]}")
        if self.task == "pairwise" and not {"A", "B"} <= set(self.allowed) <= {"A", "B", "Tie"}:
            raise ValueError("the verdicts of a pairwise benchmark are A, B and, where it allows them, Tie")
        if self.task == "absolute" and not all(verdict.isdigit() for verdict in self.allowed):
            raise ValueError("the verdicts of an absolute benchmark are integers")
        self._scoring()
        if self.partial != bool(self.reason):
            raise ValueError("partial and reason go together")
        if set(self.extra) - {"subset", "generators"}:
            raise ValueError("the extra columns of a benchmark are subset and generators")
        return self

    def _scoring(self) -> None:
        if self.authors and AUTHORS.get(self.authors) != self.task:
            known = ", ".join(name for name, task in AUTHORS.items() if task == self.task)
            raise ValueError(f"authors: no figures '{self.authors}' for the task {self.task}, known: {known or 'none'}")
        if self.sections and self.task == "absolute":
            raise ValueError("sections are for benchmarks scored by accuracy")
        subsets = [subset for section in self.sections.values() for subset in section]
        if len(set(subsets)) != len(subsets):
            raise ValueError("a subset belongs to one section")
        if stray := sorted(set(self.row_weights) - set(subsets)):
            raise ValueError(f"row_weights: the subset {stray[0]} is in no section")
        if any(min(weight) < 1 for weight in self.row_weights.values()):
            raise ValueError("row_weights: two counts of rows, each at least 1")
        if self.best_of and self.task != "pairwise":
            raise ValueError("best_of is for pairwise benchmarks")
        if self.balanced and self.task != "classification":
            raise ValueError("balanced is for classification benchmarks")

    @property
    def template_name(self) -> str:
        """The prompt template, unless the run's config names another for the task."""
        return self.template or f"{self.task}_original"


def names() -> list[str]:
    """The packaged benchmarks."""
    return sorted(path.name[:-5] for path in _folder().iterdir() if path.name.endswith(".yaml"))


@cache
def load(name: str) -> Benchmark:
    """A packaged benchmark by name, or a user's own by the path of its YAML file.

    Raises:
        UserError: no such benchmark, or its file is not well formed.
    """
    is_path = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_path else _folder() / f"{name}.yaml"
    if not path.exists():
        near = difflib.get_close_matches(name, names(), n=1)
        fix = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names())}"
        raise UserError(f"no benchmark '{name}'", where=str(path), fix=fix)
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError("the benchmark is not a mapping of keys", where=str(path))
    return parse_model(Benchmark, raw, where=str(path))


def load_all(wanted: list[str]) -> list[Benchmark]:
    """Several benchmarks, each once.

    Raises:
        UserError: one of them is not known, or two have the same name.
    """
    benchmarks = [load(name) for name in wanted]
    seen: set[str] = set()
    for benchmark in benchmarks:
        if benchmark.name in seen:
            raise UserError(f"benchmark '{benchmark.name}' is named twice", where="evaluation.benchmarks")
        seen.add(benchmark.name)
    return benchmarks


def _folder() -> Path:
    return Path(str(resources.files("pipelines.evaluation") / "benchmarks"))
