"""Loopback addresses of a student's own, as the example's hook gives them on a shared host.

The hook, the firewall, the accounts and the sockets are real; only the spawner is not there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accounts import ROOT, Account
from traitlets.config import PyFileConfigLoader

LISTEN = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
with socket.socket(type=kind) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((sys.argv[2], 9999))
    if kind == socket.SOCK_STREAM:
        server.listen()
    print("listens", flush=True)
    while True:
        if kind == socket.SOCK_STREAM:
            with server.accept()[0] as client:
                print(client.recv(100), flush=True)
                client.sendall(b"theirs")
        else:
            said, client = server.recvfrom(100)
            print(said, flush=True)
            server.sendto(b"theirs", client)
"""
ASK = """
import json, socket, sys, time
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
began = time.monotonic()
try:
    with socket.socket(type=kind) as client:
        client.settimeout(5)
        client.connect((sys.argv[2], int(sys.argv[3])))
        client.sendall(b"cookie")
        said = client.recv(100).decode()
except OSError as error:
    said = type(error).__name__
print(json.dumps([said, time.monotonic() - began]))
"""


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example's networks, with a register of their own; the rules are taken away again."""
    monkeypatch.setenv("LABKIT_NETWORKS", str(tmp_path / "register/networks"))
    loader = PyFileConfigLoader(str(ROOT / "binder/jupyterhub_config.py"))
    whole = loader.load_config().Spawner.pre_spawn_hook  # it writes the course, too: see tests/hub
    before = rules()
    yield whole.__globals__["own_network"]
    for rule in rules():
        if rule not in before:
            subprocess.run(["iptables", "-w", "-D", *rule.split()[1:]], check=True)


def rules() -> list[str]:
    if not shutil.which("iptables"):
        pytest.skip("no iptables on this machine")
    done = subprocess.run(["iptables", "-w", "-S", "OUTPUT"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no firewall here: {done.stderr.strip()}")
    return [line for line in done.stdout.splitlines() if line.startswith("-A")]


def network(hook: Callable[[Any], None], account: Account) -> str:
    spawner = SimpleNamespace(user=SimpleNamespace(name=account.name), environment={}, args=[])
    hook(spawner)
    return str(spawner.environment["LABKIT_NETWORK"])


@contextmanager
def listening(account: Account, kind: str, address: str, out: Path) -> Iterator[None]:
    with out.open("w") as file:
        command = [sys.executable, "-c", LISTEN, kind, address]
        process = account.start(command, stdout=subprocess.PIPE, stderr=file, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "listens\n"
        yield
    finally:
        process.kill()
        rest, _ = process.communicate()
        out.write_text(rest)


def ask(account: Account, kind: str, address: str, port: int = 9999) -> tuple[str, float]:
    said, seconds = json.loads(
        account.run(sys.executable, "-c", ASK, kind, address, str(port)).stdout
    )
    return said, seconds


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_students_addresses_are_closed_both_ways(
    student: Account, neighbour: Account, hook: Any, tmp_path: Path, kind: str
) -> None:
    address = f"{network(hook, student)}.1"
    assert network(hook, student) == address[:-2], "it stays"
    out = tmp_path / "out"
    with listening(student, kind, address, out):
        assert ask(student, kind, address)[0] == "theirs"
        assert ask(neighbour, kind, address)[0] != "theirs"
    # a port that became free, on which a neighbour listens: the student's cookie stays at home
    with listening(neighbour, kind, address, out):
        assert ask(student, kind, address)[0] != "theirs"
    if kind == "tcp":  # a datagram has left before anybody answers
        assert "cookie" not in out.read_text()
        # what is closed still says so at once
        said, seconds = ask(student, kind, address, 9998)
        assert said == "ConnectionRefusedError" and seconds < 4


def test_no_two_students_have_the_same_addresses(hook: Any) -> None:
    network_of = hook.__globals__["network_of"]
    uids = [*range(1000, 1200), *(n * 16128 + 1000 for n in range(1, 200)), 1_000_000_007]
    given = [network_of(uid) for uid in uids]
    assert len(set(given)) == len(uids)
    assert [network_of(uid) for uid in uids] == given
