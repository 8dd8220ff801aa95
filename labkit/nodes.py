"""Nodes: what the swarm can do to them, and what can happen to them as machines.

Actions such as :class:`Drain` each say their ``docker node …`` command, act, and wait for the
swarm. :func:`stop`, :func:`kill`, :func:`start`, :func:`cut` and :func:`heal` act on the machines
of the embedded cluster, which the swarm then notices by itself; :func:`ls` shows both sides, and
:func:`logs` what an engine has to say about it. :func:`add` and :func:`rm` change their number.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.engine import connect
from labkit.engine.clients import engine_errors, read, talk, update_spec
from labkit.engine.embedded import cluster
from labkit.engine.embedded.faults import Power, cut, embedded, heal, kill, power, start, stop
from labkit.engine.embedded.logs import Log, LogLine, follow, logs
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report
from labkit.errors import ConvergenceTimeout, DockerFailed, QuorumLost
from labkit.polling import until
from labkit.state import ClusterState, Node, capture, manager

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

_INTERVAL = 0.5  # s between two looks


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """Progress of a node towards the state that was asked for.

    Attributes
    ----------
    node
        The node as it is now.
    tasks
        Tasks on it that run, start or stop.
    elapsed
        Seconds since the wait began.
    message
        The same in a French sentence.
    done
        The node is as wanted.
    """

    node: Node
    tasks: int
    elapsed: float
    message: str
    done: bool


_OWN_WORD = {"locked": "verrouillé", "pending": "adhésion en cours", "error": "adhésion échouée"}
_ENGINE = {"up": "en marche", "stopped": "arrêté", "killed": "sans courant"}


def ls(fleet: Fleet | None = None) -> pd.DataFrame:
    """Show each node as its machine is, beside what the swarm believes of it.

    Parameters
    ----------
    fleet
        The engines; None takes :func:`labkit.engine.connect`.

    Returns
    -------
    DataFrame
        One row a node, by name; ``moteur`` and ``câble`` as :func:`power` found them, the rest
        in the words of ``docker node ls``: "?" for what no manager tells, empty without a swarm.
        ``remarque`` is there where something is amiss, with the way out; a node that came back
        under another id has a row for each id.

    Raises
    ------
    EngineNotRunning, MachineFailed
    SettingError
        For engines that are not the embedded cluster's.
    """
    import pandas as pd

    fleet = connect() if fleet is None else fleet
    machines = power(fleet)
    state = capture(fleet, timeout=5.0)
    unknown = "" if state.swarm == "inactive" else "?"
    by_id = {n.id: n for n in state.nodes}
    by_name = {n.name: n for n in state.nodes if n not in state.stale}
    rows = []
    for machine in machines:
        engine = state.engine(machine.name)
        node = by_id.get(engine.node_id) or by_name.get(machine.name)
        if engine.swarm == "active" and engine.node_id not in by_id:
            node = None  # struck off
        lost = [t.remedy for t in state.troubles if machine.name in t.nodes]
        rows.append(
            {
                "nœud": machine.name,
                "moteur": _ENGINE[machine.engine],
                "câble": "coupé" if machine.cut else "branché",
                "status": node.state if node else _OWN_WORD.get(engine.swarm, unknown),
                "availability": node.availability if node else unknown,
                "manager status": _standing(node) if node else unknown,
                "remarque": lost[0] if lost else "",
            }
        )
    rows += [
        {
            "nœud": node.name,
            "moteur": "",
            "câble": "",
            "status": node.state,
            "availability": node.availability,
            "manager status": _standing(node),
            "remarque": f"ancien identifiant : « docker node rm {node.id[:12]} »",
        }
        for node in state.stale
    ]
    table = pd.DataFrame(rows).set_index("nœud")
    return table if table["remarque"].any() else table.drop(columns="remarque")


def add(*, quiet: bool = False) -> Endpoint:
    """Add a node to the embedded cluster while it runs: a fresh engine, in no swarm yet.

    It has the images of the course, a docker context of its own and the lowest free number.

    Parameters
    ----------
    quiet
        Show no progress.

    Returns
    -------
    Endpoint
        Its engine. A fleet that was taken before does not have it: ask
        :func:`labkit.engine.connect` again.

    Raises
    ------
    EngineNotRunning, MachineFailed
    SettingError
        When there are seven already, when too little memory is left, or for engines that are
        not the embedded cluster's.
    """
    embedded(None, "docker swarm join …, sur une machine de plus")
    with Report(quiet=quiet) as report:
        return cluster.add(Settings.read(), report)


def rm(name: str, *, timeout: float = 120.0, quiet: bool = False) -> None:
    """Remove a node from the embedded cluster while it runs, its disk too.

    In a swarm it is demoted first, leaves, and is struck off the list of nodes. Its tasks start
    elsewhere.

    Parameters
    ----------
    name
        Name of the node; node1 stays.
    timeout
        Seconds that the swarm may take for each step.
    quiet
        Show no progress.

    Raises
    ------
    EngineNotRunning, MachineFailed, NoSuchNode
    QuorumLost
        When the managers that are left could decide nothing any more.
    ConvergenceTimeout, DockerFailed
    SettingError
        For node1, and for engines that are not the embedded cluster's.
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


