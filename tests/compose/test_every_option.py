"""Every option with every kind of value, asked again: what a newer docker command says otherwise.

It takes minutes. A difference is no fault of labkit's yet: look at it, run ``record.py``, and the
unit tests then say where labkit is of another mind.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle import Oracle, docker, manager
from probes import options, recorded
from record import answers


@pytest.mark.timeout(3600)
def test_the_recorded_answers_are_those_of_the_command(tmp_path: Path) -> None:
    command = docker()
    if command is None:
        pytest.skip("the machine has not been built: labkit build")
    with manager() as address:
        found = answers(Oracle(command, address, tmp_path), options())
    before = recorded()
    assert {o: row for o, row in found.items() if before.get(o) != row} == {}
    assert before.keys() == found.keys()
