"""What is refused before a node is changed, decided on states of a recorded swarm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.errors import DockerFailed, QuorumLost
from labkit.nodes import Demote
from labkit.state import ClusterState, from_raw

RECORDED = Path(__file__).parent / "recorded"


def managers(*reachability: str | None) -> ClusterState:
    """Return three managers of which only these are reached; None is one without a vote."""
    state = from_raw(json.loads((RECORDED / "three_managers.json").read_text()))
    nodes = zip(state.nodes, reachability, strict=True)
    return replace(state, nodes=tuple(replace(n, reachability=r) for n, r in nodes))


def allow(state: ClusterState, name: str) -> None:
    Demote(name)._allow(state, state.node(name))


def test_a_manager_goes_while_the_others_have_a_majority() -> None:
    allow(managers("reachable", "reachable", "reachable"), "node2")
    allow(managers("reachable", "reachable", "unreachable"), "node3")
    with pytest.raises(QuorumLost, match="node2"):
        allow(managers("reachable", "reachable", "unreachable"), "node2")


def test_managers_lost_before_a_forced_new_cluster_have_no_vote() -> None:
    state = managers("reachable", None, None)
    for name in ("node2", "node3"):
        with pytest.raises(DockerFailed, match="pas de voix") as caught:
            allow(state, name)
        assert f"docker node rm --force {name}" in caught.value.remedy
    with pytest.raises(DockerFailed, match="dernier manager"):  # the only one that has a vote
        allow(state, "node1")


def test_the_last_manager_stays() -> None:
    state = managers("reachable", None, None)
    alone = replace(
        state,
        nodes=tuple(n if n.name == "node1" else replace(n, role="worker") for n in state.nodes),
    )
    with pytest.raises(DockerFailed, match="dernier manager"):
        allow(alone, "node1")
