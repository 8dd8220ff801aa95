"""A state as large as no embedded cluster: a recorded one, multiplied."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from labkit.state import RawCluster

RECORDED = Path(__file__).parent / "recorded"
A_SERVICE = 50  # tasks of one service


def large(nodes: int, tasks: int, moment: str = "scaling_up") -> RawCluster:
    """Return raw answers of a swarm with that many nodes and tasks.

    Every node, service and task is one of the recorded moment's with another id, name and place:
    the nodes are named node1 to ``nodes``, three of them managers; the services whoami1 and so
    on, of 50 tasks each, spread over the nodes in turn.
    """
    recorded: Any = json.loads((RECORDED / f"{moment}.json").read_text())
    raw = copy.deepcopy(recorded)
    managers = [n for n in recorded["nodes"] if "ManagerStatus" in n]
    workers = [n for n in recorded["nodes"] if "ManagerStatus" not in n]
    (service,) = recorded["services"]
    raw["nodes"] = []
    for i in range(nodes):
        node = copy.deepcopy(managers[0] if i < 3 else workers[i % len(workers)])
        node["ID"] = f"n{i:024d}"
        node["Description"]["Hostname"] = f"node{i + 1}"
        if 0 < i < 3:
            del node["ManagerStatus"]["Leader"]
        raw["nodes"].append(node)
    raw["services"] = []
    for k in range(-(-tasks // A_SERVICE)):
        one = copy.deepcopy(service)
        one["ID"] = f"s{k:024d}"
        one["Spec"]["Name"] = f"whoami{k + 1}"
        one["Spec"]["Mode"]["Replicated"]["Replicas"] = A_SERVICE
        raw["services"].append(one)
    raw["tasks"] = []
    for i in range(tasks):
        task = copy.deepcopy(recorded["tasks"][i % len(recorded["tasks"])])
        task["ID"] = f"t{i:024d}"
        task["ServiceID"] = f"s{i // A_SERVICE:024d}"
        task["Slot"] = i % A_SERVICE + 1
        task["NodeID"] = f"n{i % nodes:024d}"
        raw["tasks"].append(task)
    return raw  # type: ignore[no-any-return]
