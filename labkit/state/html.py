"""The state as a table of nodes with their tasks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.state.model import ClusterState, Task

_SWARM_FR = {
    "active": "Swarm actif",
    "inactive": "pas de Swarm : lancez « docker swarm init »",
    "no-leader": "pas de leader pour l’instant",
    "no-quorum": "aucun manager ne répond (quorum perdu ?)",
    "locked": "swarm verrouillé",
    "unreachable": "aucun moteur ne répond",
}


def html(state: ClusterState) -> str:
    """Return a compact table of nodes with their tasks, in French; every text is escaped."""
    title = escape(_SWARM_FR.get(state.swarm, state.swarm))
    if not state.active:
        rows = [(e.name, e.swarm or "injoignable", e.version, e.error) for e in state.engines]
        return _table(title, ("Moteur", "Swarm", "Version", "Erreur"), rows) + _amiss(state)
    rows = []
    stale = state.stale
    for node in state.nodes:
        role = "leader" if node.leader else node.role
        status = node.state if node.availability == "active" else node.availability
        if node.state != "ready":
            status = node.state
        here = [t for t in state.tasks if t.node_id == node.id and (t.current or t.stopping)]
        name = f"{node.name} (ancien, {node.id[:12]})" if node in stale else node.name
        rows.append((name, role, status, _tasks_text(here)))
    waiting = [t for t in state.tasks if t.current and not t.node_id]
    if waiting:
        rows.append(("—", "", "non placées", _tasks_text(waiting)))
    wanted = ", ".join(f"{s.name} {state.tally(s.id)}" for s in state.services)
    caption = title + (f" — {escape(wanted)}" if wanted else "")
    return _table(caption, ("Nœud", "Rôle", "État", "Tasks"), rows) + _amiss(state)


def _amiss(state: ClusterState) -> str:
    return "".join(
        f"<p role='status'>⚠ {escape(t.what)}<br>→ {escape(t.remedy)}</p>" for t in state.troubles
    )


def _tasks_text(tasks: Sequence[Task]) -> str:
    return ", ".join(
        t.label if t.running else f"{t.label} ({'arrêt' if t.stopping else t.state})" for t in tasks
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th scope='col'>{escape(h)}</th>" for h in head)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{escape(c)}</td>" for c in row) + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption style='text-align:left'>{caption}</caption>"
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
    )
