"""Tell in words the difference between two looks at the cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from labkit.state import ClusterState, Node, Task
from labkit.views.palette import sign_of


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened between two looks."""

    at: datetime  # when it was seen, UTC
    text: str  # what, in French
    alarm: bool = False  # it is a failure


def events(before: ClusterState | None, now: ClusterState) -> tuple[Event, ...]:
    """Return what happened from one state to a later one: nodes, services, then tasks; pure.

    When nothing was seen before, nothing is known to have happened.
    """
    if before is None:
        return ()
    found: list[tuple[str, bool]] = []
    if before.swarm != now.swarm:
        alarm = now.swarm not in ("active", "inactive")
        found.append((_SWARM.get(now.swarm, now.swarm), alarm))
    if before.active and now.active:
        found += _nodes(before, now)
        found += _services(before, now)
        found += _tasks(before, now)
    return tuple(Event(now.captured_at, text, alarm) for text, alarm in found)


_SWARM = {
    "active": "le Swarm répond",
    "inactive": "il n’y a plus de Swarm",
    "no-quorum": "le quorum est perdu",
    "no-leader": "pas de leader : une élection ?",
    "locked": "le swarm est verrouillé",
    "unreachable": "le cluster ne répond plus",
}


def _nodes(before: ClusterState, now: ClusterState) -> list[tuple[str, bool]]:
    old, new = ({n.id: n for n in state.nodes} for state in (before, now))
    found = [(f"{n.name} rejoint le Swarm", False) for i, n in new.items() if i not in old]
    found += [(f"{n.name} n’est plus dans le Swarm", False) for i, n in old.items() if i not in new]
    for key in old.keys() & new.keys():
        found += _node(old[key], new[key])
    return sorted(found)


def _node(old: Node, new: Node) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    if old.state != new.state:
        found.append((f"{new.name} est {new.state}", new.state != "ready"))
    if old.availability != new.availability:
        found.append((f"{new.name} passe en {new.availability}", False))
    if new.leader and not old.leader:
        found.append((f"{new.name} est élu leader", False))
    if old.role != new.role:
        found.append((f"{new.name} devient {new.role}", False))
    return found


def _services(before: ClusterState, now: ClusterState) -> list[tuple[str, bool]]:
    old, new = ({s.id: s for s in state.services} for state in (before, now))
    found = [(f"service {s.name} créé", False) for i, s in new.items() if i not in old]
    found += [(f"service {s.name} supprimé", False) for i, s in old.items() if i not in new]
    for key in old.keys() & new.keys():
        was, wanted = old[key].replicas, new[key].replicas
        if was != wanted:
            found.append((f"{new[key].name} : {was} → {wanted} replicas", False))
    return sorted(found)


def _tasks(before: ClusterState, now: ClusterState) -> list[tuple[str, bool]]:
    old = {t.id: t for t in before.tasks}
    found = []
    for task in now.tasks:
        known = old.get(task.id)
        kind = sign_of(task).kind
        if kind in ("running", "failed") and (known is None or sign_of(known).kind != kind):
            found.append((_said(task), kind == "failed"))
    return sorted(found)


def _said(task: Task) -> str:
    sign = sign_of(task)
    return f"{sign.symbol} {task.label} {sign.meaning}" + (f" sur {task.node}" if task.node else "")


def events_html(seen: Sequence[Event]) -> str:
    """Return events as a list, the newest first; it is read out, too."""
    if not seen:
        return "<p>Rien encore : ce qui change dans le cluster s’écrira ici.</p>"
    rows = "".join(
        f"<li{' class=labkit-alarm' if e.alarm else ''}><time>{e.at.astimezone():%H:%M:%S}</time> "
        f"{escape(e.text)}</li>"
        for e in reversed(seen)
    )
    return f"<ol class='labkit-events' aria-live='polite'>{rows}</ol>"
