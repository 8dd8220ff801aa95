"""The voting app's stack on the real swarm: from a vote at any node to the page of results."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from actions import update, wait
from voters import FILE, STACK, deployed, kill, voting

from labkit import compose
from labkit.engine.endpoint import Fleet
from labkit.exercises.catalogue import EXERCISES, judge
from labkit.exercises.measures.access import qui_repond
from labkit.exercises.measures.ballots import cast
from labkit.services import Scale
from labkit.stacks import services_of
from labkit.state import capture
from labkit.traffic import send

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack(swarm: Fleet) -> Iterator[Fleet]:
    with deployed(swarm) as fleet:
        yield fleet


def test_the_live_stack_is_the_file(stack: Fleet) -> None:
    state = capture(stack)
    assert len(services_of(state, STACK)) == 6
    same = compose.compare(compose.read(FILE), compose.from_stack(state, STACK))
    assert same.equal, same
    assert all(qui_repond(port).nombre == len(stack) for port in (5000, 5001, 8080))
    probe = EXERCISES["deployer"].probe
    assert probe
    verdict = judge("deployer", state, probe.ask())
    assert verdict.ok, verdict


def test_a_vote_at_each_node_is_counted(stack: Fleet) -> None:
    for endpoint, choice in zip(stack, "aba", strict=True):
        ballot = cast(choice, endpoint.name, fleet=stack, limit=30)
        assert ballot.counted, ballot


def test_each_replica_of_vote_answers(stack: Fleet) -> None:
    Scale(f"{STACK}_vote", 3).apply(stack)
    for keep_alive in (False, True):  # vote closes its connections, whatever the client wants
        sample = send(5000, path="/", requests=60, fleet=stack, keep_alive=keep_alive)
        assert not sample.failures, sample.errors()
        counts = sample.counts()
        assert (counts["hits"] > 0).sum() == 3, counts
        assert set(counts["task"]) == {f"{STACK}_vote.{i}" for i in (1, 2, 3)}
    Scale(f"{STACK}_vote", 2).apply(stack)


def test_votes_while_services_are_scaled_killed_and_replaced(stack: Fleet) -> None:
    with voting(stack) as voters:
        voters.more(40)
        Scale(f"{STACK}_vote", 3).apply(stack)
        kill(stack, "worker")
        voters.more(40)
        update(f"{STACK}_worker", "--image", "examplevotingapp_worker:lua", fleet=stack)
        voters.more(40)
        kill(stack, "vote")
    wait(f"{STACK}_vote", stack)
    assert voters.count >= 120
