"""What a chat completion may ask for: a list of fields; every other is refused.

vLLM takes some sixty fields. Those that OpenAI's clients, DeepEval, Inspect, OpenEvals and promptfoo send pass. Not:

- `chat_template`, `chat_template_kwargs`, `add_generation_prompt`, `continue_final_message`, `add_special_tokens`,
  `echo`, `documents`: they change the prompt around the messages; a template is a program.
- `structured_outputs`, `guided_*`, `response_format: structural_tag`, and patterns and large repetitions in a JSON
  schema: grammars that take the server's time to compile, or its memory.
- `vllm_xargs`, `logits_processors`, `kv_transfer_params`, `ec_transfer_params`, `mm_processor_kwargs`,
  `media_io_kwargs`: they reach code or machines behind the engine; ours sets the verdict with the first.
- `ignore_eos`, `min_tokens`, `use_beam_search`, `repetition_detection`, `thinking_token_budget`, `priority`, more than
  4 choices: more work than an answer needs, or a place before others.
- `prompt_logprobs`, `prompt_token_ids`, `return_*`, `logprob_token_ids`, `allowed_token_ids`, `logit_bias`,
  `bad_words`: they show the prompt as the template made it, or steer single tokens.
- `tools`, `tool_choice`, parts that are no text: the judge has no tools and sees no images; a URL would be fetched.
- `request_id`, `session_id`, `cache_salt`: the service's own.

A field without value (null, [], {}) is no field. What OpenAI's API has for its own book-keeping is dropped.

Text may not hold the model's control tokens: they would end the message and begin another, of whatever role. In the
judge's own routes they are characters; here vLLM renders the text, and reads them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from serve.refused import Refused

NODES, REPEATED = 2000, 1000  # most values in a JSON schema; most repetitions that it may count
_COUNTS = {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
_PATTERNS = {"pattern", "patternProperties"}
_NAMED = {"properties", "$defs", "definitions"}  # their keys are names, not words of the schema
_SHOWN = re.compile(r"[A-Za-z0-9_]{1,40}")
Tokens = Annotated[int | None, Field(ge=1)]
Penalty = Annotated[float | None, Field(ge=-2, le=2)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        return {name: value for name, value in raw.items() if name in cls.model_fields or value not in (None, [], {})}


class Part(_Sent):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Message(_Sent):
    """One message. The role is written into the prompt too, so it is one of a list."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=1000)]
    name: str | None = Field(None, max_length=64)


class JsonSchema(_Sent):
    """The form of an answer, as OpenAI's clients make it of a pydantic or zod model."""

    name: str = Field(max_length=64)
    description: str | None = Field(None, max_length=4000)
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None

    @field_validator("schema_")
    @classmethod
    def _compiles_soon(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        for number, (name, value) in enumerate(_words(schema)):
            if number >= NODES:
                raise ValueError(f"more than {NODES} values in the schema")
            if name in _PATTERNS:
                raise ValueError(f"{name} is not supported in a schema")
            if name in _COUNTS and (not isinstance(value, int) or value > REPEATED):
                raise ValueError(f"{name} may be at most {REPEATED}")
        return schema


class ResponseFormat(_Sent):
    """Text, any JSON, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and (self.json_schema is None or self.json_schema.schema_ is None):
            raise ValueError("json_schema needs a schema")
        return self


class StreamOptions(_Sent):
    """What a stream holds beside the text."""

    include_usage: bool | None = None
    include_obfuscation: Any = Field(None, exclude=True)


class Chat(_Sent):
    """The body of POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    model: str | None = Field(None, max_length=256)
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    n: int | None = Field(None, ge=1, le=4)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=256)
    # Of OpenAI's own service, and harmless: dropped.
    metadata: Any = Field(None, exclude=True)
    service_tier: Any = Field(None, exclude=True)
    store: Any = Field(None, exclude=True)
    safety_identifier: Any = Field(None, exclude=True)
    prompt_cache_key: Any = Field(None, exclude=True)
    parallel_tool_calls: Any = Field(None, exclude=True)

    @model_validator(mode="after")
    def _belong_together(self) -> Chat:
        """What the engine would refuse in its own words, and with another status."""
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream")
        return self


