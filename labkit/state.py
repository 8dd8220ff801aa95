"""The cluster as data: one call captures it as one frozen snapshot.

Everything that shows or judges the cluster takes a :class:`ClusterState` and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class EngineState:
    """One Docker Engine as it answered (or not), in a swarm or not."""

    name: str
    reachable: bool
    version: str = ""
    swarm: str = "inactive"  # inactive | pending | active | error | locked, or "" if unreachable
    node_id: str = ""
    manager: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A member of the swarm. Source: ``GET /nodes``."""

    id: str
    name: str  # hostname
    role: str  # manager | worker
    availability: str  # active | pause | drain
    state: str  # ready | down | unknown | disconnected
    leader: bool = False
    reachability: str | None = None  # reachable | unreachable | unknown; None for a worker
    address: str = ""
    engine_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Port:
    """A published port. ``mode`` is ``ingress`` (routing mesh) or ``host``."""

    target: int
    published: int | None
    protocol: str = "tcp"
    mode: str = "ingress"


@dataclass(frozen=True, slots=True)
class Service:
    """A service. Source: ``GET /services``."""

    id: str
    name: str
    image: str  # without digest
    mode: str  # replicated | global | replicated-job | global-job
    replicas: int | None  # wanted; None for global modes
    ports: tuple[Port, ...] = ()
    networks: tuple[str, ...] = ()  # names
    labels: Mapping[str, str] = field(default_factory=dict)
    stack: str | None = None
    constraints: tuple[str, ...] = ()
    update_state: str | None = None  # updating | paused | completed | rollback_…
    version: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A task: one slot of a service on one node. Source: ``GET /tasks``."""

    id: str
    service_id: str
    service: str  # name; "" when the service is gone
    slot: int | None  # None for global services
    node_id: str
    node: str | None  # name; None while unassigned
    state: str  # new … running … complete | shutdown | failed | rejected | remove | orphaned
    desired: str  # running | shutdown | accepted | ready | remove | complete
    image: str = ""
    container_id: str = ""
    message: str = ""
    error: str = ""
    since: datetime | None = None  # Status.Timestamp, UTC
    host_ports: tuple[int, ...] = ()  # ports published in mode host


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the swarm. Source: ``GET /networks``."""

    id: str
    name: str
    driver: str
    scope: str
    ingress: bool = False
    attachable: bool = False
    stack: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The whole cluster at one moment.

    ``swarm`` is ``active`` when a manager answered, else ``inactive``, ``no-quorum`` or
    ``unreachable``.
    """

    captured_at: datetime
    swarm: str
    asked: str | None  # name of the engine that answered for the cluster
    engines: tuple[EngineState, ...] = ()
    nodes: tuple[Node, ...] = ()
    services: tuple[Service, ...] = ()
    tasks: tuple[Task, ...] = ()
    networks: tuple[Network, ...] = ()
