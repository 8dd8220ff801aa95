"""The drill's shorter form: what must hold when the leader is killed, a cable cut, QEMU killed.

``tests/drill/drill.py`` measures every fault; here three of them are only judged, with limits
that a slow machine keeps.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "drill"))

from drill import SHORT, Drill, Row, place, practise

import labkit

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def drill() -> Iterator[Drill]:
    """A cluster of this module's own; the one that was up makes room for it."""
    was_up = labkit.status().engine != "none"
    labkit.down()
    with place() as drill:
        yield drill
        home = drill.home
    assert not home.exists()
    if was_up:
        labkit.up(quiet=True)


@pytest.fixture(scope="module")
def rows(drill: Drill) -> dict[str, Row]:
    """What the three faults cost, by name."""
    rows = dict(zip(SHORT, practise(drill, SHORT), strict=True))
    for name, row in rows.items():
        assert not row.note, (name, row.note)
        assert not row.orphans, (name, "processes were left")
        assert row.intact, (name, "a file of the student's changed")
        assert row.five is not None and row.whole is not None
    return rows


@pytest.mark.parametrize("name", ["leader", "cut"])
def test_a_node_is_lost_and_whoami_is_not(rows: dict[str, Row], name: str) -> None:
    row = rows[name]
    traffic = row.traffic
    assert traffic is not None and traffic.sent > 0
    # The mesh of the door's node sends to the lost tasks, two of five, until it hears of it.
    assert traffic.failed < traffic.sent / 2, traffic
    assert traffic.gap < 60, traffic
    read = " ".join(row.sees)
    assert "✖" in read, "the student sees which node is lost"
    assert "ne répond plus" not in read, "a cluster that lives is not to be started again"


def test_one_reset_mends_it(rows: dict[str, Row]) -> None:
    row = rows["cut"]
    assert row.command == "labkit reset" and row.mended is not None and row.mended < 120


def test_qemu_is_killed_and_labkit_up_mends_it(rows: dict[str, Row]) -> None:
    row = rows["qemu"]
    assert any(
        said.startswith("Le cluster s’est arrêté. → Lancez « labkit up »") for said in row.sees
    )
    assert row.command == "labkit up" and row.mended is not None and row.mended < 120
    assert row.traffic is not None and row.traffic.failed > 0


def test_afterwards_nothing_is_left_of_it(drill: Drill, rows: dict[str, Row]) -> None:
    labkit.down()
    assert drill.orphans() == []
    assert os.environ["XDG_STATE_HOME"].startswith(str(drill.home))
    assert list(Path(os.environ["XDG_STATE_HOME"], "labkit").iterdir()) == []
