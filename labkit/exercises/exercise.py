"""An exercise: a check of the cluster's state, and sometimes of its services' answers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from labkit.state import ClusterState
from labkit.verdict import Row

PATIENCE = 20.0
"""Seconds that :func:`labkit.exercises.verifier` waits for tasks on their way."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to the running services, and the judgement of their answers."""

    ask: Callable[[], Any]  # asks real services, and returns a frozen record of what they answered
    judge: Callable[[Any], Iterable[Row]]  # the rows for such a record; pure
    # asks but once, where ``ask`` waits for what is on its way; None where it does not
    now: Callable[[], Any] | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """What a prediction is set against."""

    prediction: str  # its name
    # the measure, of a state and of what the probe, or a student's command, answered; pure. None
    # where there is none
    of: Callable[[ClusterState, Any], object]


@dataclass(frozen=True, slots=True)
class Exercise:
    """A named exercise: what students see as its title, and its check."""

    # name, title: for code, and for students
    name: str
    title: str
    # the rows for a state; pure, and it never raises
    check: Callable[[ClusterState], Iterable[Row]]
    probe: Probe | None = None  # asked once the state is as wanted; None when the state tells all
    patience: float = PATIENCE  # seconds to wait while the cluster is still on its way
    # asked while the state is not as wanted: in French why the exercise cannot be done here, ""
    # when it can. None for what can be done anywhere.
    obstacle: Callable[[], str] | None = None
    measures: tuple[Measure, ...] = ()  # of what was predicted; shown once the exercise is done
    apart: bool = False  # its check has a cell of its own: something is to be watched before
