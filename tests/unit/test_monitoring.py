"""The checks of the monitored cluster: each accepts what is right and refuses what is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from both_ways import checks, probes

from labkit.exercises.course.nb08_monitoring import MONITORING_EXERCISES, Scraped
from labkit.state import ClusterState, EngineState, Node, Port, Service, Task

NOW = datetime(2026, 11, 24, tzinfo=UTC)
NODES = ("node1", "node2", "node3")


def out() -> ClusterState:
    engines = tuple(EngineState(n, reachable=True, version="26.1.5") for n in NODES)
    return ClusterState(NOW, "inactive", None, engines)


def swarm(lost: str = "") -> ClusterState:
    """A manager and two workers; the engine and node that are lost, if any."""
    engines = tuple(
        EngineState(n, n != lost, "26.1.5", "active", f"id-{n}", n == "node1") for n in NODES
    )
    nodes = tuple(
        Node(
            f"id-{n}",
            n,
            "manager" if n == "node1" else "worker",
            "active",
            "down" if n == lost else "ready",
            leader=n == "node1",
        )
        for n in NODES
    )
    return ClusterState(NOW, "active", "node1", engines, nodes)


def task(service: str, node: str, slot: int | None) -> Task:
    return Task(
        f"{service}-{slot}-{node}", f"id-{service}", service, slot, f"id-{node}", node, "running",
        "running",
    )  # fmt: skip


def monitored(
    *,
    exporters: tuple[str, ...] = NODES,
    without: str = "",
    app: int = 0,
    running: int | None = None,
    network: str = "supervision_default",
    label: str = "whoami",
    lost: str = "",
) -> ClusterState:
    """The stack without one service, and ``app`` replicas of whoami, of which some run."""
    kept = [n for n in ("node-exporter", "prometheus") if n != without]
    services = [
        Service(
            f"id-supervision_{n}",
            f"supervision_{n}",
            f"prom/{n}",
            "global" if n == "node-exporter" else "replicated",
            None if n == "node-exporter" else 1,
            stack="supervision",
        )
        for n in kept
    ]
    tasks = [task("supervision_prometheus", "node1", 1)] * ("prometheus" in kept)
    tasks += [
        task("supervision_node-exporter", n, None) for n in exporters if "node-exporter" in kept
    ]
    if app:
        labels = {"prometheus-job": label} if label else {}
        services.append(
            Service("id-whoami", "whoami", "traefik/whoami", "replicated", app, (Port(80, 9999),),
                    (network,), labels)
        )  # fmt: skip
        up = app if running is None else running
        tasks += [task("whoami", NODES[i % 3], i + 1) for i in range(up)]
    return replace(swarm(lost), services=tuple(services), tasks=tuple(tasks))


def scraped(
    *,
    ready: tuple[str, ...] = NODES,
    up: tuple[str, ...] = NODES,
    down: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    replicas: int | None = None,
    targets: tuple[str, ...] = (),
    health: str = "down",
    services: int = 1,
) -> Scraped:
    """Scrapes of each node, and of whoami: the nodes of its tasks, those of its targets."""
    found = [(job, n, "", "up") for job in ("moteurs", "node-exporter") for n in up]
    found += [(job, n, "", "down") for job in ("moteurs", "node-exporter") for n in down]
    found += [("tasks", n, "whoami", health) for n in targets]
    found += [("services", "", "whoami", "down")] * services
    replicas = len(tasks) if replicas is None else replicas
    return Scraped(ready, replicas, tasks, tuple(found))


FIVE = ("node1", "node1", "node2", "node2", "node3")
MOVED = ("node1", "node1", "node1", "node2", "node2")
DEAD = replace(out(), swarm="unreachable")
RIGHT = {
    "superviser": [monitored(), monitored(app=3), monitored(exporters=NODES[:2], lost="node3")],
    "decouvrir": [monitored(app=3), monitored(app=5)],
    "decouvrir-5": [monitored(app=5)],
    "alerte": [monitored(), monitored(app=5)],
    "noeud-tue": [monitored(app=5, lost="node3")],
    "noeud-revenu": [monitored(app=5), monitored()],
    "ranger-supervision": [swarm(), out()],
}
WRONG = {
    "superviser": [
        out(),
        swarm(),
        DEAD,
        monitored(without="prometheus"),
        monitored(without="node-exporter"),
        monitored(exporters=("node1", "node2")),
    ],
    "decouvrir": [
        out(),
        monitored(),
        monitored(app=2),
        monitored(app=3, running=2),
        monitored(app=3, network="ingress"),
        monitored(app=3, label=""),
    ],
    "decouvrir-5": [out(), monitored(app=3), monitored(app=6), monitored(app=5, running=4)],
    "alerte": [out(), swarm(), DEAD, monitored(without="prometheus")],
    "noeud-tue": [monitored(app=5), out(), replace(swarm(), engines=())],
    "noeud-revenu": [monitored(app=5, lost="node3"), replace(swarm(), engines=())],
    "ranger-supervision": [monitored(), monitored(app=1), DEAD],
}
SEEN = scraped(tasks=FIVE, targets=FIVE)
LOST = {"ready": NODES[:2], "up": NODES[:2], "down": ("node3",), "tasks": MOVED}
GOOD = {
    "superviser": [scraped(), scraped(ready=NODES[:2], up=NODES[:2], down=("node3",))],
    "decouvrir": [SEEN, scraped(tasks=NODES, targets=NODES, health="up")],
    "decouvrir-5": [SEEN],
    "alerte": [(("MoteurMuet", 'up{job="moteurs"} == 0'),), (("a", "vector(1)"), ("b", "up == 0"))],
    "noeud-tue": [scraped(**LOST, targets=MOVED)],  # type: ignore[arg-type]
    "noeud-revenu": [scraped()],
}
BAD = {
    "superviser": [
        scraped(up=NODES[:2]),
        scraped(up=NODES[:2], down=("node3",)),
        scraped(ready=(), up=()),
        Scraped(NODES, 0, (), ()),
    ],
    "decouvrir": [
        scraped(tasks=NODES, targets=NODES[:2]),
        scraped(tasks=NODES, targets=NODES, health="unknown"),
        scraped(tasks=NODES, targets=NODES, services=3),
        scraped(services=1),
    ],
    "decouvrir-5": [scraped(tasks=FIVE, targets=NODES)],
    "alerte": [(), (("MoteurMuet", "up == 1"),), (("a", 'group_up{job="moteurs"} == 0'),)],
    "noeud-tue": [
        scraped(tasks=FIVE, targets=FIVE),
        scraped(**LOST, targets=FIVE),  # type: ignore[arg-type]
        scraped(**(LOST | {"tasks": MOVED[:3]}), replicas=5, targets=MOVED[:3]),  # type: ignore[arg-type]
        replace(scraped(**LOST, targets=MOVED), tasks=FIVE),  # type: ignore[arg-type]
    ],
    "noeud-revenu": [scraped(up=NODES[:2], down=("node3",))],
}


TestChecks = checks(MONITORING_EXERCISES, RIGHT, WRONG)


TestProbes = probes(MONITORING_EXERCISES, RIGHT, GOOD, BAD)
