"""The state made from recorded answers of a real cluster (see tests/record_states.py)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import (
    EngineUnreachable,
    NoLeader,
    NoSuchNode,
    NoSuchService,
    NoSwarm,
    QuorumLost,
)
from labkit.state import ClusterState, capture, from_raw

RECORDED = Path(__file__).parent / "recorded"
MOMENTS = sorted(path.stem for path in RECORDED.glob("*.json"))


def raw_of(moment: str) -> Any:
    return json.loads((RECORDED / f"{moment}.json").read_text())


def state_of(moment: str) -> ClusterState:
    return from_raw(raw_of(moment))


def test_there_are_recordings() -> None:
    assert len(MOMENTS) >= 15


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_recording_is_whole_and_without_secrets(moment: str) -> None:
    state = state_of(moment)
    assert state == state_of(moment)
    dead = 1 if moment == "election" else 0  # the leader, which was killed
    assert len(state.engines) == 3 and sum(not e.reachable for e in state.engines) == dead
    assert state.captured_at.tzinfo is not None
    assert {t.service for t in state.tasks if t.current} <= {s.name for s in state.services}
    assert all(t.since is not None and t.since.tzinfo is UTC for t in state.tasks)
    assert [t.label for t in state.tasks] == sorted(t.label for t in state.tasks)
    for text in ((RECORDED / f"{moment}.json").read_text(), repr(state), state._repr_html_()):
        for secret in ("SWMTKN", "CERTIFICATE", "PRIVATE KEY", "TLSInfo", "JoinTokens"):
            assert secret not in text


def test_no_swarm() -> None:
    state = state_of("no_swarm")
    assert state.swarm == "inactive" and not state.active and state.asked is None
    assert state.leader is None and state.quorum == 0 and state.nodes == ()
    with pytest.raises(NoSwarm, match="docker swarm init"):
        state.require()


def test_single_node() -> None:
    state = state_of("single_node")
    assert state.active and state.asked == "node1" and state.require() is state
    (node,) = state.nodes
    assert node is state.leader and node.reachability == "reachable"
    assert (node.name, node.role, node.address) == ("node1", "manager", "10.0.2.11")
    assert [e.swarm for e in state.engines] == ["active", "inactive", "inactive"]
    assert state.network("ingress") is not None


def test_five_replicas_on_three_nodes() -> None:
    state = state_of("three_nodes_whoami_5")
    service = state.service("whoami")
    assert (service.mode, service.replicas, service.image) == (
        "replicated",
        5,
        "traefik/whoami:latest",
    )
    (port,) = service.ports
    assert (port.published, port.target, port.mode, port.protocol) == (9999, 80, "ingress", "tcp")
    assert [t.slot for t in state.running("whoami")] == [1, 2, 3, 4, 5]
    on = [len(state.tasks_on(n)) for n in ("node1", "node2", "node3")]
    assert sum(on) == 5 and min(on) >= 1
    assert all(len(t.container_id) == 64 for t in state.running(service.id))
    assert len(state.workers) == 2 and state.quorum == 1 and state.tolerated == 0


def test_scaling_shows_what_starts_and_what_stops() -> None:
    up, down = state_of("scaling_up"), state_of("scaling_down")
    assert up.service("whoami").replicas == 8
    assert [t.slot for t in up.tasks_of("whoami") if t.starting] == [6, 7, 8]
    assert len(down.tasks_of("whoami")) == 5
    stopping = [t for t in down.tasks_of("whoami", current=False) if t.stopping]
    assert [t.slot for t in stopping] == [6, 7, 8] and not any(t.running for t in stopping)


def test_missing_image_shows_in_the_history() -> None:
    failed = [t for t in state_of("missing_image").tasks if t.failed]
    assert failed and all(t.state == "rejected" for t in failed)
    assert {t.error for t in failed} == {"No such image: nosuch/image:1"}


def test_drained_node_stays_and_gets_nothing_back() -> None:
    drained, again = state_of("node2_drained"), state_of("node2_active_again")
    assert drained.node("node2").availability == "drain" and len(drained.nodes) == 3
    assert again.node("node2").availability == "active"
    for state in (drained, again):
        assert state.tasks_on("node2") == () and len(state.running("whoami")) == 5
        assert state.tasks_on("node2", current=False)


def test_host_mode_leaves_two_tasks_without_a_node() -> None:
    state = state_of("host_mode_pending")
    assert state.service("hote").ports[0].mode == "host"
    assert [t.host_ports for t in state.running("hote")] == [(9999,)] * 3
    waiting = [t for t in state.tasks_of("hote") if t.starting]
    assert [(t.state, t.node, t.node_id) for t in waiting] == [("pending", None, "")] * 2
    assert all("host-mode port already in use" in t.error for t in waiting)


def test_global_service_has_one_task_a_node_and_no_slot() -> None:
    state = state_of("global_service")
    assert state.service("partout").mode == "global" and state.service("partout").replicas is None
    assert [t.label for t in state.running("partout")] == [
        "partout.node1",
        "partout.node2",
        "partout.node3",
    ]
    assert all(t.slot is None for t in state.tasks)


def test_managers_and_quorum() -> None:
    two, three = state_of("two_managers"), state_of("three_managers")
    assert (two.quorum, two.tolerated) == (2, 0)
    assert (three.quorum, three.tolerated) == (2, 1)
    assert sum(n.leader for n in three.nodes) == 1
    gone = replace(
        three,
        nodes=tuple(
            n if n.leader else replace(n, reachability=None, state="down") for n in three.nodes
        ),
    )  # as after --force-new-cluster: managers by their spec, and without a vote
    assert [n.leader for n in gone.voters] == [True] and len(gone.managers) == 3
    assert (gone.quorum, gone.tolerated) == (1, 0)
    lost = state_of("quorum_lost")
    assert lost.swarm == "no-quorum" and lost.engine("node1").manager
    with pytest.raises(QuorumLost, match="quorum"):
        lost.require()


def test_an_election_is_no_lost_quorum() -> None:
    raw = raw_of("election")
    state = from_raw(raw)
    assert state.swarm == "no-leader" and not state.active
    assert [(e.reachable, e.manager) for e in state.engines] == [
        (False, False),
        (True, True),
        (True, True),
    ]
    with pytest.raises(NoLeader, match="2 managers sur 3") as caught:
        state.require()
    assert "quorum" not in caught.value.message and "quarantaine de secondes" in caught.value.remedy
    assert "pas de leader" in state._repr_html_()

    raw["engines"][2] = {"name": "node3", "info": None, "error": "connexion refusée"}
    assert from_raw(raw).swarm == "no-quorum"
    raw["engines"][1]["standing"] = "inactive"  # one that cannot tell is no manager
    assert from_raw(raw).swarm == "unreachable"


def test_the_managers_that_an_engine_knows_decide_what_a_majority_is() -> None:
    raw = raw_of("quorum_lost")
    swarm = raw["engines"][0]["info"]["Swarm"]
    for known, seen in ((1, "no-leader"), (2, "no-quorum"), (3, "no-quorum")):
        swarm["RemoteManagers"] = [{"NodeID": f"n{i}", "Addr": ""} for i in range(known)]
        assert from_raw(raw).swarm == seen
    swarm["RemoteManagers"] = swarm["RemoteManagers"][:1]
    with pytest.raises(NoLeader, match="Le manager vit"):
        from_raw(raw).require()


def test_unknown_names_say_the_known_ones() -> None:
    state = state_of("three_nodes_whoami_5")
    with pytest.raises(NoSuchService, match="whoami"):
        state.running("web")
    with pytest.raises(NoSuchNode, match="node1, node2, node3"):
        state.node("node9")
    with pytest.raises(NoSuchNode):
        state.engine("node9")
    assert state.node(state.nodes[0].id) is state.nodes[0]
    assert state.has_service("whoami") and not state.has_service("web")


def test_html_is_compact_and_escaped() -> None:
    state = state_of("three_nodes_whoami_5")
    html = state._repr_html_()
    assert "whoami 5/5" in html and html.count("<tr>") == 4 and len(html) < 3000
    evil = dataclasses.replace(state.nodes[0], name="<script>alert(1)</script>")
    html = dataclasses.replace(state, nodes=(evil, *state.nodes[1:]))._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert "non placées" in state_of("host_mode_pending")._repr_html_()
    assert "docker swarm init" in state_of("no_swarm")._repr_html_()


def test_engines_that_are_down_are_part_of_the_state() -> None:
    nobody = Endpoint("node1", "tcp://127.0.0.1:9", "127.0.0.1")  # discard: nothing listens
    state = capture(Fleet("host", (nobody,)), timeout=2)
    assert state.swarm == "unreachable" and state.engines[0].error
    with pytest.raises(EngineUnreachable, match="node1"):
        state.require()
    assert "injoignable" in state._repr_html_()
