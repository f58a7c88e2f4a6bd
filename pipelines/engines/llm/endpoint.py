"""Ask a model behind an OpenAI-compatible endpoint: one user message, one chat completion."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import RowFailure, UserError
from pipelines.engines.endpoint_config import EndpointConfig
from pipelines.engines.llm.ask import TOO_LONG, Answer, Closing, TooLong
from pipelines.judging.thoughts import Parted, Thinking, part, thinking_of

if TYPE_CHECKING:
    from openai import APIStatusError
    from openai.types.chat import ChatCompletion

NO_KEY = "none"  # the client needs one: without it, it would take OPENAI_API_KEY and send it to any host
# OpenAI, vLLM, SGLang, llama.cpp, TGI, Anthropic, Gemini, xAI, Qwen, Cohere, Groq, GitHub.
LENGTH = re.compile(
    r"(?:context|prompt|input)[ _]length|too many tokens|reduce the length|max size: \d+ tokens|"
    r"context (?:size|window)|max_model_len|(?:prompt|input)[^.]{0,40}too long|"
    r"token count[^.]*exceeds|inputs?` tokens[^.]*must be <=|longer than the (?:model|maximum)",
    re.IGNORECASE,
)
REASON = 160  # characters kept of an endpoint's message
# Options that an endpoint may not support: the word its complaint has, and the names used instead.
OPTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "logprobs": ("logprobs", {}),
    "seed": ("seed", {}),
    "max_tokens": ("max_completion_tokens", {"max_tokens": "max_completion_tokens"}),
}


PARAMETERS = ("temperature", "top_p")
NOT_TAKEN = re.compile(
    r"(?:unsupported|unknown|unrecognized|invalid|deprecated|not support\w*|cannot)\W+(?:\w+\W+){0,6}?"
    r"(temperature|top_p)\b"
    r"|\b(temperature|top_p)\b\W+(?:\S+\s+){0,6}?"
    r"(?:not (?:be )?(?:support|allow|permit)|cannot|unsupported|deprecated)",
    re.IGNORECASE,
)
THOUGHTS = ("thinking", "redacted_thinking", "reasoning")  # types of a part that is none of the answer
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class EndpointError(RowFailure):
    """The endpoint gave no answer for a row; the detail is its message, without the key."""


class Refused(UserError):
    """The endpoint refuses every request: key, model or address is wrong."""


class EndpointAsk:
    """Ask an OpenAI-compatible endpoint. Belongs to the event loop it is first used in.

    The client retries by itself after 408, 409, 429, 5xx, timeouts and lost connections, and waits as long as the
    endpoint says.

    Args:
        endpoint: its address, its model, and how many requests it may get at once.

    Raises:
        UserError: the environment holds no key.
    """

    def __init__(self, endpoint: EndpointConfig) -> None:
        from openai import AsyncOpenAI

        self.endpoint, self.secret = endpoint, endpoint.key()
        self.client = AsyncOpenAI(
            base_url=endpoint.endpoint,
            api_key=self.secret or NO_KEY,
            timeout=endpoint.timeout_s,
            max_retries=endpoint.retries,
        )
        self.thinking = thinking_of(endpoint.reasoning)
        self.places = asyncio.Semaphore(endpoint.concurrency)
        self.refused: set[str] = set()  # options that this endpoint has turned out not to support

    async def __call__(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        choices: Sequence[str] | None = None,
        logprobs: int = 0,
        rank_choices: Sequence[str] | None = None,
        closing: Closing | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """As `Ask`; `on_text` gets the answer as one piece.

        An endpoint that does not support `seed` or log-probabilities is asked without them. It applies its own chat
        template, which may read special tokens in the message as such.

        Raises:
            EndpointError: no answer, even after the retries.
            Refused: no other row would be answered either.
            UserError: `closing` was given: an endpoint cannot be held to it.
            ValueError: `choices` or `rank_choices` were given, for which the API has no common form.
        """
        from httpx import HTTPError
        from openai import OpenAIError

        if closing:
            raise UserError(
                "an endpoint cannot be held to the ending of an answer",
                where=self.endpoint.endpoint,
                fix="judge through it with the plain judge, or with an engine",
            )
        if choices or rank_choices:
            raise ValueError("an endpoint cannot be held to a set of answers")
        if LONE_SURROGATE.search(prompt):
            raise RowFailure("invalid_unicode", "the prompt has half of a surrogate pair")
        request: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": prompt.strip()}],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        if top_p < 1:  # some endpoints refuse it beside a temperature
            request["top_p"] = top_p
        if logprobs:
            request |= {"logprobs": True, "top_logprobs": logprobs}
        async with self.places:
            start = time.monotonic()
            try:
                answer = read_answer(await self._complete(request), time.monotonic() - start, self.thinking)
            except (OpenAIError, HTTPError, ValueError) as exc:
                if is_too_long(exc):
                    raise TooLong(TOO_LONG, self.clean(str(exc))) from None
                # Not chained: its cause may quote the request, and with it the key.
                raise EndpointError("no_answer", self.clean(f"{type(exc).__name__}: {exc}")) from None
        if on_text and answer.text:
            on_text(answer.text)
        return answer

    async def _complete(self, request: dict[str, Any]) -> ChatCompletion:
        from openai import APIStatusError, AuthenticationError, NotFoundError

        left_out = set(self.refused)
        while True:
            try:
                done = await self.client.chat.completions.create(**without(request, left_out))
            except AuthenticationError:
                raise self._refusal_of_key() from None
            except NotFoundError as exc:
                raise Refused(
                    f"the endpoint has no model '{self.endpoint.model}': {self.clean(exc.message)}",
                    where=self.endpoint.endpoint,
                    fix="check the model's name, and that the address is the API's base, which usually ends in /v1",
                ) from None
            except APIStatusError as exc:
                option = complained_of(exc, request.keys() - left_out)
                if option is None and (refused := refused_parameter(exc)):
                    raise Refused(
                        f"the endpoint does not take '{refused}' as it is asked: {self.clean(exc.message)}",
                        where=self.endpoint.endpoint,
                        fix="it must support chat completions at temperature 0; choose a model that does",
                    ) from None
                if option is None:
                    raise
                left_out.add(option)
            else:
                self.refused |= left_out  # only now: an option whose absence did not help is sent again
                return done

    def _refusal_of_key(self) -> Refused:
        name = self.endpoint.api_key_env
        if name is None:
            return Refused(
                "the endpoint wants a key",
                where=self.endpoint.endpoint,
                fix="name the environment variable that holds it: api_key_env",
            )
        return Refused(
            f"the endpoint does not take the key in {name}",
            where=self.endpoint.endpoint,
            fix="set the variable to a valid key",
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.close()

    def clean(self, said: str) -> str:
        """A message of an endpoint or a library as one short line, without the key."""
        if self.secret:
            said = said.replace(self.secret, "***")
        return " ".join(said.split())[:REASON]


def without(request: dict[str, Any], left_out: set[str]) -> dict[str, Any]:
    """The request for an endpoint that does not support some options."""
    renamed = {old: new for option in left_out for old, new in OPTIONS[option][1].items()}
    gone = {option for option in left_out if not OPTIONS[option][1]}
    if "logprobs" in gone:
        gone.add("top_logprobs")
    return {renamed.get(key, key): value for key, value in request.items() if key not in gone}


def refused_parameter(exc: APIStatusError) -> str | None:
    """The sampling parameter that a refusal (400 or 422) is about: it would refuse every other row too."""
    if exc.status_code not in (400, 422):
        return None
    if exc.param in PARAMETERS:
        return str(exc.param)
    found = NOT_TAKEN.search(exc.message)
    return (found[1] or found[2]) if found else None


def is_too_long(exc: Exception) -> bool:
    """Whether a refusal is about a prompt longer than the model's context, in the words of the common servers."""
    if getattr(exc, "code", None) == "context_length_exceeded":
        return True
    return getattr(exc, "status_code", None) in (400, 413, 422) and bool(LENGTH.search(str(exc)))


