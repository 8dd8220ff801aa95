"""Colours and signs that every view shares.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with any
common colour blindness tell apart. A colour is never the only sign: a node is also named, and
a state also has a symbol and a kind of border.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from labkit.state import Task

_BLUE, _ORANGE, _GREEN = "#0072b2", "#e69f00", "#009e73"
_PURPLE, _SKY, _YELLOW, _VERMILION = "#cc79a7", "#56b4e9", "#f0e442", "#d55e00"
_NODES = (_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _YELLOW)  # vermilion is kept for failures
FAILURE = _VERMILION


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a background and of what is written on it."""

    paper: str
    card: str
    ink: str
    faint: str  # secondary text; still 4.5:1 on ``card`` and ``paper``
    line: str
    alarm: str  # text of errors


LIGHT = Theme("#ffffff", "#f4f6f8", "#16191d", "#565d66", "#9aa3ad", "#a83c00")
DARK = Theme("#16191d", "#22272e", "#f4f6f8", "#b4bcc6", "#6b7480", "#ff9a57")


@dataclass(frozen=True, slots=True)
class Sign:
    """How a task's state is shown."""

    kind: str  # running | starting | pending | failed | stopping | complete | over
    symbol: str  # one character
    border: str  # solid | dashed | dotted | thick
    meaning: str  # the state in French, for the legend


_SIGNS = {
    sign.kind: sign
    for sign in (
        Sign("running", "●", "solid", "en marche"),
        Sign("starting", "◐", "dashed", "démarre"),
        Sign("pending", "◌", "dashed", "attend un nœud"),
        Sign("failed", "✖", "thick", "en échec"),
        Sign("stopping", "◑", "dotted", "s’arrête"),
        Sign("complete", "✔", "dotted", "terminée"),
        Sign("over", "■", "dotted", "arrêtée"),
    )
}
SIGNS = tuple(_SIGNS.values())


def sign_of(task: Task) -> Sign:
    """Return the sign of a task's state."""
    kinds = {
        "failed": task.failed,
        "running": task.running,
        "stopping": task.stopping,
        "complete": task.completed,
        "starting": task.starting and task.node_id,
        "pending": task.starting,
    }
    return _SIGNS[next((kind for kind, so in kinds.items() if so), "over")]


def palette() -> tuple[str, ...]:
    """Return the colours that may stand for things; that of failures is not among them."""
    return _NODES


def node_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of each node by hostname, ``#rrggbb``, the same in every view.

    ``node3`` has the third colour wherever it is shown, even when ``node2`` has left. Names
    that do not end in different numbers take the colours in alphabetical order.
    """
    ordered = sorted(set(names))
    numbers = [int(m[1]) for n in ordered if (m := re.search(r"(\d{1,6})$", n))]
    if len(numbers) != len(ordered) or len(set(numbers)) != len(ordered) or 0 in numbers:
        numbers = list(range(1, len(ordered) + 1))
    return {
        name: _NODES[(number - 1) % len(_NODES)]
        for name, number in zip(ordered, numbers, strict=True)
    }
