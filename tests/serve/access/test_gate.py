"""The gate: each refusal provoked, and what an answer carries."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from serve.access import gate as module
from serve.access import paths
from serve.access.gate import Gate
from serve.settings import PluginSettings
from tests.serve.access.conftest import CHAT, JUDGE, Counted, Make


def test_a_key_opens_what_its_scopes_say(client: Make, make_key: Make) -> None:
    judge, chat, metrics, admin = make_key("judge"), make_key("chat"), make_key("metrics"), make_key("admin")
    ask = client()

    async def all_of() -> None:
        chat_body = b'{"messages": [{"role": "user", "content": "hi"}]}'
        for key, opened in ((judge, {JUDGE, "/v1/models"}), (chat, {CHAT, "/v1/models"}), (metrics, {"/metrics"})):
            for path in (JUDGE, CHAT, "/v1/models", "/metrics"):
                body = chat_body if path == CHAT else b"{}"
                got = await ask(path, paths.ROUTES[path].method, key=key, body=body)
                assert got.status == (200 if path in opened else 403), (path, got.body)
        assert (await ask("/metrics", "GET", key=admin)).status == 200
        assert (await ask(JUDGE, key=judge)).body == b"{}"

    asyncio.run(all_of())


def test_without_a_valid_key_nothing_but_401(client: Make, make_key: Make, app: Any) -> None:
    key, ended = make_key(), make_key(expires="0m")
    ask = client(watch := Counted())
    wrong = [
        [],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer " + ended.encode())],
        [(b"authorization", b"Bearer " + key.encode() + b"x")],
        [(b"authorization", key.encode())],
        [(b"authorization", b"Basic " + key.encode())],
        [(b"authorization", b"Bearer \xff\xfe\x00")],
        [(b"authorization", "Bearer sel_ключ_секрет".encode())],
        [(b"authorization", b"Bearer " + key.encode()), (b"authorization", b"Bearer " + key.encode())],
        [(b"x-api-key", key.encode())],
    ]

    async def all_of() -> None:
        bodies = set()
        for headers in wrong:
            got = await ask(JUDGE, headers=headers)
            assert got.status == 401 and got.header("www-authenticate") == 'Bearer realm="openselene"'
            bodies.add(got.body)
        assert len(bodies) == 1, "a guess learns nothing"

    asyncio.run(all_of())
    assert app.seen == [] and watch.why == ["no_key"] * len(wrong)


_PATHS = [name for name, route in paths.ROUTES.items() if route.scopes]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(_PATHS),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]),
    headers=st.lists(
        st.tuples(st.sampled_from([b"authorization", b"x-forwarded-for", b"cookie", b"x-a"]), st.binary(max_size=60)),
        max_size=4,
    ),
    body=st.binary(max_size=100),
)
def test_no_closed_path_answers_anything_but_401_to_who_has_no_key(
    client: Make,
    make_key: Make,
    app: Any,
    tmp_path: Path,
    path: str,
    method: str,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> None:
    if not (tmp_path / "keys.yaml").exists():
        make_key()
    got = asyncio.run(client()(path, method, headers=headers, body=body))
    assert got.status == 401 and app.seen == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/tokenize",
        "/invocations",
        "/v1/judge",
        "/v1/judge/",
        "/v1/judge/pairwise/",
        "/v1//judge/pairwise",
        "//v1/judge/pairwise",
        "/V1/judge/pairwise",
        "/page/../metrics",
        "/page/..%2fmetrics",
        "/page/.env",
        "/static/x.js",
        "/static/../metrics",
        "/page//x",
        "/page/",
        "/docs/",
        "",
        "/\x00",
        "/healthz\n",
        "*",
        "/load_lora_adapter",
        "/v1/load_lora_adapter",
        "/sleep",
        "/ping",
    ],
)
def test_what_is_not_listed_is_not_found(client: Make, make_key: Make, app: Any, path: str) -> None:
    key = make_key("admin")
    got = asyncio.run(client()(path, key=key))
    assert got.status == 404 and got.code == "not_found" and app.seen == []


def test_open_paths_need_no_key(client: Make, make_key: Make) -> None:
    make_key()
    ask = client()
    for path in (
        "/",
        "/static/swagger-ui.css",
        "/page/style.css",
        "/page/a/b.js",
        "/healthz",
        "/readyz",
        "/docs",
        "/openapi.json",
    ):
        assert asyncio.run(ask(path, "GET")).status == 200


def test_a_prefix_of_the_proxy_is_not_part_of_the_path(client: Make) -> None:
    ask = client()
    assert asyncio.run(ask("/judge/healthz", "GET", root="/judge")).status == 200
    assert asyncio.run(ask("/judgehealthz", "GET", root="/judge")).status == 404


def test_the_wrong_method_is_405(client: Make, make_key: Make) -> None:
    key, ask = make_key(), client()
    got = asyncio.run(ask(JUDGE, "GET", key=key))
    assert got.status == 405 and got.header("allow") == "POST"
    assert asyncio.run(ask("/healthz", "POST")).status == 405
    assert asyncio.run(ask(JUDGE, "OPTIONS", key=key, headers=[(b"origin", b"http://a")])).status == 405  # CORS is off


def test_the_key_and_steering_headers_do_not_reach_the_app(client: Make, make_key: Make, app: Any) -> None:
    key = make_key()
    steering = [b"x-request-timeout-seconds", b"serve_multiplexed_model_id", b"serve-multiplexed-model-id"]
    steering += [b"x-session-id", b"x-data-parallel-rank", b"x-priority", b"cookie", b"x-forwarded-for"]
    got = asyncio.run(
        client()(key=key, headers=[(name, b"1") for name in steering] + [(b"content-type", b"application/json")])
    )
    assert got.status == 200
    assert {name for name, _ in app.seen[0]["headers"]} == {
        b"host",
        b"content-type",
        b"content-length",
        b"x-request-id",
    }
    assert app.seen[0]["caller"].key == key[4:14]


def test_who_asks_not_to_be_heard_is_refused(client: Make, make_key: Make) -> None:
    got = asyncio.run(client()(key=make_key(), headers=[(b"x-request-disconnect-disabled", b"?1")]))
    assert got.status == 400 and got.code == "header_not_allowed"


def test_a_megabyte_of_headers_is_refused(client: Make, make_key: Make) -> None:
    got = asyncio.run(client()(key=make_key(), headers=[(b"x-a", b"a" * 1_000_000)]))
    assert got.status == 431


@pytest.mark.parametrize("length", [b"-1", b"1x", b"", b"9" * 30, "٣".encode()])
def test_a_length_that_is_no_number_is_refused(client: Make, make_key: Make, length: bytes) -> None:
    got = asyncio.run(client()(key=make_key(), pieces=[b"{}"], headers=[(b"content-length", length)]))
    assert got.status == 400 and got.code == "invalid_length"


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [(b"abc-1.2_3", True), (b"a" * 64, True), (b"a" * 65, False), (b"a b", False), (b"\xff", False), (b"", False)],
)
def test_every_answer_has_an_id(client: Make, make_key: Make, app: Any, given_id: bytes, kept: bool) -> None:
    key, ask = make_key(), client()
    for path in (JUDGE, "/nowhere"):
        got = asyncio.run(ask(path, key=key, headers=[(b"x-request-id", given_id)]))
        number = got.header("x-request-id")
        assert number and (number == given_id.decode("latin-1")) is kept
    assert dict(app.seen[0]["headers"])[b"x-request-id"] != b"" and app.seen[0]["headers"][-1][0] == b"x-request-id"


def test_ray_serves_proxy_writes_the_id_itself(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_behind_serve", lambda: True)
    assert asyncio.run(client()(headers=[(b"x-request-id", b"abc")])).header("x-request-id") is None


def test_security_headers(client: Make, app: Any) -> None:
    async def act(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"access-control-allow-origin", b"*"), (b"Cache-Control", b"max-age=9"), (b"etag", b"x")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    app.act = act
    ask = client()
    api, page = asyncio.run(ask()), asyncio.run(ask("/", "GET"))
    for got in (api, page):
        assert got.header("x-content-type-options") == "nosniff" and got.header("referrer-policy") == "no-referrer"
        assert "frame-ancestors 'none'" in (got.header("content-security-policy") or "")
        assert got.header("access-control-allow-origin") is None and got.header("etag") == "x"
    assert api.header("cache-control") == "no-store" and "default-src 'self'" in (
        page.header("content-security-policy") or ""
    )
    assert asyncio.run(ask("/nowhere")).header("x-content-type-options") == "nosniff"


def test_keys_rotate_under_a_running_gate(client: Make, make_key: Make, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ray_jobs.keys import app as command

    old = make_key()
    ask = client()

    async def status(key: str) -> int:
        ask.gate._keys._looked = 0  # a second has passed
        return int((await ask(key=key)).status)

    async def all_of() -> None:
        path = str(tmp_path / "keys.yaml")
        assert await status(old) == 200
        new = CliRunner().invoke(command, ["rotate", path, old[4:14], "--overlap", "1h"]).stdout.strip()
        assert [await status(old), await status(new)] == [200, 200], "both in the overlap"
        newest = CliRunner().invoke(command, ["rotate", path, new[4:14], "--overlap", "0m"]).stdout.strip()
        assert [await status(new), await status(newest)] == [401, 200], "and not after it"
        CliRunner().invoke(command, ["revoke", path, old[4:14]])
        assert await status(old) == 401

    asyncio.run(all_of())


def test_the_settings_are_those_of_the_environment(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "service.yaml"
    path.write_text("body_bytes: 2000\n")
    monkeypatch.setenv("OPENSELENE_SERVICE", str(path))
    assert Gate(app).settings.body_bytes == 2000
    path.write_text(f"keys: {tmp_path}/gone.yaml\n")
    with pytest.raises(UserError, match="No such file"):
        Gate(app)
    monkeypatch.delenv("OPENSELENE_SERVICE")
    assert Gate(app).settings == PluginSettings()


def test_one_json_line_a_request_without_key_or_text(make_key: Make, tmp_path: Path) -> None:
    """In a process of its own: the log goes to its standard error."""
    import subprocess
    import sys

    key = make_key()
    program = f"""