def complained_of(exc: APIStatusError, asked: Sequence[str] | set[str]) -> str | None:
    """The option that a refusal (400 or 422) is about, if the request can do without it."""
    if exc.status_code not in (400, 422):
        return None
    said = f"{exc.param or ''} {exc.message}"
    return next((option for option, (sign, _) in OPTIONS.items() if option in asked and sign in said), None)


def read_answer(done: Any, seconds: float, thinking: Thinking | None = None) -> Answer:
    """What is kept of a chat completion.

    Tokens are 0 and log-probabilities empty if the endpoint does not report them.

    Raises:
        EndpointError: the provider's filter withheld the answer.
        ValueError: it is not a chat completion, whatever its status was.
    """
    _require_no_error(done)
    try:
        choice = done.choices[0]
        _require_no_error(choice)  # as a proxy says that the provider behind it failed
        if choice.finish_reason == "content_filter":
            raise EndpointError("content_filter", "the provider withheld the answer")
        usage, likely = getattr(done, "usage", None), getattr(choice, "logprobs", None)
        details = getattr(usage, "prompt_tokens_details", None)
        text = _plain(choice.message.content) or choice.message.refusal or ""
        if not isinstance(text, str):
            raise TypeError("its content is not text")
        finished = getattr(choice, "finish_reason", None) != "length"
        # Some endpoints part them themselves, under one of two names.
        thoughts = getattr(choice.message, "reasoning_content", None) or getattr(choice.message, "reasoning", None)
        parted = part(text, thinking, finished=finished) if not thoughts else Parted(str(thoughts), text, not text)
        spent = getattr(usage, "completion_tokens_details", None)
        positions = getattr(likely, "content", None) or []
        if LONE_SURROGATE.search(f"{text}{thoughts or ''}"):
            raise RowFailure("invalid_unicode", "the answer has half of a surrogate pair")
        return Answer(
            text=parted.answer,
            prompt_tokens=int(getattr(usage, "prompt_tokens", 0) or 0),
            output_tokens=int(getattr(usage, "completion_tokens", 0) or 0),
            seconds=seconds,
            cached_tokens=int(getattr(details, "cached_tokens", 0) or 0),
            top=[
                {
                    str(entry.token): float(entry.logprob)
                    for entry in (position, *(position.top_logprobs or []))
                    if entry.logprob is not None
                }
                for position in positions
            ],
            written=[str(position.token) for position in positions],
            thoughts=parted.thoughts,
            thought_tokens=int(getattr(spent, "reasoning_tokens", 0) or 0),
            thoughts_cut=parted.cut,
            finished=finished,
        )
    except (AttributeError, TypeError, IndexError) as exc:  # the client checks nothing of what it is sent
        raise ValueError(f"the answer is not a chat completion: {exc}") from None


