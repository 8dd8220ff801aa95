"""A short pass on a real cluster, for tests/versions: what every first hour needs."""

from __future__ import annotations

import subprocess
import time

import pytest

import labkit
from labkit.exercises.measures.access import fetch
from labkit.state import capture
from labkit.traffic import send

pytestmark = pytest.mark.engine


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_swarm_a_service_and_its_traffic() -> None:
    fleet = labkit.reset(quiet=True)
    docker("swarm", "init", "--advertise-addr", "192.168.77.11")
    token = docker("swarm", "join-token", "--quiet", "worker").strip()
    for name in ("node2", "node3"):
        docker("--context", name, "swarm", "join", "--token", token, "192.168.77.11:2377")
    docker("service", "create", "--quiet", "--name", "whoami", "--replicas", "3",
           "--publish", "9999:80", "traefik/whoami")  # fmt: skip

    state = capture(fleet)
    assert [(n.name, n.role, n.state) for n in state.nodes] == [
        ("node1", "manager", "ready"), ("node2", "worker", "ready"), ("node3", "worker", "ready"),
    ]  # fmt: skip
    (service,) = state.services
    assert (service.name, service.replicas, len(state.running("whoami"))) == ("whoami", 3, 3)

    limit = time.monotonic() + 60
    while not all((endpoint.name, 9999) in fleet.remapped for endpoint in fleet):
        assert time.monotonic() < limit, "port 9999 is not forwarded"
        time.sleep(0.2)
    for endpoint in fleet:
        status, body = fetch(*fleet.published(endpoint.name, 9999))
        assert status == 200
        assert b"Hostname: " in body
    sample = send(9999, requests=30, fleet=fleet)
    assert sample.frame["replica"].nunique() == 3
