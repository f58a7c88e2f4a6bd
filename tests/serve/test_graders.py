"""OpenAI's graders on a stub engine (labelled so); their shapes are checked by OpenAI's own types."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse

from serve.grading.formula import Formula, FormulaError
from serve.grading.schemas import scale
from serve.grading.similarity import longest_common, similarity
from serve.grading.values import SampleNotJson, UnknownVariable, Values
from tests.serve.stub_judge import StubAsk, app_of, client_of

pytestmark = pytest.mark.anyio
CHECK = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "{{item.want}}",
    "operation": "eq",
}
ALIKE = {
    "type": "text_similarity",
    "name": "alike",
    "input": "{{ sample.output_text }}",
    "reference": "{{item.want}}",
    "evaluation_metric": "fuzzy_match",
}
PROMPT = [{"role": "user", "content": "Is {{sample.output_text}} the same as {{item.want}}?"}]
LABEL = {
    "type": "label_model",
    "name": "label",
    "model": "judge",
    "input": PROMPT,
    "labels": ["good", "fair", "bad"],
    "passing_labels": ["good", "fair"],
}
SCORE = {"type": "score_model", "name": "score", "model": "judge", "input": PROMPT, "range": [1, 5]}


async def run(grader: Any, sample: str = "Oslo", ask: StubAsk | None = None, **item: Any) -> Any:
    app = app_of(ask or StubAsk())
    body = {"grader": grader, "model_sample": sample, "item": {"want": "Oslo", **item}}
    async with client_of(app) as client:
        return await client.post(
            "/v1/fine_tuning/alpha/graders/run",
            content=json.dumps(body),  # httpx itself refuses to write what some of these bodies have
            headers={"content-type": "application/json"},
        )


async def reward(grader: Any, sample: str = "Oslo", ask: StubAsk | None = None, **item: Any) -> float:
    answer = await run(grader, sample, ask, **item)
    assert answer.status_code == 200, answer.text
    said = GraderRunResponse.model_validate(answer.json())
    assert not [name for name, value in said.metadata.errors.model_dump().items() if value]
    return said.reward


@pytest.mark.parametrize(
    ("operation", "sample", "want", "expected"),
    [
        ("eq", "Oslo", "Oslo", 1),
        ("eq", "oslo", "Oslo", 0),
        ("ne", "oslo", "Oslo", 1),
        ("like", "in Oslo.", "Oslo", 1),
        ("like", "in oslo.", "Oslo", 0),
        ("ilike", "in oslo.", "OSLO", 1),
        ("ilike", "Bergen", "OSLO", 0),
    ],
)
async def test_string_check(operation: str, sample: str, want: str, expected: int) -> None:
    assert await reward({**CHECK, "operation": operation}, sample, want=want) == expected


async def test_text_similarity() -> None:
    assert await reward(ALIKE, "this is a test", want="this is a test!") == pytest.approx(28 / 29)


@pytest.mark.parametrize("metric", ["cosine", "bleu", "gleu", "meteor"])
async def test_measures_that_need_a_model_or_a_word_list_are_refused(metric: str) -> None:
    answer = await run({**ALIKE, "evaluation_metric": metric})
    assert answer.status_code == 422 and "not offered here" in answer.json()["error"]["message"]


async def test_label_model_passes_by_its_label() -> None:
    ask = StubAsk()
    answer = (await run(LABEL, "**{{item.want}}**", ask)).json()
    assert answer["reward"] == 1 and answer["metadata"]["sampled_model_name"] == "judge"
    assert answer["metadata"]["verdicts"]["label"]["label"] == "good"
    assert answer["metadata"]["token_usage"] == 110 and answer["model_grader_token_usage_per_model"]["judge"]
    # A value is a value: what looks like a variable in it is not read again.
    assert ask.prompts[0].startswith("Is **{{item.want}}** the same as Oslo?")
    assert list(ask.settings[0]["closing"].endings) == ["good", "fair", "bad"] and ask.settings[0]["max_tokens"] == 0
    last = StubAsk(lambda prompt, labels: dict(zip(labels, (0.2, 0.3, 0.5), strict=True)))
    assert await reward(LABEL, ask=last) == 0


async def test_score_model_is_the_expected_score_over_the_range() -> None:
    ask = StubAsk(lambda prompt, labels: dict(zip(labels, (0.1, 0.0, 0.2, 0.6, 0.1), strict=True)))
    assert await reward(SCORE, ask=ask) == pytest.approx(3.6)
    assert list(ask.settings[0]["closing"].endings) == ["1", "2", "3", "4", "5"]
    ask = StubAsk(lambda prompt, labels: {label: float(label == "0.7") for label in labels})
    assert await reward({**SCORE, "range": None}, ask=ask) == pytest.approx(0.7)


async def test_score_model_writes_a_critique_if_given_tokens() -> None:
    ask = StubAsk()
    await reward({**SCORE, "sampling_params": {"max_completions_tokens": 64, "temperature": 0.5}}, ask=ask)
    assert ask.settings[0]["max_tokens"] == 64 and "**Reasoning:**" in ask.prompts[0]


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"]),
        (1, 5, ["1", "2", "3", "4", "5"]),
        (-1, 1, ["-1", "0", "1"]),
        (0, 100, ["0", "10", "20", "30", "40", "50", "60", "70", "80", "90", "100"]),
    ],
)
def test_scales(low: float, high: float, labels: list[str]) -> None:
    assert list(scale(float(low), float(high))) == labels
    assert list(scale(float(low), float(high)).values()) == pytest.approx([float(label) for label in labels])


@pytest.mark.parametrize("ends", [[1, 0], [1, 1], [0, 1e-9], [0], [0, 1, 2], [0, "1"], [0, 1e300], [-1e308, 1e308]])
async def test_a_range_that_is_none_is_refused(ends: Any) -> None:
    assert (await run({**SCORE, "range": ends})).status_code == 422


async def test_multi_combines_its_graders() -> None:
    graders = {"same": CHECK, "label": LABEL, "score": SCORE}
    multi = {"type": "multi", "name": "m", "graders": graders, "calculate_output": "0.5 * same + label * score ^ 2"}
    ask = StubAsk(lambda prompt, labels: {label: float(label in ("good", "3")) for label in labels})
    answer = (await run(multi, ask=ask)).json()
    assert answer["reward"] == pytest.approx(0.5 + 9)
    assert answer["sub_rewards"] == {"same": 1, "label": 1, "score": 3} and ask.most == 2
    assert GraderRunResponse.model_validate(answer).metadata.type == "multi"


async def test_multi_of_one_grader_goes_by_its_name() -> None:
    multi = {"type": "multi", "name": "m", "graders": CHECK, "calculate_output": "1 - same"}
    assert await reward(multi) == 0


@pytest.mark.parametrize(
    ("grader", "sample", "error"),
    [
        ({**CHECK, "reference": "{{item.nothing}}"}, "Oslo", "invalid_variable_error"),
        ({**CHECK, "reference": "{{sample.choices}}"}, "Oslo", "invalid_variable_error"),
        ({**CHECK, "reference": "{{sample.output_json.a}}"}, "no json", "sample_parse_error"),
        (
            {"type": "multi", "name": "m", "graders": {"g": CHECK}, "calculate_output": "1 / g"},
            "Bergen",
            "formula_parse_error",
        ),
    ],
)
async def test_what_is_wrong_with_the_data_is_said_with_no_reward(grader: Any, sample: str, error: str) -> None:
    said = (await run(grader, sample)).json()
    assert said["reward"] == 0
    assert [name for name, value in said["metadata"]["errors"].items() if value] == [error]


@pytest.mark.parametrize(
    "change",
    [
        {"type": "python", "source": "def grade(a, b): return 1"},
        {"model": "gpt-5"},
        {"labels": ["good"]},
        {"passing_labels": ["great"]},
        {"input": [{"role": "user", "content": {"type": "input_image", "image_url": "http://x"}}]},
        {"input": [{"role": "tool", "content": "x"}]},
    ],
)
async def test_graders_that_cannot_be_run_are_refused(change: Any) -> None:
    answer = await run({**LABEL, **change})
    assert answer.status_code == (404 if "model" in change else 422)
    assert set(answer.json()["error"]) == {"message", "type", "code", "param"}


async def test_an_item_is_bounded() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    for item in (deep, "\ud800", {"\ud800": 1}, math.nan, [math.inf]):
        assert (await run(CHECK, other=item)).status_code == 422


async def test_openais_client_runs_and_validates() -> None:
    app = app_of(StubAsk())
    async with client_of(app) as http:
        client = AsyncOpenAI(base_url="http://judge/v1", api_key="none", http_client=http)
        made: Any = {"type": "multi", "name": "m", "graders": {"g": LABEL}, "calculate_output": "g"}
        found = await client.fine_tuning.alpha.graders.run(grader=made, model_sample="Oslo", item={"want": "Oslo"})
        assert found.reward == 1 and found.metadata.scores == {"g": 1}
        score: Any = SCORE
        checked: GraderValidateResponse = await client.fine_tuning.alpha.graders.validate(grader=score)
        assert checked.grader is not None and checked.grader.name == "score"


# --- values


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{item.a}}", "1"),
        ("{{ item.b.c[1] }}", "y"),
        ("{{item.b}}", '{"c": ["x", "y"]}'),
        ("{{item.brace}}", "{{item.a}}"),
        ("{{ 7*7 }} {{item}", "{{ 7*7 }} {{item}"),
        ("{{sample.output_json.n}}", "3"),
        ("{{sample.output_text}}", '{"n": 3}'),
        ("{{item.no_such.__class__}}", None),
        ("{{item.__class__}}", None),
        ("{{item.b.c[9]}}", None),
        ("{{item.a.real}}", None),
    ],
)
def test_variables(text: str, filled: str | None) -> None:
    values = Values({"a": 1, "b": {"c": ["x", "y"]}, "brace": "{{item.a}}"}, '{"n": 3}')
    if filled is None:
        with pytest.raises(UnknownVariable):
            values.fill(text)
    else:
        assert values.fill(text) == filled


@pytest.mark.parametrize("sample", ["no", "[" * 50_000, "[" * 100 + "]" * 100, "NaN"])
def test_a_sample_that_is_no_json_has_no_output_json(sample: str) -> None:
    with pytest.raises(SampleNotJson):
        Values({}, sample).fill("{{sample.output_json}}")


# --- formulas


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + b * 2", 8),
        ("-(a - b) ^ 2 / 2", -0.5),
        ("a ^ b + 1", 9),
        ("max(a, b, 1) - min(a, b)", 1),
        ("abs(-a) + floor(b / 2) + ceil(b / 2)", 5),
        ("exp(0) + sqrt(4) + log(1)", 3),
    ],
)
def test_formulas(text: str, value: float) -> None:
    assert Formula(text, ["a", "b"])({"a": 2.0, "b": 3.0}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c",
        "a +",
        "a; b",
        "a if a else b",
        "__import__('os')",
        "a.real",
        "a[0]",
        "[a]",
        "'a'",
        "True",
        "lambda: a",
        "max(*[a])",
        "max(a, key=b)",
        "sqrt()",
        "print(a)",
        "a // b",
        "a @ b",
        "1j",
        "9" * 400,
        "1e999",
        "(" * 300 + "a" + ")" * 300,
        "-" * 500 + "a",
        "+".join("a" * 300),
        "a" * 1001,
        "a\x00",
    ],
)
def test_what_is_no_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        Formula(text, ["a", "b"])


@pytest.mark.parametrize("text", ["1 / a", "9 ^ 9 ^ 9 ^ 9", "exp(1000)", "sqrt(-1)", "(-8) ^ 0.5", "log(a)", "0 ^ -1"])
def test_what_has_no_value_is_an_error(text: str) -> None:
    with pytest.raises(FormulaError):
        Formula(text, ["a"])({"a": 0.0})


# --- similarity

WORDS = st.text("ab c", max_size=12)


@given(WORDS, WORDS)
def test_longest_common_subsequence_is_that_of_the_table(first: str, second: str) -> None:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    assert longest_common(first, second) == table[-1][-1]


@pytest.mark.parametrize(
    ("metric", "text", "reference", "expected"),
    [
        # fuzz.ratio of rapidfuzz's own documentation
        ("fuzzy_match", "this is a test", "this is a test!", 0.9655172413793104),
        ("fuzzy_match", "", "", 1.0),
        ("fuzzy_match", "abc", "", 0.0),
        # By hand: 3 shared words of 4 and 5; 2 shared pairs of 3 and 4; the longest common subsequence has 3 words.
        ("rouge_1", "the cat sat down", "The cat sat on it.", 2 * 3 / 9),
        ("rouge_2", "the cat sat down", "The cat sat on it.", 2 * 2 / 7),
        ("rouge_l", "the cat sat down", "The cat sat on it.", 2 * 3 / 9),
        ("rouge_1", "a a a", "a", 0.5),
        ("rouge_5", "too short", "too short", 0.0),
        ("rouge_l", "", "", 0.0),
    ],
)
def test_similarities(metric: str, text: str, reference: str, expected: float) -> None:
    assert math.isclose(similarity(metric, text, reference), expected, rel_tol=1e-12)
