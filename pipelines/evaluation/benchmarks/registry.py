"""Benchmarks: one YAML file each, which says where its rows come from and how judgments of them are scored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipelines.core.registry import Registry
from pipelines.datasets.spec import DatasetSpec
from pipelines.judging.tasks import TASKS

# The paper's eleven (Table 1), by the names used here: an overall average needs every one of them in full.
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


class Benchmark(DatasetSpec):
    """A dataset of rows with gold verdicts, and how judgments of them are scored.

    `extra.subset` names the part of the benchmark a row belongs to, `extra.generators` who wrote each response, and
    `extra.group` what related rows share (null: instruction and context), as they are not independent. For absolute
    benchmarks `fields.verdict` is the gold score and may lie between two allowed verdicts (a mean of raters): Pearson
    uses it as it is.
    """

    split: str = "test"
    expected_n: int = Field(ge=1)
    """Rows that must be found; any other count marks the benchmark as partial in the report."""
    whole_n: int | None = None
    """Rows of the published benchmark where the files hold only a part of it; with all of them it is not partial."""
    metric: str
    """The headline figure, by its name among the metrics of `scoring/`."""
    template: str | None = None
    """null means `<task>_original`."""
    orders: Literal["both", "given"] = "both"
    """Pairwise: judge each pair in both orders, or only in the order of the file."""
    subset_file: str | None = None
    """Regular expression: its first group, matched in the name of a row's file, is the row's subset."""
    sections: dict[str, list[str]] = Field(default_factory=dict)
    """Section -> its subsets: the headline is the mean of the sections, each the mean of its rows."""
    row_weights: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """Subset -> [rows it counts as in its section, rows it has]; other rows count as one."""
    best_of: bool = False
    """Pairwise: rows of one instruction and subset are one item, right where each of them is."""
    balanced: bool = False
    """Classification: also score as many rows of each class as the smallest has, chosen by hash."""
    best_by_subset: bool = False
    """Pairwise: the figure `best` takes the better order in each subset, as SFR-Judge does for some benchmarks."""
    within: str | None = None
    """A benchmark whose rows these are too: where it is judged as well, this one is no part of the task's mean."""
    authors: str | None = None
    """Whose official metrics to report next to the headline, by their name in `scoring/`."""
    partial: bool = False
    reason: str = ""
    """Why the benchmark is partial."""
    notes: str = ""
    """The published protocol and known flaws; printed as a footnote of the report."""

    @model_validator(mode="after")
    def _protocol(self) -> Benchmark:
        task, subsets = TASKS[self.task], [subset for section in self.sections.values() for subset in section]
        if self.partial != bool(self.reason):
            raise ValueError("partial and reason go together")
        if set(self.extra) - {"subset", "generators", "group"}:
            raise ValueError("the extra columns of a benchmark are subset, generators and group")
        if self.best_of and "group" in self.extra:
            raise ValueError("best_of makes its items of rows of one instruction, so extra.group cannot say otherwise")
        if len(set(subsets)) != len(subsets):
            raise ValueError("a subset belongs to one section")
        if stray := sorted(set(self.row_weights) - set(subsets)):
            raise ValueError(f"row_weights: the subset {stray[0]} is in no section")
        if any(min(weight) < 1 for weight in self.row_weights.values()):
            raise ValueError("row_weights: two counts of rows, each at least 1")
        if self.best_of and not task.ordered:
            raise ValueError("best_of is for pairwise benchmarks")
        if self.balanced and not task.labels:
            raise ValueError("balanced is for classification benchmarks")
        return self

    @property
    def packaged(self) -> bool:
        """Whether its rows are of the packaged sample, which shows that the system works, not how good a judge is."""
        return any(file.startswith("package:") for file in self.files)

    @property
    def template_name(self) -> str:
        """The prompt template, unless the run's config names another for the task."""
        return self.template or TASKS[self.task].template


BENCHMARKS = Registry("benchmark", Benchmark, "pipelines.evaluation", "benchmarks")
