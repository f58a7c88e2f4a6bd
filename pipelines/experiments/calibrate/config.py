"""The section `calibrate` of a config."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from pipelines.core.storage import is_url
from pipelines.core.yaml_model import OPERATIONAL, Strict
from pipelines.datasets.spec import FileFormat
from pipelines.judge_job.config import absolute

Files = Annotated[list[str], OPERATIONAL]


class RowFields(Strict):
    """Expressions over `record`; null takes the column of that name, or what stands for it in our own judgments."""

    system: str | None = None
    """Whose response was judged; in our judgments who wrote it, or else the subset."""
    prompt: str | None = None
    """What was asked: rows of one prompt are paired, and are one cluster; in our judgments the group."""
    score: str | None = None
    """The judge's; in our judgments the expected verdict: of pairs, how likely the first response is the better."""
    label: str | None = None
    """The person's, null where there is none; in our judgments the gold one."""
    id: str | None = None
    """By which `labels` names a row; in our judgments the judgment's, and without one a hash of system, prompt and
    score."""


class CoverageConfig(Strict):
    """How often the intervals hold the truth, where every row has a label: labels are taken away and drawn again."""

    draws: int = Field(0, ge=0)
    """Draws of prompts and labels; 0 measures nothing."""
    share: float = Field(0.05, gt=0, lt=1)
    """Of the rows keep their label in a draw."""
    draws_per_task: Annotated[int, OPERATIONAL] = Field(25, ge=1)
    """Draws of one Ray task: what a kill may cost."""


class CalibrateConfig(Strict):
    """Judged systems compared by a few labels of people."""

    input: Files = Field(default_factory=list)
    """Files, globs, folders or URLs of judged rows. Their contents count, not where they are."""
    labels: Files = Field(default_factory=list)
    """Files of labels: records with `id` and `label`; beside those that the rows have themselves."""
    format: FileFormat | None = None
    """null takes the format from the file's suffix, without that of a compression."""
    where: dict[str, str] = Field(default_factory=dict)
    """Reason -> condition over `record`; a row that does not meet it is `filtered:<reason>`."""
    fields: RowFields = RowFields()
    judge: str = ""
    """Who gave the scores, for the reader."""
    labelled_by: str = "people"
    """Who gave the labels, for the reader."""
    level: float = Field(0.95, gt=0.5, lt=1)
    """Of the intervals, and of the family of comparisons, by Holm's procedure."""
    least_labels: int = Field(10, ge=4)
    """Labels of its own without which a system gets no interval and no place in the ranking, and all together no
    mean."""
    least_random: float = Field(0.001, ge=0, lt=1)
    """p-value below which scores of labelled and other rows, of all or of one system, differ so much that the labels
    cannot be a random sample: all is then refused."""
    label_share: float = Field(0.05, gt=0, le=1)
    """Of the rows are listed in `to_label.csv`, by hash, where there are too few labels."""
    coverage: CoverageConfig = CoverageConfig()

    @field_validator("input", "labels", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("input", "labels")
    @classmethod
    def _found_from_here(cls, value: list[str]) -> list[str]:
        return [one if is_url(one) or one.startswith("package:") else absolute(one) for one in value]
