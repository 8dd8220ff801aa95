"""Machines that labkit did not make: ask each engine who it is, and whose swarm it is in."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from docker import APIClient
from docker.errors import DockerException

from labkit.engine.clients import NO_ANSWER, explain, read
from labkit.engine.endpoint import Endpoint, Fleet

_TIMEOUT = 15.0  # seconds for an answer of an engine


@dataclass(frozen=True, slots=True)
class OwnMachine:
    """One machine and its engine."""

    name: str  # name of the endpoint, such as ``node1``
    error: str = ""  # why the engine does not answer, in French; the rest is empty then
    # hostname, version: what the engine says of itself
    hostname: str = ""
    version: str = ""
    plain: bool = False  # it is reached over TCP without TLS
    swarm: str = "inactive"  # ``inactive``, ``active``, ``pending``, ``error``, ``locked``
    node_id: str = ""  # its id in its swarm
    # the managers of its swarm, ``(id, address, hostname)``; the hostname is known to managers
    # alone
    managers: tuple[tuple[str, str, str], ...] = ()
    # clock, clock_error: its clock less this machine's, in seconds, and how wrong that may be
    clock: float | None = None
    clock_error: float = 0.0
    image: bool = False  # whether it has the image of the course
    # what ``docker --context NAME`` complained of; "" when it answers, None when not tried
    cli: str | None = None
    # the IPv4 addresses that Swarm would choose from; None when they are unknown
    addresses: tuple[str, ...] | None = None
    busy: tuple[str, ...] = ()  # Swarm's ports that something listens on already
    unprobed: str = ""  # why nothing can run there, in French

    @property
    def standing(self) -> str:
        """Its swarm and the managers of that, in French."""
        if self.error:
            return f"ne répond pas ({self.error})"
        if self.swarm == "inactive":
            return "dans aucun Swarm"
        whose = ", ".join(
            f"{where} ({name})" if name else where for _, where, name in self.managers
        )
        state = "" if self.swarm == "active" else f", état {self.swarm}"
        return (
            f"nœud « {self.hostname} » d’un Swarm dont les managers sont {whose or 'inconnus'}"
            f"{state}"
        )


def ask_machines(fleet: Fleet, *, image: str = "") -> tuple[OwnMachine, ...]:
    """Ask every engine who it is; one that does not answer is part of the answer."""
    with ThreadPoolExecutor(max_workers=len(fleet)) as pool:
        return tuple(pool.map(lambda endpoint: _ask(endpoint, image), fleet))


def _ask(endpoint: Endpoint, image: str) -> OwnMachine:
    def question(api: APIClient) -> OwnMachine:
        api.ping()  # so that the next answer does not pay for the connection
        start = time.time()
        info = api.info()
        end = time.time()
        swarm = info.get("Swarm") or {}
        names = {}
        if swarm.get("ControlAvailable") and not swarm.get("Error"):
            with contextlib.suppress(DockerException):  # a quorum is lost: the ids stay
                names = {n["ID"]: n["Description"]["Hostname"] for n in api.nodes()}
        clock = None
        with contextlib.suppress(ValueError, KeyError):
            clock = datetime.fromisoformat(info["SystemTime"]).timestamp() - (start + end) / 2
        return OwnMachine(
            name=endpoint.name,
            hostname=info.get("Name", ""),
            version=info.get("ServerVersion", ""),
            plain=endpoint.url.startswith("tcp://") and endpoint.tls is None,
            swarm=swarm.get("LocalNodeState") or "inactive",
            node_id=swarm.get("NodeID", ""),
            managers=tuple(
                (m["NodeID"], m["Addr"], names.get(m["NodeID"], ""))
                for m in swarm.get("RemoteManagers") or ()
            ),
            clock=clock,
            clock_error=(end - start) / 2,
            image=bool(image and api.images(image)),
        )

    try:
        return read(endpoint, question, _TIMEOUT)
    except NO_ANSWER as error:
        return OwnMachine(endpoint.name, error=explain(error))
