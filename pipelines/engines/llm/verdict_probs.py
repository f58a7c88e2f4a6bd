"""The probabilities of the verdicts, at the tokens where the answer states its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNSURE = 0.01  # most of the probability that may be of tokens which begin several verdicts
_WRAPPING = " \t\n*_`'\"([{<:"


def verdict_probs(
    text: str, place: int | None, written: Sequence[str], top: Sequence[dict[str, float]], allowed: Sequence[str]
) -> dict[str, float]:
    """Probability of each allowed verdict where the parsed one stands, normalised over the closed set.

    A verdict of several tokens is followed token by token. A likely token counts for the one verdict that begins with
    it.

    Args:
        text: the answer.
        place: of the parsed verdict's first letter in `text`; None if there is none.
        written: text of each token that was written; the answer is their end.
        top: likely tokens of each position and their log-probabilities.
        allowed: the closed set.

    Returns:
        Empty without a verdict, if its token is not found, or if the tokens do not tell the verdicts apart.
    """
    at = token_at(text, place, written) if place is not None and len(top) == len(written) else None
    if at is None:
        return {}
    index, lead = at
    said, path, unsure = "", 1.0, 0.0
    mass = dict.fromkeys(allowed, 0.0)
    for token, likely in zip(written[index:], top[index:], strict=True):
        mine = said + token[len(lead) :]
        owners = _owners(mine, allowed)
        if not owners or token not in likely:
            return {}
        for other, logprob in likely.items():
            others = _owners(said + _without(lead, other), allowed)
            if len(others) == 1:
                mass[others[0]] += path * math.exp(logprob)
            elif others and other != token:
                unsure += path * math.exp(logprob)
        if len(owners) == 1:
            break
        said, lead, path = mine, "", path * math.exp(likely[token])
    else:  # the answer ends with the verdict
        exact = next((verdict for verdict in allowed if verdict.casefold() == said.casefold()), None)
        if exact is None:
            return {}
        mass[exact] += path
    whole = sum(mass.values())
    if unsure > UNSURE * (whole + unsure):
        return {}
    return {verdict: share / whole for verdict, share in mass.items()}


def token_at(text: str, place: int, written: Sequence[str]) -> tuple[int, str] | None:
    """The token that a place of the text belongs to, as index and what it says before that place; None if not found.

    Tokens are laid along the text from its end, since thoughts may stand before it. Tokens without a text of their own
    (the end of a turn, parts of a character) take the room that the others leave.
    """
    end, slack = len(text), 0
    for index in range(len(written) - 1, -1, -1):
        token = written[index]
        found = text.rfind(token, max(0, end - slack - len(token)), end) if token else -1
        if found < 0:
            slack += len(token) + 1
        elif found > place:
            end, slack = found, 0
        else:
            return (index, text[found:place]) if place < found + len(token) else None
    return None


def _without(lead: str, token: str) -> str:
    """A likely token without what stands before the verdict in the one that was written."""
    return token.removeprefix(lead) if token.startswith(lead) else token.lstrip(_WRAPPING)


def _owners(said: str, allowed: Sequence[str]) -> list[str]:
    """The verdicts that a text may be the beginning of, or that it holds whole."""
    text = said.casefold()
    found = []
    for verdict in allowed:
        label = verdict.casefold()
        if text and (label.startswith(text) or (text.startswith(label) and not text[len(label)].isalnum())):
            found.append(verdict)
    return found
