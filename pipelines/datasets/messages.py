"""Chat messages in the shapes that public data has, as one text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

SPEAKER = ("role", "from", "speaker", "author", "sender")
CONTENT = ("content", "value", "text", "parts", "message")
CALLS = ("tool_calls", "function_call")
# A list of messages as JSON, or in Python's form, as a cell of a CSV file may have it.
WRITTEN = re.compile(rf"""\s*\[\s*\{{\s*["']({"|".join((*SPEAKER, *CONTENT))})["']\s*:""")
NAMES = {
    "human": "User",
    "user": "User",
    "prompter": "User",
    **dict.fromkeys(
        ("gpt", "chatgpt", "assistant", "model", "bot", "ai", "bard", "bing", "function_call"), "Assistant"
    ),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "ipython"), "Tool"),
}


def dialogue(turns: Any) -> str:
    """Messages as one text: `User: ...`, `Assistant: ...`, an empty line between; of a single message, its content.

    A message has a speaker (`role`, or `from` as in ShareGPT) and a content: a text, or a list of text parts. Calls of
    tools are written as JSON. A prompt that is one text already stays as it is.

    Raises:
        TypeError, ValueError: there is no message; or one has no speaker, no content, or a part that is no text.
    """
    if isinstance(turns, str):
        if WRITTEN.match(turns):
            raise ValueError("messages written as one text: read them first, with `from_json` if they are JSON")
        return turns
    if isinstance(turns, Mapping) and any(isinstance(turns.get(name), list) for name in SPEAKER):
        raise ValueError("messages in columns: make them records first, with `transpose`")
    listed = [turns] if isinstance(turns, Mapping) else turns
    if not isinstance(listed, list | tuple):
        raise TypeError(f"{type(turns).__name__} where a list of messages is needed")
    named = [(_speaker(turn), content(turn)) for turn in listed]
    if not named:
        raise ValueError("there is no message")
    return named[0][1] if len(named) == 1 else "\n\n".join(f"{speaker}: {text}" for speaker, text in named)


def content(turn: Mapping[str, Any]) -> str:
    """What one message says.

    Raises:
        TypeError, ValueError: it says nothing, or something that is no text.
    """
    said = [_parts(turn[name]) for name in (*CONTENT, "refusal") if turn.get(name) is not None]
    if len(set(said)) > 1:
        raise ValueError(f"a message has several contents: {', '.join(n for n in CONTENT if turn.get(n) is not None)}")
    calls = [text for name in CALLS if turn.get(name) for text in _calls(turn[name])]
    if not said and not calls:
        raise ValueError(f"a message without content; it has {', '.join(map(str, turn))}")
    return "\n".join([*(text for text in said[:1] if text), *calls])


def _speaker(turn: Any) -> str:
    if not isinstance(turn, Mapping):
        raise TypeError(f"{type(turn).__name__} where a message is needed")
    role = next((turn[name] for name in SPEAKER if turn.get(name) is not None), None)
    if isinstance(role, Mapping):  # {"author": {"role": "user"}}
        role = role.get("role")
    if not isinstance(role, str) or not role.strip():
        raise ValueError(f"a message does not say whose it is; it has {', '.join(map(str, turn))}")
    return NAMES.get(role.strip().casefold(), role.strip().capitalize())


def _parts(value: Any) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("parts"), list):  # {"content_type": "text", "parts": [...]}
        value = value["parts"]
    if not isinstance(value, list | tuple):
        raise TypeError(f"the content of a message is {_named(value)}, not a text")
    return "\n".join(_part(part) for part in value)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise TypeError(f"a part of a message is {_named(part)}, not a text")
    kind = part.get("type")
    if kind == "tool_use":
        return _call(part.get("name"), part.get("input"))
    if kind == "tool_result":
        return _parts(part.get("content"))
    found = part.get("refusal") if kind == "refusal" else part.get("text")
    if kind not in (None, "text", "input_text", "output_text", "refusal") or not isinstance(found, str):
        raise TypeError(f"a part of a message is no text: {kind or ', '.join(map(str, part))}")
    return found


def _calls(value: Any) -> Iterable[str]:
    for call in [value] if isinstance(value, Mapping | str) else value:
        if not isinstance(call, Mapping):
            raise TypeError(f"a call of a tool is {_named(call)}, not a mapping")
        function = call.get("function") or call
        yield _call(function.get("name"), function.get("arguments"))


def _call(name: Any, arguments: Any) -> str:
    """`name({"city": "Oslo"})`; arguments come as JSON text or as what it says."""
    if not isinstance(name, str):
        raise ValueError("a call of a tool does not name it")
    given = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return f"{name}({given})"


def _named(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
