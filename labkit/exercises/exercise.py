"""An exercise: a check of the cluster's state, and sometimes of its services' answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from labkit.state import ClusterState
from labkit.verdict import Row

PATIENCE = 20.0
"""Seconds that :func:`labkit.exercises.verifier` waits for tasks on their way."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to the running services, and the judgement of their answers.

    Attributes
    ----------
    ask
        Asks real services, and returns a frozen record of what they answered.
    judge
        The rows for such a record; pure.
    """

    ask: Callable[[], Any]
    judge: Callable[[Any], Iterable[Row]]


@dataclass(frozen=True, slots=True)
class Exercise:
    """A named exercise: what students see as its title, and its check.

    Attributes
    ----------
    name, title
        For code, and for students.
    check
        The rows for a state; pure, and it never raises.
    probe
        Asked once the state is as wanted; None when the state tells all.
    patience
        Seconds to wait while the cluster is still on its way.
    obstacle
        Asked while the state is not as wanted: in French why the exercise cannot be done here,
        "" when it can. None for what can be done anywhere.
    """

    name: str
    title: str
    check: Callable[[ClusterState], Iterable[Row]]
    probe: Probe | None = None
    patience: float = PATIENCE
    obstacle: Callable[[], str] | None = None
