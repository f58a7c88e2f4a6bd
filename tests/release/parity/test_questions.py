"""Questions as forward passes: what is weighed, and what the weights mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.core import storage
from pipelines.core.records import OK
from pipelines.release.parity.asking import asked_of, critiques_of, probe_config, probe_rows, write_answers
from pipelines.release.parity.certificate import Certificate, parity
from pipelines.release.parity.column import Answers, ask
from pipelines.release.parity.hostile import PLAIN, hostile_texts
from pipelines.release.parity.questions import asked, questions
from pipelines.release.parity.reader import framed
from pipelines.release.parity.shown import drift, margins, table, terminal
from pipelines.release.parity.transformers_reader import TransformersReader
from tests.release.made import config_of
from tests.training.tiny import write_model

ROWS = ["heldout_pairwise", "heldout_classification"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> TransformersReader:
    return TransformersReader(str(write_model(tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = config_of(tmp_path_factory.mktemp("run"), ROWS)
    evaluation = probe_config(config.evaluation, ROWS, 4)
    examples, rows = probe_rows(config.run, config.run.work / "probe", evaluation)
    return config, evaluation, examples, rows


def test_a_verdict_has_the_probability_of_its_whole_answer(reader: TransformersReader, probe: Any) -> None:
    """Against the sum over every token of every answer, renormalised where the answers part."""
    import torch

    made = questions(probe[3], reader.tokenizer)
    number = next(n for n, question in enumerate(made) if question.allowed == ["A", "B"])
    question, prompt = made[number], reader.encode([made[number].message])[0]
    found = ask(reader, asked_of(probe[3], reader.tokenizer)).probabilities[number]
    ids = torch.tensor([[*prompt, *question.shared]])
    with torch.no_grad():
        last = torch.log_softmax(reader.model(ids).logits[0, -1], -1)
    firsts = torch.stack([last[path[0]] for path in question.paths])
    assert [len(path) for path in question.paths] == [2] * len(question.paths)  # a byte, and the end of the turn
    assert list(found.values()) == pytest.approx(torch.softmax(firsts, 0).tolist(), abs=1e-6)


def test_every_place_of_every_question_is_asked_once(reader: TransformersReader, probe: Any) -> None:
    made = questions(probe[3], reader.tokenizer)
    prompts, tokens = asked(made, [[1]] * len(made))
    assert len(prompts) == len(tokens) == sum(len(question.places()) for question in made)
    assert all(
        ids[: 1 + len(question.shared)] == [1, *question.shared] for ids, question in zip(prompts, made, strict=True)
    )


def test_a_verdict_may_follow_the_judges_own_critique(reader: TransformersReader, probe: Any) -> None:
    rows = probe[3]
    critique = "The first one is right."
    alone, after = (questions(rows, reader.tokenizer, one)[0] for one in ({}, {rows[0]["judgment_id"]: critique}))
    assert critique in reader.tokenizer.decode(after.shared) and critique not in reader.tokenizer.decode(alone.shared)
    assert after.message != alone.message  # the prompt asks for a critique


def test_critiques_are_those_that_could_be_read(tmp_path: Path) -> None:
    rows = [
        {"judgment_id": "a", "critique": "good", "parse_status": OK},
        {"judgment_id": "b", "critique": "torn", "parse_status": "no_verdict"},
        {"judgment_id": "c", "critique": "", "parse_status": OK},
    ]
    import pyarrow as pa

    storage.write_table(tmp_path / "j.parquet", pa.Table.from_pylist(rows))
    assert critiques_of(tmp_path / "j.parquet") == {"a": "good"} and critiques_of(tmp_path / "none.parquet") == {}


def certificate(reader: TransformersReader, probe: Any, changed: Any, tmp_path: Path) -> Certificate:
    from dataclasses import replace

    from pipelines.evaluation.scoring.results import summarise
    from pipelines.judging.chat_template import control_tokens

    _, evaluation, examples, rows = probe
    controls = list(control_tokens(reader.tokenizer).values())
    what = replace(asked_of(rows, reader.tokenizer), texts=hostile_texts(controls))
    first = ask(reader, what)
    answers = {"one": first, "two": changed(first)}
    places = {
        name: write_answers(one, what, examples, tmp_path / name, tmp_path / f"{name}.parquet")
        for name, one in answers.items()
    }
    results = summarise(places, examples.folder, evaluation, 0)
    columns = {
        name: parity(what, first, one, name, controls, results.comparison.get(name), 0.02)
        for name, one in answers.items()
    }
    return Certificate(
        reference="one",
        questions=len(what.questions),
        after_critique=0,
        texts=len(what.texts),
        most_flips=0.02,
        columns=columns,
        versions={},
    )


def test_the_same_answers_make_a_clean_certificate(reader: TransformersReader, probe: Any, tmp_path: Path) -> None:
    found = certificate(reader, probe, lambda answers: answers, tmp_path)
    two = found.columns["two"]
    assert found.same_tokens and two.within and two.flips.value == 0.0 and two.divergence.most == 0.0
    assert two.marked.of == two.marked.equal > 0 and two.chat.of == two.encoded.of == found.questions + len(PLAIN)
    assert {one.difference for one in two.drift.values()} == {0.0}
    assert "| two |" in table(found) and "the same judge" in terminal(found) and "0-0.1" in margins(found)
    assert drift(found).count("| two |") == 2


def test_turned_verdicts_and_other_tokens_are_seen(reader: TransformersReader, probe: Any, tmp_path: Path) -> None:
    def turned(answers: Answers) -> Answers:
        upside = [dict(zip(one, reversed(one.values()), strict=True)) for one in answers.probabilities[:6]]
        return Answers(["other", *answers.encoded[1:]], answers.chat, [*upside, *answers.probabilities[6:]])

    found = certificate(reader, probe, turned, tmp_path)
    two = found.columns["two"]
    assert two.encoded.of - two.encoded.equal == 1 and not found.same_tokens and not two.within
    assert two.flips.value == pytest.approx(6 / two.flips.n) and two.gap.most > 0 and two.divergence.most > 0
    assert "NOT the same judge" in terminal(found)


def test_a_frame_around_a_text_is_read_as_the_trainer_reads_it(reader: TransformersReader) -> None:
    """The rule that llama.cpp's tokenizer is used by, here with the tokenizer that the trainer uses."""
    from pipelines.judging.chat_template import asking, control_tokens

    controls = frozenset(control_tokens(reader.tokenizer))

    def encode(text: str, special: bool) -> list[int]:
        return list(reader.tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"])

    for text in hostile_texts(list(control_tokens(reader.tokenizer).values())):
        wanted = reader.encode([text])[0]
        assert framed(encode, asking(reader.tokenizer), text, controls) == wanted, repr(text)


def test_only_llama_cpp_may_make_characters_of_control_tokens_in_its_own_way(
    reader: TransformersReader, probe: Any, tmp_path: Path
) -> None:
    def other(answers: Answers) -> Answers:
        return Answers([*answers.encoded[:-1], "other"], answers.chat, answers.probabilities)

    found = certificate(reader, probe, other, tmp_path)
    assert found.columns["two"].marked.of - found.columns["two"].marked.equal == 1 and not found.same_tokens
    assert {name for name, _ in found.columns["two"].model_copy(update={"engine": "llama.cpp"}).required()} == {
        "",
        "chat ",
    }
    loose = {**found.columns, "two": found.columns["two"].model_copy(update={"engine": "llama.cpp"})}
    assert found.model_copy(update={"columns": loose}).same_tokens
