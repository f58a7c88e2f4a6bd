"""Messages of every public shape become text, and never Python's form of something else."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.datasets.expressions import evaluate
from pipelines.datasets.messages import dialogue

ASK = {"role": "user", "content": "Weather?"}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        ([{"role": "user", "content": "Hi"}], "Hi"),
        ({"role": "user", "content": "Hi"}, "Hi"),
        ("<|im_start|>user\nHi<|im_end|>", "<|im_start|>user\nHi<|im_end|>"),
        (
            [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
            "User: Hi\n\nAssistant: Hello",
        ),
        (
            [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi"}],
            "System: Be kind.\n\nUser: Hi",
        ),
        ([{"role": "developer", "content": "Be kind."}, ASK], "Developer: Be kind.\n\nUser: Weather?"),
        ([{"role": "prompter", "text": "Hi"}, {"role": "assistant", "text": "Hello"}], "User: Hi\n\nAssistant: Hello"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]}, ASK],
            "User: One\ntwo\n\nUser: Weather?",
        ),
        ([{"role": "user", "content": [{"type": "input_text", "text": "One"}]}], "One"),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi", "image_url": None}]}], "Hi"),
        ([{"role": "model", "parts": [{"text": "Hi"}]}, ASK], "Assistant: Hi\n\nUser: Weather?"),
        (
            [ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "Rain"}],
            'User: Weather?\n\nAssistant: weather({"city": "Oslo"})\n\nTool: Rain',
        ),
        (
            [ASK, {"role": "assistant", "content": "I look.", "tool_calls": [CALL]}],
            'User: Weather?\n\nAssistant: I look.\nweather({"city": "Oslo"})',
        ),
        (
            [ASK, {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": {"é": 1}}}],
            'User: Weather?\n\nAssistant: f({"é": 1})',
        ),
        (
            [ASK, {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"x": 1}}]}],
            'User: Weather?\n\nAssistant: f({"x": 1})',
        ),
        ([ASK, {"role": "function", "name": "f", "content": "9"}], "User: Weather?\n\nTool: 9"),
        ([ASK, {"role": "assistant", "content": None, "refusal": "No."}], "User: Weather?\n\nAssistant: No."),
        ([ASK, {"role": "assistant", "content": "", "tool_calls": None}], "User: Weather?\n\nAssistant: "),
    ],
)
def test_messages_become_text(turns: Any, text: str) -> None:
    assert dialogue(turns) == text


@pytest.mark.parametrize(
    "turns",
    [
        None,
        [],
        5,
        ["Hi", "Hello"],
        [ASK, None],
        [ASK, {"role": "assistant", "content": None}],
        [ASK, {"role": "assistant", "content": None, "tool_calls": []}],
        [ASK, {"role": "assistant"}],
        [ASK, {"content": "whose?"}],
        [ASK, {"role": None, "content": "whose?"}],
        [{"role": "user", "content": {"text": "x"}}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "user", "content": [{"type": "text", "text": None}]}],
        [{"role": "user", "content": [None]}],
        [{"role": "user", "content": "one", "value": "another"}],
    ],
)
def test_what_says_nothing_or_is_no_text_is_an_error(turns: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        dialogue(turns)
    assert "is not subscriptable" not in str(caught.value) and "has no attribute" not in str(caught.value)


@pytest.mark.parametrize("text", ['[{"role": "user", "content": "hi"}]', "[{'from': 'human', 'value': 'hi'}]"])
def test_messages_written_as_one_text_are_no_prompt(text: str) -> None:
    with pytest.raises(ValueError, match="messages written as one text"):
        dialogue(text)


def test_calls_of_tools_in_no_known_shape_are_an_error_in_words() -> None:
    for calls in ("none", ["f()"], '[{"name": "f"}]'):
        with pytest.raises(TypeError, match="a call of a tool is a str"):
            dialogue([{"role": "assistant", "content": "x", "tool_calls": calls}])


def test_messages_in_columns_are_told_how_to_become_records() -> None:
    columns = {"role": ["user", "assistant"], "content": ["Hi", "Hello"]}
    with pytest.raises(ValueError, match="in columns: make them records first, with `transpose`"):
        dialogue(columns)
    assert evaluate("record | transpose | dialogue", {"record": columns}) == "User: Hi\n\nAssistant: Hello"
