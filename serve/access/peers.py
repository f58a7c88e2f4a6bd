"""Who may ask while there are no keys: programs of this machine.

The address is that of the connection. A forwarded address is never believed, but it does show that the request came
through a proxy, whose own connection says nothing about the client: then it is refused.

Behind Ray Serve's own proxy the address is that of the proxy's client: the proxy hands its ASGI scope on as it is (Ray
2.60, `ASGIProxyRequest.serialized_replica_arg`). Behind its HAProxy the address is HAProxy's, and nothing tells a
client of this machine from any other: then nobody is served without a key.

The name in `Host` must be this machine's as well. A page in a browser could otherwise give its own name the address
127.0.0.1 and read the answers (DNS rebinding).
"""

from __future__ import annotations

import os
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from serve.access.headers import Headers
from serve.refused import Refused

_FORWARDED = (b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-forwarded-")


def check(client: Any, headers: Headers) -> None:
    """Let a request from this machine pass.

    Raises:
        Refused: 403 for any other.
    """
    if (
        behind_haproxy()
        or not client
        or not _is_loopback(str(client[0]))
        or any(name.startswith(_FORWARDED) for name, _ in headers)
        or not _names_this_machine(headers)
    ):
        raise Refused(
            403,
            "no_keys_configured",
            "without keys the service answers this machine only; make one with `openselene keys add FILE --name NAME`"
            " and name the file as `keys` in the settings",
            why="no_key",
        )


def behind_haproxy() -> bool:
    """Whether Ray Serve's HAProxy, and not its own proxy, hands requests to the replicas."""
    return os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _names_this_machine(headers: Headers) -> bool:
    """Whether host, and origin where a browser tells it, are names of the loopback interface."""
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    if len(hosts) > 1 or len(origins) > 1:
        return False
    # HTTP/1.0 has no host; no browser speaks it.
    return all(_is_local(f"//{host}") for host in hosts) and all(
        urlsplit(origin).netloc in hosts if _is_local(origin) else False for origin in origins
    )


@lru_cache(maxsize=256)
def _is_local(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)
