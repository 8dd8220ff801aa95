"""Networks of every kind that docker offers carry data on the embedded cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import docker
import pytest

from labkit.engine.embedded.faults import in_guest
from labkit.engine.endpoint import Fleet

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
PYTHON = "python:3.13-slim"
SIZE = 3_000_000
SEEN = SIZE // 30  # who listens on a busy machine does not hear all
SERVER = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'secret!' * ({SIZE} // 7))
http.server.ThreadingHTTPServer(('', 80), Handler).serve_forever()
"""
CLIENT = """
import time, urllib.request
for attempt in range(60):
    try:
        got = urllib.request.urlopen('http://server/', timeout=30).read()
        break
    except OSError as error:
        time.sleep(1)
print(len(got), got.count(b'secret!'))
"""
SNIFF = """
import socket, time
cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
cable.bind(('veth1', 0))
cable.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # room, whatever the limits say
cable.settimeout(1)
print('ready', flush=True)
counts, plain, end = {}, 0, time.monotonic() + 600
while time.monotonic() < end:
    try:
        frame = cable.recv(65536)
    except TimeoutError:
        continue
    if frame[12:14] != b'\\x08\\x00':
        continue
    kind = 'vxlan' if frame[23] == 17 and frame[36:38] == b'\\x12\\xb5' else str(frame[23])
    counts[kind] = counts.get(kind, 0) + len(frame)
    plain += b'secret!' in frame
    open('/tmp/counts', 'w').write(f'{counts.get("50", 0)} {counts.get("vxlan", 0)} {plain}')
"""


@pytest.fixture
def clients(clean_swarm: Fleet) -> Iterator[list[docker.DockerClient]]:
    made = [endpoint.client(timeout=180) for endpoint in clean_swarm]
    yield made
    for client in made:
        for container in client.containers.list(all=True, ignore_removed=True):
            container.remove(force=True)
        client.close()
    # the swarm's own go with it
    first = clean_swarm["node1"].client(timeout=60)
    for network in first.networks.list(filters={"type": "custom"}):
        if network.name in {"hidden", "plain", "beside"}:
            network.remove()
    first.close()


def serve(client: docker.DockerClient, network: str) -> None:
    client.containers.run(
        PYTHON, ["python3", "-c", SERVER], network=network, name="server", detach=True
    )


def ask(client: docker.DockerClient, network: str) -> str:
    said = client.containers.run(PYTHON, ["python3", "-c", CLIENT], network=network, remove=True)
    return str(said.decode().strip())


@pytest.mark.parametrize("encrypted", [True, False])
def test_an_overlay_carries_data_and_hides_it_if_it_is_encrypted(
    clients: list[docker.DockerClient], encrypted: bool
) -> None:
    first, second = clients[:2]
    name = "hidden" if encrypted else "plain"
    options = {"encrypted": ""} if encrypted else {}
    first.networks.create(name, driver="overlay", attachable=True, options=options)
    watcher = first.containers.run(
        PYTHON, ["nsenter", "-t", "1", "-n", "python3", "-c", SNIFF], privileged=True,
        pid_mode="host", network_mode="host", detach=True,
    )  # fmt: skip
    limit = time.monotonic() + 60
    while b"ready" not in watcher.logs():
        assert time.monotonic() < limit, watcher.logs()
        time.sleep(0.5)
    serve(second, name)
    assert ask(first, name) == f"{SIZE // 7 * 7} {SIZE // 7}"
    time.sleep(2)
    said = watcher.exec_run(["cat", "/tmp/counts"]).output.decode()
    esp, vxlan, plain = map(int, said.split())
    if encrypted:
        assert esp > SEEN
        assert (vxlan, plain) == (0, 0)
    else:
        assert vxlan > SEEN
        assert plain > 0
        assert esp == 0


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_network_beside_the_nodes_carries_data(
    clients: list[docker.DockerClient], driver: str
) -> None:
    pool = docker.types.IPAMPool(subnet="192.168.88.0/24")
    clients[0].networks.create(
        "beside", driver=driver, options={"parent": "eth0"},
        ipam=docker.types.IPAMConfig(pool_configs=[pool]),
    )  # fmt: skip
    serve(clients[0], "beside")
    assert ask(clients[0], "beside") == f"{SIZE // 7 * 7} {SIZE // 7}"


@pytest.mark.skipif(os.environ.get("LABKIT_ACCEL") == "uml", reason="its kernel has no modules")
def test_every_module_that_the_machine_has_is_loaded(fleet: Fleet) -> None:
    lacking = in_guest(
        "for file in $(cat /usr/lib/lab-modules); do name=${file##*/}; name=${name%.ko}; "
        'grep -q "^$(echo $name | tr - _) " /proc/modules || echo $name; done'
    )
    assert lacking.split() == []
