"""Clusters of other shapes than the usual one: the smallest, the largest, a port below 1024.

Each shape has a snapshot of its own, built here and removed: a minute and 500 MB each.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from actions import create, remove
from swarms import make_swarm

import labkit
from labkit import traffic
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import Fleet
from labkit.state import capture

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(params=[(1, 1), (7, 2)], ids=["1-node-1-cpu", "7-nodes"])
def shape(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    nodes, cpus = request.param
    monkeypatch.setenv("LABKIT_CLUSTER", f"shape{nodes}")
    monkeypatch.setenv("LABKIT_NODES", str(nodes))
    monkeypatch.setenv("LABKIT_CPUS", str(cpus))
    cache = Settings.read().cache
    before = set(cache.glob("snapshot-*"))
    try:
        yield labkit.up(quiet=True)
    finally:
        labkit.down()
        for path in set(cache.glob("snapshot-*")) - before:
            shutil.rmtree(path)


def test_a_swarm_of_this_shape(shape: Fleet) -> None:
    make_swarm(shape)
    state = capture(shape)
    assert [n.name for n in state.nodes] == [e.name for e in shape]
    create("web", "--replicas", "5", "--publish", "80:80", fleet=shape, timeout=180)
    sample = traffic.send(80, fleet=shape, requests=50)
    assert not sample.failures, sample.errors()
    assert sample.frame["node"].nunique() == len(shape)
    assert sample.frame["slot"].nunique() == 5
    remove("web", shape)
