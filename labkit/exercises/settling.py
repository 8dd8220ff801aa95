"""Tell whether a cluster is still on its way, or at rest."""

from collections import Counter

from labkit.elections import member, overdue, unaware, undecided
from labkit.state import ClusterState, EngineState, Node, Service
from labkit.text.french import enumerate_fr

_UPDATING = {"updating", "rollback_started"}


def able_nodes(state: ClusterState) -> tuple[Node, ...]:
    """Return the nodes that may be given tasks now: ready, and active."""
    return tuple(n for n in state.nodes if n.state == "ready" and n.availability == "active")


def _wanted(service: Service, state: ClusterState) -> int:
    """Return how many tasks are to be made; which nodes a constraint allows is not known here.

    A job makes its tasks as it likes, and what ended by itself is not made again.
    """
    if service.job:
        return 0
    over = len(state.ended(service.id))
    if service.mode == "global" and not service.constraints:
        return len(able_nodes(state)) - over
    return (service.replicas or 0) - over


def _changing_role(node: Node) -> bool:
    votes = node.leader or node.reachability is not None
    return node.state == "ready" and votes != (node.role == "manager")


def moving(state: ClusterState) -> bool:
    """Whether the cluster is still on its way: tasks starting, stopping, or not even made.

    A task that waits with a reason (no suitable node…) may wait for ever, and holds up the update
    that made it: such a task counts as settled. The networks of a stack that was removed outlive
    its tasks by a moment; a node that was promoted or demoted takes one to become what it is told
    to be, and a new leader one to learn which nodes live. A task that should stop on a node that is
    down cannot, until that comes back: so it counts as settled, too.
    """
    made = Counter(t.service_id for t in state.tasks if t.current)
    waiting = {t.service_id for t in state.tasks if t.current and not t.node_id and t.error}
    emptied = {n.id for n in state.nodes if n.state == "ready" and n.availability == "drain"}
    down = {n.id for n in state.nodes if n.state == "down"}
    stacks = {s.stack for s in state.services}
    return (
        any(made[s.id] < _wanted(s, state) for s in state.services)
        or any(s.update_state in _UPDATING and s.id not in waiting for s in state.services)
        or any(t.current and t.node_id in emptied for t in state.tasks)
        or any(t.starting and (t.node_id or not t.error) for t in state.tasks)
        or any(t.stopping and t.node_id not in down for t in state.tasks)
        or any(n.stack and n.stack not in stacks for n in state.networks)
        or any(_changing_role(n) or n.state == "unknown" for n in state.nodes)
    )


def unnoticed(state: ClusterState) -> bool:
    """Whether a node died, left, came back or changed its role, and not all know it yet.

    An engine that is too busy to answer may have come back a moment ago.
    """
    return undecided(state) or any(_unnoticed(engine, state) for engine in state.engines)


def _unnoticed(engine: EngineState, state: ClusterState) -> bool:
    if engine.reachable and engine.swarm != "inactive":
        node = member(engine, state)
        return unaware(engine, state) or (node is not None and node.state != "ready")
    if overdue(engine):
        return True
    taken = {e.node_id for e in state.engines}
    return any(
        n.name == engine.name and n.id not in taken and n.state == "ready" for n in state.nodes
    )


def spread(state: ClusterState, service: str) -> str:
    """Return how many running tasks the nodes have, most first, such as ``2, 2 et 1``.

    Nodes that could take a task and have none count as 0; without the service all do.
    """
    tasks = state.running(service) if state.has_service(service) else ()
    by_node = Counter(t.node_id for t in tasks)
    able = {n.id for n in able_nodes(state)}
    counts = sorted((by_node[i] for i in able | set(by_node)), reverse=True)
    return enumerate_fr([str(c) for c in counts]) or "0"
