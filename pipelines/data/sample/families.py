"""Families of sample examples: each builds an instruction with a response that is right or wrong by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TypeVar

from pipelines.core.determinism import choose, integer, unit
from pipelines.data.sample import contents

T = TypeVar("T")
SEED = 20250101
PLAUSIBLE = 5
LETTERS = "bcdfghjklmnpqrstvwxz"
NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}
CORRECT = ("The better response is correct.", "Is the answer correct?")


@dataclass(frozen=True)
class Case:
    """An instruction with a right and a wrong response; the criterion as rubric and as yes/no question."""

    family: str
    instruction: str
    good: str
    bad: str
    rubric: str
    question: str
    context: str = ""
    also_good: str = ""
    """A second right response, for ties; empty where the family has none."""


@dataclass(frozen=True)
class Graded:
    """An instruction with a response that gives `met` of the five parts asked for (the score)."""

    family: str
    instruction: str
    response: str
    rubric: str
    met: int


def graded(family: str, instruction: str, answer: list[str], rubric: str, met: int) -> Graded:
    """The first `met` parts of a full answer as a numbered response."""
    parts = shuffled(answer, instruction)[:met]
    response = " ".join(f"{place}. {part}" for place, part in enumerate(parts, 1))
    return Graded(family, instruction, response, rubric, met)


def shuffled(items: Iterable[T], purpose: str) -> list[T]:
    """The items in an order that depends on the seed, the purpose and the items only."""
    return sorted(items, key=lambda item: unit(SEED, purpose, str(item)))


def pick(options: Sequence[T], purpose: str, key: str) -> T:
    """One of the options, by hash."""
    return choose(options, SEED, purpose, key)


def gibberish(key: str) -> str:
    """Three or four words of consonants."""
    count = 3 + integer(SEED, "count", key) % 2
    sizes = [2 + integer(SEED, f"size{place}", key) % 3 for place in range(count)]
    return " ".join(
        "".join(pick(LETTERS, f"letter{place}.{letter}", key) for letter in range(size))
        for place, size in enumerate(sizes)
    )


def wrong(number: int, instruction: str, good: str, plausible: str) -> str:
    """A wrong response: mostly none at all, which a small model learns to tell; one in PLAUSIBLE is plausible.

    About half of those that do not answer are longer than the right response: length does not give them away.
    """
    if number % PLAUSIBLE == PLAUSIBLE - 1:
        return plausible or gibberish(instruction)
    longer = number // 2 % 7 < 3  # with the families where wrong is longer, or shorter, this makes half of all rows
    fitting = [text for text in contents.NO_ANSWERS if (len(text) > len(good)) == longer]
    return pick(fitting or contents.NO_ANSWERS, "no answer", instruction)


def sentence(text: str) -> str:
    """The text with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def total(pair: tuple[int, int], number: int) -> Case:
    """Sum of two one-digit numbers; the plausible wrong one is far too big."""
    left, right = pair
    instruction = f"What is {left} plus {right}?"
    far = left + right + 50 + integer(SEED, "far", instruction) % 30
    good = f"{left} plus {right} is {left + right}."
    return Case("sum", instruction, good, wrong(number, instruction, good, f"{left} plus {right} is {far}."), *CORRECT)


def capital(country: str, number: int) -> Case:
    """Capital of a country."""
    city = contents.CAPITALS[country]
    instruction = f"What is the capital of {country}?"
    other = pick([name for name in contents.CAPITALS.values() if name != city], "city", country)
    start = f"The capital of {country} is"
    good = f"{start} {city}."
    return Case("capital", instruction, good, wrong(number, instruction, good, f"{start} {other}."), *CORRECT)


def opposite(word: str, number: int) -> Case:
    """Opposite of a word."""
    answer = contents.OPPOSITES[word]
    instruction = f"What is the opposite of {word}?"
    other = pick([name for name in contents.OPPOSITES.values() if name != answer], "opposite", word)
    start = f"The opposite of {word} is"
    good = f"{start} {answer}."
    return Case("opposite", instruction, good, wrong(number, instruction, good, f"{start} {other}."), *CORRECT)


def colour(thing: str, number: int) -> Case:
    """Colour of a thing."""
    answer = contents.COLOURS[thing]
    instruction = f"What colour is {thing}?"
    other = pick([name for name in contents.OTHER_COLOURS if name != answer], "colour", thing)
    good = f"{sentence(thing)} is {answer}."
    bad = wrong(number, instruction, good, f"{sentence(thing)} is {other}.")
    return Case("colour", instruction, good, bad, *CORRECT)


def order(item: tuple[str, str], number: int) -> Case:
    """The day or month after or before one."""
    name, side = item
    kind, ring = ("day", contents.DAYS) if name in contents.DAYS else ("month", contents.MONTHS)
    answer = ring[(ring.index(name) + (1 if side == "after" else -1)) % len(ring)]
    instruction = f"Which {kind} comes right {side} {name}?"
    other = pick([one for one in ring if one not in (answer, name)], "order", instruction)
    start = f"The {kind} right {side} {name} is"
    good = f"{start} {answer}."
    return Case("order", instruction, good, wrong(number, instruction, good, f"{start} {other}."), *CORRECT)


def in_context(thing: str, number: int) -> Case:
    """Where the context puts a thing."""
    place = pick(contents.PLACES, "place", thing)
    other = pick([one for one in contents.PLACES if one != place], "other place", thing)
    instruction, good = f"Where is the {thing}?", f"The {thing} is {place}."
    return Case(
        "context",
        instruction,
        good,
        wrong(number, instruction, good, f"The {thing} is {other}."),
        "The better response agrees with the context.",
        "Does the context support the response?",
        context=good,
    )


