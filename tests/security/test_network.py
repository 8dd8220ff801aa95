"""What a container reaches: the cluster, and nothing of this host or of its private networks.

The attacker is root of the machine's kernel: privileged, on the host's network, in the namespaces
of the first process.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import docker
import psutil
import pytest

from labkit.engine.embedded import cluster
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import Fleet
from labkit.engine.progress import Report

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
IMAGE = "debian:trixie-slim"
PRIVATE = "10.213.7.1"  # of a card that the test makes
OF_QEMU = [f"192.168.77.{n}" for n in (2, 3, 4, 5, 200)]
GATEWAY = "192.168.77.4"
TRY = r"""
for way in "$@"; do
    timeout 5 bash -c 'exec 3<>"/dev/$1" && echo hello >&3 && case $1 in t*) echo "$1" ;; esac' \
        - "$way" 2>/dev/null &
done
wait
"""
UNDO = r"""
ip() { /usr/bin/ip "$@"; } # busybox's own applet knows no namespaces
for node in $(ls /run/netns); do
    for rule in 100 101; do ip -n "$node" rule del pref "$rule"; done
    nsenter --net="/run/netns/$node" iptables -F
    nsenter --net="/run/netns/$node" iptables -P FORWARD ACCEPT
done
for card in /sys/class/net/br0/brif/*; do
    ip link set "${card##*/}" type bridge_slave isolated off
done
"""
AROUND = f"""
ip() {{ /usr/bin/ip "$@"; }}
ip route replace default via 192.168.77.2
ip neigh replace {GATEWAY} dev br0 lladdr 52:55:c0:a8:4d:02
"""
ROOT = {"privileged": True, "pid_mode": "host", "network_mode": "host"}


class Listener:
    """A server at every address of this host, for TCP and UDP at one port."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("0.0.0.0", 0), backlog=128)
        self.port = int(self.tcp.getsockname()[1])
        self.udp = socket.socket(type=socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", self.port))
        self.tcp.setblocking(False)
        self.udp.setblocking(False)

    def reached(self) -> dict[str, int]:
        """Return how many connections and packets came since the last call."""
        counts = {"tcp": 0, "udp": 0}
        with suppress(BlockingIOError):
            while True:
                self.tcp.accept()[0].close()
                counts["tcp"] += 1
        with suppress(BlockingIOError):
            while self.udp.recv(100):
                counts["udp"] += 1
        return counts


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    made = Listener()
    with made.tcp, made.udp:
        yield made


@pytest.fixture(scope="module")
def ways(listener: Listener) -> Iterator[list[str]]:
    """Every way to the listener, in bash's words: by a private network's card, too, for root."""
    card = ["ip", "link", "add", "lk-private", "type", "dummy"]
    made = os.geteuid() == 0 and subprocess.run(card, capture_output=True).returncode == 0
    if made:
        for line in (f"addr add {PRIVATE}/24 dev lk-private", "link set lk-private up"):
            subprocess.run(["ip", *line.split()], check=True)
    try:
        cards = psutil.net_if_addrs().values()
        mine = [a.address for card in cards for a in card if a.family == socket.AF_INET]
        assert len(mine) > 1, "nothing but loopback here"
        yield [f"{p}/{a}/{listener.port}" for a in mine + OF_QEMU for p in ("tcp", "udp")]
    finally:
        if made:
            subprocess.run(["ip", "link", "del", "lk-private"], check=True)


@contextmanager
def cluster_of(egress: str) -> Iterator[Fleet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_CLUSTER", "network")
        patch.setenv("LABKIT_EGRESS", egress)
        settings = Settings.read()
        try:
            yield cluster.reset(settings, Report(quiet=True))
        finally:
            cluster.down(settings)


def tried(client: docker.DockerClient, *command: str, **options: object) -> set[str]:
    """Run a command in a container and return the ways that led somewhere."""
    said = client.containers.run(IMAGE, list(command), entrypoint=[], remove=True, **options)
    return set(said.decode().split())


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with cluster_of("") as fleet:
        yield fleet


@pytest.fixture
def client(fleet: Fleet) -> Iterator[docker.DockerClient]:
    made = fleet["node1"].client(timeout=120)
    yield made
    made.close()


def test_the_cluster_is_reached(fleet: Fleet, client: docker.DockerClient) -> None:
    other = fleet["node2"].client()
    service = other.containers.run("traefik/whoami", detach=True, ports={"80/tcp": 8080})
    try:
        ways = ["tcp/192.168.77.9/5000", "tcp/192.168.77.12/8080"]
        assert tried(client, "bash", "-c", TRY, "-", *ways) == set(ways)
        assert tried(client, "bash", "-c", TRY, "-", *ways, network_mode="host") == set(ways)
    finally:
        service.remove(force=True)
        other.close()


def test_a_container_reaches_nothing_of_this_host(
    client: docker.DockerClient, ways: list[str], listener: Listener
) -> None:
    client.swarm.init(advertise_addr="192.168.77.11")
    overlay = client.networks.create("far", driver="overlay", attachable=True)
    for network in ("bridge", overlay.name, "host"):
        assert tried(client, "bash", "-c", TRY, "-", *ways, network=network) == set(), network
        assert listener.reached() == {"tcp": 0, "udp": 0}, network


def test_the_root_of_the_machine_does_not_either(
    client: docker.DockerClient, ways: list[str], listener: Listener
) -> None:
    """Nothing that the machine itself could enforce is left when this one tries."""
    tried(client, "nsenter", "-t", "1", "-m", "-n", "sh", "-c", UNDO, **ROOT)
    of_the_node = tried(client, "bash", "-c", TRY, "-", *ways, **ROOT)
    of_the_first = tried(client, "nsenter", "-t", "1", "-n", "bash", "-c", TRY, "-", *ways, **ROOT)
    assert of_the_node | of_the_first == set()
    assert listener.reached() == {"tcp": 0, "udp": 0}
    # by the way in: QEMU's first network card
    tried(client, "nsenter", "-t", "1", "-m", "-n", "sh", "-c", AROUND, **ROOT)
    inside = ("nsenter", "-t", "1", "-n", "bash", "-c", TRY, "-", *ways)
    assert tried(client, *inside, **ROOT) == set()
    assert listener.reached() == {"tcp": 0, "udp": 0}


def test_a_setting_opens_it(ways: list[str], listener: Listener) -> None:
    with cluster_of("open") as fleet:
        client = fleet["node1"].client(timeout=120)
        found = tried(client, "bash", "-c", TRY, "-", *ways)
        client.close()
    assert f"tcp/{GATEWAY}/{listener.port}" in found  # this host's 127.0.0.1
    assert {way for way in ways if way.startswith(f"tcp/{PRIVATE}/")} <= found
    assert min(listener.reached().values()) > 0
