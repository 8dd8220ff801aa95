"""The cluster as data: one call captures it as one frozen snapshot.

Everything that shows or judges the cluster takes a :class:`ClusterState` and nothing else.
"""

from labkit.state.asking import ask, capture, manager
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
    ended,
)
from labkit.state.raw import RawCluster, RawEngine, from_raw, service_from_raw, tasks_from_raw
from labkit.state.troubles import Trouble

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
