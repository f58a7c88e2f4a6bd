"""How endpoints say that a prompt is longer than the model's context."""

from __future__ import annotations

import pytest

from pipelines.engines.llm.endpoint import is_too_long


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",  # OpenAI, vLLM
        "The decoder prompt (length 9000) is longer than the maximum model length of 4096",  # vLLM
        "prompt is too long: 250000 tokens > 200000 maximum",  # Anthropic
        "the request exceeds the available context size",  # llama.cpp
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens",  # TGI
        "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)",  # Gemini
        "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",  # xAI
        "too many tokens: size limit exceeded by 20 tokens",  # Cohere
        "Please reduce the length of the messages or completion.",  # Groq
        "Range of input length should be [1, 30720]",  # Qwen
        "Request body too large for gpt-4o model. Max size: 8000 tokens.",  # GitHub
    ],
)
def test_an_endpoint_s_words_for_a_prompt_that_is_too_long_are_known(said: str) -> None:
    refusal = ValueError(said)
    assert not is_too_long(refusal)  # no refusal of a request
    refusal.status_code = 400  # type: ignore[attr-defined]
    assert is_too_long(refusal)
    other = ValueError("temperature is not supported with this model")
    other.status_code = 400  # type: ignore[attr-defined]
    assert not is_too_long(other)
