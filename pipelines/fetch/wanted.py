"""What the sources and benchmarks of a run read that is not part of the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from pipelines.datasets.readers import PACKAGE, hub_folder
from pipelines.datasets.spec import DatasetSpec, Hub


@dataclass(frozen=True)
class Wanted:
    """A file, or a dataset of the hub.

    Attributes:
        place: under data_root; of a hub dataset its folder.
        source: the source or benchmark that reads it.
        license: of the source.
        url: public address of a file.
        hub: the dataset.
        by_hand: how a person gets it, where no command can.
    """

    place: str
    source: str
    license: str
    url: str = ""
    hub: Hub | None = None
    by_hand: str = ""


def wanted(specs: Sequence[DatasetSpec]) -> list[Wanted]:
    """What `specs` read, in their order, each place once."""
    found: dict[str, Wanted] = {}
    for spec in specs:
        for one in _of(spec):
            found.setdefault(one.place, one)
    return list(found.values())


def _of(spec: DatasetSpec) -> Iterator[Wanted]:
    def one(place: str, **more: object) -> Wanted:
        return Wanted(place, spec.name, spec.license, **more)  # type: ignore[arg-type]

    known = [*spec.origins, *spec.by_hand]
    missing = [pattern for pattern in _local(spec.files) if not any(fnmatch(place, pattern) for place in known)]
    if spec.hub and (missing or not spec.files):
        if spec.hub.revision:
            reason = f"nothing to fetch: read from {spec.hub.id} at {spec.hub.revision[:12]} while the job runs"
            yield one(hub_folder(spec.hub), by_hand=reason)
        else:
            yield one(hub_folder(spec.hub), hub=spec.hub)
        return
    for place, url in spec.origins.items():
        yield one(place, url=url)
    for place, how in spec.by_hand.items():
        yield one(place, by_hand=how)
    tables = [table.file for table in spec.tables.values()]
    for pattern in [*missing, *(table for table in _local(tables) if table not in known)]:
        yield one(pattern, by_hand="its YAML file names no public address (`origins`)")


def _local(patterns: Sequence[str]) -> list[str]:
    return [pattern for pattern in patterns if not pattern.startswith(PACKAGE) and "://" not in pattern]
