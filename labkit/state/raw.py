"""Raw answers of the Docker API made into the state; pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict

from labkit.state.model import (
    ClusterState,
    EngineState,
    Mount,
    Network,
    Node,
    Port,
    Service,
    Task,
    UpdatePolicy,
)
from labkit.state.refusals import count_voters

_STACK = "com.docker.stack.namespace"
MEMBERS = frozenset({"active/manager", "active/worker"})  # as GET /_ping says it


class RawEngine(TypedDict):
    """The answer of one engine: ``GET /info``, or why there is none.

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
        alive, wanted = count_voters(engines)
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


def tasks_from_raw(
    raw: Sequence[Mapping[str, Any]], *, services: Mapping[str, str], nodes: Mapping[str, str]
) -> tuple[Task, ...]:
    """Make tasks from ``GET /tasks``, by service, slot, then newest first; pure.

    ``services`` and ``nodes`` are names by id.
    """
    ordered = sorted(raw, key=lambda t: str(t.get("CreatedAt", "")), reverse=True)
    tasks = [_task(t, services, nodes) for t in ordered]
    return tuple(
        sorted(tasks, key=lambda t: (t.service, t.slot or 0, "" if t.slot else t.node or ""))
    )


def _engine(raw: RawEngine) -> EngineState:
    info = raw["info"]
    if info is None:
        name, error, standing = raw["name"], raw.get("error", ""), raw.get("standing", "")
        if standing not in MEMBERS:
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
