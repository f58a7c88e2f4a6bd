"""The drift gate: a judge pinned by digest, and whether another one turns more of its verdicts than a bound allows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipelines import __version__
from pipelines.core import storage
from pipelines.core.errors import Drifted, UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.engines.config import EngineConfig
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.scoring.flips import Flips, Pair, flips_of
from pipelines.judging.templates import identity
from pipelines.release.config import CertifyConfig
from pipelines.release.parity.asking import asked_of, probe_config, probe_rows, tokenizer_of
from pipelines.release.parity.certificate import said
from pipelines.release.parity.column import Answers, Asked, Column, ask_on_ray
from pipelines.release.parity.shown import share

PIN, ANSWERS, RESULT = "pin.json", "answers.json", "drift.json"
RATE = 0.01  # a drift that the gate should see, for the sentence on what the probe set can show


@dataclass(frozen=True)
class Pinned:
    """A judge and its answers.

    Attributes:
        judge: digests of model, file, templates; engine, versions.
        probe: judgment id -> digest of its prompt.
        groups: judgment id -> its group of related rows.
        allowed: judgment id -> its verdicts, in order.
        probabilities: judgment id -> verdict -> probability.
    """

    judge: dict[str, Any]
    probe: dict[str, str]
    groups: dict[str, str]
    allowed: dict[str, list[str]]
    probabilities: dict[str, dict[str, float]]


def column_of(run: Run, config: CertifyConfig, engine: EngineConfig) -> Column:
    """The judge that is asked.

    Raises:
        UserError: the model or the file is not there, or engine and file do not go together.
    """
    from pipelines.engines.models import require

    if (config.engine == "llama.cpp") != bool(config.gguf):
        what = "llama.cpp runs a GGUF file" if not config.gguf else f"{config.engine} runs no GGUF file"
        raise UserError(what, where="certify.gguf", fix="certify.engine=llama.cpp certify.gguf=FILE")
    if config.gguf and not storage.exists(config.gguf):
        raise UserError("no such file", where=f"certify.gguf {config.gguf}")
    model = config.model or str(run.model)
    require(model, "certify.model")
    file = str(config.gguf) if config.gguf else None
    return Column(config.engine, config.engine, model, engine.model_copy(update={"model": model}), file)


def describe(run: Run, evaluation: EvaluationConfig, config: CertifyConfig) -> list[str]:
    """What the job would do.

    Raises:
        UserError: as `column_of`, or there is no pin to compare with.
    """
    column, pin = column_of(run, config, evaluation.engine), config.pin or run.pin
    asked = f"{column.model} in {column.engine} on {', '.join(config.benchmarks)}"
    if config.write:
        return [f"pin {asked} in {pin}"]
    require_pin(pin)
    return [f"compare {asked} with {pin}: fail above {config.most:.2%} flips"]


def require_pin(pin: Place) -> None:
    """Check that there is a pinned judge: without one nothing would ever fail.

    Raises:
        UserError: there is none.
    """
    if not storage.exists(pin / PIN):
        raise UserError("no judge is pinned there", where=f"certify.pin {pin}", fix="pin one: certify.write=true")


def certify(run: Run, evaluation: EvaluationConfig, config: CertifyConfig) -> Place:
    """Pin a judge, or compare one with the pin.

    Returns:
        The file that was written.

    Raises:
        UserError: there is no pin, the questions are others, or a pin is in the way.
        Drifted: more verdicts are turned than the bound allows, or a question has no answer.
    """
    column, pin = column_of(run, config, evaluation.engine), config.pin or run.pin
    if not config.write:
        require_pin(pin)
    work = run.work / "certify"
    probe = probe_config(evaluation, config.benchmarks, config.sample)
    _, rows = probe_rows(run, work, probe)
    what = asked_of(rows, tokenizer_of(column.model))
    say(f"{column.name}: {len(what.questions)} questions")
    asked = pinned(column, what, ask_on_ray(column, what))  # asked anew each time: a stored answer never drifts
    if config.write:
        write_pin(pin, asked)
        say(f"certify: pinned {column.model} in {column.engine}, {len(asked.probe)} questions: {pin}")
        return pin / PIN
    found = compare(read_pin(pin), asked)
    place = work / RESULT
    storage.write_json(place, {**asdict(found), "margins": {name: dict(one) for name, one in found.margins.items()}})
    for line in told(read_pin(pin), asked, found, config.most):
        say(line)
    require_same(found, config.most)
    return place


def pinned(column: Column, what: Asked, answers: Answers) -> Pinned:
    """A judge and its answers, as they are pinned."""
    from pipelines.core.determinism import digest

    names = [question.row["judgment_id"] for question in what.questions]
    templates = sorted({question.row["template"] for question in what.questions})
    judge = {
        "openselene": __version__,
        **column.identity(),
        "templates": {name: digest(identity(name)) for name in templates},
        "prompts": digest(answers.encoded),
    }
    return Pinned(
        judge,
        {name: digest(question.message) for name, question in zip(names, what.questions, strict=True)},
        {name: question.row["group_id"] for name, question in zip(names, what.questions, strict=True)},
        {name: question.allowed for name, question in zip(names, what.questions, strict=True)},
        dict(zip(names, answers.probabilities, strict=True)),
    )


def write_pin(pin: Place, judge: Pinned) -> None:
    """Write a pin; one of another judge stays.

    Raises:
        UserError: another judge is pinned there.
    """
    if storage.exists(pin / PIN) and read_pin(pin).judge != judge.judge:
        raise UserError("another judge is pinned there", where=f"certify.pin {pin}", fix="remove it, or name another")
    storage.make_folder(pin)
    storage.write_json(pin / ANSWERS, {name: value for name, value in asdict(judge).items() if name != "judge"})
    storage.write_json(pin / PIN, {"judge": judge.judge, "answers": storage.content_digest(pin / ANSWERS)})


def read_pin(pin: Place) -> Pinned:
    """A pinned judge.

    Raises:
        UserError: there is none, or its answers are not those that were pinned.
    """
    require_pin(pin)
    head = storage.read_json(pin / PIN)
    if not storage.exists(pin / ANSWERS) or storage.content_digest(pin / ANSWERS) != head["answers"]:
        raise UserError("its answers are not those that were pinned", where=str(pin), fix="pin the judge again")
    return Pinned(judge=head["judge"], **storage.read_json(pin / ANSWERS))


def compare(old: Pinned, new: Pinned) -> Flips:
    """The verdicts that the new judge turns.

    Raises:
        UserError: it was asked something else.
    """
    if old.probe.keys() != new.probe.keys() or old.allowed != new.allowed:
        what = f"{len(old.probe.keys() ^ new.probe.keys())} questions are not those of the pin"
        raise UserError(what, where="certify.benchmarks", fix="ask the same rows, or pin the judge again")
    pairs, lost = [], {}
    for name, allowed in old.allowed.items():
        was, now = old.probabilities[name], new.probabilities[name]
        if any(value != value for value in now.values()):  # not a number
            lost[name] = "no_probability"
            continue
        pairs.append(Pair(name, old.groups[name], said(was, allowed), said(now, allowed)))
    return flips_of(pairs, lost)


def require_same(found: Flips, most: float) -> None:
    """Fail where the judge is not the pinned one.

    Raises:
        Drifted: it turns more verdicts than the bound allows, or did not answer.
    """
    if found.lost:
        raise Drifted(f"{len(found.lost)} questions have no answer, such as {next(iter(found.lost))}")
    if found.share is None:
        raise Drifted("no question was answered")
    if found.share > most:
        turned = round(found.share * found.compared)
        raise Drifted(f"{turned} of {found.compared} verdicts turned: {found.share:.2%}, more than {most:.2%}")


def told(old: Pinned, new: Pinned, found: Flips, most: float) -> list[str]:
    """What a person wants to know of a comparison."""
    from pipelines.evaluation.scoring.figures import Part

    changed = changes(old.judge, new.judge)
    reworded = sum(old.probe[name] != new.probe[name] for name in old.probe)
    low, high = found.interval
    part = Part(n=found.compared, value=found.share, ci_low=low, ci_high=high)
    lines = [
        f"certify: changed since the pin: {', '.join(changed) or 'nothing'}"
        + (f"; {reworded} prompts have other words" if reworded else ""),
        f"certify: flips {share(part)}; allowed {most:.2%}",
    ]
    lines += [f"  margin {name}: {share(one)}" for name, one in found.margins.items()]
    lines += [f"  {name}: {count}" for name, count in found.turned.items()]
    return [*lines, power(found.compared, most)]


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The digests and versions that differ, by name."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        one, two = old.get(name), new.get(name)
        if isinstance(one, dict) and isinstance(two, dict):
            found += [f"{name}.{key}" for key in sorted(one.keys() | two.keys()) if one.get(key) != two.get(key)]
        elif one != two:
            found.append(name)
    return found


def power(rows: int, most: float, rate: float = RATE) -> str:
    """What a probe set of so many questions can show."""
    return (
        f"certify: a judge that turns {rate:.0%} of all verdicts would pass this probe set of {rows} with probability "
        f"{passes(rows, most, rate):.2f}"
    )


def passes(rows: int, most: float, rate: float) -> float:
    """Probability that a judge which turns verdicts at a rate, independently, stays within the bound (binomial)."""
    from scipy.stats import binom

    allowed = sum(count / rows <= most for count in range(1, rows + 1)) if rows else 0
    return float(binom.cdf(allowed, rows, rate))
