"""Colours and signs that every view shares.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with any
common colour blindness tell apart. A colour is never the only sign: a node is also named, and
a state also has a symbol and a kind of border.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from labkit.state import Task

__all__ = [
    "DARK",
    "FAILURE",
    "LIGHT",
    "SIGNS",
    "Sign",
    "Theme",
    "node_colours",
    "palette",
    "sign_of",
]

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
    """How a task's state is shown.

    Attributes
    ----------
    kind
        ``running``, ``starting``, ``pending``, ``failed``, ``stopping``, ``complete`` or ``over``.
    symbol
        One character.
    border
        ``solid``, ``dashed``, ``dotted`` or ``thick``.
    meaning
        The state in French, for the legend.
    """

    kind: str
    symbol: str
    border: str
    meaning: str


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
    if task.failed:
        kind = "failed"
    elif task.running:
        kind = "running"
    elif task.stopping:
        kind = "stopping"
    elif task.completed:
        kind = "complete"
    elif task.starting:
        kind = "starting" if task.node_id else "pending"
    else:
        kind = "over"
    return _SIGNS[kind]


def palette() -> tuple[str, ...]:
    """Return the colours that may stand for things; that of failures is not among them."""
    return _NODES


def node_colours(names: Iterable[str]) -> dict[str, str]:
    """Give each node its colour, the same in every view.

    ``node3`` has the third colour wherever it is shown, even when ``node2`` has left. Names
    that do not end in different numbers take the colours in alphabetical order.

    Parameters
    ----------
    names
        Hostnames of the nodes.

    Returns
    -------
    dict
        ``#rrggbb`` by hostname.
    """
    ordered = sorted(set(names))
    numbers = [int(m[1]) for n in ordered if (m := re.search(r"(\d{1,6})$", n))]
    if len(numbers) != len(ordered) or len(set(numbers)) != len(ordered) or 0 in numbers:
        numbers = list(range(1, len(ordered) + 1))
    return {
        name: _NODES[(number - 1) % len(_NODES)]
        for name, number in zip(ordered, numbers, strict=True)
    }
