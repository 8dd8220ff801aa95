"""A thousand votes while everything under them is scaled, killed and drained. By hand: minutes."""

from __future__ import annotations

import pytest
from actions import update, wait
from voters import STACK, deployed, kill, voting

from labkit.engine.endpoint import Fleet
from labkit.nodes import Activate, Drain
from labkit.services import Scale
from labkit.state import capture

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]


def test_a_thousand_votes_are_counted_whatever_happens(swarm: Fleet) -> None:
    with deployed(swarm) as fleet, voting(fleet) as voters:
        voters.more(100)
        Scale(f"{STACK}_vote", 5).apply(fleet)
        Scale(f"{STACK}_worker", 2).apply(fleet)
        for service in ("vote", "worker", "redis", "result", "db"):
            kill(fleet, service)
            voters.more(100)
            wait(f"{STACK}_{service}", fleet)

        Drain("node2").apply(fleet)  # a replica of vote, or more, moves
        voters.more(100)
        Activate("node2").apply(fleet)

        (redis,) = capture(fleet).running(f"{STACK}_redis")
        assert redis.node
        Drain(redis.node).apply(fleet)  # its volume is there: no other node can take it
        assert not capture(fleet).running(f"{STACK}_redis")
        Activate(redis.node).apply(fleet)
        wait(f"{STACK}_redis", fleet)
        wait(f"{STACK}_worker", fleet)
        voters.more(100)

        update(f"{STACK}_worker", "--image", "examplevotingapp_worker:lua", fleet=fleet)
        Scale(f"{STACK}_vote", 2).apply(fleet)
        voters.more(max(100, 1000 - voters.count))
    print(f"{voters.count} votes accepted and counted, {voters.refused} answers refused or missing")
    assert voters.count >= 1000
    assert voters.refused > 0, "draining redis's node was felt"
