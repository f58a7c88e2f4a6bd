"""The config of every job: one YAML file, checked key by key, with `key.path=value` overrides.

Each section is defined in the package it configures; this module puts them together.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipelines.core.cluster import RayConfig
from pipelines.core.environment import filled
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.ray_internals import submitted
from pipelines.core.run import Run
from pipelines.core.storage import is_url
from pipelines.core.yaml_model import OPERATIONAL, Location, Strict, parse_model, parse_yaml, read_yaml
from pipelines.curation.config import CurationConfig
from pipelines.curation.registry import SOURCES
from pipelines.evaluation.config import EvaluationConfig
from pipelines.experiments.ablation.config import AblationConfig
from pipelines.experiments.audit.config import AuditConfig
from pipelines.experiments.axes.config import AxesConfig
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.data_map.config import DataMapConfig
from pipelines.experiments.leaks.config import LeaksConfig
from pipelines.experiments.recipes.config import RecipesConfig
from pipelines.experiments.sweep.config import SweepConfig
from pipelines.experiments.transfer.config import TransferConfig
from pipelines.experiments.trials.config import TrialsConfig
from pipelines.judge_job.config import JudgeConfig
from pipelines.release.config import CertifyConfig, ReleaseConfig
from pipelines.training.config import TrainConfig

PACKAGED = Path(__file__).parents[1] / "ray_jobs" / "configs"
"""The configs that are installed with the jobs."""


class Config(Strict):
    """All settings of a run."""

    out_dir: Location
    """Folder of everything the run writes: a local one that every node mounts, or a URL (s3://, gs://, abfs://)."""
    data_root: Location | None = None
    """Folder or URL of the files of sources and benchmarks; null takes the variable OPENSELENE_DATA_ROOT."""
    seed: int = 0
    """Seed of every random choice."""
    max_error_share: Annotated[float, OPERATIONAL] = Field(0.2, ge=0, le=1)
    """Share of a segment's rows that may end as errors before the job fails."""
    ray: Annotated[RayConfig, OPERATIONAL] = RayConfig()
    curation: CurationConfig = CurationConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig
    judge: JudgeConfig = JudgeConfig()
    data_map: DataMapConfig = DataMapConfig()
    sweep: SweepConfig = SweepConfig()
    recipes: RecipesConfig = RecipesConfig()
    leaks: LeaksConfig = LeaksConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    audit: AuditConfig = AuditConfig()
    release: ReleaseConfig = ReleaseConfig()
    certify: CertifyConfig = CertifyConfig()
    trials: TrialsConfig = TrialsConfig()
    ablation: AblationConfig = AblationConfig()
    axes: AxesConfig = AxesConfig()
    transfer: TransferConfig = TransferConfig()

    @property
    def run(self) -> Run:
        """Where the run's files are, and what every room needs of the config."""
        return Run(self.out_dir, self.data_root, self.seed, self.max_error_share)


def load_config(path: Path | str, overrides: Sequence[str] | None = None) -> Config:
    """Read a YAML config, apply `key.path=value` overrides and check every key.

    Args:
        path: a file, or the name of a packaged config: `local`, `local.yaml` or `ray_jobs/configs/local.yaml`.
        overrides: applied in order.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, or a value has the wrong type.
    """
    path = find_config(Path(path))
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError("the config is not a mapping of keys", where=str(path))
    for override in overrides or []:
        apply_override(raw, override)
    if raw.get("data_root") is None and os.environ.get("OPENSELENE_DATA_ROOT"):
        raw["data_root"] = os.environ["OPENSELENE_DATA_ROOT"]
    raw |= {key: filled(raw[key]) for key in ("out_dir", "data_root") if key in raw}
    named = raw.get("out_dir")
    if isinstance(named, str) and not is_url(named) and not Path(named).expanduser().is_absolute() and submitted():
        fix = "name a folder from the root that all nodes mount, or a URL such as s3://bucket/run"
        raise UserError(f"'{named}' would be in the job's copy of the code, which is removed", where="out_dir", fix=fix)
    return parse_model(Config, raw, where=str(path))


def find_config(path: Path) -> Path:
    """The file itself, or else the packaged config that the path names.

    Raises:
        UserError: it is neither.
    """
    if path.is_file():
        return path
    wanted = path if path.suffix else path.parent / f"{path.name}.yaml"
    packaged = PACKAGED / wanted.name
    if packaged.is_file() and packaged.parts[-len(wanted.parts) :] == wanted.parts:
        # The commands of the documentation then also work without a checkout.
        say(f"config: {path} is not a file here; using the packaged {packaged}")
        return packaged
    names = ", ".join(sorted(one.stem for one in PACKAGED.glob("*.yaml") if "out_dir" in read_yaml(one)))
    raise UserError("no such file", where=str(path), fix=f"check the path, or name a packaged config: {names}")


def choose_sources(config: Config, only: Sequence[str], skip: Sequence[str]) -> Config:
    """The config with fewer sources, in its own order.

    Raises:
        UserError: a name is not one of the config's sources, or none is left.
    """
    sources = config.curation.sources
    for flag, named in (("--only", only), ("--skip", skip)):
        for name in named:
            if name not in sources:
                near = difflib.get_close_matches(name, sources, n=1)
                fix = f"did you mean '{near[0]}'?" if near else f"they are: {', '.join(sources)}"
                raise UserError(f"'{name}' is not a source of this config", where=flag, fix=fix)
    left = [name for name in sources if (not only or name in only) and name not in skip]
    if sources and not left:
        raise UserError("no source is left", where="--only, --skip")
    # A file's source has the name that the file gives it.
    gone = {SOURCES.load(one).name if one.endswith((".yaml", ".yml")) else one for one in sources if one not in left}
    curation = config.curation
    reward = {"thresholds": _without(curation.reward.thresholds, gone)}
    mix = {"caps": _without(curation.mix.caps, gone), "templates": _without(curation.mix.templates, gone)}
    chosen = {
        "sources": left,
        "reward": curation.reward.model_copy(update=reward),
        "mix": curation.mix.model_copy(update=mix),
    }
    return config.model_copy(update={"curation": curation.model_copy(update=chosen)})


def _without(named: dict[str, Any], gone: set[str]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if name not in gone}


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one `key.path=value` in a config as read from its file.

    Raises:
        UserError: it is not of this form, or a part of the path is a value.
    """
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UserError(f"'{override}' is not key.path=value", where="command line")
    node = raw
    *parents, last = key.split(".")
    for part in parents:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise UserError(f"'{key}': '{part}' is not a group of keys", where="command line")
        node = child
    node[last] = parse_yaml(value, f"command line: '{override}'")
