"""The section `judge` of a config: what is to be judged, by which model, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.core.storage import is_url
from pipelines.core.yaml_model import OPERATIONAL, Location, Strict
from pipelines.datasets.spec import Encoding, FileFormat, Table
from pipelines.engines.config import EngineConfig
from pipelines.engines.endpoint_config import EndpointConfig, read_model

TaskName = Literal["pairwise", "absolute", "classification", "classify"]


class FieldsConfig(Strict):
    """Expressions over `record` for the fields of a request, as a source's YAML has them."""

    instruction: str
    """What the responses answer; of a chat, `record.messages | dialogue`."""
    responses: str
    """A list: two texts for pairwise, one for the other tasks."""
    id: str | None = None
    """Yours, kept beside the judgment."""
    task: str | None = None
    """For rows of several tasks; in place of `mapping.task`."""
    context: str | None = None
    """What the responses were given to work with."""
    reference: str | None = None
    """A response that is known to be good."""
    rubric: str | None = None
    """What to judge by; for classification the question."""
    allowed: str | None = None
    """The closed set of verdicts; the default is the task's."""


class MappingConfig(Strict):
    """How records become requests, in the language of a source's YAML (pipelines/datasets/spec.py)."""

    task: TaskName | None = None
    """Task of every row; of a row that names its own where `fields` is null, the default."""
    format: FileFormat | None = None
    """null takes the format from the file's suffix, without that of a compression."""
    encoding: Encoding = None
    """Of text files that are not UTF-8 and have no byte order mark, such as cp1252."""
    records: str | None = None
    """Expression over `document`, a whole JSON file, that gives its list of records."""
    sheets: list[str] | None = None
    """Of a workbook, the sheets to read; null takes the first that is not empty, if no other has the same columns."""
    each: str | None = None
    """Expression for the items that a record expands into; each is a row."""
    python: str | None = None
    """`module:function` in place of `each`: called with the record, returns the list of items."""
    tables: dict[str, Table] = Field(default_factory=dict)
    """Side tables, in which expressions look keys up."""
    where: dict[str, str] = Field(default_factory=dict)
    """Reason -> condition; a row that does not meet it is `filtered:<reason>`."""
    fields: FieldsConfig | None = None
    """null takes the API's own names: id, task, instruction or messages, context, response or responses, rubric,
    reference, allowed."""

    @model_validator(mode="after")
    def _whole(self) -> MappingConfig:
        if self.fields is None and (self.each or self.python):
            raise ValueError("each and python make items, and `fields` must say what is in them")
        if self.fields and (self.task is None) == (self.fields.task is None):
            raise ValueError("give either task, or fields.task for rows of several tasks")
        return self


class JudgeConfig(Strict):
    """The batch judge: files of requests in, their judgments out."""

    input: Annotated[list[str], OPERATIONAL] = Field(default_factory=list)
    """Files, globs, folders or URLs of requests; of a folder, all data files in it. Their contents count, not where
    they are."""
    output: Annotated[Location | None, OPERATIONAL] = None
    """Folder of the judgments; null means OUT/judged."""
    mapping: MappingConfig = MappingConfig()
    engine: EngineConfig | EndpointConfig = EngineConfig()
    """A pool of engines, or the keys of an OpenAI-compatible endpoint."""
    template: str = "original"
    """`original` and `compact` mean TASK_original and TASK_compact; or a template's name, or the path of a YAML
    file."""
    max_tokens: int = Field(512, ge=1)
    """Most tokens of a critique."""
    both_orders: bool = False
    """Judge pairs a second time with the responses swapped, and take the mean of the probabilities."""
    with_critique: bool = True
    """Ask for a critique before the verdict."""
    rows_per_block: Annotated[int, OPERATIONAL] = Field(64, ge=1)
    """Rows of one block: what a kill may cost, and how finely the work is spread."""

    @field_validator("input", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("input")
    @classmethod
    def _found_from_here(cls, value: list[str]) -> list[str]:
        # Workers read the files, and they run in other folders than the driver.
        return [one if is_url(one) or one.startswith("package:") else absolute(one) for one in value]

    @field_validator("template")
    @classmethod
    def _own(cls, value: str) -> str:
        return absolute(value) if value.endswith((".yaml", ".yml")) else value

    @field_validator("engine", mode="before")
    @classmethod
    def _endpoint(cls, value: Any) -> Any:
        return read_model(value, "judge.engine") if isinstance(value, dict) and "endpoint" in value else value


def absolute(path: str) -> str:
    """The path from the root, where the job is started."""
    return str(Path(path).expanduser().absolute())
