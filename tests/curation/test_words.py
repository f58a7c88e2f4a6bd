"""Words: the same text in another encoding of its letters has the same words, and scripts without spaces have some."""

from __future__ import annotations

import unicodedata

from pipelines.curation.words import words_of


def test_how_letters_are_encoded_makes_no_difference() -> None:
    text = "Café naïve ﬁle"
    assert words_of(unicodedata.normalize("NFD", text)) == words_of(text) == ["café", "naïve", "file"]
    assert words_of("con\u00adta\u200bmi\u2060nated text\ufeff") == ["contaminated", "text"]


def test_scripts_without_spaces_have_a_word_a_letter() -> None:
    assert words_of("GPT模型很好。") == ["gpt", "模", "型", "很", "好"]
    assert words_of("x = -5") == ["x", "=", "-5"]
