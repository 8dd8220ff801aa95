"""Traffic through the real routing mesh of a real swarm."""

from __future__ import annotations

import pytest
from actions import create, remove

from labkit.engine.endpoint import Fleet
from labkit.errors import TrafficError
from labkit.services import Scale
from labkit.state import capture
from labkit.traffic import Sample, send

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

PORT = 9999


@pytest.fixture
def whoami(clean_swarm: Fleet) -> Fleet:
    """The fleet with five replicas of whoami behind the mesh."""
    with pytest.raises(TrafficError):
        send(PORT, fleet=clean_swarm)
    create("whoami", "--replicas", "5", "--publish", f"{PORT}:80", fleet=clean_swarm)
    return clean_swarm


def check(sample: Sample, requests: int) -> None:
    assert len(sample.frame) == requests
    assert not sample.failures, sample.errors()
    assert sample.frame["slot"].notna().all() and sample.frame["replica_node"].notna().all()


def test_new_connections_and_kept_ones(whoami: Fleet) -> None:
    sample = send(PORT, fleet=whoami, requests=500)
    check(sample, 500)
    assert sample.nodes == tuple(e.name for e in whoami)
    assert sorted(sample.counts()["slot"]) == [1, 2, 3, 4, 5]
    assert sample.uniformity().verdict in {"regular", "fair"}, sample.counts()

    one = send(PORT, fleet=whoami, requests=100, nodes=whoami.endpoints[0].name, path="/")
    check(one, 100)
    assert one.frame["replica"].nunique() == 5  # a single node leads to all

    kept = send(PORT, fleet=whoami, requests=100, concurrency=1, keep_alive=True)
    check(kept, 100)
    assert kept.frame["replica"].nunique() == 1 and kept.connections == 1


def test_shares_stay_equal_after_scaling(whoami: Fleet) -> None:
    for replicas in (2, 8):
        Scale("whoami", replicas).apply(whoami)
        sample = send(PORT, fleet=whoami, requests=400)
        check(sample, 400)
        assert len(sample.counts()) == replicas
        assert sample.uniformity().verdict in {"regular", "fair"}, sample.counts()


def test_replicas_that_come_up_meanwhile_are_named(whoami: Fleet) -> None:
    Scale("whoami", 1).apply(whoami)
    before = capture(whoami)
    Scale("whoami", 3).apply(whoami)
    sample = send(PORT, fleet=whoami, requests=90, state=before)
    check(sample, 90)
    assert sample.frame["slot"].nunique() == 3


def test_nothing_published_any_more(whoami: Fleet) -> None:
    remove("whoami", whoami)
    with pytest.raises(TrafficError) as caught:
        send(PORT, fleet=whoami)
    assert "docker service create" in caught.value.remedy
