"""Pass a cloud's notice that this spot machine will be taken on to Ray, which itself reads none.

Runs on each worker node from its start (cluster.yaml, deploy/gcp.yaml). Ray then gives the node no new work, blocks in
hand are finished if there is time, and a training saves a checkpoint.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

POLL_S = 5.0


@dataclass(frozen=True)
class Cloud:
    """How a cloud tells a machine of its end.

    Attributes:
        url: of the notice, on the machine's own metadata server.
        notice_s: seconds that are left when it appears.
        headers: to be sent.
        token: where a token for further requests is to be had, if one is needed.
    """

    url: str
    notice_s: int
    headers: dict[str, str] = field(default_factory=dict)
    token: str = ""


# EC2: 404 until two minutes before; Compute Engine: FALSE until 30 seconds before. A poll and Ray's own take a part.
CLOUDS = {
    "aws": Cloud(
        "http://169.254.169.254/latest/meta-data/spot/instance-action",
        notice_s=110,
        token="http://169.254.169.254/latest/api/token",
    ),
    "gcp": Cloud(
        "http://169.254.169.254/computeMetadata/v1/instance/preempted",
        notice_s=25,
        headers={"Metadata-Flavor": "Google"},
    ),
}


def noticed(cloud: Cloud) -> bool:
    """Whether the machine has been given notice; False where the metadata server does not say."""
    try:
        headers = dict(cloud.headers)
        if cloud.token:
            asked = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
            headers["X-aws-ec2-metadata-token"] = _read(cloud.token, asked, method="PUT")
        return _read(cloud.url, headers).strip() not in ("", "FALSE")
    except (urllib.error.URLError, OSError):  # 404 is the everyday answer; an outage is no notice
        return False


def _read(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=2) as answer:
        return str(answer.read().decode())


def drain(notice_s: int) -> None:
    """Tell Ray that this node has so many seconds left."""
    command = ["ray", "drain-node", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot notice"]
    subprocess.run([*command, f"--deadline-remaining-seconds={notice_s}"], check=True)


def main(name: str) -> None:
    """Wait for the notice, and pass it on once."""
    while not noticed(CLOUDS[name]):
        time.sleep(POLL_S)
    print(f"this machine will be taken in about {CLOUDS[name].notice_s} s", flush=True)
    drain(CLOUDS[name].notice_s)


if __name__ == "__main__":
    main(sys.argv[1])