OnNodeProgress = Callable[[NodeProgress], None]


@dataclass(frozen=True, slots=True)
class _Action:
    """An action on the node of that hostname, endpoint name or id."""

    name: str

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        raise NotImplementedError

    def apply(
        self,
        fleet: Fleet | None = None,
        *,
        timeout: float = 120.0,
        on_progress: OnNodeProgress | None = None,
    ) -> ClusterState:
        """Do it, and wait until the swarm has done it.

        Parameters
        ----------
        fleet
            The engines; None takes :func:`labkit.engine.connect`.
        timeout
            Seconds to wait.
        on_progress
            Called at each change.

        Returns
        -------
        ClusterState
            As captured once the node is as wanted.

        Raises
        ------
        EngineNotRunning, EngineUnreachable, NoSwarm, NotAManager, QuorumLost
        NoSuchNode
        DockerFailed
            When the swarm refuses, such as to demote its last manager.
        ConvergenceTimeout
        """
        fleet = connect() if fleet is None else fleet
        start = time.monotonic()
        state = capture(fleet).require()
        node = state.node(self.name)
        self._allow(state, node)
        self._send(fleet, node)
        last: tuple[object, ...] | None = None
        said = ""

        def look() -> ClusterState | None:
            nonlocal last, said
            state = capture(fleet)
            if not state.active:
                return None
            progress = self._progress(state, state.node(node.id), time.monotonic() - start)
            said = progress.message
            shown = (progress.node, progress.tasks, progress.done)
            if on_progress is not None and shown != last:
                on_progress(progress)
            last = shown
            return state if progress.done else None

        if found := until(look, seconds=timeout, every=_INTERVAL):
            return found
        capture(fleet).require()  # a lost quorum has a better name
        raise ConvergenceTimeout(
            f"Le nœud « {node.name} » n’est pas comme demandé après "
            f"{time.monotonic() - start:.0f} s : {said}.",
            remedy=f"Regardez « docker node ls » et « docker node ps {node.name} ».",
        )

    def _allow(self, state: ClusterState, node: Node) -> None:
        """Raise when the swarm should not even be asked."""

    def _edit(self, spec: dict[str, Any]) -> None:
        """Change the node's spec."""
        raise NotImplementedError

    def _done(self, state: ClusterState, node: Node) -> bool:
        raise NotImplementedError

    def _progress(self, state: ClusterState, node: Node, elapsed: float) -> NodeProgress:
        here = state.tasks_on(node.id, current=False)
        tasks = sum(t.running or t.starting or t.stopping for t in here)
        done = self._done(state, node)
        plural = "s" if tasks > 1 else ""
        message = f"{node.role}, {node.availability}, {node.state}, {tasks} task{plural} dessus"
        return NodeProgress(node, tasks, elapsed, message, done)

    def _send(self, fleet: Fleet, node: Node) -> None:
        """Send the whole changed spec, again if the node changed meanwhile."""

        def edit(spec: dict[str, Any]) -> bool:
            before = dict(spec)
            self._edit(spec)
            return spec != before

        update_spec(
            lambda: manager(fleet),
            self.command,
            lambda endpoint: read(endpoint, lambda api: api.inspect_node(node.id)),
            edit,
            lambda api, version, spec: api.update_node(node.id, version, spec),
        )


