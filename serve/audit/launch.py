"""Start the annotation page: the sample of a run, the database beside it, and an address of this machine alone."""

from __future__ import annotations

import ipaddress
import os
import socket

import uvicorn

from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.experiments.audit import evidence, job
from pipelines.experiments.audit.answers import Answers
from pipelines.experiments.audit.config import AuditConfig
from pipelines.experiments.audit.sample import as_shown, for_people, identity
from serve.audit.app import build

KEY = "OPENSELENE_AUDIT_KEY"
LEAST = 16  # characters of a key
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def describe(run: Run, config: AuditConfig) -> list[str]:
    """What would be served.

    Raises:
        UserError: there is nothing to show, the address needs a key, or what should hold the answers does not.
    """
    key = key_for(config.host)
    rows = job.drawn(run, config)
    who = "with a key" if key else "without a key, from this machine alone"
    shown = min(config.people, len(rows))
    place = job.answers_place(run, config)
    evidence.answers(place, identity(run))
    return [f"show {shown} pairs at {address(config.host, config.port)}, {who}", f"  answers: {place}"]


def run(run: Run, config: AuditConfig) -> None:
    """Serve until it is told to stop.

    Raises:
        UserError: there is nothing to show, the address needs a key or is taken, what should hold the answers does
            not, or they are about other pairs.
    """
    key = key_for(config.host)
    rows = job.drawn(run, config)
    answers = Answers(job.answers_place(run, config), identity(run))
    pairs = [as_shown(row, run.seed) for row in for_people(rows, config.people, run.seed)]
    hosts = LOOPBACK if is_loopback(config.host) else ["*"]  # behind a name of its own; there the key protects
    app = build(pairs, answers, run.seed, key, hosts)
    own = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    with listening(config.host, config.port) as listener:
        port = listener.getsockname()[1]
        say(f"annotate: {address(config.host, port)}{'#key=...' if key else ''}, {len(pairs)} pairs; Ctrl+C ends it")
        try:
            uvicorn.Server(own).run(sockets=[listener])
        finally:
            answers.close()


def key_for(host: str) -> str | None:
    """The key that requests must carry; None where only this machine can send any.

    Raises:
        UserError: others can, and there is no key, or a short one.
    """
    if is_loopback(host):
        return None
    key = os.environ.get(KEY, "")
    if len(key) < LEAST:
        fix = f"set {KEY} to {LEAST} characters or more, or leave audit.host at 127.0.0.1"
        raise UserError("others can reach this address, and there is no key", where=f"audit.host {host}", fix=fix)
    return key


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: the address is no address of this machine, or is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise UserError(
            f"cannot listen: {exc.strerror or exc}", where=f"audit.port {port}", fix="audit.port=0"
        ) from None
    return listener


def address(host: str, port: int) -> str:
    """Where the page is."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
