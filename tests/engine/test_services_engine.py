"""Actions and their named errors, on a real swarm."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from actions import QUICKLY, create, docker, remove, update, wait

from labkit.convergence import inspect
from labkit.engine.clients import talk, update_spec
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import (
    ConvergenceTimeout,
    DockerFailed,
    EngineUnreachable,
    ImageNotFound,
    NoSuchNode,
    NoSuchService,
    NoSwarm,
    NotAManager,
    PortTaken,
    QuorumLost,
)
from labkit.nodes import Activate, Demote, Drain, NodeProgress, Promote
from labkit.polling import until
from labkit.services import Scale, ServiceProgress
from labkit.state import capture

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

IMAGE = "traefik/whoami"


def spec_of(fleet: Fleet, name: str) -> dict:
    with talk(fleet.endpoints[0]) as api:
        return api.inspect_service(name)["Spec"]


def test_create_scale_update_remove(clean_swarm: Fleet) -> None:
    fleet, seen = clean_swarm, []
    options = ("--replicas", "5", "--publish", "9999:80")
    state = create("whoami", *options, fleet=fleet, on_progress=seen.append)
    assert len(state.running("whoami")) == 5
    assert {t.node for t in state.running("whoami")} == {"node1", "node2", "node3"}
    assert state.service("whoami").ports[0].published == 9999
    assert all(isinstance(p, ServiceProgress) for p in seen)
    assert seen[-1].done and seen[-1].running == seen[-1].wanted == 5
    assert [p.elapsed for p in seen] == sorted(p.elapsed for p in seen)
    assert len({(p.message, tuple((t.id, t.state) for t in p.tasks)) for p in seen}) == len(seen)

    state = Scale("whoami", 7).apply(fleet)
    assert len(state.running("whoami")) == 7
    state = Scale("whoami", 2).apply(fleet)
    assert len(state.running("whoami")) == 2
    assert not any(t.stopping for t in state.tasks)

    before = {t.id for t in state.running("whoami")}
    state = update("whoami", "--force", fleet=fleet)
    after = {t.id for t in state.running("whoami")}
    assert len(after) == 2 and not before & after
    assert wait("whoami", fleet, timeout=5).running("whoami") == state.running("whoami")

    state = remove("whoami", fleet)
    assert state.services == () and state.tasks == ()
    for endpoint in fleet:
        with talk(endpoint) as api:
            assert api.containers() == []


def test_global_and_a_network(clean_swarm: Fleet) -> None:
    with talk(clean_swarm.endpoints[0]) as api:
        api.create_network("reseau", driver="overlay")
    options = ("--mode", "global", "--network", "reseau")
    state = create("partout", *options, fleet=clean_swarm)
    assert sorted(t.node for t in state.running("partout")) == ["node1", "node2", "node3"]
    assert state.service("partout").networks == ("reseau",)
    assert state.service("partout").replicas is None
    with pytest.raises(DockerFailed, match="global"):
        Scale("partout", 2).apply(clean_swarm)
    remove("partout", clean_swarm)
    with talk(clean_swarm.endpoints[0]) as api:
        api.remove_network("reseau")


def test_missing_image_fails_fast_and_names_it(clean_swarm: Fleet) -> None:
    start = time.monotonic()
    with pytest.raises(ImageNotFound, match="nosuch/image:1") as caught:
        create("bad", "--replicas", "2", image="nosuch/image:1", fleet=clean_swarm)
    assert time.monotonic() - start < 30
    assert "docker service rm bad" in caught.value.remedy
    with pytest.raises(ImageNotFound):
        Scale("bad", 3).apply(clean_swarm)
    state = update("bad", "--image", IMAGE, fleet=clean_swarm)
    assert len(state.running("bad")) == 3


def test_host_port_leaves_tasks_pending(clean_swarm: Fleet) -> None:
    start, host = time.monotonic(), "mode=host,published=9999,target=80"
    create("hote", "--replicas", "3", "--publish", host, fleet=clean_swarm)
    with pytest.raises(ConvergenceTimeout, match="host-mode port already in use"):
        Scale("hote", 5).apply(clean_swarm)
    assert time.monotonic() - start < 60
    state = capture(clean_swarm)
    assert len(state.running("hote")) == 3
    assert all(t.host_ports == (9999,) for t in state.running("hote"))
    with pytest.raises(PortTaken, match="hote"):
        create("autre", "--publish", host, fleet=clean_swarm)


def test_impossible_constraint(clean_swarm: Fleet) -> None:
    with pytest.raises(ConvergenceTimeout, match="scheduling constraints"):
        create("nulle-part", "--constraint", "node.role == lune", fleet=clean_swarm)


def test_crashing_tasks_are_not_believed(clean_swarm: Fleet) -> None:
    words = ("service", "create", *QUICKLY, "--name", "tombe", IMAGE, "--no-such-flag")
    docker(clean_swarm, *words)
    until(lambda: any(t.failed for t in capture(clean_swarm).tasks), seconds=60)
    with pytest.raises(ConvergenceTimeout) as caught:
        wait("tombe", clean_swarm, timeout=90)
    assert "tombe.1" in caught.value.message and "échouent" in caught.value.message


def test_timeout_says_what_is_stuck(clean_swarm: Fleet) -> None:
    create("lent", fleet=clean_swarm)
    with pytest.raises(ConvergenceTimeout, match=r"lent\.\d") as caught:
        Scale("lent", 6).apply(clean_swarm, timeout=0.5)
    assert "/6 en marche" in str(caught.value)
    wait("lent", clean_swarm)


def test_no_such_names(clean_swarm: Fleet) -> None:
    with pytest.raises(NoSuchService, match="rien"):
        Scale("rien", 2).apply(clean_swarm)
    with pytest.raises(NoSuchNode, match="node9"):
        Drain("node9").apply(clean_swarm)


def test_removed_while_waited_for(clean_swarm: Fleet) -> None:
    create("bref", fleet=clean_swarm)
    with talk(clean_swarm.endpoints[0]) as api:
        api.remove_service("bref")
    with pytest.raises(NoSuchService):
        Scale("bref", 3).apply(clean_swarm)


def test_updates_out_of_sequence_are_sent_again(clean_swarm: Fleet) -> None:
    create("web", fleet=clean_swarm)
    sent: list[int] = []

    def forced(spec: dict) -> bool:
        spec["TaskTemplate"]["ForceUpdate"] += 1
        return True

    def force(_: int) -> None:
        update_spec(
            lambda: clean_swarm.endpoints[0],
            "docker service update --force web",
            lambda endpoint: inspect(endpoint, "web", "web"),
            forced,
            lambda api, version, spec: (
                sent.append(version)
                or api.update_service(
                    "web", version, spec["TaskTemplate"], "web", mode=spec["Mode"]
                )
            ),
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(force, range(4)))
    assert spec_of(clean_swarm, "web")["TaskTemplate"]["ForceUpdate"] == 4
    assert len(sent) >= 4


def test_interrupt_raises_at_once_and_leaves_the_service(clean_swarm: Fleet) -> None:
    create("web", fleet=clean_swarm)

    def interrupt() -> None:
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Scale("web", 6).apply(clean_swarm)
    assert time.monotonic() - start < 3.5
    thread.join()
    assert len(wait("web", clean_swarm).running("web")) == 6


def test_errors_without_swarm_or_engine(clean_swarm: Fleet) -> None:
    worker = Fleet("host", (clean_swarm["node2"],))
    with pytest.raises(NotAManager):
        Scale("web", 1).apply(worker)
    nowhere = Fleet("host", (Endpoint("node1", "tcp://127.0.0.1:9", "127.0.0.1"),))
    state = capture(nowhere)
    assert state.swarm == "unreachable" and not state.engines[0].reachable
    with pytest.raises(EngineUnreachable):
        Scale("web", 1).apply(nowhere)
    # one engine of the fleet is down: the others still say everything
    partly = Fleet("host", (*nowhere.endpoints, *clean_swarm.endpoints[1:]))
    assert [e.reachable for e in capture(partly).engines] == [False, True, True]
    partly = Fleet("host", (nowhere.endpoints[0], clean_swarm.endpoints[0]))
    assert capture(partly).active


def test_no_swarm(no_swarm: Fleet) -> None:
    state = capture(no_swarm)
    assert state.swarm == "inactive" and state.nodes == () and len(state.engines) == 3
    with pytest.raises(NoSwarm, match="Swarm"):
        Scale("web", 1).apply(no_swarm)
    with pytest.raises(NoSwarm):
        Promote("node2").apply(no_swarm)


def test_drain_and_activate(clean_swarm: Fleet) -> None:
    create("web", "--replicas", "3", fleet=clean_swarm)
    seen: list[NodeProgress] = []
    state = Drain("node2").apply(clean_swarm, on_progress=seen.append)
    assert state.node("node2").availability == "drain"
    assert state.tasks_on("node2") == () and len(state.running("web")) == 3
    assert seen[-1].done and seen[-1].tasks == 0
    state = Activate("node2").apply(clean_swarm)
    assert state.node("node2").availability == "active" and state.tasks_on("node2") == ()


def test_promote_demote_and_the_last_manager(clean_swarm: Fleet) -> None:
    with pytest.raises(DockerFailed, match="dernier manager"):
        Demote("node1").apply(clean_swarm)
    state = Promote("node2").apply(clean_swarm)
    assert len(state.managers) == 2 and state.quorum == 2 and state.tolerated == 0
    state = Demote("node1").apply(clean_swarm)  # the leader itself
    assert [m.name for m in state.managers] == ["node2"] and state.asked == "node2"
    Promote("node1").apply(clean_swarm)
    state = Demote("node2").apply(clean_swarm)
    assert state.leader is not None and state.leader.name == "node1"


def test_lost_quorum_is_named(clean_swarm: Fleet) -> None:
    create("web", "--replicas", "2", fleet=clean_swarm)
    Promote("node2").apply(clean_swarm)
    with talk(clean_swarm["node2"], 60) as api:
        api.leave_swarm(force=True)  # a manager that leaves by force takes its vote with it
    limit = time.monotonic() + 60
    while (state := capture(clean_swarm)).active and time.monotonic() < limit:
        time.sleep(1)
    assert state.swarm == "no-quorum"
    with pytest.raises(QuorumLost, match="quorum"):
        Scale("web", 3).apply(clean_swarm)
    with pytest.raises(QuorumLost):
        Drain("node3").apply(clean_swarm)
    json.dumps(state.engine("node1").error)
    # what survives is thrown away: this swarm cannot be repaired by leaving in order
    for name in ("node3", "node1"):
        with talk(clean_swarm[name], 60) as api:
            api.leave_swarm(force=True)
