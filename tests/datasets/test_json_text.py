"""A key that an object has twice is noticed whether or not a text is read the quick way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.datasets.json_text import Decoder, parsed

DENSE = '{"rows": [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}]}'
AFTER = [
    ('{"a": 1, "b": {"c": 2, "c": 3}}', "c"),
    ('{"a": 1, "b": 2, "a": 3}', "a"),
    ('[{"a" : 1, "a": 3}]', "a"),
    ('[{"a"\n\t: 1, "b": 2, "b": ":"}]', "b"),
    (r'{"a": 1, "\u0061": 2}', "a"),
    (r'{"a\"": 1, "a\"": 2, "b": "\":"}', 'a"'),
    (r'{"a\\": 1, "a\\": 2, "b": "\\"}', "a\\"),
    ('{"": 1, "": 2}', ""),
    ('{"a": ":", "b": {"b": "12:30"}}', None),
    (r'{"a": "\":", "b": {"b": 1}}', None),
    ('{"a": {}, "b": [{}, {}]}', None),
    ('["text: no key", 1, null]', None),
    ('":"', None),
]


@pytest.mark.parametrize(("text", "key"), AFTER)
def test_a_key_twice_is_noticed_after_dense_texts(text: str, key: str | None) -> None:
    decoder = Decoder()
    for _ in range(3):
        assert decoder.decode(DENSE) == json.loads(DENSE) and decoder.twice is None
    assert decoder.decode(text) == json.loads(text)
    assert decoder.twice == key
    decoder.twice = None
    assert decoder.decode(DENSE) == json.loads(DENSE) and decoder.twice is None


def test_a_text_is_read_up_to_its_end_and_no_further() -> None:
    decoder, twice = Decoder(), '{"a": 1, "a": 2}'
    held = DENSE + DENSE + twice + DENSE
    at = 0
    for expected in (None, None, "a", None):
        decoder.twice = None
        _, at = decoder.raw_decode(held, at)
        assert decoder.twice == expected
    assert at == len(held)


names = st.sampled_from(["a", "b", "", ":", "a:", '"', '":', "\\", '\\":', " :"])
leaves = st.one_of(st.integers(0, 9), st.none(), names)
spaces = st.sampled_from(["", "", "", " ", "\n", "\t "])


def written(node: Any) -> str:
    """A tree as JSON text; its mappings are tuples of key, white space and value, so that keys may come twice."""
    if isinstance(node, tuple):
        return "{" + ", ".join(f"{json.dumps(key)}{space}:{written(value)}" for key, space, value in node) + "}"
    return f"[{','.join(map(written, node))}]" if isinstance(node, list) else json.dumps(node)


trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(st.tuples(names, spaces, inner), max_size=4).map(tuple)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(trees, min_size=1, max_size=6))
def test_texts_in_a_row_are_read_as_each_by_itself(several: list[Any]) -> None:
    decoder = Decoder()
    decoder.decode(DENSE)
    for tree in several:
        text = written(tree)
        decoder.twice = None
        assert (decoder.decode(text), decoder.twice) == parsed(text)
