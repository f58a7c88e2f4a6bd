"""Which failures of a stream come from a lost node; nodes are lost for real in tests/integration."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, ObjectLostError, UnserializableException

from pipelines.core import nodes


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The nodes that are left."""
    left = {"a"}
    monkeypatch.setattr(nodes, "live", lambda: left)
    return left


def wrapped(exc: Exception) -> Exception:
    """As it reaches the driver: behind others."""
    outer = RuntimeError("the stream failed")
    outer.__cause__ = exc
    return outer


@pytest.mark.parametrize("exc", [ActorDiedError(), NodeDiedError("gone"), ObjectLostError("00", None, "")])
def test_what_ray_says_after_a_node_was_lost(there: set[str], exc: Exception) -> None:
    assert nodes.from_a_lost_node(wrapped(exc), {"a", "b"})


def test_the_death_of_an_actor_that_came_back_as_text(there: set[str]) -> None:
    text = "ray::ListFiles()\nray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task."
    assert nodes.from_a_lost_node(UnserializableException(text), {"a", "b"})
    assert not nodes.from_a_lost_node(UnserializableException("ValueError: no such column"), {"a", "b"})


def test_the_same_without_a_lost_node_is_a_fault(there: set[str]) -> None:
    assert not nodes.from_a_lost_node(ActorDiedError(), {"a"}, patience=0)
    assert not nodes.from_a_lost_node(ActorDiedError(), None)


def test_an_exception_of_a_stage_is_a_fault_whatever_was_lost(there: set[str]) -> None:
    assert not nodes.from_a_lost_node(RuntimeError("a bug"), {"a", "b"})
