"""The cards of a release, in Markdown: of the model, of its GGUF files, of the data it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.core import step, storage
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.engines.models import HUB_ID
from pipelines.evaluation.report.exports import model_index
from pipelines.evaluation.scoring.entries import BenchmarkEntry
from pipelines.release.config import ReleaseConfig
from pipelines.release.evidence import SAMPLE, Evidence
from pipelines.release.licences import Chain
from pipelines.release.parity import shown
from pipelines.release.parity.certificate import Certificate
from pipelines.training.config import TrainConfig

PAPER = "arXiv 2501.17195"


@dataclass(frozen=True)
class About:
    """All that the cards tell.

    Attributes:
        run: that made the judge.
        train: its training.
        config: of the release.
        chain: of licences.
        evidence: its figures.
        manifest: of the curated set.
        certificate: of parity, if one was made.
        files: quantisation -> GGUF file.
        trained: digest of the model that training wrote.
    """

    run: Run
    train: TrainConfig
    config: ReleaseConfig
    chain: Chain
    evidence: Evidence
    manifest: dict[str, Any]
    certificate: Certificate | None
    files: Mapping[str, Place]
    trained: str


@dataclass(frozen=True)
class Line:
    """A benchmark's figure, as the card shows it."""

    name: str
    task: str
    metric: str
    value: str
    interval: str
    rows: int
    read: str
    notes: str


def model_card(about: About) -> str:
    """The README of the model's folder."""
    return _render("model_card.md.j2", about, front=front_matter(about))


def gguf_card(about: About) -> str:
    """The README of the folder of GGUF files."""
    from huggingface_hub import ModelCardData

    repo = about.config.hub.repo or about.config.name
    data = ModelCardData(
        base_model=repo if HUB_ID.fullmatch(repo) else None,
        license=about.chain.licence,
        language=about.config.languages,
        pipeline_tag="text-generation",
        tags=["gguf", "llm-as-a-judge"],
    )
    return _render("gguf_card.md.j2", about, front=data.to_yaml().strip())


def data_card(about: About) -> str:
    """The README of the training data: the curated set's own, with a licence and the release it belongs to."""
    from huggingface_hub import DatasetCardData

    names = {link.licence.lower() for link in about.chain.data}
    data = DatasetCardData(
        license=next(iter(names)) if len(names) == 1 else "other",
        language=about.config.languages,
        tags=["preference", "llm-as-a-judge"],
        configs=[{"config_name": "default", "data_files": "data/*.parquet"}] if about.config.hub.data else None,
    )
    text = storage.read_text(about.run.curated / "README.md")
    own = text.split("---\n", 2)[-1] if text.startswith("---\n") else text
    return _render("data_card.md.j2", about, front=data.to_yaml().strip(), own=own)


def front_matter(about: About) -> str:
    """The card's YAML; with a model-index of public benchmarks alone."""
    from huggingface_hub import ModelCardData

    base = about.chain.base.what
    data = ModelCardData(
        base_model=base if HUB_ID.fullmatch(base) else None,
        license=about.chain.licence,
        language=about.config.languages,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["llm-as-a-judge", "evaluation", "dpo"],
        datasets=[f"{about.config.hub.repo}-data"] if about.config.hub.repo and about.config.hub.data else None,
    )
    front = str(data.to_yaml().strip())
    (index,) = model_index(about.evidence.results, about.evidence.judge)["model-index"]
    public = [one for one in index["results"] if one["dataset"]["type"] in about.evidence.benchmarks]
    if not public:
        return front
    shown = {"model-index": [{"name": about.config.name, "results": public}]}
    return f"{front}\n{yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).strip()}"


def lines(about: About, entries: Mapping[str, BenchmarkEntry]) -> list[Line]:
    """Figures as text."""
    return [
        Line(
            name,
            entry.task,
            entry.metric,
            f"{entry.value:.3f}",
            f"{entry.ci_low:.3f}–{entry.ci_high:.3f}"
            if entry.ci_low is not None and entry.ci_high is not None
            else "none",
            entry.n,
            "" if entry.parse_rate is None else f"{entry.parse_rate:.0%}",
            "; ".join(entry.partial_reasons),
        )
        for name, entry in entries.items()
        if entry.value is not None
    ]


def comparison(about: About) -> list[str]:
    """What the benchmark job says of this judge against its base, in whole sentences."""
    found = about.evidence.results.comparison.get(about.evidence.judge)
    return [one.sentence for one in found.benchmarks.values()] if found else []


def leakage(about: About) -> str:
    """What is known of benchmark rows among the training data, in one sentence."""
    clean = about.manifest["config"]["clean"]["decontaminate"]
    if not clean["enabled"]:
        return "not checked: decontamination was switched off"
    place = about.run.curated / "contamination.json"
    if not storage.exists(place):
        return "not checked: the curated set has no contamination.json"
    table = storage.read_json(place)
    rows = sum(cell["rows"] for per in table.values() for cell in per.values())
    names = sorted({name for per in table.values() for name in per})
    against = f"shared runs of {clean['ngram']} words with benchmark texts"
    if not rows:
        return f"no training row had {against}"
    return f"{rows} overlaps of training rows were found by {against} ({', '.join(names)}), and these rows filtered"


def recipe(about: About) -> list[tuple[str, str]]:
    """The training in words and values."""
    train, done = about.train, step.result_of(about.run.training) or {}
    found = [
        ("recipe", f"{train.recipe}, {PAPER} §2.4" if train.recipe == "dpo_nll" else train.recipe),
        ("pairs", str(done.get("pairs", "unknown"))),
        ("optimizer steps", str(done.get("steps", "unknown"))),
        ("learning rate", f"{train.learning_rate:g}"),
        ("β, α", f"{train.beta:g}, {train.alpha:g}"),
        ("epochs, batch", f"{train.epochs:g}, {train.batch_size}"),
    ]
    return [(name, value) for name, value in found if value != "unknown"]


def _render(name: str, about: About, **more: Any) -> str:
    environment = Environment(
        loader=PackageLoader("pipelines.release"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    certificate = about.certificate
    return environment.get_template(name).render(
        about=about,
        name=about.config.name,
        chain=about.chain,
        sample_only=about.config.figures == SAMPLE,
        benchmarks=lines(about, about.evidence.benchmarks),
        samples=lines(about, about.evidence.samples),
        protocols=about.evidence.results.settings.protocols,
        comparison=comparison(about),
        leakage=leakage(about),
        recipe=recipe(about),
        certificate=certificate,
        parity=shown.table(certificate) if certificate else "",
        margins=shown.margins(certificate) if certificate else "",
        drift=shown.drift(certificate) if certificate else "",
        files=[(kind, file.name, storage.size(file)) for kind, file in about.files.items()],
        **more,
    )
