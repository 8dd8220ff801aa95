"""A cluster at one moment: engines, nodes, services, tasks, networks; all frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from labkit.errors import NoSuchService
from labkit.state.html import html
from labkit.state.refusals import locked, no_such_node, why_not
from labkit.state.troubles import Trouble, find_troubles

_WANTED = frozenset({"new", "pending", "assigned", "accepted", "ready", "running", "complete"})
_STARTING = frozenset(
    {"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting"}
)
_FAILED = frozenset({"failed", "rejected", "orphaned"})


@dataclass(frozen=True, slots=True)
class EngineState:
    """One Docker Engine as it answered (or not), in a swarm or not.

    ``managers`` is how many managers it knows, itself included; 0 when it does not say.
    """

    name: str
    reachable: bool
    version: str = ""
    swarm: str = "inactive"  # inactive | pending | active | error | locked, or "" if unreachable
    node_id: str = ""
    manager: bool = False
    error: str = ""
    managers: int = 0


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
class Mount:
    """Something mounted in a service's containers; ``stack`` is that of a volume."""

    type: str  # bind | volume | tmpfs | npipe | cluster | image
    source: str  # "" for tmpfs and anonymous volumes
    target: str
    read_only: bool = False
    stack: str | None = None


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """How an update replaces a service's tasks. Source: ``UpdateConfig`` of ``GET /services``."""

    parallelism: int  # tasks at a time; 0: all at once
    delay_s: float  # between one lot and the next
    on_failure: str  # pause | continue | rollback
    order: str  # stop-first | start-first


@dataclass(frozen=True, slots=True)
class Service:
    """A service. Source: ``GET /services``.

    ``update`` is None where nobody said how to update it. Of a job, ``replicas`` is how many
    tasks are to complete, and ``iteration`` numbers its runs: an update, or another number of
    tasks, begins a new one in which all is done again.
    """

    id: str
    name: str
    image: str  # without digest
    mode: str  # replicated | global | replicated-job | global-job
    replicas: int | None  # wanted to run, or to complete; None for global modes
    ports: tuple[Port, ...] = ()
    networks: tuple[str, ...] = ()  # names
    labels: Mapping[str, str] = field(default_factory=dict)
    stack: str | None = None
    constraints: tuple[str, ...] = ()
    update_state: str | None = None  # updating | paused | completed | rollback_…
    version: int = 0
    mounts: tuple[Mount, ...] = ()
    preferences: tuple[str, ...] = ()  # what tasks are spread over, such as node.labels.rack
    update: UpdatePolicy | None = None
    restart: str = "any"  # any | on-failure | none: when a task that ended is replaced
    iteration: int | None = None  # from 0; None for what is no job

    @property
    def job(self) -> bool:
        """Its tasks are to complete, not to run for ever."""
        return self.mode.endswith("-job")


@dataclass(frozen=True, slots=True)
class Task:
    """A task: one slot of a service on one node. Source: ``GET /tasks``."""

    id: str
    service_id: str
    service: str  # name; "" when the service is gone
    slot: int | None  # None for global services, and for the first task of a job
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
    iteration: int | None = None  # the run of its job that it belongs to; None for other tasks

    @property
    def label(self) -> str:
        """``service.slot``, as docker names it; ``service.node`` for a global service."""
        return f"{self.service or '?'}.{self.slot if self.slot else self.node or '?'}"

    @property
    def current(self) -> bool:
        """The swarm wants this task now; False for the history and for what is stopping.

        A task of a job is wanted until it has completed.
        """
        return self.desired in _WANTED and self.state != "complete"

    @property
    def starting(self) -> bool:
        """Wanted, and on its way to running."""
        return self.current and self.state in _STARTING

    @property
    def running(self) -> bool:
        """Wanted and running."""
        return self.desired in {"running", "complete"} and self.state == "running"

    @property
    def completed(self) -> bool:
        """It ended by itself, without an error."""
        return self.state == "complete"

    @property
    def stopping(self) -> bool:
        """No longer wanted, but its container may still be there."""
        return not self.current and bool(self.node_id) and self.state in _STARTING | {"running"}

    @property
    def failed(self) -> bool:
        """It failed, was rejected by its node, or its node is lost."""
        return self.state in _FAILED


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


