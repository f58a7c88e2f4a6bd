"""Whether the licences of base model and data allow a release, and what they ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import Field

from pipelines.core.errors import UserError
from pipelines.core.yaml_model import Strict, read_yaml
from pipelines.release.config import ReleaseConfig


class Rule(Strict):
    """What one licence asks; see licences.yaml."""

    commercial: bool = True
    same: bool = False
    reason: str = ""
    name: str = ""
    notice: str = Field("", max_length=200)


@dataclass(frozen=True)
class Link:
    """One licence of the chain.

    Attributes:
        what: the base model, or a source of training data.
        licence: as its owner names it.
        note: what it asks, or why it was accepted.
    """

    what: str
    licence: str
    note: str = ""


@dataclass(frozen=True)
class Chain:
    """The licences that a release stands on.

    Attributes:
        licence: of the release.
        base: of the base model.
        data: of each source of training data.
        notices: lines that the card must carry.
    """

    licence: str
    base: Link
    data: tuple[Link, ...]
    notices: tuple[str, ...]


@cache
def rules() -> dict[str, Rule]:
    """Licence in lower case -> what it asks."""
    known = read_yaml(Path(__file__).with_name("licences.yaml"))
    return {name: Rule.model_validate(value) for name, value in known.items()}


def chain(config: ReleaseConfig, base: str, base_licence: str, data: Mapping[str, str]) -> Chain:
    """The licence chain of a release.

    Args:
        config: of the release.
        base: name of the base model.
        base_licence: its licence.
        data: source of training data -> licence.

    Raises:
        UserError: a licence is unknown, or does not allow the release, and nobody has said why it may be used.
    """
    unused = sorted(config.accepted.keys() - data.keys())
    if unused:
        known = ", ".join(sorted(data))
        raise UserError(f"'{unused[0]}' is no source of the training data: {known}", where="release.accepted")
    above = rules().get(base_licence.lower())
    if above is None:
        fix = f"name one of: {', '.join(rules())}"
        raise UserError(f"what '{base_licence}' asks is not known", where="release.base_license", fix=fix)
    licence = (config.license or base_licence).lower()
    own = rules().get(licence)
    if own is None:
        raise UserError(
            f"what '{licence}' asks is not known", where="release.license", fix=f"one of {', '.join(rules())}"
        )
    if above.same and licence != base_licence.lower():
        what = f"'{licence}', but the base model {base} passes on its own licence, {base_licence}"
        raise UserError(what, where="release.license", fix=f"release.license={base_licence.lower()}")
    if not above.commercial and own.commercial:
        what = f"'{licence}' allows commercial use, which the base model's {base_licence} does not"
        raise UserError(what, where="release.license")
    if above.name and not config.name.startswith(above.name):
        what = f"the licence of {base} asks that a model made from it is called {above.name}…, not '{config.name}'"
        raise UserError(what, where="release.name", fix=f"release.name={above.name}-{config.name}")
    links = tuple(_link(config, own, licence, source, said) for source, said in sorted(data.items()))
    return Chain(licence, Link(base, base_licence), links, (above.notice,) if above.notice else ())


def _link(config: ReleaseConfig, own: Rule, licence: str, source: str, said: str) -> Link:
    rule = rules().get(said.strip().lower())
    problem = ""
    if rule is None:
        problem = f"its licence is '{said}', which says nothing that can be checked"
    elif not rule.commercial and own.commercial:
        problem = f"its licence {said} allows no commercial use, which '{licence}' does"
    elif rule.reason:
        problem = f"its licence {said} {rule.reason}"
    if not problem:
        return Link(source, said)
    if why := config.accepted.get(source):
        return Link(source, said, f"{problem}; accepted: {why}")
    fix = f"train without it, change release.license, or say why: release.accepted.{source}='…'"
    raise UserError(problem, where=f"source '{source}'", fix=fix)
