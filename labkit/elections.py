"""Elections: whether a swarm has a leader that all its managers know, and waiting for one."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from labkit.engine import Fleet
from labkit.engine.clients import SLOW
from labkit.errors import ConvergenceTimeout
from labkit.polling import until
from labkit.state import ClusterState, EngineState, Node, capture

LIMIT = 180.0  # seconds that an election may take: several candidates in turn, on a busy machine
QUIET = 2.0  # seconds after which a wait is said
_LOOK = 1.0  # s between two looks
_BRIEF = 3.0  # s a question may take: one that is passed on to a dead leader hangs for twenty
_BUSY = 30.0  # s after which engines are given more, as they may be slow


@dataclass(frozen=True, slots=True)
class Leader:
    """The manager that leads, and the seconds until it was known to.

    Printed as ``Leader : node2, au bout de 14 s.``
    """

    name: str
    seconds: float

    def __repr__(self) -> str:
        return f"Leader : {self.name}, au bout de {self.seconds:.0f} s."


def member(engine: EngineState, state: ClusterState) -> Node | None:
    """Return the node that an engine is; by name, as long as it does not know its id; pure."""
    if not engine.reachable or engine.swarm == "inactive":
        return None
    known = engine.node_id
    return next(
        (n for n in state.nodes if (n.id == known if known else n.name == engine.name)), None
    )


def unaware(engine: EngineState, state: ClusterState) -> bool:
    """Whether an engine that answers has not learnt yet who leads, or whether it votes; pure.

    An old leader that comes back may have stood for election meanwhile: until it follows the new
    one, it can still depose it.
    """
    node = member(engine, state)
    return (engine.manager and bool(engine.error)) or (
        node is not None
        and (
            node.reachability not in {None, "reachable"}
            or engine.manager != (node.role == "manager")
            or engine.manager != (node.leader or node.reachability is not None)
        )
    )


def overdue(engine: EngineState) -> bool:
    """Whether an engine took the question and has not answered in time: it is not off; pure."""
    return not engine.reachable and engine.error == SLOW


def undecided(state: ClusterState) -> bool:
    """Whether a manager still speaks for a swarm whose majority is off, for some seconds; pure."""
    all_are_known = len(state.engines) >= len(state.nodes)
    return state.active and all_are_known and sum(e.manager for e in state.engines) < state.quorum


def awaited(state: ClusterState) -> str:
    """Say in French what is missing until the swarm has decided who leads and who votes; pure.

    It follows « on attend », and is "" when nothing is missing.
    """
    if state.swarm == "no-quorum" or undecided(state):
        return "que la majorité des managers soit en marche"
    if not state.active or state.leader is None:
        return "un leader\u00a0: les managers votent"
    for engine in state.engines:
        if overdue(engine):
            return f"que le moteur de {engine.name} réponde"
        if unaware(engine, state):
            return f"que {engine.name} sache qui est manager, et qui est leader"
    return ""


def way_out(state: ClusterState) -> str:
    """Say in French what mends a swarm that goes on awaiting something; pure.

    A leader whose plug is pulled forgets what Raft had not written yet: where that was the last
    manager's coming, and this one leads now, the old leader cannot even answer it.
    """
    for engine in state.engines:
        if state.leader and engine.reachable and engine.manager and engine.error:
            at = f"docker --context {state.leader.name} node"
            return (
                f"{engine.name} n’arrive pas à suivre {state.leader.name} : rendez-lui sa place de "
                f"manager, par « {at} demote {engine.name} », puis « {at} promote {engine.name} »."
            )
    return (
        "« labkit node ls » montre l’état de chaque machine ; « labkit node logs … --election », "
        "ce que les managers se disent."
    )


def led(fleet: Fleet | None = None) -> ClusterState:
    """Capture the cluster, after an election that is under way; at most after :data:`LIMIT`.

    Parameters and errors are those of :func:`labkit.state.capture`.
    """
    return until(lambda: capture(fleet), lambda s: s.swarm != "no-leader", LIMIT, _LOOK)


def wait(
    say: Callable[[str], object] | None = None, *, limit: float = LIMIT, fleet: Fleet | None = None
) -> Leader:
    """Wait until the swarm has a leader that all know, and every node the role it was given.

    ``say`` is told what is awaited, a line each, once it takes longer than :data:`QUIET`. Raises
    ``NoSwarm`` at once; ``EngineUnreachable``, ``NotAManager``, ``NoLeader``, ``QuorumLost`` or
    ``ConvergenceTimeout`` when time is up.
    """
    start, said = time.monotonic(), ""

    def settled(state: ClusterState) -> bool:
        nonlocal said
        if not (missing := awaited(state)):
            return True
        if state.swarm == "inactive" and not any(map(overdue, state.engines)):
            return True
        if say and time.monotonic() - start >= QUIET and missing != said:
            say(f"… on attend {missing}\n")
            said = missing
        return False

    def look() -> ClusterState:
        brief = time.monotonic() - start < min(_BUSY, limit / 2)
        return capture(fleet, timeout=_BRIEF) if brief else capture(fleet)

    state = until(look, settled, limit, _LOOK)
    missing, leader = awaited(state), state.require().leader
    if missing or leader is None:
        raise ConvergenceTimeout(
            f"Après {limit:.0f} s, on attend encore {missing}.", remedy=way_out(state)
        )
    return Leader(leader.name, time.monotonic() - start)