class ChatCheck:
    """Reads bodies of chat completions and writes them anew, so that the app reads what was checked.

    Args:
        most_tokens: that one may ask for.
        most_characters: of one text.
    """

    def __init__(self, most_tokens: int, most_characters: int) -> None:
        self.most_tokens, self.most_characters = most_tokens, most_characters
        self._tokens: Collection[str] | None = None
        self._pattern: re.Pattern[str] | None = None

    def __call__(self, body: bytes, tokens: Collection[str]) -> tuple[bytes, int]:
        """The body to pass on, and how many answers it asks for.

        Args:
            body: as it came.
            tokens: the model's control tokens.

        Raises:
            Refused: 422, naming the field.
        """
        try:
            chat = Chat.model_validate_json(body)
        except ValidationError as exc:
            raise _not_understood(exc) from None
        for field in ("max_tokens", "max_completion_tokens"):
            if (getattr(chat, field) or 0) > self.most_tokens:
                raise _refused("too_many_tokens", f"{field} may be at most {self.most_tokens}", field)
        control = self._control(tokens)
        for field, text in _texts(chat):
            if len(text) > self.most_characters:
                raise _refused("text_too_long", f"{field} has more than {self.most_characters} characters", field)
            if control is not None and (control.search(text) or _hidden(control, text)):
                raise _refused(
                    "special_tokens",
                    f"{field} holds a control token of the model; /v1/judge/... takes them as characters",
                    field,
                )
        return chat.model_dump_json(by_alias=True, exclude_none=True).encode(), chat.n or 1

    def _control(self, tokens: Collection[str]) -> re.Pattern[str] | None:
        if tokens is not self._tokens:  # compiled once: the engine has the same list all its life
            longest = sorted(filter(None, tokens), key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest))) if longest else None
            self._tokens = tokens
        return self._pattern


def _texts(chat: Chat) -> Iterator[tuple[str, str]]:
    for number, message in enumerate(chat.messages):
        field = f"messages.{number}.content"
        if isinstance(message.content, str):
            yield field, message.content
        else:
            # Joined: some chat templates write parts without anything between, and a token may be in two of them.
            yield field, "".join(part.text for part in message.content)
        if message.name:
            yield f"messages.{number}.name", message.name


def _hidden(control: re.Pattern[str], text: str) -> bool:
    """Whether a token appears once the text is normalised, as some tokenizers do first: `＜` becomes `<`."""
    return not text.isascii() and bool(control.search(unicodedata.normalize("NFKC", text)))


def _words(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every value of a schema with the word it stands under; empty for items of a list and for names."""
    waiting: list[tuple[Any, bool]] = [(schema, False)]
    while waiting:
        value, named = waiting.pop()
        if isinstance(value, dict):
            for word, inner in value.items():
                yield ("" if named else word), inner
                waiting.append((inner, not named and word in _NAMED))
        elif isinstance(value, list):
            for inner in value:
                yield "", inner
                waiting.append((inner, False))


def _refused(code: str, message: str, field: str | None) -> Refused:
    return Refused(422, code, message, param=field)


def _not_understood(exc: ValidationError) -> Refused:
    """The first complaint, without a value of the request; names are shown where they look like names."""
    first = exc.errors(include_url=False, include_input=False)[0]
    steps = [str(step) for step in first["loc"] if isinstance(step, int) or _SHOWN.fullmatch(step)]
    field = ".".join(step for step in steps if step != "str") or None
    where = field or "the body"
    if first["type"] == "extra_forbidden":
        return _refused("unsupported_field", f"{where} is not supported", field)
    if first["type"] == "json_invalid":
        return _refused("invalid_json", "the body is no JSON", None)
    return _refused("invalid_value", f"{where}: {first['msg'].removeprefix('Value error, ')}", field)
