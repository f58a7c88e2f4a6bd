"""Judges of each kind: what they are asked and how their answers are read; and a battle whose judge fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from pipelines.core.errors import UserError
from pipelines.engines.llm.constrained import ConstrainedJudge
from serve.arena.judging.fight import fight
from serve.arena.judging.judges import Failed, Said, StepJudge, started
from serve.arena.secret import Secret
from serve.arena.settings import ArenaConfig, JudgeSpec
from serve.arena.store.battles import Battle, Texts
from tests.serve.arena.conftest import config_of
from tests.serve.stub_judge import StubAsk, app_of
from tests.serve.stub_server import serving

TEXTS = Texts("Name a colour.", "Red.", "Is it a colour?", "Colours are many.")
SCALE = ["1", "2", "3"]
SECRET = Secret("k" * 40)


def test_an_engine_is_asked_as_in_all_jobs_and_held_to_the_scale() -> None:
    ask = StubAsk()
    judge = StepJudge(ConstrainedJudge(50), ask, JudgeSpec.model_validate({"engine": {}}), SCALE)
    said = asyncio.run(judge(TEXTS))
    assert said.verdict in SCALE and said.status == "ok" and said.critique
    (prompt,) = ask.prompts
    assert all(text in prompt for text in (TEXTS.instruction, TEXTS.response, TEXTS.rubric, TEXTS.context))
    assert list(ask.settings[0]["closing"].endings) == SCALE and ask.settings[0]["max_tokens"] == 50


def test_a_served_judge_is_asked_by_the_client_of_the_service(tmp_path: Path) -> None:
    with serving(app_of(StubAsk())) as url:
        judges = {
            "good": {"service": {"url": url}, "template": "compact"},
            "missing": {"service": {"url": url, "model": "none"}},
        }
        config = ArenaConfig.model_validate({"judges": judges, "database": f"sqlite:///{tmp_path}/a.db"})

        async def work() -> tuple[Said, str]:
            async with started(config) as ready:
                found = await ready["good"](TEXTS)
                with pytest.raises(Failed) as failed:
                    await ready["missing"](TEXTS)
                return found, failed.value.reason

        said, reason = asyncio.run(work())
    assert said.verdict in config.scale and said.critique and reason == "model_not_found"


def test_a_key_that_is_not_set_is_found_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for kind in (
        {"service": {"url": "http://127.0.0.1:1", "api_key_env": "NO_SUCH_KEY"}},
        {"endpoint": {"endpoint": "http://127.0.0.1:1", "model": "m", "api_key_env": "NO_SUCH_KEY"}},
    ):
        config = ArenaConfig.model_validate(
            {"judges": {"a": kind, "b": kind}, "database": f"sqlite:///{tmp_path}/a.db"}
        )

        async def work(config: ArenaConfig = config) -> None:
            async with started(config):
                pass

        with pytest.raises(UserError, match="NO_SUCH_KEY"):
            asyncio.run(work())


def fought(config: ArenaConfig, seconds: float = 20) -> Battle:
    async def work() -> Battle:
        async with started(config) as ready:
            return await fight(SECRET, ready, TEXTS, "visitor", seconds)

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (500, "no_answer"),
        (401, "refused"),
        (404, "refused"),
        ("no score at all", "no_verdict"),
        ("Result: 9", "not_allowed"),
    ],
)
def test_why_a_judge_failed_is_kept(endpoint: tuple[FastAPI, str], tmp_path: Path, answer: Any, reason: str) -> None:
    app, address = endpoint
    app.state.say, app.state.wait = {"model-of-a": answer}, {"model-of-b": 5.0}
    battle = fought(config_of(tmp_path, address, ("a", "b")))
    sides = {one.judge: one for one in (battle.a, battle.b)}
    assert battle.failed and (sides["a"].status, sides["a"].verdict) == (f"error:{reason}", None)
    assert sides["b"].status == "stopped"  # and not waited for


def test_a_battle_of_two_has_both_and_its_content(endpoint: tuple[FastAPI, str], tmp_path: Path) -> None:
    app, address = endpoint
    app.state.say, app.state.wait = {}, {}
    config = config_of(tmp_path, address, ("a", "b"))
    battle, again = fought(config), fought(config)
    assert not battle.failed and {battle.a.judge, battle.b.judge} == {"a", "b"}
    assert battle.content == again.content and battle.id != again.id and len(battle.id) == 32


def test_whatever_a_judge_raises_ends_its_battle_alone() -> None:
    async def broken(texts: Texts) -> Said:
        raise ZeroDivisionError

    async def good(texts: Texts) -> Said:
        return Said("3", "Fine.", "ok")

    battle = asyncio.run(fight(SECRET, {"a": broken, "b": good}, TEXTS, "v", 5))
    assert battle.failed and {battle.a.status, battle.b.status} & {"error:ZeroDivisionError"}
