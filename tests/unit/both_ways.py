"""A notebook's checks, tested both ways: what is right passes, what is wrong says what to try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from labkit.exercises import Exercise, Verdict, judge
from labkit.state import ClusterState

States = Mapping[str, Sequence[ClusterState]]


def cases(table: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Return a parameter for each state (or answer) of each exercise."""
    return [
        pytest.param(name, value, id=f"{name}-{i}")
        for name, values in table.items()
        for i, value in enumerate(values)
    ]


def refused(verdict: Verdict) -> None:
    """Make sure that a check fails, and that each of its failures says what to try."""
    assert not verdict.ok, verdict
    assert all(row.hint for row in verdict.rows if not row.ok), verdict


def checks(exercises: Iterable[Exercise], right: States, wrong: States) -> type:
    """Return the tests of exercises that are judged by the cluster's state."""

    class Checks:
        @pytest.mark.parametrize(("name", "state"), cases(right))
        def test_what_is_right_is_accepted(self, name: str, state: ClusterState) -> None:
            assert judge(name, state).ok, judge(name, state)

        @pytest.mark.parametrize(("name", "state"), cases(wrong))
        def test_what_is_wrong_is_refused(self, name: str, state: ClusterState) -> None:
            refused(judge(name, state))

        def test_every_exercise_is_tested_both_ways(self) -> None:
            assert set(right) == set(wrong) == {e.name for e in exercises}

    return Checks


def probes(
    exercises: Iterable[Exercise],
    right: States,
    good: Mapping[str, Sequence[Any]],
    bad: Mapping[str, Sequence[Any]],
) -> type:
    """Return the tests of exercises that ask the services, too; the states are right."""

    class Probes:
        @pytest.mark.parametrize(("name", "answer"), cases(good))
        def test_good_answers_are_accepted(self, name: str, answer: Any) -> None:
            assert judge(name, right[name][0], answer).ok, judge(name, right[name][0], answer)

        @pytest.mark.parametrize(("name", "answer"), cases(bad))
        def test_bad_answers_are_refused(self, name: str, answer: Any) -> None:
            refused(judge(name, right[name][0], answer))

        def test_every_probe_is_tested_both_ways(self) -> None:
            assert set(good) == set(bad) == {e.name for e in exercises if e.probe}

    return Probes
