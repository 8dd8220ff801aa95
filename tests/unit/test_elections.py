"""A leader is awaited before anything else is asked of the swarm, and steps end where they fail."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from test_clustering import NOW, lost, out, swarm

from labkit import elections
from labkit.engine.clients import SLOW
from labkit.engine.embedded.logs import LogLine
from labkit.errors import ConvergenceTimeout, NoLeader, NoSwarm
from labkit.exercises import notebook
from labkit.exercises.course.nb04_clustering import Fall, read_fall
from labkit.exercises.shell import interleaved, resumed, run
from labkit.state import ClusterState

VOTING = replace(lost(off="1", roles="mmm"), swarm="no-leader")
LED = swarm("mmm", leader=2)
# the old leader is back: a manager, whose engine has no leader to ask
BACK = replace(
    LED,
    engines=(replace(LED.engines[0], error="The swarm does not have a leader."), *LED.engines[1:]),
)
# back, too, and so busy that it does not answer in time
BUSY = replace(
    swarm("mmm", leader=2, off="1", down="1"),
    engines=(replace(LED.engines[0], reachable=False, error=SLOW), *LED.engines[1:]),
)


@pytest.mark.parametrize(
    ("state", "missing"),
    [
        (LED, ""),
        (swarm("mmm", leader=2, off="1"), ""),
        (VOTING, "un leader"),
        (swarm("mmm", leader=0), "un leader"),
        (BACK, "que node1 sache"),
        (lost(), "que la majorité"),
        (BUSY, "que le moteur de node1 réponde"),
        (swarm(off="2"), "que la majorité"),  # the survivor of two is about to step down
        # demoted, promoted, and not yet told
        (replace(swarm("mmw"), engines=swarm("mmm").engines), "que node3 sache"),
        (replace(swarm("mmm"), engines=swarm("mmw").engines), "que node3 sache"),
    ],
)
def test_what_is_missing_until_a_leader_leads(state: ClusterState, missing: str) -> None:
    assert elections.awaited(state).startswith(missing)
    assert bool(elections.awaited(state)) == bool(missing)


def test_a_manager_that_cannot_follow_is_given_its_place_anew() -> None:
    remedy = elections.way_out(BACK)
    assert "« docker --context node2 node demote node1 », puis" in remedy
    assert "node promote node1" in remedy
    for state in (VOTING, BUSY, lost()):  # others have nothing to demote, or nobody to ask
        assert "demote" not in elections.way_out(state)


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ClusterState]]:
    """What is seen, one after the other; the last stays."""
    seen: list[ClusterState] = []
    looks = itertools.count()

    def capture(*_: object, **__: object) -> ClusterState:
        return seen[min(next(looks), len(seen) - 1)]

    for module in (elections, notebook):
        monkeypatch.setattr(module, "capture", capture)
    monkeypatch.setattr(elections, "_LOOK", 0.0)
    monkeypatch.setattr(notebook, "_LOOK", 0.0)
    monkeypatch.setattr(elections, "QUIET", 0.0)
    yield seen


def test_a_leader_is_awaited_and_each_reason_said_once(states: list[ClusterState]) -> None:
    states += [VOTING, VOTING, BACK, BACK, LED]
    said: list[str] = []
    assert elections.wait(said.append).name == "node2"
    assert [line.split()[:3] for line in said] == [["…", "on", "attend"]] * 2


def test_a_measure_begins_after_the_election(states: list[ClusterState]) -> None:
    states += [VOTING, VOTING, LED]
    assert elections.led() is LED
    states[:] = [lost()]
    assert elections.led().swarm == "no-quorum"  # nobody votes: at once


def test_no_wait_is_without_an_end(states: list[ClusterState]) -> None:
    states += [VOTING]
    with pytest.raises(NoLeader):
        elections.wait(limit=0.05)
    states[:] = [BACK]
    with pytest.raises(ConvergenceTimeout, match="node1"):
        elections.wait(limit=0.05)
    states[:] = [out()]
    with pytest.raises(NoSwarm):
        elections.wait()


def test_a_question_that_hangs_is_asked_again_before_slow_engines_get_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is asked of a leader that has just died hangs for twenty seconds, and then fails."""
    patience: list[float | None] = []

    def capture(_: object, timeout: float | None = None) -> ClusterState:
        patience.append(timeout)
        return VOTING

    monkeypatch.setattr(elections, "capture", capture)
    monkeypatch.setattr(elections, "_LOOK", 0.01)
    with pytest.raises(NoLeader):
        elections.wait(limit=0.3)
    assert patience[0] == elections._BRIEF < 10
    assert patience[-1] is None


def test_an_engine_that_is_late_may_be_in_a_swarm(states: list[ClusterState]) -> None:
    late = replace(out().engines[0], reachable=False, error=SLOW)
    states += [replace(out(), engines=(late, *out().engines[1:])), LED]
    assert elections.wait().name == "node2"


