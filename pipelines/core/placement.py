"""Which nodes of a cluster a role may use: the reader, reward, generator, trainer, judge or server."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pipelines.core.yaml_model import Strict


class Placement(Strict):
    """Nodes that a role may use; by default any that has the CPUs and GPUs it asks for."""

    accelerator_type: str | None = None
    """Ray's name of the GPU, such as `L40S` or `H100`; null takes any."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the node, in Ray's terms: `value`, `!value`, `in(a,b)` or `!in(a,b)`."""

    def options(self) -> dict[str, Any]:
        """The same as options of a Ray task or actor; none where nothing is asked."""
        asked = {"accelerator_type": self.accelerator_type, "label_selector": self.labels}
        return {name: value for name, value in asked.items() if value}
