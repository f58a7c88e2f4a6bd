"""The release job: a checkpoint becomes a folder that others can use, or is refused in one line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import __version__
from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.evaluation.config import EvaluationConfig
from pipelines.release import card, gguf, hub, layout, ollama
from pipelines.release.base import licence_of, public_name
from pipelines.release.config import ReleaseConfig
from pipelines.release.digests import sha256, write_sums
from pipelines.release.evidence import Evidence, evidence, require_same_model
from pipelines.release.licences import Chain, chain, rules
from pipelines.release.parity.certificate import Certificate
from pipelines.training.config import TrainConfig

MANIFEST, CERTIFICATE = "release.json", "certificate.json"


@dataclass(frozen=True)
class Folders:
    """Where a release is, ready to be pushed."""

    model: Place
    gguf: Place
    data: Place

    @classmethod
    def of(cls, run: Run, config: ReleaseConfig) -> Folders:
        """The folders of a release by its name."""
        names = (config.name, f"{config.name}-GGUF", f"{config.name}-data")
        return cls(*(run.release / name for name in names))


def checked(run: Run, train: TrainConfig, config: ReleaseConfig) -> tuple[Evidence, Chain, dict[str, Any]]:
    """Everything that can refuse a release before any work: figures, licences, tools, the token.

    Returns:
        The figures, the licence chain, and the manifest of the training data.

    Raises:
        UserError: it is refused, and why.
    """
    found = evidence(run, config)
    if not storage.exists(run.curated / "manifest.json"):
        what = "what the judge was trained on is not known: there is no manifest.json"
        raise UserError(what, where=str(run.curated), fix="release from the out_dir of the run that trained it")
    step.require_whole(run.curated, fix="run ray_jobs/curate.py again: it resumes")
    manifest = storage.read_json(run.curated / "manifest.json")
    sources = {name: str(about["license"]) for name, about in manifest["sources"].items()}
    links = chain(config, public_name(train.model), licence_of(train.model, config), sources)
    if rules()[links.base.licence.lower()].same and not layout.licence_files(train.model):
        what = f"the licence of {links.base.what} asks that its text goes along, and there is no LICENSE beside it"
        raise UserError(what, where="train.model", fix="put it into the base model's folder")
    if config.gguf.types:
        gguf.require_tools(config.gguf.converter)
    if config.hub.repo:
        hub.require_token()
    return found, links, manifest


def describe(run: Run, train: TrainConfig, evaluation: EvaluationConfig, config: ReleaseConfig) -> list[str]:
    """What the job would do.

    Raises:
        UserError: as `checked`.
    """
    found, links, _ = checked(run, train, config)
    folders = Folders.of(run, config)
    kind = "benchmarks" if found.benchmarks else "the packaged sample set, which is no benchmark"
    lines = [
        f"release {config.model or run.model} as {config.name}, licence {links.licence}, into {folders.model}",
        f"  figures of {kind}: {', '.join(found.benchmarks or found.samples)}",
    ]
    if config.gguf.types:
        lines.append(f"  GGUF {', '.join(config.gguf.types)} and a Modelfile in {folders.gguf}")
    if config.parity.engines:
        lines.append(f"  parity of {', '.join(config.parity.engines)} on {', '.join(config.parity.benchmarks)}")
    private = "private" if config.hub.private else "public"
    lines.append(f"  push to {config.hub.repo} ({private} if new)" if config.hub.repo else "  push nothing")
    return lines


def source_of(run: Run, train: TrainConfig, config: ReleaseConfig) -> str:
    """Folder of the whole model: the trained one, another that the config names, or an adapter merged into its base."""
    from pipelines.engines.models import identity, require

    named = config.model or str(run.model)
    if not layout.is_adapter(named):
        return require(named, "release.model")
    work = run.work / "release-merged"
    merged = work / "model"
    depends = {"adapter": storage.content_digest(storage.place(named)), "base": identity(train.model)}
    say(f"release: merging the adapter {named}")
    step.once(work, depends, lambda _: layout.merge_into(named, train.model, merged), cheap=True)
    return str(merged)


def release(run: Run, train: TrainConfig, evaluation: EvaluationConfig, config: ReleaseConfig) -> Place:
    """Do what is left of the release.

    Returns:
        OUT/release.

    Raises:
        UserError: it is refused, and why.
    """
    from pipelines.engines.models import identity

    found, links, manifest = checked(run, train, config)
    source = source_of(run, train, config)
    require_same_model(run, config.judge, identity(source), source)
    folders = Folders.of(run, config)
    say(f"release: writing {folders.model}")
    depends = {"model": identity(source), "dtype": config.dtype, "name": config.name, "folder": str(folders.model)}
    step.once(
        run.work / "release-model",
        depends,
        lambda _: layout.write_model(source, storage.fresh(folders.model), config.dtype, train.model),
        cheap=True,
    )
    files, template = write_gguf(run, config, folders, links)
    certificate = certified(run, evaluation, config, folders, files, template)
    about = card.About(run, train, config, links, found, manifest, certificate, files, identity(source))
    write_cards(about, folders)
    summary = write_manifest(about, folders)
    say(f"release: {run.release}, {summary}")
    if config.hub.repo:
        hub.push(config, folders.model, folders.gguf if files else None, folders.data)
    return run.release


def write_gguf(run: Run, config: ReleaseConfig, folders: Folders, links: Chain) -> tuple[dict[str, Place], str]:
    """Convert, quantise, and write the Modelfile.

    Returns:
        Quantisation -> file, and Ollama's template; both empty where no type is asked for.
    """
    from pipelines.engines.models import resolve
    from pipelines.release.parity.asking import tokenizer_of

    storage.make_folder(folders.gguf.parent)
    if not config.gguf.types:
        storage.remove(folders.gguf)
        return {}, ""
    local = Path(resolve(str(folders.model)))
    gguf.family_of(local)
    tools, tokenizer = gguf.require_tools(config.gguf.converter), tokenizer_of(str(folders.model))
    pieces = ollama.pieces_of(tokenizer)
    weights = {path.name: sha256(path) for path in storage.files(local) if path.suffix in (".safetensors", ".json")}
    depends = {"weights": weights, "types": list(config.gguf.types), "tools": tools, "folder": str(folders.gguf)}

    def write(_: Place) -> dict[str, Any]:
        say(f"release: converting to GGUF, {', '.join(config.gguf.types)}")
        out = storage.fresh(folders.gguf)
        tool = gguf.converter(config.gguf.converter)
        return {"files": gguf.write_files(local, out, config.name, config.gguf.types, tool)}

    done = step.once(run.work / "release-gguf", depends, write, cheap=True)
    for name, size in done["files"].items():
        say(f"  {name}: {size / 2**20:.1f} MiB")
    files = {kind: folders.gguf / gguf.file_name(config.name, kind) for kind in config.gguf.types}
    first = config.gguf.default if config.gguf.default in config.gguf.types else config.gguf.types[0]
    template = ollama.go_template(pieces, without=gguf.beginning(gguf.on_this_machine(files[first])))
    stops = ollama.stops_of(tokenizer, pieces)
    text = ollama.modelfile(files[first].name, template, stops, config.gguf.context, links.licence)
    storage.write_text(folders.gguf / "Modelfile", text)
    return {str(kind): file for kind, file in files.items()}, template


def certified(
    run: Run,
    evaluation: EvaluationConfig,
    config: ReleaseConfig,
    folders: Folders,
    files: dict[str, Place],
    template: str,
) -> Certificate | None:
    """The parity certificate, if engines are named.

    Raises:
        UserError: an engine reads other prompts than the judge was trained on.
    """
    from pipelines.release.parity import job, shown

    if not config.parity.engines:
        return None
    judgments = run.judgments / f"{config.judge}.parquet"
    released = job.Released(folders.model, files, template, judgments)
    certificate = job.certify(run, run.work / "release-parity", config.parity, evaluation, released)
    say(shown.terminal(certificate))
    job.require_same_tokens(certificate, config.parity.other_prompts)
    return certificate


def write_cards(about: card.About, folders: Folders) -> None:
    """The cards of model, GGUF files and data."""
    from pipelines.release.parity.job import write

    storage.write_text(folders.model / "README.md", card.model_card(about))
    if about.certificate:
        write(about.certificate, folders.model / CERTIFICATE)
    if about.files:
        storage.write_text(folders.gguf / "README.md", card.gguf_card(about))
    storage.write_text(folders.data / "README.md", card.data_card(about))
    storage.remove(folders.data / "data")
    if about.config.hub.data:
        for file in storage.files(about.run.pairs):
            storage.write_bytes(folders.data / "data" / file.name, storage.read_bytes(file))


def write_manifest(about: card.About, folders: Folders) -> str:
    """Checksums of every folder, and `release.json` with the digests of everything that was used and made."""
    written = {"model": folders.model, "data": folders.data} | ({"gguf": folders.gguf} if about.files else {})
    for folder in written.values():
        storage.remove_file(folder / MANIFEST)
    sums = {kind: write_sums(folder) for kind, folder in written.items()}
    manifest = {
        "name": about.config.name,
        "openselene": __version__,
        "license": about.chain.licence,
        "base_model": about.chain.base.what,
        "digests": {
            "trained_model": about.trained,
            "results": sha256(about.run.results),
            "curated": about.manifest["fingerprint"],
            "pairs": {file.name: sha256(file) for file in storage.files(about.run.pairs)},
        },
        "tools": gguf.require_tools(about.config.gguf.converter) if about.files else {},
        "figures": about.config.figures,
        "same_prompts_everywhere": about.certificate.same_tokens if about.certificate else None,
        "files": sums,
    }
    storage.write_json(folders.model.parent / MANIFEST, manifest)
    for folder in written.values():
        storage.write_json(folder / MANIFEST, manifest)
        write_sums(folder)
    return f"{sum(map(len, sums.values()))} files with their checksums"
