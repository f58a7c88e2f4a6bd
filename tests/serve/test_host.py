"""How the judge is put into vLLM's server: its command line, variables, settings and documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from fastapi import FastAPI

from pipelines.core.errors import UserError
from pipelines.engines.config import EngineConfig
from serve import launch
from serve.access.paths import ROUTES
from serve.launch import command_line, server_arguments, server_environment
from serve.settings import PACKAGED, VARIABLE, PluginSettings, ServerConfig, ServiceSettings, load_server, load_settings


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    engine = EngineConfig(model=str(model), max_model_len=512, engine_args={"hf_overrides": {"a": 1}, "seed": 3})
    return ServerConfig(engine=engine, name="my-judge")


def test_vllms_own_parser_reads_the_command_line(config: ServerConfig) -> None:
    args = server_arguments(config)
    assert args.model == config.engine.model
    assert args.served_model_name == ["my-judge"]
    assert (args.max_model_len, args.seed, args.hf_overrides) == (512, 3, {"a": 1})
    assert args.middleware == ["serve.access.gate.Gate"]
    assert args.logits_processors == ["pipelines.engines.llm.verdict_processor:VerdictProcessor"]
    assert args.enable_prefix_caching is True and args.trust_remote_code is False
    assert args.enable_offline_docs is True
    assert args.allowed_origins == []  # a page of another host reads no answer


def test_adapters_are_served_beside_the_model(config: ServerConfig, tmp_path: Path) -> None:
    found = server_arguments(config.model_copy(update={"adapters": {"strict": str(tmp_path)}}))
    assert found.enable_lora is True
    assert [(one.name, one.path) for one in found.lora_modules] == [("strict", str(tmp_path))]


def test_the_servers_process_is_told_its_settings_and_other_plugins_stay(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "lora_resolver")
    service = ServiceSettings(template="compact", queue=7)
    found = server_environment(config.model_copy(update={"service": service}))
    assert found["VLLM_PLUGINS"] == "lora_resolver,openselene_judge"
    monkeypatch.setenv(VARIABLE, found[VARIABLE])
    assert load_settings() == PluginSettings(template="compact", queue=7)


def test_how_a_model_thinks_is_said_once_of_the_engine(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = config.model_copy(update={"engine": config.engine.model_copy(update={"reasoning": "none"})})
    monkeypatch.setenv(VARIABLE, server_environment(silent)[VARIABLE])
    assert load_settings().reasoning == "none"
    with pytest.raises(ValueError, match="reasoning"):
        ServerConfig.model_validate({"service": {"reasoning": "none"}})


def test_a_package_that_is_not_installed_is_refused(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "entry_points", lambda **_: ())
    with pytest.raises(UserError, match="pip install"):
        server_arguments(config)


def test_settings_may_be_a_file_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert load_settings() == PluginSettings()
    (tmp_path / "s.yaml").write_text("queue: 3\n")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "s.yaml"))
    assert load_settings().queue == 3
    (tmp_path / "s.yaml").write_text("quee: 3\n")
    with pytest.raises(UserError, match="queue"):
        load_settings()


def test_the_packaged_file_is_for_both_hosts() -> None:
    config = load_server(PACKAGED, ["engine.max_model_len=256"])
    raw = yaml.safe_load(PACKAGED.read_text())
    assert config.engine.max_model_len == 256
    assert ServerConfig.model_validate(raw["applications"][0]["args"]).service == config.service


def test_other_machines_are_answered_with_keys_alone(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(json.dumps({"host": "0.0.0.0"}))
    with pytest.raises(UserError, match="openselene keys add"):
        load_server(tmp_path / "s.yaml")
    assert load_server(tmp_path / "s.yaml", ["service.keys=keys.yaml"]).host == "0.0.0.0"


def test_an_engine_never_runs_remote_code() -> None:
    with pytest.raises(ValueError, match="trust_remote_code"):
        ServerConfig.model_validate({"engine": {"engine_args": {"trust_remote_code": True}}})


def test_the_documentation_shows_what_the_gate_lets_through_and_nothing_else() -> None:
    from serve import graders, page, routes
    from serve.documentation import describe

    app = FastAPI()
    for router in (routes.router, graders.router, page.router):
        app.include_router(router)
    for path in ("/tokenize", "/v1/chat/completions"):
        app.add_api_route(path, lambda: None, methods=["POST"])  # as vLLM's app has it
    describe(app)
    found = app.openapi()
    assert set(found["paths"]) <= set(ROUTES) and "/v1/judge/pairwise" in found["paths"]
    assert found["paths"]["/v1/judge/pairwise"]["post"]["security"] == [{"key": []}]
    assert "security" not in found["paths"]["/healthz"]["get"]
    assert all(
        len(one["tags"]) == 1 for methods in found["paths"].values() for one in methods.values() if "tags" in one
    )
    chat = found["paths"]["/v1/chat/completions"]["post"]
    assert chat["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Chat"}
    assert {"401", "422", "429", "503", "504"} <= set(chat["responses"])


def test_the_page_of_routes_asks_no_other_host() -> None:
    from types import SimpleNamespace

    from fastapi.testclient import TestClient
    from vllm.entrypoints.serve.instrumentator.offline_docs import attach_router

    from serve.access.paths import find
    from serve.documentation import describe

    app = FastAPI(docs_url=None)
    app.state.args = SimpleNamespace(enable_offline_docs=True)
    attach_router(app)  # vLLM's own page and files
    describe(app)
    client = TestClient(app)
    page = client.get("/docs").text
    assert "http://" not in page and "https://" not in page
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) == 3
    for name in files:
        assert find({"path": f"/{name}"}), name
        if name != "page/icon.svg":  # of the page
            assert client.get(f"/{name}").status_code == 200, name
    assert "'openapi.json'" in page


def test_command_line_begins_with_the_model(config: ServerConfig) -> None:
    assert command_line(config)[0] == config.engine.model


def test_the_list_of_models_names_no_folder() -> None:
    from types import SimpleNamespace

    from fastapi.testclient import TestClient

    from serve.plugin import JudgePlugin

    app = FastAPI()
    app.add_api_route("/v1/models", lambda: {"root": "/home/someone/model"}, methods=["GET"])  # as vLLM's app has it
    JudgePlugin().attach_router(app)
    app.state.judge, app.state.started = SimpleNamespace(judges={"judge": None, "strict": None}), 7
    found = TestClient(app).get("/v1/models").json()
    assert [(one["id"], one["created"]) for one in found["data"]] == [("judge", 7), ("strict", 7)]
    assert set(found["data"][0]) == {"id", "object", "created", "owned_by"}
