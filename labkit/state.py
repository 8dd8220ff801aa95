"""The cluster as data: one call captures it as one frozen snapshot.

Everything that shows or judges the cluster takes a :class:`ClusterState` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from labkit.errors import (
    EngineUnreachable,
    NoLeader,
    NoSuchNode,
    NoSuchService,
    NoSwarm,
    NotAManager,
    QuorumLost,
    SwarmError,
    SwarmLocked,
)

if TYPE_CHECKING:  # only asking needs them: the voting app's visualizer has the data alone
    from docker import APIClient

    from labkit.engine.endpoint import Endpoint, Fleet

__all__ = [
    "ClusterState",
    "EngineState",
    "Mount",
    "Network",
    "Node",
    "Port",
    "RawCluster",
    "RawEngine",
    "Service",
    "Task",
    "Trouble",
    "UpdatePolicy",
    "ask",
    "capture",
    "ended",
    "from_raw",
    "manager",
    "service_from_raw",
    "tasks_from_raw",
]

_WANTED = frozenset({"new", "pending", "assigned", "accepted", "ready", "running", "complete"})
_STARTING = frozenset(
    {"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting"}
)
_FAILED = frozenset({"failed", "rejected", "orphaned"})
_OWN_PORTS = {  # that a cluster needs itself, and what no longer works once a service has one
    (2377, "tcp"): "celui des managers : plus aucun nœud ne peut rejoindre le swarm",
    (7946, "tcp"): "celui par lequel les nœuds se connaissent : le réseau se défait",
    (7946, "udp"): "celui par lequel les nœuds se connaissent : le réseau se défait",
    (4789, "udp"): "celui des réseaux overlay : les conteneurs ne se joignent plus d’un nœud à "
    "l’autre",
    (9323, "tcp"): "celui des mesures des moteurs : Prometheus n’y trouve plus qu’un service",
}
_STACK = "com.docker.stack.namespace"
_MEMBERS = frozenset({"active/manager", "active/worker"})  # as GET /_ping says it


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


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something amiss that no waiting mends, in French, and the way out.

    ``what`` has no ids, which ``remedy`` may have; ``service`` and ``nodes`` name whom it
    concerns, if anybody.
    """

    what: str
    remedy: str
    service: str = ""
    nodes: tuple[str, ...] = ()  # names of engines


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
        """The managers that Raft counts; one lost before a forced new cluster is none of them."""
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
        """Return the engine of that endpoint name.

        Raises
        ------
        NoSuchNode
        """
        for engine in self.engines:
            if engine.name == name:
                return engine
        raise _no_such_node(name, [e.name for e in self.engines])

    def node(self, name: str) -> Node:
        """Return the node of that hostname, endpoint name or id.

        Of two with one hostname it is the one that is not stale.

        Raises
        ------
        NoSuchNode
        """
        stale = self.stale
        for node in sorted(self.nodes, key=lambda n: n in stale):
            if name in (node.name, node.id):
                return node
        by_id = {n.id: n for n in self.nodes}
        for engine in self.engines:
            if engine.name == name and engine.node_id in by_id:
                return by_id[engine.node_id]
        raise _no_such_node(name, [n.name for n in self.nodes])

    def service(self, name: str) -> Service:
        """Return the service of that name or id.

        Raises
        ------
        NoSuchService
        """
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
        """Return a service's tasks, by slot then age.

        Parameters
        ----------
        service
            Name or id.
        current
            Only the tasks that the swarm wants now; False adds the history and what is
            stopping, as ``docker service ps`` does.

        Raises
        ------
        NoSuchService
        """
        wanted = self.service(service).id
        return tuple(t for t in self.tasks if t.service_id == wanted and (t.current or not current))

    def running(self, service: str) -> tuple[Task, ...]:
        """Return a service's tasks that are wanted and running.

        Raises
        ------
        NoSuchService
        """
        return tuple(t for t in self.tasks_of(service) if t.running)

    def tasks_on(self, node: str, *, current: bool = True) -> tuple[Task, ...]:
        """Return the tasks assigned to a node (hostname, endpoint name or id).

        Raises
        ------
        NoSuchNode
        """
        wanted = self.node(node).id
        return tuple(t for t in self.tasks if t.node_id == wanted and (t.current or not current))

    def ended(self, service: str) -> tuple[Task, ...]:
        """Return a service's tasks that are over and that the swarm does not replace.

        Of each slot that wants no task any more, that is the last: completed, failed, or stopped.
        Of a job, only what belongs to its present run.

        Raises
        ------
        NoSuchService
        """
        return ended(self.service(service), self.tasks_of(service, current=False))

    def tally(self, service: str) -> str:
        """Say in French how many of a service's tasks are as wanted, such as ``3/5``.

        ``2/6 terminées, 1 en marche`` for a job; ``3/3, 1 en attente`` where a task more than
        those that run finds no node.

        Raises
        ------
        NoSuchService
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
        """What is amiss in the swarm and does not mend by itself, with the ways out."""
        if self.swarm == "locked":
            error = _why_not(self)
            return (Trouble(error.message, error.remedy, nodes=_locked(self)),)
        return tuple(_troubles(self)) if self.active else ()

    def network(self, name: str) -> Network | None:
        """Return the network of that name or id, or None."""
        return next((n for n in self.networks if name in (n.name, n.id)), None)

    def require(self) -> ClusterState:
        """Return this state if a manager answered.

        Raises
        ------
        EngineUnreachable, NoSwarm, NoLeader, QuorumLost, SwarmLocked, NotAManager
        """
        if self.active:
            return self
        raise _why_not(self)

    def _repr_html_(self) -> str:
        return _html(self)


# -- asking ---------------------------------------------------------------------------------


class RawEngine(TypedDict):
    """What one engine said: ``GET /info``, or why it said nothing.

    ``standing`` is its place in its swarm as ``GET /_ping`` told it, such as ``active/worker``.
    """

    name: str
    info: dict[str, Any] | None
    error: NotRequired[str]
    standing: NotRequired[str]


class RawCluster(TypedDict):
    """Every answer that a :class:`ClusterState` is made of; it can be written as JSON.

    ``nodes``, ``services``, ``tasks`` and ``networks`` are the manager's answers as they came,
    None when no manager answered; ``refusal`` says why.
    """

    captured_at: str
    asked: str | None
    engines: list[RawEngine]
    nodes: list[dict[str, Any]] | None
    services: list[dict[str, Any]] | None
    tasks: list[dict[str, Any]] | None
    networks: list[dict[str, Any]] | None
    refusal: NotRequired[str]


def ask(fleet: Fleet, *, timeout: float = 10.0, before: RawCluster | None = None) -> RawCluster:
    """Ask every engine of a fleet, then the first manager that answers.

    ``/info`` goes to all engines at once, then ``/nodes``, ``/services``, ``/tasks`` and
    ``/networks`` to one manager. Never raises for an engine that
    is down.

    Parameters
    ----------
    fleet
        The engines.
    timeout
        Seconds that one request may take.
    before
        An earlier answer, for one who asks every second: ``/info`` makes an engine start
        programs to tell their versions, so an engine that ``/_ping`` shows in the same place
        of the same swarm keeps what it said then.
    """
    from labkit._docker import NO_ANSWER, explain, read

    now = datetime.now(UTC)
    known = {e["name"]: e for e in before["engines"]} if before else {}
    ready = {
        n["ID"]
        for n in (before and before["nodes"]) or ()
        if (n.get("Status") or {}).get("State") == "ready"
    }

    def ask_engine(endpoint: Endpoint) -> RawEngine:
        engine = known.get(endpoint.name)
        if engine and _node_id(engine) and _node_id(engine) not in ready:
            engine = None  # it may have left and joined again
        return _ask_engine(endpoint, timeout, engine)

    executor = ThreadPoolExecutor(max_workers=len(fleet), thread_name_prefix="labkit-ask")
    try:
        engines = list(executor.map(ask_engine, fleet))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    raw: RawCluster = {
        "captured_at": now.isoformat(),
        "asked": None,
        "engines": engines,
        "nodes": None,
        "services": None,
        "tasks": None,
        "networks": None,
    }
    for endpoint, engine in zip(fleet, engines, strict=True):
        swarm = (engine["info"] or {}).get("Swarm") or {}
        if swarm.get("LocalNodeState") != "active" or not swarm.get("ControlAvailable"):
            continue
        if swarm.get("Error"):  # the manager already says that it has no leader
            raw["refusal"] = swarm["Error"]
            continue
        try:
            answers = read(endpoint, _ask_manager, timeout)
        except NO_ANSWER as error:
            raw["refusal"] = explain(error)
            continue
        raw["nodes"], raw["services"], raw["tasks"], raw["networks"] = answers
        raw["asked"] = endpoint.name
        break
    return raw


def _ask_engine(endpoint: Endpoint, timeout: float, before: RawEngine | None) -> RawEngine:
    from requests import Timeout

    from labkit._docker import NO_ANSWER, explain, read

    def question(api: APIClient) -> RawEngine:
        answer = api.get(f"{api.base_url}/_ping", timeout=timeout)
        standing = answer.headers.get("Swarm", "")
        if before and before["info"] and standing and standing == before.get("standing"):
            return before
        engine: RawEngine = {"name": endpoint.name, "info": None, "standing": standing}
        try:
            engine["info"] = api.info()
        except Timeout as error:  # a manager that has lost its leader waits for the next one
            if standing not in _MEMBERS:
                raise
            engine["error"] = explain(error)
        return engine

    try:
        return read(endpoint, question, timeout)
    except NO_ANSWER as error:
        return {"name": endpoint.name, "info": None, "error": explain(error)}


def _node_id(engine: RawEngine) -> str:
    return str(((engine["info"] or {}).get("Swarm") or {}).get("NodeID", ""))


def _ask_manager(api: APIClient) -> tuple[list[dict[str, Any]], ...]:
    return (
        api.nodes(),
        api.services(),
        api.tasks(),
        api.networks(filters={"scope": "swarm"}),
    )


def capture(fleet: Fleet | None = None, *, timeout: float = 10.0) -> ClusterState:
    """Capture the cluster as one frozen snapshot.

    Parameters
    ----------
    fleet
        The engines; None takes :func:`labkit.engine.connect`.
    timeout
        Seconds that one request may take.

    Raises
    ------
    EngineNotRunning
        When ``fleet`` is None and no cluster is up. Engines that do not answer are part of
        the state and raise nothing: see :meth:`ClusterState.require`.
    """
    from labkit.engine import connect

    return from_raw(ask(connect() if fleet is None else fleet, timeout=timeout))


# -- from raw answers -----------------------------------------------------------------------


def manager(fleet: Fleet) -> Endpoint:
    """Return a manager that answers, or raise as :meth:`ClusterState.require` does."""
    asked = capture(fleet).require().asked
    assert asked is not None  # an active state has been asked for
    return fleet[asked]


def from_raw(raw: RawCluster) -> ClusterState:
    """Make the state from raw answers of the Docker API; pure."""
    engines = tuple(_engine(e) for e in raw["engines"])
    if raw["nodes"] is not None:
        swarm = "active"
    elif not any(e.reachable for e in engines):
        swarm = "unreachable"
    elif any(
        e.swarm in {"active", "pending", "error"} and (e.node_id or e.manager) for e in engines
    ):
        alive, wanted = _voters(engines)
        short = "locked" if any(e.swarm == "locked" for e in engines) else "no-quorum"
        swarm = "no-leader" if alive >= wanted // 2 + 1 else short
    elif any(e.swarm == "locked" for e in engines):
        swarm = "locked"
    else:
        swarm = "inactive"
    nodes = tuple(sorted(map(_node, raw["nodes"] or []), key=lambda n: (n.name, n.id)))
    networks = tuple(sorted(map(_network, raw["networks"] or []), key=lambda n: n.name))
    names = {n.id: n.name for n in networks}
    services = [service_from_raw(s, names) for s in raw["services"] or []]
    return ClusterState(
        captured_at=datetime.fromisoformat(raw["captured_at"]),
        swarm=swarm,
        asked=raw["asked"],
        engines=engines,
        nodes=nodes,
        services=tuple(sorted(services, key=lambda s: s.name)),
        tasks=tasks_from_raw(
            raw["tasks"] or [],
            services={s.id: s.name for s in services},
            nodes={n.id: n.name for n in nodes},
        ),
        networks=networks,
    )


def _voters(engines: Sequence[EngineState]) -> tuple[int, int]:
    """Return how many managers answer, and how many there are.

    When no engine says how many it knows, each that is no worker may be one, and one engine
    alone is not all of a swarm.
    """
    alive = sum(e.manager for e in engines)
    workers = sum(e.swarm == "active" and not e.manager for e in engines)
    known = max((e.managers for e in engines), default=0)
    return alive, known or max(2, len(engines) - workers)


def tasks_from_raw(
    raw: Sequence[Mapping[str, Any]], *, services: Mapping[str, str], nodes: Mapping[str, str]
) -> tuple[Task, ...]:
    """Make tasks from ``GET /tasks``, by service, slot, then newest first; pure.

    Parameters
    ----------
    raw
        The answer.
    services, nodes
        Names by id.
    """
    ordered = sorted(raw, key=lambda t: str(t.get("CreatedAt", "")), reverse=True)
    tasks = [_task(t, services, nodes) for t in ordered]
    return tuple(
        sorted(tasks, key=lambda t: (t.service, t.slot or 0, "" if t.slot else t.node or ""))
    )


def ended(service: Service, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return the tasks of a service that are over and not replaced: :meth:`ClusterState.ended`.

    Parameters
    ----------
    service
        The service.
    tasks
        All of its tasks, history included, the newest of a slot first.
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


def _engine(raw: RawEngine) -> EngineState:
    info = raw["info"]
    if info is None:
        name, error, standing = raw["name"], raw.get("error", ""), raw.get("standing", "")
        if standing not in _MEMBERS:
            return EngineState(name, reachable=False, swarm="", error=error)
        manager = standing == "active/manager"
        return EngineState(name, reachable=True, swarm="active", manager=manager, error=error)
    swarm = info.get("Swarm") or {}
    return EngineState(
        name=raw["name"],
        reachable=True,
        version=info.get("ServerVersion", ""),
        swarm=swarm.get("LocalNodeState") or "inactive",
        node_id=swarm.get("NodeID", ""),
        manager=bool(swarm.get("ControlAvailable")),
        error=swarm.get("Error", ""),
        managers=len(swarm.get("RemoteManagers") or ()),
    )


def _node(raw: Mapping[str, Any]) -> Node:
    spec, status = raw.get("Spec") or {}, raw.get("Status") or {}
    description = raw.get("Description") or {}
    manager = raw.get("ManagerStatus") or {}
    address = status.get("Addr", "")
    if address in ("", "0.0.0.0"):  # what a leader may say of itself
        address = manager.get("Addr", "").rpartition(":")[0]
    return Node(
        id=raw["ID"],
        name=description.get("Hostname", ""),
        role=spec.get("Role", "worker"),
        availability=spec.get("Availability", "active"),
        state=status.get("State", "unknown"),
        leader=bool(manager.get("Leader")),
        reachability=manager.get("Reachability"),
        address=address,
        engine_version=(description.get("Engine") or {}).get("EngineVersion", ""),
        labels=dict(spec.get("Labels") or {}),
    )


def _port(raw: Mapping[str, Any]) -> Port:
    return Port(
        target=raw.get("TargetPort", 0),
        published=raw.get("PublishedPort") or None,
        protocol=raw.get("Protocol", "tcp"),
        mode=raw.get("PublishMode", "ingress"),
    )


def _mount(raw: Mapping[str, Any]) -> Mount:
    options = raw.get("VolumeOptions") or {}
    return Mount(
        type=raw.get("Type", "volume"),
        source=raw.get("Source", ""),
        target=raw.get("Target", ""),
        read_only=bool(raw.get("ReadOnly")),
        stack=(options.get("Labels") or {}).get(_STACK),
    )


_MODES = {
    "Replicated": ("replicated", "Replicas"),
    "Global": ("global", ""),
    "ReplicatedJob": ("replicated-job", "TotalCompletions"),
    "GlobalJob": ("global-job", ""),
}


def service_from_raw(raw: Mapping[str, Any], networks: Mapping[str, str]) -> Service:
    """Make a service from ``GET /services``; ``networks`` gives names by id; pure."""
    spec = raw["Spec"]
    template = spec.get("TaskTemplate") or {}
    container = template.get("ContainerSpec") or {}
    labels = dict(spec.get("Labels") or {})
    key, settings = next(iter((spec.get("Mode") or {"Replicated": {}}).items()))
    mode, count = _MODES.get(key, (key.lower(), ""))
    ports = (raw.get("Endpoint") or {}).get("Ports") or (spec.get("EndpointSpec") or {}).get(
        "Ports"
    )
    placement = template.get("Placement") or {}
    spreads = [(p.get("Spread") or {}) for p in placement.get("Preferences") or ()]
    targets = [n["Target"] for n in template.get("Networks") or spec.get("Networks") or []]
    return Service(
        id=raw["ID"],
        name=spec["Name"],
        image=_without_digest(container.get("Image", "")),
        mode=mode,
        replicas=(settings or {}).get(count, 1) if count else None,
        ports=tuple(map(_port, ports or ())),
        networks=tuple(networks.get(t, t) for t in targets),
        labels=labels,
        stack=labels.get(_STACK),
        constraints=tuple(placement.get("Constraints") or ()),
        update_state=(raw.get("UpdateStatus") or {}).get("State"),
        version=raw["Version"]["Index"],
        mounts=tuple(map(_mount, container.get("Mounts") or ())),
        preferences=tuple(p["SpreadDescriptor"] for p in spreads if p.get("SpreadDescriptor")),
        update=_update_policy(spec.get("UpdateConfig")),
        restart=(template.get("RestartPolicy") or {}).get("Condition", "any"),
        iteration=_iteration(raw.get("JobStatus")),
    )


def _iteration(raw: Mapping[str, Any] | None) -> int | None:
    """Return the run of a job from its status, or from one of its tasks; the first is left out."""
    return None if raw is None else (raw.get("JobIteration") or {}).get("Index", 0)


def _update_policy(raw: Mapping[str, Any] | None) -> UpdatePolicy | None:
    if not raw:
        return None
    return UpdatePolicy(
        parallelism=raw.get("Parallelism", 0),
        delay_s=raw.get("Delay", 0) / 1e9,
        on_failure=raw.get("FailureAction", "pause"),
        order=raw.get("Order", "stop-first"),
    )


def _task(raw: Mapping[str, Any], services: Mapping[str, str], nodes: Mapping[str, str]) -> Task:
    status = raw.get("Status") or {}
    node = raw.get("NodeID", "")
    ports = (status.get("PortStatus") or {}).get("Ports") or ()
    return Task(
        id=raw["ID"],
        service_id=raw.get("ServiceID", ""),
        service=services.get(raw.get("ServiceID", ""), ""),
        slot=raw.get("Slot") or None,
        node_id=node,
        node=nodes.get(node),
        state=status.get("State", "new"),
        desired=raw.get("DesiredState", ""),
        image=_without_digest(
            ((raw.get("Spec") or {}).get("ContainerSpec") or {}).get("Image", "")
        ),
        container_id=(status.get("ContainerStatus") or {}).get("ContainerID", ""),
        message=status.get("Message", ""),
        error=status.get("Err", ""),
        since=_time(status.get("Timestamp", "")),
        host_ports=tuple(
            p["PublishedPort"]
            for p in ports
            if p.get("PublishMode") == "host" and p.get("PublishedPort")
        ),
        iteration=_iteration(raw if "JobIteration" in raw else None),
    )


def _network(raw: Mapping[str, Any]) -> Network:
    return Network(
        id=raw["Id"],
        name=raw["Name"],
        driver=raw.get("Driver", ""),
        scope=raw.get("Scope", ""),
        ingress=bool(raw.get("Ingress")),
        attachable=bool(raw.get("Attachable")),
        stack=(raw.get("Labels") or {}).get(_STACK),
    )


def _without_digest(image: str) -> str:
    return image.partition("@")[0]


def _time(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


# -- errors ---------------------------------------------------------------------------------


def _no_such_node(name: str, known: Sequence[str]) -> NoSuchNode:
    return NoSuchNode(
        f"Aucun nœud ne s’appelle « {name} ».",
        remedy=f"Les nœuds sont : {', '.join(known)}."
        if known
        else "Aucun nœud n’est connu : le cluster n’est pas initialisé.",
    )


def _why_not(state: ClusterState) -> SwarmError | EngineUnreachable:
    """Return the error that says why no manager answered."""
    if state.swarm == "unreachable":
        return EngineUnreachable(
            "Aucun moteur Docker ne répond : "
            + ", ".join(f"{e.name} ({e.error})" for e in state.engines)
            + ".",
            remedy="Vérifiez le cluster avec « labkit status », puis « labkit up ».",
        )
    if state.swarm == "inactive":
        return NoSwarm(
            "Aucun cluster Swarm n’est actif sur ces moteurs.",
            remedy="Lancez « docker swarm init ».",
        )
    if state.swarm == "locked":
        locked = _locked(state)
        return SwarmLocked(
            f"Le swarm est verrouillé : après un redémarrage, {_listed(locked)} "
            f"{'attendent' if len(locked) > 1 else 'attend'} la clé (autolock). Les tasks des "
            "autres nœuds continuent.",
            remedy=f"Donnez la clé dans un terminal : {_unlock(locked)}. Sans elle, « labkit "
            "reset » repart de zéro.",
        )
    if all(e.reachable and not e.manager for e in state.engines):
        return NotAManager(
            "Aucun des moteurs interrogés n’est un manager : un worker ne peut rien changer au "
            "cluster.",
            remedy="Adressez-vous à un manager, par exemple « docker --context node1 … ».",
        )
    alive, wanted = _voters(state.engines)
    if state.swarm == "no-leader":
        who = "Le manager vit" if wanted == 1 else f"{alive} managers sur {wanted} vivent"
        return NoLeader(
            f"{who}, mais le swarm ne répond pas pour l’instant : il élit un leader, ou il est "
            "débordé. Les tasks continuent.",
            remedy="Attendez une quarantaine de secondes. Si cela dure, les managers ne se "
            "joignent plus : un câble est-il coupé (« labkit node ls ») ?",
        )
    return QuorumLost(
        "Les managers n’ont plus la majorité (quorum perdu) : les tasks continuent, mais plus "
        "rien ne peut être changé.",
        remedy="Un manager vient de tomber ? Les autres élisent un leader en une quarantaine de "
        "secondes. Sinon, rallumez les managers manquants, ou, sur un manager survivant : "
        "« docker swarm init --force-new-cluster --advertise-addr … », puis redémarrez son "
        "moteur : sans cela, son routing mesh reste vide.",
    )


# -- what is amiss --------------------------------------------------------------------------


def _locked(state: ClusterState) -> tuple[str, ...]:
    return tuple(e.name for e in state.engines if e.swarm == "locked")


def _unlock(names: Sequence[str]) -> str:
    return _listed([f"« docker --context {name} swarm unlock »" for name in names])


def _listed(parts: Sequence[str]) -> str:
    return " et ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def _troubles(state: ClusterState) -> Iterator[Trouble]:
    """Tell what is amiss in a swarm that answers: engines, nodes, then services."""
    if locked := _locked(state):
        yield Trouble(
            f"{_listed(locked)} : verrouillé après son redémarrage, le manager attend la clé "
            "(autolock).",
            f"Dans un terminal : {_unlock(locked)} ; un autre manager dit la clé : « docker "
            f"--context {state.asked} swarm unlock-key ».",
            nodes=locked,
        )
    known = {n.id for n in state.nodes}
    for engine in state.engines:
        if engine.swarm == "active" and engine.node_id and engine.node_id not in known:
            yield Trouble(
                f"{engine.name} se croit membre d’un swarm qui ne le compte pas parmi ses nœuds : "
                "il en a été retiré, ou il est dans un autre.",
                f"« docker --context {engine.name} swarm leave --force », puis « docker --context "
                f"{engine.name} swarm join --token … ».",
                nodes=(engine.name,),
            )
    for node in state.stale:
        demote = f"« docker node demote {node.id[:12]} », puis " if node.role == "manager" else ""
        what = (
            f"« {node.name} » est là deux fois : revenu sous un nouvel identifiant, il a laissé "
            "une ligne « down », et docker dit son nom ambigu."
            if node.name
            else "Un nœud sans nom est dans la liste : une adhésion qui n’a pas abouti."
        )
        force = "" if node.state == "down" else "--force "
        yield Trouble(what, f"Oubliez-le : {demote}« docker node rm {force}{node.id[:12]} ».")
    for service in state.services:
        yield from _port_troubles(service, state)
        yield from _task_troubles(service, state)


def _port_troubles(service: Service, state: ClusterState) -> Iterator[Trouble]:
    """Tell of the ports that a service took from the swarm itself."""
    waiting = tuple(e.name for e in state.engines if e.swarm in {"pending", "error"})
    for port in service.ports:
        if lost := _OWN_PORTS.get((port.published or 0, port.protocol)):
            joining = waiting if port.published == 2377 else ()
            again = "".join(
                f" ; puis « docker --context {name} swarm leave --force », et rejoignez le swarm"
                for name in joining
            )
            yield Trouble(
                f"Le service « {service.name} » publie le port {port.published}/{port.protocol}, "
                f"{lost}{f' ({_listed(joining)})' if joining else ''}.",
                f"« docker service update --publish-rm {port.target}/{port.protocol} "
                f"{service.name} », et publiez un autre port{again}.",
                service.name,
                joining,
            )


def _task_troubles(service: Service, state: ClusterState) -> Iterator[Trouble]:
    """Tell of the tasks of a service that wait or failed for good."""
    first = service.update is not None and service.update.order == "start-first"
    held = {t.slot or t.node_id for t in state.running(service.id)}  # by the tasks to be replaced
    tasks = state.tasks_of(service.id) if first else ()
    if any("host-mode port" in t.error and (t.slot or t.node_id) in held for t in tasks):
        yield Trouble(
            f"Le service « {service.name} » remplace ses tasks en start-first : la nouvelle attend "
            "le port que l’ancienne tient, en mode host, jusqu’à son départ.",
            f"« docker service update --update-order stop-first {service.name} »",
            service.name,
        )
    failed = [t for t in state.ended(service.id) if t.failed]
    if failed:
        count = "Une task" if len(failed) == 1 else f"{len(failed)} tasks"
        have = "a échoué et n’est" if len(failed) == 1 else "ont échoué et ne sont"
        why = "" if service.restart == "any" else f" (--restart-condition {service.restart})"
        what = f" : {failed[0].error}" if failed[0].error else ""
        yield Trouble(
            f"{count} du service « {service.name} » {have} pas relancée"
            f"{'s' if len(failed) > 1 else ''}{why}{what}.",
            f"« docker service logs {service.name} » dit pourquoi ; « docker service update "
            f"--force {service.name} » recommence.",
            service.name,
        )


# -- showing --------------------------------------------------------------------------------

_SWARM_FR = {
    "active": "Swarm actif",
    "inactive": "pas de Swarm : lancez « docker swarm init »",
    "no-leader": "pas de leader pour l’instant",
    "no-quorum": "aucun manager ne répond (quorum perdu ?)",
    "locked": "swarm verrouillé",
    "unreachable": "aucun moteur ne répond",
}


def _html(state: ClusterState) -> str:
    """Return a compact table of nodes with their tasks, in French; every text is escaped."""
    title = escape(_SWARM_FR.get(state.swarm, state.swarm))
    if not state.active:
        rows = [(e.name, e.swarm or "injoignable", e.version, e.error) for e in state.engines]
        return _table(title, ("Moteur", "Swarm", "Version", "Erreur"), rows) + _amiss(state)
    rows = []
    stale = state.stale
    for node in state.nodes:
        role = "leader" if node.leader else node.role
        status = node.state if node.availability == "active" else node.availability
        if node.state != "ready":
            status = node.state
        here = [t for t in state.tasks if t.node_id == node.id and (t.current or t.stopping)]
        name = f"{node.name} (ancien, {node.id[:12]})" if node in stale else node.name
        rows.append((name, role, status, _tasks_text(here)))
    waiting = [t for t in state.tasks if t.current and not t.node_id]
    if waiting:
        rows.append(("—", "", "non placées", _tasks_text(waiting)))
    wanted = ", ".join(f"{s.name} {state.tally(s.id)}" for s in state.services)
    caption = title + (f" — {escape(wanted)}" if wanted else "")
    return _table(caption, ("Nœud", "Rôle", "État", "Tasks"), rows) + _amiss(state)


def _amiss(state: ClusterState) -> str:
    return "".join(
        f"<p role='status'>⚠ {escape(t.what)}<br>→ {escape(t.remedy)}</p>" for t in state.troubles
    )


def _tasks_text(tasks: Sequence[Task]) -> str:
    return ", ".join(
        t.label if t.running else f"{t.label} ({'arrêt' if t.stopping else t.state})" for t in tasks
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th scope='col'>{escape(h)}</th>" for h in head)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{escape(c)}</td>" for c in row) + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption style='text-align:left'>{caption}</caption>"
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
    )
