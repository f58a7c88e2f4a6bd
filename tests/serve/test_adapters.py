"""Several judges by model id, on STUBS of the model."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from serve import graders, routes
from serve.service import JudgeService, Judging, ModelFacts
from serve.settings import ServiceSettings
from serve.watch import Watch
from tests.serve.stub_judge import StubAsk

PAIR = {"instruction": "i", "responses": ["a", "b"]}


@pytest.mark.anyio
async def test_a_request_names_its_judge() -> None:
    base, strict = StubAsk(), StubAsk(lambda prompt, allowed: {"A": 0.1, "B": 0.9})
    app = FastAPI()
    for router in (routes.router, graders.router):
        app.include_router(router)
    app.state.judge = JudgeService(
        base,
        ServiceSettings(),
        ModelFacts("judge", "m1"),
        Watch(),
        [Judging(strict, ModelFacts("strict", "m1+a1"))],
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        found = [
            (await client.post("/v1/judge/pairwise", json=PAIR | asked)).json()
            for asked in ({}, {"model": "judge"}, {"model": "strict"})
        ]
        assert [one["results"][0]["verdict"] for one in found] == ["A", "A", "B"]
        assert [(one["model"], one["model_digest"]) for one in found] == [
            ("judge", "m1"),
            ("judge", "m1"),
            ("strict", "m1+a1"),
        ]
        assert (await client.post("/v1/judge/pairwise", json=PAIR | {"model": "other"})).status_code == 404
        assert [one["id"] for one in (await client.get("/v1/models")).json()["data"]] == ["judge", "strict"]
        grader = {
            "type": "label_model",
            "name": "g",
            "model": "strict",
            "labels": ["A", "B"],
            "passing_labels": ["B"],
            "input": [{"role": "user", "content": "x"}],
        }
        run = await client.post(
            "/v1/fine_tuning/alpha/graders/run", json={"grader": grader, "model_sample": "s", "item": {}}
        )
    assert run.json()["reward"] == 1
    assert list(run.json()["model_grader_token_usage_per_model"]) == ["strict"]
