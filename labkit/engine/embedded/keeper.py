"""The process beside a machine: published ports of the cluster follow its services.

``python -m labkit.engine.embedded.keeper RUN``. It listens to the engines' events and adds or
removes the machine's forwards; it ends with the machine. Every service port is reached on every
node at that node's own loopback address with the same port, and node1's at 127.0.0.1 too, where a
browser looks for ``NAME.localhost``; a UDP port on the nodes alone. It also ends the cluster with
its student's server, or when nobody uses it (:mod:`labkit.engine.embedded.lifetime`).
"""

import json
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from docker.errors import DockerException
from requests.exceptions import RequestException

from labkit.engine.embedded import identity, lifetime, upkeep
from labkit.engine.embedded.addresses import Forward as Way
from labkit.engine.embedded.addresses import can_bind
from labkit.engine.embedded.driver import instance
from labkit.engine.embedded.egress import NONE
from labkit.engine.embedded.lifetime import end
from labkit.engine.embedded.online import go_on_line, hub_answers, watch
from labkit.engine.embedded.processes import end_process, note_process
from labkit.engine.embedded.record import Record
from labkit.engine.embedded.settings import Settings, limit_sentence
from labkit.engine.endpoint import LOCAL, UDP, Endpoint
from labkit.engine.names import write_names
from labkit.errors import LabkitError
from labkit.files import replacing
from labkit.polling import until

log = logging.getLogger("labkit.keeper")
EVENTS = {"type": ["service", "container", "node"]}
INTERESTING = {"create", "update", "remove", "start", "die", "destroy"}
HIGHER = 8000  # added to a port that the user may not bind, or that another has
PLACES = 200  # how many are tried from there
SETTLE = 0.15  # seconds in which several events count as one
KINDS = {"tcp": 0, "udp": UDP}
AT_ONCE = 60  # forwards changed in one go; then comes what was asked for meanwhile
MOST = 900  # forwards at a time: the machine waits at all of them with every turn it takes
CHECK = 2.0  # seconds between looks at whether the machine lives
Forward = tuple[str, int]  # node, published port (with UDP added to that of a UDP port)
Place = tuple[str, str, int]  # address, node, published port
_HERE = "127.0.0.1"


def free_port(address: str, port: int) -> int | None:
    """Return the port to listen on at ``address`` for ``port``: itself, or one that is free."""
    number = port % UDP
    kind = socket.SOCK_DGRAM if port >= UDP else socket.SOCK_STREAM
    higher = range(number + HIGHER, min(number + HIGHER + PLACES, 65536))
    return next((p for p in (number, *higher) if can_bind(address, p, kind)), None)


def ended_idle(minutes: int) -> str:
    """Return the French sentence about a cluster that nobody used."""
    return f"Le cluster a été arrêté après {minutes} minutes sans activité. " + limit_sentence(
        "LABKIT_IDLE_STOP", minutes
    )


@dataclass(frozen=True, slots=True)
class Ports:
    """The published ports that one engine knows of."""

    role: str  # ``manager``, ``worker``, or ``""`` outside of a swarm
    mesh: frozenset[int] = frozenset()  # those of the whole mesh, which only a manager knows
    own: frozenset[int] = frozenset()  # those of this node alone


def published(endpoint: Endpoint) -> Ports | None:
    """Return what an engine publishes; None for one that does not say."""
    try:
        return _published(endpoint)
    except (DockerException, RequestException, OSError):
        return None


def _published(endpoint: Endpoint) -> Ports:
    with closing(endpoint.client(timeout=20)) as client:
        own = frozenset(
            int(port["PublicPort"]) + KINDS[port["Type"]]
            for container in client.api.containers()
            for port in container.get("Ports", [])
            if port.get("PublicPort") and port.get("Type") in KINDS
        )
        swarm = client.info()["Swarm"]
        if not swarm.get("ControlAvailable"):
            return Ports("" if swarm.get("LocalNodeState") == "inactive" else "worker", own=own)
        mesh = frozenset(
            int(port["PublishedPort"]) + KINDS[port["Protocol"]]
            for service in client.api.services()
            for port in service.get("Endpoint", {}).get("Ports", [])
            if port.get("PublishMode") == "ingress" and port["Protocol"] in KINDS
        )
        return Ports("manager", mesh, own)


