"""The names of annotators: one person is one name, whatever device it was typed on."""

from __future__ import annotations

import unicodedata

from pipelines.curation.words import seen

LONGEST = 60


def known_as(name: str) -> str:
    """The name as it is kept: letters composed, without characters that show nothing, single spaces.

    A phone and a desk computer encode the same letters in two ways, and what is pasted brings invisible characters:
    one person would count as two annotators who agree.
    """
    spaced = " ".join(seen(name).split())
    plain = "".join(char for char in spaced if unicodedata.category(char) != "Cc")
    # What stood between the parts of a letter is gone: only now can they be composed.
    return " ".join(unicodedata.normalize("NFC", plain).split())


def checked(name: str) -> str:
    """The name as it is kept, of one that somebody gives.

    Raises:
        ValueError: nothing of it can be seen, or it is too long.
    """
    known = known_as(name)
    if not 1 <= len(known) <= LONGEST:
        raise ValueError(f"a name has 1 to {LONGEST} characters that can be seen")
    return known
