"""Run on a machine, not imported: its addresses, and which ports of the others it reaches.

It is sent as text to ``python3`` on each machine (by ssh, or in a container on the host's
network), so it takes nothing but the standard library of Python 3.8. The one argument is JSON:

``{"do": "addresses"}``
    answers ``{"addresses": [...], "busy": ["2377/tcp", ...]}``: the IPv4 addresses that Swarm
    would choose from, and which of its ports are in use.
``{"do": "exchange", "me": i, "nonce": text, "seconds": s, "targets": [[j, address, busy], ...]}``
    listens on Swarm's ports and knocks on those of the others, all of which run it at the same
    time; answers ``{"heard": [[i, address, port], ...], "reached": [[j, address, port], ...],
    "busy": [port, ...], "ran": s}``: who was heard here at which of the addresses, what answered
    there, where nobody could be heard because the port is in use, and for how long it ran.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import selectors
import socket
import struct
import sys
import threading
import time
from typing import Any

PORTS = ("2377/tcp", "7946/tcp", "7946/udp", "4789/udp")
KNOCK = 0.3  # seconds between two
GRACE = 0.7  # seconds for what is still under way when everything has been said
SIOCGIFADDR = 0x8915


def addresses() -> list[str]:
    """Return the IPv4 addresses of this machine, without loopback and docker's own bridges."""
    with open("/proc/net/fib_trie") as file:  # noqa: PTH123
        found = re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", file.read())
    docker = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            if re.fullmatch(r"docker0|docker_gwbridge|br-[0-9a-f]{12}", name):
                request = struct.pack("256s", name.encode())
                with contextlib.suppress(OSError):
                    answer = fcntl.ioctl(asking, SIOCGIFADDR, request)
                    docker.add(socket.inet_ntoa(answer[20:24]))
    kept = {a for a in found if not a.startswith("127.") and a not in docker}
    return sorted(kept, key=socket.inet_aton)


def opened(port: str) -> socket.socket:
    """Return a socket that listens on ``2377/tcp`` and the like; OSError when it is in use."""
    tcp = port.endswith("/tcp")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    try:
        if tcp:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", number(port)))
        if tcp:
            listener.listen(64)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def number(port: str) -> int:
    """Return 2377 for ``2377/tcp``."""
    return int(port.split("/")[0])


def busy() -> list[str]:
    """Return which of Swarm's ports are in use here."""
    taken = []
    for port in PORTS:
        try:
            opened(port).close()
        except OSError:
            taken.append(port)
    return taken


class Exchange:
    """One machine's part: it listens, and knocks on the others."""

    def __init__(
        self, me: int, nonce: str, seconds: float, targets: list[tuple[int, str, list[str]]]
    ) -> None:
        self.me, self.nonce, self.targets = me, nonce, targets
        self.start = time.monotonic()
        self.end = self.start + seconds
        self.heard: set[tuple[int, str, str]] = set()
        self.reached: set[tuple[int, str, str]] = set()
        self.own = addresses()

    def run(self) -> dict[str, object]:
        """Listen and knock until everybody heard everybody, or time is up."""
        selector = selectors.DefaultSelector()
        mine = []
        for port in PORTS:
            with contextlib.suppress(OSError):
                selector.register(opened(port), selectors.EVENT_READ, port)
                mine.append(port)
        for target, address, taken in self.targets:
            if address in self.own:
                continue  # behind NAT all machines may have the same one
            for port in PORTS:
                knock = self.connect if port.endswith("/tcp") else self.send
                args = (target, address, port, port in taken)
                threading.Thread(target=knock, args=args, daemon=True).start()
        while time.monotonic() < self.end:
            for key, _ in selector.select(0.1):
                with contextlib.suppress(OSError):
                    self.hear(selector, key.fileobj, key.data)  # type: ignore[arg-type]
            if self.all_said(mine):
                self.end = min(self.end, time.monotonic() + GRACE)
        taken = [port for port in PORTS if port not in mine]
        return {
            "heard": sorted(self.heard),
            "reached": sorted(self.reached),
            "busy": taken,
            "ran": time.monotonic() - self.start,
        }

    def hear(self, selector: selectors.BaseSelector, source: socket.socket, port: str) -> None:
        """Take what came: a datagram, a connection, or what a connection says."""
        if port.endswith("/udp"):
            data, sender = source.recvfrom(300)
            if self.note(data, port):
                source.sendto(data, sender)
        elif source.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            connection, _ = source.accept()
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, port)
        else:
            selector.unregister(source)
            with source:
                self.note(source.recv(300), port)

    def note(self, data: bytes, port: str) -> bool:
        """Keep who said it; False for what is nobody's of this exchange."""
        with contextlib.suppress(ValueError):
            nonce, sender, address = data.decode().split()
            if nonce == self.nonce and int(sender) != self.me:
                self.heard.add((int(sender), address, port))
                return True
        return False

    def all_said(self, mine: list[str]) -> bool:
        """Tell whether each other was heard on each port here, and answered on its own."""
        heard = {(i, port) for i, _, port in self.heard}
        reached = {(j, port) for j, _, port in tuple(self.reached)}  # threads add to it
        for j, _, taken in self.targets:
            if any((j, port) not in reached for port in PORTS if port not in taken):
                return False
            if any((j, port) not in heard for port in mine):
                return False
        return True

    def name(self, address: str) -> bytes:
        """Return what is said to an address of another machine."""
        return f"{self.nonce} {self.me} {address}".encode()

    def connect(self, target: int, address: str, port: str, taken: bool) -> None:
        """Knock over TCP until somebody opens; what holds a port already is told nothing."""
        while time.monotonic() < self.end and (target, address, port) not in self.reached:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((address, number(port)), timeout=KNOCK * 5) as connection,
            ):
                if not taken:
                    connection.sendall(self.name(address))
                self.reached.add((target, address, port))
            time.sleep(KNOCK)

    def send(self, target: int, address: str, port: str, taken: bool) -> None:
        """Knock with datagrams to the end, for some are lost; no answer comes if it is taken."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(KNOCK)
            while time.monotonic() < self.end and not taken:
                with contextlib.suppress(OSError):
                    asking.sendto(self.name(address), (address, number(port)))
                    if asking.recv(300) == self.name(address):
                        self.reached.add((target, address, port))
                time.sleep(KNOCK)


def main(order: dict[str, Any]) -> dict[str, object]:
    """Do what was asked, and say what came of it."""
    if order.pop("do") == "addresses":
        return {"addresses": addresses(), "busy": busy()}
    return Exchange(**order).run()


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))), flush=True)
    os._exit(0)  # threads still wait for answers: they are not to be ended one by one