def on_topic(item: tuple[str, str], number: int) -> Case:
    """A sentence about a topic; a wrong one is none or gibberish."""
    topic, line = item
    instruction = f"Write one sentence about {topic}."
    return Case(
        "topic",
        instruction,
        line,
        wrong(number, instruction, line, ""),
        f"The better response is about {topic}.",
        f"Is the response about {topic}?",
        also_good=f"I like to read about {topic}.",
    )


def words(item: tuple[str, str], number: int) -> Case:
    """A description in an exact number of words; the wrong one has at least four more."""
    thing, good = item
    count = NUMBER_WORDS[len(good.split())]
    tails = ("in my own opinion and yours", "and many people know that well", "or so it is often said")
    return Case(
        "words",
        f"Describe {thing} in exactly {count} words.",
        good,
        f"{good} {tails[number % 3]}",
        f"The better response has exactly {count} words.",
        f"Does the response have exactly {count} words?",
    )


def listing(name: str, number: int) -> Case:
    """Two or three members of a category, with commas; the plausible wrong one is a single member."""
    members = shuffled(contents.CATEGORIES[name].split(), f"list {name}")
    size = pick((2, 3), "size", name)
    what = f"{NUMBER_WORDS[size]} {name}"
    instruction = f"List {what} separated by commas."
    return Case(
        "list",
        instruction,
        ", ".join(members[:size]),
        wrong(number, instruction, ", ".join(members[:size]), members[0]),
        f"The better response lists {what} separated by commas.",
        f"Does the response list {what} separated by commas?",
        also_good=", ".join(members[-size:]),
    )


def upper(item: tuple[str, str], number: int) -> Case:
    """A sentence in capital letters; the wrong one is the same sentence without them."""
    topic, line = item
    return Case(
        "upper",
        f"Write about {topic} in capital letters.",
        line.upper(),
        line,
        "The better response is all in capital letters.",
        "Is the response all in capital letters?",
        also_good=f"I like to read about {topic}.".upper(),
    )


def question(item: tuple[str, str], number: int) -> Case:
    """A question about a topic; the wrong one is a statement about it."""
    topic, line = item
    asks = (f"Do you like {topic}?", f"What do you know about {topic}?", f"Who wants to talk about {topic}?")
    return Case(
        "question",
        f"Ask a question about {topic}.",
        asks[number % 3],
        line,
        "The better response ends with a question mark.",
        "Does the response end with a question mark?",
        also_good=asks[(number + 1) % 3],
    )


def symbols(item: tuple[str, str, str, str], number: int) -> Case:
    """Code, an emoji, a mathematical sign or an accented word; a wrong one is none or gibberish."""
    instruction, good, rubric, asked = item
    return Case("symbols", instruction, good, wrong(number, instruction, good, ""), rubric, asked)


def graded_list(name: str, met: int) -> Graded:
    """Five members of a category."""
    members = contents.CATEGORIES[name].split()
    return graded("graded_list", f"List five {name}.", members, f"The score is the number of {name} listed.", met)


def graded_note(five: tuple[tuple[str, str], ...], met: int) -> Graded:
    """A note of five tasks, each of which uses one of five words."""
    names = [word for word, _ in five]
    asked = f"Write a note with {', '.join(names[:4])} and {names[4]}."
    tasks = [sentence(clause) for _, clause in five]
    return graded("graded_note", asked, tasks, "The score is the number of words that are used.", met)


def graded_form(thing: str, met: int) -> Graded:
    """A form of five fields."""
    fields = shuffled(contents.FIELDS, f"fields {thing}")[:5]
    asked = f"Give the {', '.join(fields[:4])} and {fields[4]} of a {thing}."
    facts = [f"{name}: {pick(contents.FIELDS[name], name, thing)}" for name in fields]
    return graded("graded_form", asked, facts, "The score is the number of facts given.", met)


def graded_sums(five: tuple[tuple[int, int], ...], met: int) -> Graded:
    """Five sums."""
    asked = f"Solve {', '.join(f'{left}+{right}' for left, right in five)}."
    solved = [f"{left}+{right}={left + right}" for left, right in five]
    return graded("graded_sums", asked, solved, "The score is the number of sums solved.", met)


def fives(items: Iterable[T], rounds: int, purpose: str) -> list[tuple[T, ...]]:
    """Groups of five different items, each at most once a round."""
    known = list(items)
    return [
        tuple(deck[start : start + 5])
        for turn in range(rounds)
        for deck in [shuffled(known, f"{purpose} {turn}")]
        for start in range(0, len(deck) - 4, 5)
    ]


def sums() -> list[tuple[int, int]]:
    """All pairs of one-digit numbers, smaller first."""
    return list(combinations_with_replacement(range(1, 10), 2))


# (builder, its contents, train rows of pairwise and of classification, held-out rows of each of the two)
CASES: tuple[tuple[Callable[..., Case], str, int, int, int], ...] = (
    (total, "sums", 8, 4, 4),
    (capital, "capitals", 12, 4, 6),
    (opposite, "opposites", 10, 4, 6),
    (colour, "colours", 6, 2, 4),
    (order, "order", 10, 4, 6),
    (in_context, "objects", 12, 4, 6),
    (on_topic, "topics to tell of", 18, 6, 10),
    (words, "descriptions", 5, 2, 3),
    (listing, "categories", 5, 2, 2),
    (upper, "topics in capitals", 9, 3, 5),
    (question, "topics to ask about", 9, 3, 5),
    (symbols, "symbol", 4, 2, 3),
)
# (builder, its contents, train rows, held-out rows)
GRADED: tuple[tuple[Callable[..., Graded], str, int, int], ...] = (
    (graded_list, "categories", 12, 12),
    (graded_note, "notes", 14, 18),
    (graded_form, "things", 8, 11),
    (graded_sums, "five sums", 16, 19),
)
