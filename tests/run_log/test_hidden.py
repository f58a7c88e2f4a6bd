"""No secret is written down, wherever it stands."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.config import load_config
from pipelines.run_log.hidden import HIDDEN, hidden, secrets_of


@pytest.mark.parametrize(
    "name", ["hf_token", "TOKEN", "client_secret", "password", "api_key", "Authorization", "credentials"]
)
def test_what_is_named_like_a_secret_is_hidden_at_any_depth(name: str) -> None:
    assert hidden({"a": [{name: "sesame"}]}, []) == {"a": [{name: HIDDEN}]}


@pytest.mark.parametrize(
    "value",
    [{"max_tokens": 512}, {"tokenizer": "embedded"}, {"api_key_env": "OPENAI_API_KEY"}, {"token": None}, [1.5, True]],
)
def test_all_else_stays(value: Any) -> None:
    assert hidden(value, []) == value


def test_a_login_in_a_url_is_hidden() -> None:
    assert hidden("s3://user:pass@host/a and http://host/b@c", []) == f"s3://{HIDDEN}@host/a and http://host/b@c"


def test_a_secret_of_the_environment_is_hidden_inside_other_texts() -> None:
    secrets = secrets_of({"HF_TOKEN": "hf-12345678", "MY_API_KEY": "hf-12345678-longer", "LEVEL": "verbosely"})
    assert hidden({"error": "hf-12345678-longer and hf-12345678, verbosely"}, secrets) == {
        "error": f"{HIDDEN} and {HIDDEN}, verbosely"
    }
    assert secrets_of({"SHORT_KEY": "yes"}) == []


def test_no_packaged_config_loses_a_value() -> None:
    for name in ("local", "h100"):
        config = load_config(name, ["out_dir=/somewhere"]).model_dump(mode="json")
        assert hidden(config, []) == config