def ended(service: Service, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return the tasks of a service that are over and not replaced: :meth:`ClusterState.ended`.

    ``tasks`` are all of its tasks, history included, the newest of a slot first.
    """
    last: dict[object, Task] = {}
    for task in tasks:
        if not service.job or task.iteration == service.iteration:
            key = task.slot or (None if service.mode == "replicated-job" else task.node_id)
            if key not in last or (task.current and not last[key].current):
                last[key] = task
    over = [t for t in last.values() if not (t.current or t.stopping)]
    if service.replicas is None:
        return tuple(over)
    over.sort(key=lambda t: t.slot or 0)
    return tuple(over[: max(0, service.replicas - (len(last) - len(over)))])


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The whole cluster at one moment.

    ``swarm`` is ``active`` when a manager answered for it. Else it is ``inactive``;
    ``no-leader`` when most managers live but none answers for the swarm, as in an election;
    ``locked`` when those that are missing wait for the key of autolock;
    ``no-quorum`` when too few live, or it cannot be told; or ``unreachable``.
    """

    captured_at: datetime
    swarm: str
    asked: str | None  # name of the engine that answered for the cluster
    engines: tuple[EngineState, ...] = ()
    nodes: tuple[Node, ...] = ()
    services: tuple[Service, ...] = ()
    tasks: tuple[Task, ...] = ()
    networks: tuple[Network, ...] = ()

    @property
    def active(self) -> bool:
        """A manager answered for the swarm."""
        return self.swarm == "active"

    @property
    def managers(self) -> tuple[Node, ...]:
        """The nodes that are managers, whatever their state."""
        return tuple(n for n in self.nodes if n.role == "manager")

    @property
    def workers(self) -> tuple[Node, ...]:
        """The nodes that are workers, whatever their state."""
        return tuple(n for n in self.nodes if n.role == "worker")

    @property
    def voters(self) -> tuple[Node, ...]:
        """The managers that Raft counts, without those lost before a forced new cluster."""
        return tuple(n for n in self.nodes if n.leader or n.reachability is not None)

    @property
    def leader(self) -> Node | None:
        """The manager that leads, or None."""
        return next((n for n in self.nodes if n.leader), None)

    @property
    def quorum(self) -> int:
        """Voters that must agree for anything to change: n // 2 + 1; 0 without voters."""
        n = len(self.voters)
        return n // 2 + 1 if n else 0

    @property
    def tolerated(self) -> int:
        """Voters that may be lost before the quorum is: (n - 1) // 2."""
        return max(0, (len(self.voters) - 1) // 2)

    def engine(self, name: str) -> EngineState:
        """Return the engine of that endpoint name, or raise ``NoSuchNode``."""
        for engine in self.engines:
            if engine.name == name:
                return engine
        raise no_such_node(name, [e.name for e in self.engines])

    def node(self, name: str) -> Node:
        """Return the node of that hostname, endpoint name or id.

        Of two with one hostname it is the one that is not stale. Raises ``NoSuchNode``.
        """
        stale = self.stale
        for node in sorted(self.nodes, key=lambda n: n in stale):
            if name in (node.name, node.id):
                return node
        by_id = {n.id: n for n in self.nodes}
        for engine in self.engines:
            if engine.name == name and engine.node_id in by_id:
                return by_id[engine.node_id]
        raise no_such_node(name, [n.name for n in self.nodes])

    def service(self, name: str) -> Service:
        """Return the service of that name or id, or raise ``NoSuchService``."""
        for service in self.services:
            if name in (service.name, service.id):
                return service
        names = ", ".join(s.name for s in self.services)
        raise NoSuchService(
            f"Le service « {name} » n’existe pas.",
            remedy=f"Services du cluster : {names}."
            if names
            else "Le cluster n’a aucun service : créez-le avec « docker service create ».",
        )

    def has_service(self, name: str) -> bool:
        """Whether a service has that name."""
        return any(s.name == name for s in self.services)

    def tasks_of(self, service: str, *, current: bool = True) -> tuple[Task, ...]:
        """Return the tasks of a service (name or id), by slot then age; or raise ``NoSuchService``.

        Without ``current``, the history and what is stopping are there too, as ``docker service
        ps`` has them.
        """
        wanted = self.service(service).id
        return tuple(t for t in self.tasks if t.service_id == wanted and (t.current or not current))

    def running(self, service: str) -> tuple[Task, ...]:
        """Return a service's tasks that are wanted and running, or raise ``NoSuchService``."""
        return tuple(t for t in self.tasks_of(service) if t.running)

    def tasks_on(self, node: str, *, current: bool = True) -> tuple[Task, ...]:
        """Return the tasks of a node (hostname, endpoint name or id), or raise ``NoSuchNode``."""
        wanted = self.node(node).id
        return tuple(t for t in self.tasks if t.node_id == wanted and (t.current or not current))

    def ended(self, service: str) -> tuple[Task, ...]:
        """Return a service's tasks that are over and that the swarm does not replace.

        Of each slot that wants no task any more, that is the last: completed, failed, or stopped.
        Of a job, only what belongs to its present run. Raises ``NoSuchService``.
        """
        return ended(self.service(service), self.tasks_of(service, current=False))

    def tally(self, service: str) -> str:
        """Say in French how many of a service's tasks are as wanted, such as ``3/5``.

        ``2/6 terminées, 1 en marche`` for a job; ``3/3, 1 en attente`` where a task more than
        those that run finds no node. Raises ``NoSuchService``.
        """
        found = self.service(service)
        running = len(self.running(found.id))
        done = sum(t.completed for t in self.ended(found.id))
        waiting = sum(t.state == "pending" and bool(t.error) for t in self.tasks_of(found.id))
        wanted = found.replicas
        if wanted is None and found.job:
            mine = self.tasks_of(found.id, current=False)
            wanted = len({t.node_id for t in mine if t.iteration == found.iteration})
        if found.job or (done and not running):
            text = f"{done}/{wanted or done} terminée{'s' if done > 1 else ''}"
            return f"{text}, {running} en marche" if running else text
        text = f"{running}/{found.mode if wanted is None else wanted}"
        if done:
            text += f", {done} terminée{'s' if done > 1 else ''}"
        return f"{text}, {waiting} en attente" if waiting and running == wanted else text

    @property
    def stale(self) -> tuple[Node, ...]:
        """The nodes that are down, and whose machine is in the swarm again as another node.

        One without a name never came: its machine's first attempt to join was given up.
        """
        here = {n.name for n in self.nodes if n.state != "down"}
        joining = any(e.swarm == "pending" for e in self.engines)
        mine = {e.node_id for e in self.engines}
        return tuple(
            n
            for n in self.nodes
            if (n.name and n.state == "down" and n.name in here)
            or not (n.name or joining or n.id in mine or n.state == "ready")
        )

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """The faults of the swarm that no waiting mends, with the ways out."""
        if self.swarm == "locked":
            error = why_not(self)
            return (Trouble(error.message, error.remedy, nodes=locked(self)),)
        return tuple(find_troubles(self)) if self.active else ()

    def network(self, name: str) -> Network | None:
        """Return the network of that name or id, or None."""
        return next((n for n in self.networks if name in (n.name, n.id)), None)

    def require(self) -> ClusterState:
        """Return this state if a manager answered.

        Raises ``EngineUnreachable``, ``NoSwarm``, ``NoLeader``, ``QuorumLost``, ``SwarmLocked`` or
        ``NotAManager``.
        """
        if self.active:
            return self
        raise why_not(self)

    def _repr_html_(self) -> str:
        return html(self)