def wanted(told: Mapping[str, Ports | None], forwards: Iterable[Forward]) -> set[Forward]:
    """Return what is to be forwarded; pure.

    ``told`` is by node; None for an engine that does not answer, or that has no leader to ask.
    ``forwards``, what is forwarded now, stays for an engine that is silent, and for a worker while
    no manager answers: the mesh goes on without managers.
    """
    answers = {name: ports for name, ports in told.items() if ports is not None}
    led = any(ports.role == "manager" for ports in answers.values())
    mesh = {port for ports in answers.values() for port in ports.mesh}
    found = {(name, port) for name in told for port in mesh}
    found |= {(name, port) for name, ports in answers.items() for port in ports.own}
    kept = set(told) - set(answers)
    if not led:
        kept |= {name for name, ports in answers.items() if ports.role == "worker"}
    return found | {(name, port) for name, port in forwards if name in kept}


def chosen(asked: Mapping[Place, int]) -> list[Place]:
    """Return what is opened, of what was asked for in which round, the last first; pure."""
    order = sorted(asked, key=lambda p: (-asked[p], p[0] == _HERE, p[2], p[1]))
    return order[:MOST]


def too_many(closed: int) -> str:
    """Return the French sentence about ports that are not reached from this machine."""
    return (
        f"Le cluster publie trop de ports : {MOST} portes au plus sont ouvertes sur cette machine, "
        f"d’abord celles des derniers services ; {closed} restent fermées."
    )


