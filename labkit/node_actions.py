"""Actions on nodes of a swarm: say the ``docker node …`` command, act, and wait for the swarm."""

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from labkit.engine import connect
from labkit.engine.clients import read, update_spec
from labkit.engine.endpoint import Fleet
from labkit.errors import ConvergenceTimeout, DockerFailed, QuorumLost
from labkit.polling import until
from labkit.state import ClusterState, Node, capture, manager

_INTERVAL = 0.5  # s between two looks


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """Progress of a node towards the state that was asked for."""

    node: Node  # the node as it is now
    tasks: int  # tasks on it that run, start or stop
    elapsed: float  # seconds since the wait began
    message: str  # the same in a French sentence
    done: bool  # the node is as wanted


OnNodeProgress = Callable[[NodeProgress], None]


@dataclass(frozen=True, slots=True)
class _Action:
    """An action on the node of that hostname, endpoint name or id."""

    name: str

    _VERB: ClassVar[str]  # what ``docker node`` is told
    _SPEC: ClassVar[Mapping[str, str]]  # what changes in the spec of the node

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        return f"docker node {self._VERB} {shlex.quote(self.name)}"

    def apply(
        self,
        fleet: Fleet | None = None,
        *,
        timeout: float = 120.0,
        on_progress: OnNodeProgress | None = None,
    ) -> ClusterState:
        """Do it, wait until the swarm has done it, and return the cluster as it then is.

        Raises ``DockerFailed`` when the swarm refuses, such as to demote its last manager.
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
            spec.update(self._SPEC)
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

    _VERB = "promote"
    _SPEC: ClassVar = {"Role": "manager"}

    def _done(self, state: ClusterState, node: Node) -> bool:
        return node.role == "manager" and node.reachability == "reachable"


@dataclass(frozen=True, slots=True)
class Demote(_Action):
    """Make a manager a worker; the last manager is refused."""

    _VERB = "demote"
    _SPEC: ClassVar = {"Role": "worker"}

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

    _VERB = "update --availability drain"
    _SPEC: ClassVar = {"Availability": "drain"}

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

    _VERB = "update --availability active"
    _SPEC: ClassVar = {"Availability": "active"}

    def _done(self, state: ClusterState, node: Node) -> bool:
        return node.availability == "active"