def test_a_check_waits_for_a_leader_whatever_its_patience(states: list[ClusterState]) -> None:
    states += [VOTING] * 5 + [LED]
    said: list[str] = []
    for acted in (True, False):  # before a solution, too
        state = notebook._settled("creer-service", 0.0, said.append, acted=acted)
        assert state is LED
    assert sum("on attend un leader" in line for line in said) == 1


def test_an_old_leader_that_may_depose_the_new_one_is_awaited(states: list[ClusterState]) -> None:
    """BACK has a leader, three reachable managers and ready nodes: it is not settled yet."""
    states += [BACK, VOTING, BUSY, LED]
    state = notebook._settled("trois-managers", 60.0, None, acted=True)
    assert state is LED


def log(*events: tuple[int, str]) -> list[LogLine]:
    return [LogLine(NOW + timedelta(seconds=at), "info", text) for at, text in events]


def test_two_elections_in_a_row_do_not_hide_who_was_switched_off() -> None:
    first = [(0, "lost leader a (node1) at term 3"), (9, "elected leader b (node2) at term 3")]
    again = [(30, "lost leader b (node2) at term 4"), (44, "elected leader c (node3) at term 4")]
    assert read_fall(log(*first), ("node1",)) == Fall("node1", "node2", ("node1",))
    assert read_fall(log(*first, *again), ("node1",)) == Fall("node1", "node3", ("node1",))
    # long before, in a fault of its own
    later = [(at + 600, text) for at, text in again]
    assert read_fall(log(*first, *later), ("node1",)).lost == "node2"
    assert read_fall(log(), ()) == Fall("", "", ())


def test_a_command_refused_in_an_election_is_given_again(
    states: list[ClusterState], tmp_path: Path
) -> None:
    refusal = "Error: The swarm does not have a leader."
    told = tmp_path / "told"
    command = f"[ -e {told} ] && echo done || {{ touch {told}; echo {refusal}; exit 1; }}"
    states += [VOTING, VOTING, LED]
    said: list[str] = []
    assert notebook._run_led(command, said.append) == 0
    assert said[0] == refusal + "\n" and "un leader" in said[1] and said[2:] == ["done\n"]
    states[:] = [lost()]  # no election: the refusal stands
    said = []
    assert notebook._run_led(f"echo {refusal}; exit 1", said.append) == 1
    assert said == [refusal + "\n"]


def test_a_step_goes_on_after_the_election_where_it_was(
    states: list[ClusterState], tmp_path: Path
) -> None:
    refusal = "Error: The swarm does not have a leader."
    step = f"""x=two
echo one >> {tmp_path}/told
[ -e {tmp_path}/led ] || {{ touch {tmp_path}/led; echo "{refusal}"; false; }}
echo $x"""
    states += [VOTING, LED]
    said: list[str] = []
    code = notebook._run_led(
        interleaved(step), said.append, again=partial(resumed, step), timeout=60
    )
    assert code == 0 and said[-1] == "two\n"
    assert (tmp_path / "told").read_text() == "one\n"


@pytest.mark.parametrize(("most", "code"), [(1, 0), (99, 1)])
def test_a_manager_that_leaves_too_slowly_is_asked_again(
    most: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"  # what dockerd answers where its manager does not end in time
    program.write_text(f"""#!/bin/sh
case "$*" in *info*) echo active; exit ;; esac
echo "$@" >> {tmp_path}/asked
[ $(wc -l < {tmp_path}/asked) -gt {most} ] && echo left && exit
echo Error response from daemon: context deadline exceeded
exit 1
""")
    program.chmod(0o755)
    (tmp_path / "sleep").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    leave = "docker --context node2 swarm leave --force"
    ended, told = played("x=two", leave, "echo $x")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert ended == code and set(asked) == {leave.removeprefix("docker ")}
    if code == 0:
        assert len(asked) == 2 and told[-2:] == ["left\n", "two\n"]
    else:
        assert len(asked) == 11 and "two\n" not in told


# -- steps ----------------------------------------------------------------------------------


def played(*commands: str) -> tuple[int, list[str]]:
    said: list[str] = []
    code = run(interleaved("\n".join(commands)), said.append)
    return code, [line for line in said if not line.startswith("$ ")]


@pytest.mark.parametrize("failing", ["(exit 7)", "x=$(exit 7)", "(exit 7) | cat", "(exit 7) # why"])
def test_a_step_ends_at_the_first_command_that_fails(failing: str) -> None:
    assert played("echo before", failing, "echo after") == (7, ["before\n"])


def test_what_a_condition_asks_is_no_failure() -> None:
    told = played("false || echo or", "! true || echo not", "if false; then :; fi", "echo after")
    assert told == (0, ["or\n", "not\n", "after\n"])