class Keeper:
    """Follows one machine, and ends it after ``idle_stop`` minutes without use; 0 for never."""

    def __init__(self, run: Path, record: Record, idle_stop: int = 0) -> None:
        self.run = run
        self.machine = (run / "pid").read_text()
        self.instance = instance(run)
        self.private = record.private
        self.idle_stop = idle_stop
        self.endpoints = {e.name: e for e in record.fleet(run)}
        self.changes: queue.Queue[str] = queue.Queue()
        self.forwards: dict[Place, int] = {}  # at which port of the address
        self.asked: dict[Place, int] = {}  # in which round it was first asked for
        self.closing: list[Way] = []  # ways that the machine was not yet told to close
        self.said = ""

    def follow(self) -> None:
        """Follow until the machine ends."""
        for endpoint in self.endpoints.values():
            self._hear(endpoint)
        threading.Thread(target=self._connect_to_the_world, daemon=True).start()
        self.changes.put("start")
        while self._machine_lives() and not self._ended():
            try:
                self.changes.get(timeout=CHECK)
                quiet = False
            except queue.Empty:
                quiet = True
            if not self._members_changed() and quiet:
                continue
            time.sleep(SETTLE)
            with suppress(queue.Empty):
                while True:
                    self.changes.get_nowait()
            try:
                told = {name: published(endpoint) for name, endpoint in self.endpoints.items()}
                self._apply(wanted(told, ((name, port) for _, name, port in self.forwards)))
            except (LabkitError, OSError) as error:
                log.warning("%s", error)

    def _machine_lives(self) -> bool:
        """Tell whether the machine lives; end it once its directory is gone: nobody else could."""
        machine = identity.find(self.machine)
        if machine is None or self._held():
            return machine is not None
        if until(self._held, seconds=CHECK, every=CHECK):  # on a network's disk, a glance may err
            return True
        end_process(machine)
        return False

    def _held(self) -> bool:
        """Tell whether the run directory still names the machine."""
        try:
            return (self.run / "pid").read_text() == self.machine
        except FileNotFoundError:
            return False
        except OSError:
            return True  # that says nothing

    def _ended(self) -> bool:
        """End the cluster if its server has gone or nobody uses it; tell whether it ended."""
        if lifetime.server_gone(self.run):
            return end(self.run, partial(lifetime.server_gone, self.run), "")
        if self._unused():
            return end(self.run, self._unused, ended_idle(self.idle_stop))
        return False

    def _unused(self) -> bool:
        return 0 < 60 * self.idle_stop < lifetime.idle_seconds(self.run)

    def _members_changed(self) -> bool:
        """Read again which nodes there are, and hear the new ones."""
        record = Record.read(self.run)
        if record is None or record.numbers == [int(n[4:]) for n in self.endpoints]:
            return False
        before, self.endpoints = self.endpoints, {e.name: e for e in record.fleet(self.run)}
        for name, endpoint in self.endpoints.items():
            if name not in before:
                self._hear(endpoint)
        return True

    def _hear(self, endpoint: Endpoint) -> None:
        gone: Callable[[object], bool] = lambda _: endpoint.name not in self.endpoints  # noqa: E731
        listen = partial(until, partial(self._listen, endpoint), gone, every=1)
        threading.Thread(target=listen, daemon=True).start()

    def _listen(self, endpoint: Endpoint) -> None:
        """Put a change in the queue for each event of one engine, until it restarts or ends."""
        with closing(endpoint.client(timeout=None)) as client:  # type: ignore[arg-type]
            try:
                for event in client.api.events(decode=True, filters=EVENTS):
                    if event.get("Type") == "service":
                        lifetime.mark_used(self.run)
                    if event.get("Action") in INTERESTING:
                        self.changes.put(endpoint.name)
            except (DockerException, RequestException, OSError, ValueError) as error:
                log.info("%s: %s", endpoint.name, type(error).__name__)
        self.changes.put(endpoint.name)

    def _connect_to_the_world(self) -> None:
        """Give the guest a resolver if images can be pulled; without one, pulls fail at once."""
        try:
            with closing(next(iter(self.endpoints.values())).client(timeout=10)) as client:
                if Settings.read().egress != NONE and hub_answers(client):
                    go_on_line(self.instance)
        except (DockerException, OSError, LabkitError) as error:
            log.info("offline: %s", type(error).__name__)

    def _apply(self, wanted: set[Forward]) -> None:
        """Change some forwards, and ask to come back for others."""
        first = next(iter(self.endpoints))
        places = {(self.endpoints[n].address, n, p) for n, p in wanted}
        if not self.private:
            places |= {(_HERE, n, p) for n, p in wanted if n == first and p < UDP}
        latest = max(self.asked.values(), default=0) + 1
        self.asked = {p: self.asked.get(p, latest) for p in places}
        meant = chosen(self.asked)
        self._say(len(places) - len(meant))
        gone = set(self.forwards).difference(meant)
        self.closing += [self._way(p, self.forwards.pop(p)) for p in gone]
        self._write()  # first: nobody is sent to a place that is no longer the cluster's
        while now := self.closing[:AT_ONCE]:
            self.instance.forward(closed=now)
            del self.closing[:AT_ONCE]
        before = len(self.forwards)
        for _ in range(3):  # a neighbour may take a place between the look and the opening
            new = [p for p in meant if p not in self.forwards]
            if self._open(new[:AT_ONCE]):
                break
        self._write()
        if len(new) > AT_ONCE and len(self.forwards) > before:
            self.changes.put("more")

    def _open(self, places: list[Place]) -> bool:
        """Add forwards; tell whether all of them were."""
        at = {p: found for p in places if (found := free_port(p[0], p[2]))}
        answers = self.instance.forward([self._way(p, port) for p, port in at.items()])
        refused = {p: said for p, said in zip(at, answers, strict=True) if said}
        self.forwards |= {p: port for p, port in at.items() if p not in refused}
        for (address, _, port), said in refused.items():
            log.warning("%s:%d: %s", address, port % UDP, said)
        return not refused

    def _way(self, place: Place, at: int) -> Way:
        """Return the way from a port of this host to a published port of a node."""
        address, name, port = place
        node = self.endpoints.get(name)  # gone, when its ways are closed
        inside = str(node.swarm_address) if node else ""
        return Way("udp" if port >= UDP else "tcp", address, at, inside, port % UDP)

    def _say(self, closed: int) -> None:
        """Leave in the run directory what ``labkit status`` says of ports that are not open."""
        text = too_many(closed) if closed else ""
        if text != self.said:
            log.warning("%s", text or "every port is open")
            (self.run / "ports").write_text(text)
            self.said = text

    def _write(self) -> None:
        rows = [
            {"node": LOCAL if a == _HERE else name, "port": port, "at": at, "address": a}
            for (a, name, port), at in sorted(self.forwards.items())
        ]
        with replacing(self.run / "forwards.json") as file:
            file.write(json.dumps(rows).encode())
        at = {(n, port): at for (a, n, port), at in self.forwards.items() if a != _HERE}
        write_names(self.run / "docker", self.endpoints.values(), at)


def main() -> int:
    """Follow the machine of the run directory given on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run = Path(sys.argv[1])
    record = Record.read(run)
    if record is None:
        return 1
    settings = Settings.read()
    keeper = Keeper(run, record, settings.idle_stop)
    note_process(run, os.getpid(), "keeper.pid")
    watch(run, settings.egress)
    upkeep.watch(run)
    keeper.follow()
    return 0


if __name__ == "__main__":
    sys.exit(main())
