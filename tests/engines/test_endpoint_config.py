"""Endpoints in a config: their keys, and that a secret written in the wrong place is refused without being shown."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.engines.endpoint_config import EndpointConfig
from pipelines.evaluation.config import EvaluationConfig

SECRET = "sk-standin-0123456789"
ENDPOINT = {"endpoint": "https://host.example/v1/", "model": "m"}


def config(model: Any) -> EvaluationConfig:
    return EvaluationConfig(benchmarks=["heldout_pairwise"], models={"base": "embedded", "gpt": model})


def test_a_model_is_a_name_or_an_endpoint() -> None:
    found = config(ENDPOINT | {"api_key_env": "OPENAI_API_KEY", "concurrency": 4}).models
    assert found["base"] == "embedded"
    endpoint = found["gpt"]
    assert isinstance(endpoint, EndpointConfig)
    assert (endpoint.endpoint, endpoint.api_key_env, endpoint.concurrency) == (
        "https://host.example/v1",
        "OPENAI_API_KEY",
        4,
    )
    assert endpoint.identity() == {"endpoint": "https://host.example/v1", "model": "m", "reasoning": "auto"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ENDPOINT | {"endpoint": f"https://user:{SECRET}@host.example/v1"}, "more than host and path"),
        (ENDPOINT | {"endpoint": f"https://host.example/v1?key={SECRET}"}, "more than host and path"),
        (ENDPOINT | {"endpoint": SECRET}, "not a URL"),
        (ENDPOINT | {"endpoint": f"ftp://{SECRET}"}, "not a URL"),
        (ENDPOINT | {"endpoint": f"https://host.example:{SECRET}/v1"}, "not a URL"),
        (ENDPOINT | {"api_key_env": SECRET}, "not the name of an environment variable"),
        (ENDPOINT | {"api_key_env": [SECRET]}, "not the name of an environment variable"),
        (ENDPOINT | {"api_key": SECRET}, "unknown key 'api_key' .*api_key_env"),
        (ENDPOINT | {"retries": SECRET}, "key 'retries'"),
        (ENDPOINT | {"concurrency": 0}, "key 'concurrency'"),
        ({"endpoint": "https://host.example/v1"}, "missing key 'model'"),
        ([ENDPOINT | {"api_key": SECRET}], "neither a model's name nor"),
    ],
)
def test_a_mistake_is_one_line_that_shows_no_value(model: Any, said: str) -> None:
    with pytest.raises(UserError, match=rf"^evaluation.models.gpt: .*{said}") as caught:
        config(model)
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)


def test_models_that_are_no_mapping() -> None:
    with pytest.raises(UserError, match=r"^evaluation.models: not a mapping") as caught:
        EvaluationConfig(benchmarks=[], models=[{"api_key": SECRET}])  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = EndpointConfig.model_validate(ENDPOINT | {"api_key_env": "STANDIN_KEY"})
    monkeypatch.delenv("STANDIN_KEY", raising=False)
    with pytest.raises(UserError, match="STANDIN_KEY is not set"):
        endpoint.key()
    monkeypatch.setenv("STANDIN_KEY", f" {SECRET}\n")
    assert endpoint.key() == SECRET
    monkeypatch.setenv("STANDIN_KEY", f"{SECRET}\n…")
    with pytest.raises(UserError, match="characters no key has") as caught:
        endpoint.key()
    assert SECRET not in str(caught.value)
    assert EndpointConfig.model_validate(ENDPOINT).key() is None
