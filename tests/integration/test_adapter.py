"""A LoRA adapter beside the model: a judge of its own, on the same engine."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from pipelines.engines.models import resolve
from tests.integration.server import Server

PAIR = {"instruction": "What is 2 + 2?", "responses": ["It is 4.", "It is 5."], "with_critique": False}


@pytest.mark.slow
def test_an_adapter_judges_under_its_own_id(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(resolve("embedded"), dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "strict")
    server = Server(tmp_path, adapters={"strict": str(tmp_path / "strict")})
    try:
        assert {one["id"] for one in httpx.get(**server.get("/v1/models")).json()["data"]} == {"judge", "strict"}
        base, strict = (
            server.post("/v1/judge/pairwise", PAIR | {"model": name}).json() for name in ("judge", "strict")
        )
        assert base["results"][0]["probabilities"] != strict["results"][0]["probabilities"]
        assert strict["model"] == "strict" and strict["model_digest"].startswith(base["model_digest"] + "+")
    finally:
        server.stop()
