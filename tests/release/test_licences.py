"""What a licence chain allows, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.release.config import ReleaseConfig
from pipelines.release.licences import chain


def of(base: str = "apache-2.0", data: dict[str, str] | None = None, **config: Any) -> Any:
    return chain(ReleaseConfig.model_validate(config), "base", base, data or {"a": "MIT"})


def test_free_licences_pass_and_the_release_has_that_of_its_base() -> None:
    found = of(data={"a": "MIT", "b": "CC-BY-4.0", "c": "ODC-BY-1.0"})
    assert found.licence == "apache-2.0" and [link.what for link in found.data] == ["a", "b", "c"]


@pytest.mark.parametrize("licence", ["none stated", "unknown", "per row", "prompts CC-BY-4.0, responses CC-BY-NC-4.0"])
def test_data_whose_licence_says_nothing_is_refused_by_name(licence: str) -> None:
    with pytest.raises(UserError, match=rf"source 'bad': .*{licence}"):
        of(data={"good": "MIT", "bad": licence})


def test_data_for_no_commercial_use_makes_no_free_release() -> None:
    data = {"nc": "CC-BY-NC-4.0"}
    with pytest.raises(UserError, match=r"allows no commercial use, which 'apache-2\.0' does"):
        of(data=data)
    assert of(data=data, license="cc-by-nc-4.0").licence == "cc-by-nc-4.0"


def test_what_somebody_answers_for_is_in_the_chain_with_the_reason() -> None:
    found = of(data={"odd": "none stated"}, accepted={"odd": "the authors agreed"})
    assert "says nothing" in found.data[0].note and found.data[0].note.endswith("accepted: the authors agreed")


def test_a_reason_for_a_source_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"release.accepted: 'oddd' is no source"):
        of(accepted={"oddd": "x"})


def test_a_model_made_from_llama_keeps_licence_name_and_notice() -> None:
    with pytest.raises(UserError, match=r"release\.name=Llama-judge"):
        of("llama3.1", name="judge")
    with pytest.raises(UserError, match="passes on its own licence"):
        of("llama3.1", name="Llama-judge", license="mit")
    assert of("llama3.1", name="Llama-judge").notices == ("Built with Llama",)


def test_unknown_licences_of_base_and_release_are_refused() -> None:
    with pytest.raises(UserError, match=r"release\.base_license: what 'mine' asks"):
        of("mine")
    with pytest.raises(UserError, match=r"release\.license: what 'mine' asks"):
        of(license="mine")


def test_a_base_for_no_commercial_use_makes_no_free_release() -> None:
    with pytest.raises(UserError, match="allows commercial use"):
        of("cc-by-nc-4.0", license="mit")
