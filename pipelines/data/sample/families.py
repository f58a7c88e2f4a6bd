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
    """An instruction with a response that meets `met` of four requirements (score = 1 + met)."""

    family: str
    instruction: str
    response: str
    reference: str
    rubric: str
    met: int


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


def wrong(number: int, instruction: str, plausible: str) -> str:
    """A wrong response: gibberish or off topic, which a small model can tell; one in five is plausible."""
    noise, other = gibberish(instruction), pick(contents.OFF_TOPIC, "off_topic", instruction)
    return (noise, other, noise, other, plausible or noise)[number % 5]


def sentence(text: str) -> str:
    """The text with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def total(pair: tuple[int, int], number: int) -> Case:
    """Sum of two one-digit numbers; the plausible wrong one is far too big."""
    left, right = pair
    instruction = f"What is {left} plus {right}?"
    far = left + right + 50 + integer(SEED, "far", instruction) % 30
    bad = wrong(number, instruction, f"{left} plus {right} is {far}.")
    return Case("sum", instruction, f"{left} plus {right} is {left + right}.", bad, *CORRECT)


def capital(country: str, number: int) -> Case:
    """Capital of a country."""
    city = contents.CAPITALS[country]
    instruction = f"What is the capital of {country}?"
    other = pick([name for name in contents.CAPITALS.values() if name != city], "city", country)
    start = f"The capital of {country} is"
    bad = wrong(number, instruction, f"{start} {other}.")
    return Case("capital", instruction, f"{start} {city}.", bad, *CORRECT)


def opposite(word: str, number: int) -> Case:
    """Opposite of a word."""
    answer = contents.OPPOSITES[word]
    instruction = f"What is the opposite of {word}?"
    other = pick([name for name in contents.OPPOSITES.values() if name != answer], "opposite", word)
    start = f"The opposite of {word} is"
    bad = wrong(number, instruction, f"{start} {other}.")
    return Case("opposite", instruction, f"{start} {answer}.", bad, *CORRECT)


def colour(thing: str, number: int) -> Case:
    """Colour of a thing."""
    answer = contents.COLOURS[thing]
    instruction = f"What colour is {thing}?"
    other = pick([name for name in contents.OTHER_COLOURS if name != answer], "colour", thing)
    bad = wrong(number, instruction, f"{sentence(thing)} is {other}.")
    return Case("colour", instruction, f"{sentence(thing)} is {answer}.", bad, *CORRECT)


def order(item: tuple[str, str], number: int) -> Case:
    """The day or month after or before one."""
    name, side = item
    kind, ring = ("day", contents.DAYS) if name in contents.DAYS else ("month", contents.MONTHS)
    answer = ring[(ring.index(name) + (1 if side == "after" else -1)) % len(ring)]
    instruction = f"Which {kind} comes right {side} {name}?"
    other = pick([one for one in ring if one not in (answer, name)], "order", instruction)
    start = f"The {kind} right {side} {name} is"
    bad = wrong(number, instruction, f"{start} {other}.")
    return Case("order", instruction, f"{start} {answer}.", bad, *CORRECT)


def in_context(thing: str, number: int) -> Case:
    """Where the context puts a thing."""
    place = pick(contents.PLACES, "place", thing)
    other = pick([one for one in contents.PLACES if one != place], "other place", thing)
    instruction = f"Where is the {thing}?"
    return Case(
        "context",
        instruction,
        f"The {thing} is {place}.",
        wrong(number, instruction, f"The {thing} is {other}."),
        "The better response agrees with the context.",
        "Does the context support the response?",
        context=f"The {thing} is {place}.",
    )


def on_topic(item: tuple[str, str], number: int) -> Case:
    """A sentence about a topic; a wrong one is gibberish or off topic."""
    topic, line = item
    instruction = f"Write one sentence about {topic}."
    return Case(
        "topic",
        instruction,
        line,
        wrong(number, instruction, ""),
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
        wrong(number, instruction, members[0]),
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
    """Code, an emoji, a mathematical sign or an accented word; a wrong one is gibberish or off topic."""
    instruction, good, rubric, asked = item
    return Case("symbols", instruction, good, wrong(number, instruction, ""), rubric, asked)


def graded_list(name: str, met: int, number: int) -> Graded:
    """Four members of a category, one point each."""
    members = contents.CATEGORIES[name].split()
    instruction = f"List four {name}."
    return Graded(
        "graded_list",
        instruction,
        ", ".join(shuffled(members, "answer")[:met]) or wrong(number % 2, instruction, ""),
        ", ".join(shuffled(members, "reference")[:4]),
        f"Score 1, plus 1 for each of the {name} listed, up to four.",
        met,
    )


def graded_note(four: tuple[tuple[str, str], ...], met: int, number: int) -> Graded:
    """A note that uses four words, one point each; in every fourth one other clauses replace the missing."""
    names = [word for word, _ in four]
    key = " ".join(names)
    used = shuffled(four, f"used {key}")[:met]
    said = [clause for _, clause in used]
    if number % 4 == 2 or not used:
        others = [clause for pair in contents.NOTE_WORDS if pair not in four for clause in pair[1:]]
        said += shuffled(others, f"others {key}")[: 4 - met if used else 1]
    return Graded(
        "graded_note",
        f"Write a note that uses the words {', '.join(names[:3])} and {names[3]}.",
        sentence(", ".join(said)) + ".",
        sentence(", ".join(clause for _, clause in four)) + ".",
        f"Score 1, plus 1 for each word used: {', '.join(names)}.",
        met,
    )


def graded_form(thing: str, met: int, number: int) -> Graded:
    """A form of four fields, one point for each that is given."""
    fields = shuffled(contents.FIELDS, f"fields {thing}")[:4]
    kept = shuffled(fields, f"kept {thing}")[:met]

    def filled(purpose: str, names: list[str]) -> str:
        values = {name: pick(contents.FIELDS[name], f"{purpose} {name}", thing) for name in names}
        return ", ".join(f"{name}: {values[name]}" for name in fields if name in values)

    asked = ", ".join(fields[:3])
    return Graded(
        "graded_form",
        f"Give the {asked} and {fields[3]} of a {thing}.",
        filled("answer", kept) or wrong(number % 2, thing, ""),
        filled("reference", fields),
        f"Score 1, plus 1 for each one given: {', '.join(fields)}.",
        met,
    )


def graded_format(item: tuple[str, str], met: int, number: int) -> Graded:
    """A line with four properties (names the topic, capitals, digit, '!'), one point each."""
    topic, line = item
    kept = set(shuffled(("topic", "capitals", "digit", "mark"), f"kept {topic}")[:met])
    text = line if "topic" in kept else pick(contents.OFF_TOPIC, "format", topic)
    digit = 2 + integer(SEED, "digit", topic) % 8
    text = f"{digit}: {text}" if "digit" in kept else text
    text = text.upper() if "capitals" in kept else text
    text = text.rstrip(".") + "!" if "mark" in kept else text
    word = topic.split()[-1]
    return Graded(
        "graded_format",
        f"Write about {topic} in capital letters, with a digit and a final '!'.",
        text,
        f"1: WE LIKE {topic.upper()}!",
        f"Score 1, plus 1 for each: says {word}, all capitals, has a digit, ends with !.",
        met,
    )


def graded_sums(four: tuple[tuple[int, int], ...], met: int, number: int) -> Graded:
    """Four sums, one point each; an unsolved one is left out, in every fourth example far too big."""
    names = [f"{left}+{right}" for left, right in four]
    key = ", ".join(names)
    solved = shuffled(names, f"solved {key}")[:met]
    right = {name: sum(pair) for name, pair in zip(names, four, strict=True)}

    far = {name: right[name] + 50 + integer(SEED, name, key) % 30 for name in names}
    shown = far | {name: right[name] for name in solved}
    answer = [f"{name}={shown[name]}" for name in names if name in solved or number % 4 == 2]
    return Graded(
        "graded_sums",
        f"Solve {key}.",
        ", ".join(answer) or wrong(number % 2, key, ""),
        ", ".join(str(right[name]) for name in names),
        "Score 1, plus 1 for each of the four sums that is right.",
        met,
    )


def fours(items: Iterable[T], rounds: int, purpose: str) -> list[tuple[T, ...]]:
    """Groups of four different items, every item once a round."""
    known = list(items)
    return [
        tuple(deck[start : start + 4])
        for turn in range(rounds)
        for deck in [shuffled(known, f"{purpose} {turn}")]
        for start in range(0, len(deck) - 3, 4)
    ]


def sums() -> list[tuple[int, int]]:
    """All pairs of one-digit numbers, smaller first."""
    return list(combinations_with_replacement(range(1, 10), 2))


# (builder, its contents, train rows and held-out rows of each of the two task types)
CASES: tuple[tuple[Callable[..., Case], str, int, int], ...] = (
    (total, "sums", 5, 2),
    (capital, "capitals", 6, 3),
    (opposite, "opposites", 6, 3),
    (colour, "colours", 5, 2),
    (order, "order", 4, 2),
    (in_context, "objects", 6, 3),
    (on_topic, "topics", 8, 4),
    (words, "descriptions", 5, 2),
    (listing, "categories", 5, 3),
    (upper, "topics", 5, 2),
    (question, "topics", 5, 3),
    (symbols, "symbols", 4, 1),
)
# (builder, its contents, train rows, held-out rows)
GRADED: tuple[tuple[Callable[..., Graded], str, int, int], ...] = (
    (graded_list, "categories", 16, 7),
    (graded_note, "notes", 16, 7),
    (graded_form, "things", 12, 6),
    (graded_format, "topics", 10, 5),
    (graded_sums, "four sums", 10, 5),
)