@dataclass(frozen=True, slots=True)
class Promote(_Action):
    """Make a worker a manager."""

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        return shlex.join(["docker", "node", "promote", self.name])

    def _edit(self, spec: dict[str, Any]) -> None:
        spec["Role"] = "manager"

    def _done(self, state: ClusterState, node: Node) -> bool:
        return node.role == "manager" and node.reachability == "reachable"


@dataclass(frozen=True, slots=True)
class Demote(_Action):
    """Make a manager a worker; the last manager is refused."""

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        return shlex.join(["docker", "node", "demote", self.name])

    def _allow(self, state: ClusterState, node: Node) -> None:
        if node.role != "manager":
            return
        if state.voters == (node,):
            raise DockerFailed(
                f"« {node.name} » est le dernier manager : sans lui, plus personne ne dirigerait "
                "le cluster.",
                remedy="Nommez d’abord un autre manager : « docker node promote … ».",
            )
        if node not in state.voters:
            raise DockerFailed(
                f"« {node.name} » n’a pas de voix parmi les managers : Docker ne peut pas le "
                "rétrograder.",
                remedy="Vient-il d’être promu ? Attendez quelques secondes. Le cluster est-il "
                f"reparti sans lui ? Oubliez-le : « docker node rm --force {node.name} ».",
            )
        left = [m for m in state.voters if m.id != node.id]
        answering = sum(m.reachability == "reachable" for m in left)
        if answering < len(left) // 2 + 1:
            raise QuorumLost(
                f"Sans « {node.name} », seuls {answering} managers sur {len(left)} répondraient : "
                "le quorum serait perdu.",
                remedy="Rallumez d’abord les managers injoignables, ou rétrogradez ceux-là.",
            )

    def _edit(self, spec: dict[str, Any]) -> None:
        spec["Role"] = "worker"

    def _done(self, state: ClusterState, node: Node) -> bool:
        # the engine itself must know it too, or the next command would still be sent to it
        engines = [e for e in state.engines if e.node_id == node.id and e.reachable]
        return (
            node.role == "worker"
            and node.reachability is None
            and not any(e.manager for e in engines)
        )


@dataclass(frozen=True, slots=True)
class Drain(_Action):
    """Move every task away from a node; it stays a member of the swarm.

    The wait is over when nothing is left on it and each service that can be placed elsewhere
    runs again.
    """

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        return shlex.join(["docker", "node", "update", "--availability", "drain", self.name])

    def _edit(self, spec: dict[str, Any]) -> None:
        spec["Availability"] = "drain"

    def _done(self, state: ClusterState, node: Node) -> bool:
        if node.availability != "drain":
            return False
        here = state.tasks_on(node.id, current=False)
        left = node.state == "ready" and any(t.running or t.starting or t.stopping for t in here)
        moved = {(t.service_id, t.slot) for t in here if t.slot and not t.failed}
        # a task that no node can take says why; it would be waited for in vain
        moving = any(
            (t.service_id, t.slot) in moved
            and t.starting
            and not (t.state == "pending" and t.error)
            for t in state.tasks
        )
        return not left and not moving


@dataclass(frozen=True, slots=True)
class Activate(_Action):
    """Let a drained or paused node take tasks again; none comes back by itself."""

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        return shlex.join(["docker", "node", "update", "--availability", "active", self.name])

    def _edit(self, spec: dict[str, Any]) -> None:
        spec["Availability"] = "active"

    def _done(self, state: ClusterState, node: Node) -> bool:
        return node.availability == "active"