import asyncio, httpx
from serve.access.gate import Gate
from serve.settings import ServiceSettings
raise_it = []
async def app(scope, receive, send):
    if raise_it:
        raise ValueError("SECRET")
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"SECRET"}})
async def main():
    gate = Gate(app, ServiceSettings(keys={str(tmp_path / "keys.yaml")!r}), signals=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://a") as http:
        headers = {{"authorization": "Bearer {key}"}}
        await http.post("/v1/judge/pairwise?q=SECRET", content=b"SECRET", headers=headers)
        await http.get("/SECRET")
        raise_it.append(1)
        await http.post("/v1/judge/pairwise", headers=headers)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    failure = lines.pop(2)
    assert [(line["route"], line["status"], line["key"], line["bytes"] > 0) for line in lines] == [
        (JUDGE, 200, key[4:14], True),
        ("other", 404, "", True),
        (JUDGE, 500, key[4:14], True),
    ]
    assert (failure["level"], failure["message"]) == ("error", f"request {lines[2]['id']}: ValueError")
    assert set(lines[0]) == {"time", "id", "key", "route", "status", "seconds", "bytes"}
    assert "SECRET" not in done.stderr and key not in done.stderr


def test_the_app_gets_the_gate_at_the_start(client: Make, app: Any) -> None:
    ask = client()

    async def act(scope: Any, receive: Any, send: Any) -> None:
        assert app.state.gate is ask.gate

    app.act = act
    asyncio.run(ask.gate({"type": "lifespan", "app": app}, None, None))
    assert len(app.seen) == 1