def _require_no_error(said: Any) -> None:
    error = getattr(said, "error", None) or (getattr(said, "finish_reason", None) == "error" and "no reason given")
    if error:
        message = error.get("message", error) if isinstance(error, dict) else error
        raise ValueError(f"the endpoint answered with an error: {message}")


def _plain(content: Any) -> Any:
    """The text of a message's content, which may come in parts; of those, thoughts are left out.

    Raises:
        TypeError: a part is neither.
    """
    if not isinstance(content, list):
        return content
    texts = [part for part in content if not (isinstance(part, dict) and part.get("type") in THOUGHTS)]
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in texts):
        raise TypeError("a part of its content is not text")
    return "".join(part["text"] for part in texts)


def require_endpoint(endpoint: EndpointConfig, where: str) -> None:
    """Send one tiny request from the driver before thousands follow: does the model exist, and may it be asked?

    Args:
        endpoint: to be asked.
        where: the config key, for the message.

    Raises:
        UserError: it gives no answer.
    """
    quick = endpoint.model_copy(update={"retries": min(endpoint.retries, 2)})
    try:
        asyncio.run(_try_once(quick))
    except UserError as mistake:
        raise UserError(mistake.what, where=f"{where} ({endpoint.endpoint})", fix=mistake.fix) from None
    except EndpointError as failed:
        raise UserError(
            f"the endpoint gives no answer: {failed.detail}",
            where=f"{where} ({endpoint.endpoint})",
            fix="it must support chat completions at temperature 0, and be reachable from this machine",
        ) from None


async def _try_once(endpoint: EndpointConfig) -> None:
    async with aclosing(EndpointAsk(endpoint)) as ask:
        await ask("Say OK.", max_tokens=16)
