"""Pages of experiments: one file each, which fetches nothing; everything that comes from data is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, template: str, **values: Any) -> str:
    """A page as text, laid out by `base.html.j2`.

    Args:
        package: whose folder `templates` has the template.
        template: its file name.
        values: what it shows.
    """
    return _environment(package).get_template(template).render(**values)


@cache
def _environment(package: str) -> Environment:
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(__name__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["figure"] = lambda value, digits=3: "–" if value is None else f"{value:.{digits}f}"
    found.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
    return found
