"""A swarm of three nodes, to which tests add services."""

from __future__ import annotations

from datetime import UTC, datetime

from labkit.state import ClusterState, EngineState, Node

NOW = datetime(2026, 11, 24, tzinfo=UTC)
NODES = ("node1", "node2", "node3")


def swarm() -> ClusterState:
    """A manager, two workers, no service."""
    engines, nodes = [], []
    for i, name in enumerate(NODES):
        engines.append(EngineState(name, True, "26.1.5", "active", f"id-{name}", i == 0))
        role = "worker" if i else "manager"
        nodes.append(Node(f"id-{name}", name, role, "active", "ready", leader=i == 0))
    return ClusterState(NOW, "active", "node1", tuple(engines), tuple(nodes))
