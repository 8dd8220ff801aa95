"""The tasks of one service as a list of small boxes; pure."""

from collections.abc import Sequence
from html import escape

from labkit.state import Task
from labkit.views.palette import FAILURE, LIGHT, node_colours, sign_of

_FAILED = 4  # past failures shown


def tasks_html(tasks: Sequence[Task]) -> str:
    """Return a service's current tasks, and its latest failures, as a list; text is escaped."""
    now = [t for t in tasks if t.current or (t.stopping and t.node)]
    failed = [t for t in tasks if t.failed and not t.current]
    failed.sort(key=lambda t: t.since.timestamp() if t.since else 0.0, reverse=True)
    shown = [*now, *failed[:_FAILED]]
    colours = node_colours(t.node for t in shown if t.node)
    items = "".join(_item(t, colours.get(t.node or "", LIGHT.line)) for t in shown)
    return f"<ul class='labkit-tasks'>{items}</ul>" if items else "<p>aucune task</p>"


def _item(task: Task, colour: str) -> str:
    sign = sign_of(task)
    border = "solid" if sign.border == "thick" else sign.border
    style = f"border-color:{colour};border-style:{border}"
    if sign.kind == "running":
        style += f";background:{colour}52"
    elif sign.kind == "failed":
        style = f"border:4px solid {FAILURE}"
    where = task.node or "sans nœud"
    state = f"{task.state} → {task.desired}" if sign.kind == "stopping" else task.state
    error = f"<br><small>{escape(task.error)}</small>" if task.error else ""
    return (
        f"<li style='{style}'>{sign.symbol} <strong>{escape(task.label)}</strong> "
        f"{escape(state)} · {escape(where)}{error}</li>"
    )
