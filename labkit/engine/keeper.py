"""The process beside a machine: published ports of the cluster follow its services.

``python -m labkit.engine.keeper RUN``. It listens to the engines' events and adds or removes
QEMU's host forwards; it ends with the machine. Every service port is reached on every node
at that node's own loopback address with the same port, and node1's at 127.0.0.1 too when
that is free.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import threading
import time
from pathlib import Path

from docker.errors import DockerException
from requests.exceptions import RequestException

from labkit.engine import control
from labkit.engine.cluster import ON_LINE, _Record, hub_answers
from labkit.engine.endpoint import Endpoint
from labkit.engine.machine import alive, can_bind
from labkit.errors import LabkitError

__all__ = ["main", "place"]

log = logging.getLogger("labkit.keeper")
EVENTS = {"type": ["service", "container", "node"]}
INTERESTING = {"create", "update", "remove", "start", "die", "destroy"}
HIGHER = 8000  # added to a port that the user may not bind
SETTLE = 0.15  # seconds in which several events count as one
CHECK = 2.0  # seconds between looks at whether the machine lives
Forward = tuple[str, int]  # node, published port


def place(address: str, port: int) -> int | None:
    """Return the port to listen on at ``address`` for ``port``: itself, or one that is free."""
    higher = range(port + HIGHER, min(port + HIGHER + 20, 65536))
    return next((p for p in (port, *higher) if can_bind(address, p)), None)


def _published(endpoint: Endpoint) -> tuple[set[int], set[int]]:
    """Return the ports (of the whole mesh, of this node alone) that one engine knows of."""
    client = endpoint.client(timeout=20)
    try:
        mesh: set[int] = set()
        own = {
            int(port["PublicPort"])
            for container in client.api.containers()
            for port in container.get("Ports", [])
            if port.get("PublicPort") and port.get("Type") == "tcp"
        }
        if client.info()["Swarm"].get("ControlAvailable"):
            for service in client.api.services():
                for port in service.get("Endpoint", {}).get("Ports", []):
                    if port.get("PublishMode") == "ingress" and port["Protocol"] == "tcp":
                        mesh.add(int(port["PublishedPort"]))
        return mesh, own
    finally:
        client.close()


class Keeper:
    """Follows one machine."""

    def __init__(self, run: Path, record: _Record) -> None:
        self.run = run
        self.endpoints = {e.name: e for e in record.fleet(run)}
        self.changes: queue.Queue[str] = queue.Queue()
        self.forwards: dict[tuple[str, str, int], int] = {}  # (address, node, port) -> at

    def follow(self) -> None:
        """Follow until the machine ends."""
        for endpoint in self.endpoints.values():
            self._hear(endpoint)
        threading.Thread(target=self._connect_to_the_world, daemon=True).start()
        self.changes.put("start")
        while alive(self.run):
            try:
                self.changes.get(timeout=CHECK)
                quiet = False
            except queue.Empty:
                quiet = True
            if not self._members_changed() and quiet:
                continue
            time.sleep(SETTLE)
            with contextlib.suppress(queue.Empty):
                while True:
                    self.changes.get_nowait()
            try:
                self._apply(self._wanted())
            except LabkitError as error:
                log.warning("%s", error)

    def _members_changed(self) -> bool:
        """Read again which nodes there are, and hear the new ones."""
        record = _Record.read(self.run)
        if record is None or record.numbers == [int(n[4:]) for n in self.endpoints]:
            return False
        before, self.endpoints = self.endpoints, {e.name: e for e in record.fleet(self.run)}
        for name, endpoint in self.endpoints.items():
            if name not in before:
                self._hear(endpoint)
        return True

    def _hear(self, endpoint: Endpoint) -> None:
        threading.Thread(target=self._listen, args=(endpoint,), daemon=True).start()

    def _listen(self, endpoint: Endpoint) -> None:
        """Put a change in the queue for each event of one engine, across its restarts."""
        while endpoint.name in self.endpoints:
            client = endpoint.client(timeout=None)  # type: ignore[arg-type]
            try:
                for event in client.api.events(decode=True, filters=EVENTS):
                    if event.get("Action") in INTERESTING:
                        self.changes.put(endpoint.name)
            except (DockerException, RequestException, OSError, ValueError) as error:
                log.info("%s: %s", endpoint.name, type(error).__name__)
            finally:
                client.close()
            self.changes.put(endpoint.name)
            time.sleep(1)

    def _connect_to_the_world(self) -> None:
        """Give the guest a resolver if images can be pulled; without one, pulls fail at once."""
        client = next(iter(self.endpoints.values())).client(timeout=10)
        try:
            if hub_answers(client):
                control.guest_shell(self.run / "agent", ON_LINE)
        except (DockerException, OSError, LabkitError) as error:
            log.info("offline: %s", type(error).__name__)
        finally:
            client.close()

    def _wanted(self) -> set[Forward]:
        mesh: set[int] = set()
        wanted: set[Forward] = set()
        silent: set[str] = set()
        for name, endpoint in self.endpoints.items():
            try:
                theirs, own = _published(endpoint)
            except (DockerException, RequestException, OSError):
                silent.add(name)  # its forwards stay as they are
                continue
            mesh |= theirs
            wanted |= {(name, port) for port in own}
        wanted |= {(name, port) for name in self.endpoints for port in mesh}
        wanted |= {(name, port) for _, name, port in self.forwards if name in silent}
        return wanted

    def _apply(self, wanted: set[Forward]) -> None:
        first = next(iter(self.endpoints))
        places = {(self.endpoints[n].address, n, p) for n, p in wanted}
        places |= {("127.0.0.1", n, p) for n, p in wanted if n == first}
        for key in [k for k in self.forwards if k not in places]:
            control.hmp(self.run / "qmp", f"hostfwd_remove u tcp:{key[0]}:{self.forwards[key]}")
            del self.forwards[key]
        for address, name, port in sorted(places - set(self.forwards)):
            at = place(address, port)
            if at is None or (address == "127.0.0.1" and at != port):
                continue
            inside = self.endpoints[name].swarm_address
            said = control.hmp(
                self.run / "qmp", f"hostfwd_add u tcp:{address}:{at}-{inside}:{port}"
            )
            if said:
                log.warning("%s:%d: %s", address, port, said)
            else:
                self.forwards[address, name, port] = at
        self._write()

    def _write(self) -> None:
        rows = [
            {"node": name, "port": port, "at": at, "address": address}
            for (address, name, port), at in sorted(self.forwards.items())
            if address != "127.0.0.1"
        ]
        part = self.run / "forwards.json.part"
        part.write_text(json.dumps(rows))
        part.replace(self.run / "forwards.json")


def main() -> int:
    """Follow the machine of the run directory given on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run = Path(sys.argv[1])
    record = _Record.read(run)
    if record is None:
        return 1
    Keeper(run, record).follow()
    return 0


if __name__ == "__main__":
    sys.exit(main())
