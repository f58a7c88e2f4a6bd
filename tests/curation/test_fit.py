"""Rows too long for generator, checker or trainer leave before any is asked, and no others do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.core.stage import apply_stages
from pipelines.curation.config import CritiqueConfig, CurationConfig, MixConfig
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.fit import MARGIN, Fits, check_room
from pipelines.curation.job import check_names
from pipelines.engines.config import EngineConfig
from pipelines.judging.count_tokens import TokenCounter, find_facts
from tests.curation.test_mix import TEMPLATES, WORDS, PairByWords, row

COUNTER = TokenCounter(find_facts(WORDS), lambda: WORDS)  # type: ignore[arg-type]


class FitsByWords(Fits):
    def counter(self, model: str) -> TokenCounter:
        return COUNTER


def stage(room: int = 2000, most: int = 2000, critique: int = 100, mode: str = "prompted", **mix: Any) -> Fits:
    engine = EngineConfig(max_model_len=room)
    # Its prompt is shorter than the check's.
    config = CritiqueConfig(template="critique_compact", max_tokens=critique, check_mode=mode, engine=engine)  # type: ignore
    pair = PairByWords(MixConfig(**{"templates": TEMPLATES, "max_tokens": most, **mix}), seed=3)
    return FitsByWords(ConsistencyCheck(config, 3), pair)


def status(fits: Fits, **changes: Any) -> str:
    one = row("x", **changes)
    apply_stages([fits], [one])
    return one["status"]


def prompts(fits: Fits) -> tuple[int, int]:
    """Tokens of the longest critique prompt and of the longest check, without a critique."""
    one = row("x")
    asked = [fits.check.critique.prompt(one, verdict) for verdict in "AB"]
    return max(COUNTER.prompts(asked)), max(COUNTER.prompts([fits.check.question(one, "", v).prompt for v in "AB"]))


def test_a_row_stays_exactly_as_long_as_its_critique_prompt_and_checks_fit() -> None:
    asked, checked = prompts(stage())
    least = max(asked + 100, checked + 100 + len("Yes") + 1 + MARGIN)
    assert status(stage(room=least)) == "ok"
    assert status(stage(room=least - 1)) == "filtered:too_long_for_checker"
    assert status(stage(room=asked + 100 - 1)) == "filtered:too_long_for_generator"


def test_a_long_label_needs_room_in_the_check_that_writes_it() -> None:
    labels = ["word " * 40, "Yes"]
    changes = {"task": "classification", "allowed": labels, "verdict": "Yes", "rejected_verdict": labels[0]}
    one = row("x", responses=["red"], **changes)
    blind = stage(mode="blind")
    checked = max(COUNTER.prompts([blind.check.question(one, "", verdict).prompt for verdict in labels]))
    changes |= {"responses": ["red"]}
    least = checked + 100 + len(labels[0]) + 1 + MARGIN
    assert status(stage(room=least, mode="blind"), **changes) == "ok"
    assert status(stage(room=least - 1, mode="blind"), **changes) == "filtered:too_long_for_checker"


def test_a_row_that_fits_in_no_form_of_a_pair_leaves_and_one_that_fits_in_any_stays() -> None:
    pair = stage().pair
    sizes = []
    for prompt, ends in pair.shortest(row("x")):
        sizes.append(COUNTER.prompts([prompt])[0] + max(COUNTER.completions(ends)))
    assert len(sizes) == 2 and sizes[0] > sizes[1]  # with and without a critique
    assert status(stage(most=sizes[1])) == "ok"
    assert status(stage(most=sizes[1] - 1)) == "filtered:too_long_for_training"
    longer = {"pairwise": ["pairwise_compact", "pairwise_original"]}
    assert status(stage(most=sizes[1], templates={**TEMPLATES, **longer})) == "ok"


@pytest.mark.parametrize("words", [0, 10, 50, 100, 200, 400])
def test_every_row_the_mixture_would_keep_without_a_critique_stays_and_no_hopeless_one(words: int) -> None:
    one = row("x", instruction="word " * words, chosen_critique="", rejected_critique="")
    fits = stage(most=150, cot_share=0.0)
    before = status(fits, instruction=one["instruction"])
    fits.pair.apply_batch([one])
    assert (one["status"] == "ok") == (before == "ok")


def test_the_share_of_critiques_and_the_caps_are_no_part_of_what_a_row_must_fit() -> None:
    def depends(**mix: Any) -> dict[str, Any]:
        return stage(**mix).depends()

    assert depends() == depends(cot_share=0.1) == depends(caps={"s": 3})
    assert depends() != depends(templates={**TEMPLATES, "pairwise": "pairwise_original"})
    assert depends() != depends(critique=99) != depends(room=1999)


def test_a_critique_that_fills_the_room_is_a_mistake_in_the_config() -> None:
    def check(tokens: int, room: int, mode: str = "prompted", label: str = "Yes") -> None:
        given = {"max_tokens": tokens, "check_mode": mode, "engine": {"max_model_len": room}}
        check_room(CritiqueConfig.model_validate(given), [["No", label]])

    check(256, 2048)
    check(1000, 1024, label="a very long label")
    for given in ((1024, 1024), (1000, 1024, "blind", "a very long label")):
        with pytest.raises(UserError, match=r"critique\.max_tokens: 10\d\d tokens of a critique leave no room"):
            check(*given)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"mix": {"caps": {"sample_pairwse": 3}}},
            r"mix\.caps\.sample_pairwse: no such source \(known: sample_pairwise",
        ),
        ({"mix": {"templates": {"pairwyse": "pairwise_compact"}}}, r"mix\.templates\.pairwyse: no such task or source"),
        ({"mix": {"templates": {"sample_pairwise": "absolute_compact"}}}, "is for absolute rows, not for pairwise"),
        ({"mix": {"templates": {"absolute": "pairwise_compact"}}}, "is for pairwise rows, not for absolute"),
        ({"mix": {"templates": {"pairwise": "critique"}}}, "is for any rows, not for pairwise"),
        ({"mix": {"templates": {"pairwise": ["pairwise_compact", "nosuch"]}}}, "no template 'nosuch'"),
        ({"reward": {"enabled": False, "thresholds": {"sample_pairwise": 1.0}}}, "thresholds, but no reward model"),
        ({"critique": {"max_tokens": 2048}}, "leave no room for a prompt"),
        ({"critique": {"template": "nosuch"}}, "no template 'nosuch'"),
        ({"critique": {"template": "pairwise_original"}}, "does not say which verdict to argue for"),
        ({"critique": {"template": "absolute_original"}}, "is for absolute rows, not for pairwise"),
    ],
)
def test_a_config_that_cannot_work_is_refused_before_anything_starts(section: dict[str, Any], message: str) -> None:
    check_names(CurationConfig(sources=["sample_pairwise"]))
    with pytest.raises(UserError, match=message):
        check_names(CurationConfig.model_validate({"sources": ["sample_pairwise"], **section}))


def test_a_template_that_asks_for_what_no_row_has_is_refused_before_anything_starts(tmp_path: Path) -> None:
    text = "name: own\ntask: pairwise\norigin: here\ntext: '{% if not cot %}{{ instructon }}{% endif %}'\n"
    (tmp_path / "own.yaml").write_text(text)
    given = {"sources": ["sample_pairwise"], "mix": {"templates": {"pairwise": str(tmp_path / "own.yaml")}}}
    with pytest.raises(UserError, match="own: the template asks for an unknown value: 'instructon' is undefined"):
        check_names(CurationConfig.model_validate(given))


def test_templates_of_some_tasks_leave_the_others_their_own() -> None:
    assert MixConfig(templates={"pairwise": "pairwise_compact"}).templates["absolute"] == "absolute_original"
