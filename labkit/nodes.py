"""Nodes: what the swarm can do to them, and what can happen to them as machines.

Actions such as :class:`Drain` each say their ``docker node …`` command, act, and wait for the
swarm. :func:`stop`, :func:`kill`, :func:`start`, :func:`cut` and :func:`heal` act on the machines
of the embedded cluster, which the swarm then notices by itself; :func:`ls` shows both sides, and
:func:`logs` what an engine has to say about it. :func:`add` and :func:`rm` change their number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.engine import connect
from labkit.engine.clients import engine_errors, talk
from labkit.engine.embedded import cluster
from labkit.engine.embedded.faults import Power, cut, embedded, heal, kill, power, start, stop
from labkit.engine.embedded.logs import Log, LogLine, follow, logs
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report
from labkit.node_actions import Activate, Demote, Drain, NodeProgress, OnNodeProgress, Promote
from labkit.state import Node, capture

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Activate",
    "Demote",
    "Drain",
    "Log",
    "LogLine",
    "NodeProgress",
    "OnNodeProgress",
    "Power",
    "Promote",
    "add",
    "cut",
    "follow",
    "heal",
    "kill",
    "logs",
    "ls",
    "power",
    "rm",
    "start",
    "stop",
]

_OWN_WORD = {"locked": "verrouillé", "pending": "adhésion en cours", "error": "adhésion échouée"}
_COLUMNS = (
    "nœud", "moteur", "câble", "status", "availability", "manager status", "remarque",
)  # fmt: skip
_ENGINE = {"up": "en marche", "stopped": "arrêté", "killed": "sans courant"}


def ls(fleet: Fleet | None = None) -> pd.DataFrame:
    """Show each node as its machine is, beside what the swarm believes of it.

    A row a node, by name; ``moteur`` and ``câble`` as :func:`power` found them, the rest in the
    words of ``docker node ls``: "?" for what no manager tells, empty without a swarm. ``remarque``
    is there where something is amiss, with the way out; a node that came back under another id has
    a row for each id. Raises ``SettingError`` for engines that are not the embedded cluster's.
    """
    import pandas as pd

    fleet = connect() if fleet is None else fleet
    machines = power(fleet)
    state = capture(fleet, timeout=5.0)
    unknown = "" if state.swarm == "inactive" else "?"
    by_id = {n.id: n for n in state.nodes}
    by_name = {n.name: n for n in state.nodes if n not in state.stale}
    rows: list[tuple[str, ...]] = []
    for machine in machines:
        engine = state.engine(machine.name)
        node = by_id.get(engine.node_id) or by_name.get(machine.name)
        if engine.swarm == "active" and engine.node_id not in by_id:
            node = None  # struck off
        remark = next((t.remedy for t in state.troubles if machine.name in t.nodes), "")
        cable = "coupé" if machine.cut else "branché"
        status = node.state if node else _OWN_WORD.get(engine.swarm, unknown)
        swarm = (node.availability, _standing(node)) if node else (unknown, unknown)
        rows.append((machine.name, _ENGINE[machine.engine], cable, status, *swarm, remark))
    for node in state.stale:
        remark = f"ancien identifiant : « docker node rm {node.id[:12]} »"
        rows.append((node.name, "", "", node.state, node.availability, _standing(node), remark))
    table = pd.DataFrame(rows, columns=_COLUMNS).set_index("nœud")
    return table if table["remarque"].any() else table.drop(columns="remarque")


def add(*, quiet: bool = False) -> Endpoint:
    """Add a node to the embedded cluster while it runs: a fresh engine, in no swarm yet.

    It has the images of the course, a docker context of its own and the lowest free number. A fleet
    that was taken before does not have it: ask :func:`labkit.engine.connect` again. Raises
    ``SettingError`` when there are seven already, when too little memory is left, or for engines
    that are not the embedded cluster's.
    """
    embedded(None, "docker swarm join …, sur une machine de plus")
    with Report(quiet=quiet) as report:
        return cluster.add(Settings.read(), report)


def rm(name: str, *, timeout: float = 120.0, quiet: bool = False) -> None:
    """Remove a node from the embedded cluster while it runs, its disk too.

    In a swarm it is demoted first, leaves, and is struck off the list of nodes; its tasks start
    elsewhere. The swarm may take ``timeout`` seconds for each step. Raises ``SettingError`` for
    node1, which stays, and for engines that are not the embedded cluster's; ``QuorumLost`` when the
    managers that are left could decide nothing any more.
    """
    fleet = embedded(None, "docker swarm leave")
    endpoint = fleet[name]
    with Report(quiet=quiet) as report:
        if endpoint != fleet.endpoints[0]:  # which cluster.remove refuses
            report.step(f"{name} : quitte le swarm")
            if any(m.cut for m in power(fleet) if m.name == name):
                kill(name, fleet, quiet=True)  # or it would not learn that it is demoted
            _part(fleet, endpoint, timeout)
        cluster.remove(Settings.read(), name, report)


def _part(fleet: Fleet, endpoint: Endpoint, timeout: float) -> None:
    """Make a node leave its swarm as it should: demoted, gone, struck off."""
    state = capture(fleet)
    engine = state.engine(endpoint.name)
    if state.swarm == "inactive":
        return
    state.require()
    node = next((n for n in state.nodes if n.id == engine.node_id), None)
    if node is None:  # dead, or in no swarm: by name, if that name is nobody else's
        others = {e.node_id for e in state.engines}
        alike = [n for n in state.nodes if n.name == endpoint.name and n.id not in others]
        node = None if engine.reachable else next(iter(alike), None)
    if node is None:
        return
    if node in state.voters:
        Demote(node.id).apply(fleet, timeout=timeout)
    if engine.reachable:
        command = f"docker --context {endpoint.name} swarm leave"
        with engine_errors(endpoint, command), talk(endpoint, timeout) as api:
            api.leave_swarm()
    asked = fleet[capture(fleet).require().asked or ""]
    with engine_errors(asked, f"docker node rm --force {endpoint.name}"), talk(asked) as api:
        api.remove_node(node.id, force=True)


def _standing(node: Node) -> str:
    return "leader" if node.leader else node.reachability or ""
