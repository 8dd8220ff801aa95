"""The checks of the voting app's stacks: each accepts what is right and refuses what is not."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from both_ways import checks, probes
from three_nodes import NODES, NOW, swarm

from labkit.exercises.catalogue import EXERCISES, judge
from labkit.exercises.course.nb02_voting import VOTING_EXERCISES
from labkit.exercises.measures import access
from labkit.exercises.measures.access import Answers
from labkit.exercises.measures.ballots import Ballot, Scores
from labkit.exercises.settling import moving
from labkit.stacks import services_of
from labkit.state import ClusterState, EngineState, Network, Port, Service, Task, from_raw
from labkit.traffic import Sample

RECORDED = Path(__file__).parent / "recorded"
PORTS = {"vote": Port(80, 5000), "result": Port(80, 5001), "visualizer": Port(8080, 8080)}
APP = "examplevotingapp_"
IMAGES = {
    "db": "postgres:17",
    "redis": "redis:8.0",
    "result": f"{APP}result:1",
    "visualizer": f"{APP}visualizer:1",
    "vote": f"{APP}vote:1",
    "worker": f"{APP}worker:1",
}
BEFORE = {"worker": f"{APP}worker:before", "result": f"{APP}result:before"}
MINE = {name: f"registry:5000/{APP}{name}:2" for name in BEFORE}


def out() -> ClusterState:
    """Three engines, no swarm."""
    engines = tuple(EngineState(n, reachable=True, version="26.1.5") for n in NODES)
    return ClusterState(NOW, "inactive", None, engines)


def deployed(
    stack: str = "vote",
    *,
    images: dict[str, str] | None = None,
    votes: int = 2,
    running: int | None = None,
    without: str = "",
    former: str = "",
) -> ClusterState:
    """Return a swarm with the stack.

    ``votes`` replicas of vote are wanted, ``running`` of them run; the task of ``former`` still
    runs another image than its service wants; service ``without`` is missing.
    """
    services, tasks = [], []
    for name, image in (IMAGES | (images or {})).items():
        if name == without:
            continue
        full = f"{stack}_{name}"
        ports = (PORTS[name],) if name in PORTS else ()
        wanted = votes if name == "vote" else 1
        services.append(
            Service(f"id-{full}", full, image, "replicated", wanted, ports, stack=stack)
        )
        up = wanted if name != "vote" or running is None else running
        for slot in range(1, wanted + 1):
            tasks.append(
                Task(f"{full}{slot}", f"id-{full}", full, slot, "id-node1", "node1",
                     "running" if slot <= up else "preparing", "running",
                     image="old:1" if name == former else image)
            )  # fmt: skip
    networks = tuple(
        Network(f"id-{n}", f"{stack}_{n}", "overlay", "swarm", stack=stack)
        for n in ("backend", "default", "frontend")
    )
    return replace(swarm(), services=tuple(services), tasks=tuple(tasks), networks=networks)


def broken(**more: str) -> ClusterState:
    return deployed("debug", images={**BEFORE, **more})


NETWORKS_LEFT = replace(swarm(), networks=deployed().networks)
LOST = replace(swarm(), swarm="no-quorum", asked=None, nodes=())
DEAD = ClusterState(NOW, "unreachable", None, tuple(EngineState(n, False, swarm="") for n in NODES))

ALONE = replace(
    deployed(), engines=(*deployed().engines[:2], out().engines[2]), nodes=deployed().nodes[:2]
)  # node3 never joined


def own(vote: str = "mini_default", redis: str = "mini_default", **more: str) -> ClusterState:
    """Return a swarm with a stack of vote and redis, each on one network beside ingress."""
    state = deployed("mini", **more)
    on = {"mini_vote": ("ingress", vote), "mini_redis": ("ingress", redis)}
    kept = tuple(replace(s, networks=on[s.name]) for s in state.services if s.name in on)
    return replace(state, services=kept, tasks=tuple(t for t in state.tasks if t.service in on))


RIGHT = {
    "deployer": [deployed(), deployed(votes=4), deployed(images={"worker": f"{APP}worker:lua"})],
    "echelle-vote": [deployed(votes=4)],
    "worker-lua": [deployed(images={"worker": f"{APP}worker:lua"})],
    "retirer": [swarm(), deployed("debug"), out()],
    "ecrire-compose": [own(), own("mini_a", "mini_a")],
    "panne": [broken(), broken(**MINE), broken(result=MINE["result"])],
    "reparer-result": [broken(result=MINE["result"]), broken(**MINE)],
    "reparer-vote": [broken(**MINE)],
    "ranger": [swarm(), deployed(), out()],
}
WRONG = {
    "deployer": [
        out(),
        swarm(),
        deployed("votre"),
        deployed(without="visualizer"),
        deployed(running=1),
        ALONE,
        replace(deployed(), services=tuple(replace(s, ports=()) for s in deployed().services)),
    ],
    "echelle-vote": [out(), swarm(), deployed(), deployed(votes=4, running=3), deployed(votes=1)],
    "worker-lua": [
        out(),
        swarm(),
        deployed(),
        deployed(images={"worker": f"{APP}worker:lua"}, former="worker"),
    ],
    "retirer": [deployed(), NETWORKS_LEFT, LOST, DEAD],
    "ecrire-compose": [
        out(),
        swarm(),
        deployed(),
        own(without="redis"),
        own("mini_a", "mini_b"),
        own("ingress", "ingress"),
    ],
    "panne": [
        out(),
        swarm(),
        deployed(),
        deployed("debug"),
        deployed("debug", images=BEFORE, without="worker"),
        replace(broken(), services=(*broken().services, *deployed().services)),
    ],
    "reparer-result": [
        out(),
        broken(),
        deployed("debug"),
        broken(worker=MINE["worker"]),
        deployed("debug", images={**BEFORE, "result": MINE["result"]}, former="result"),
    ],
    "reparer-vote": [
        out(),
        broken(),
        broken(result=MINE["result"]),
        deployed("debug", images=MINE, former="worker"),
    ],
    "ranger": [broken(), LOST, DEAD],
}


TestChecks = checks(VOTING_EXERCISES, RIGHT, WRONG)


# the exercises that are done at each recorded moment of a real cluster
MOMENTS = {
    "vote_starting": {"ranger"},
    "vote_stack": {"deployer", "ranger"},
    "vote_scaled": {"deployer", "echelle-vote", "ranger"},
    "vote_lua": {"deployer", "echelle-vote", "worker-lua", "ranger"},
    "vote_leaving": {"ranger"},
    "debug_broken": {"retirer", "panne"},
    "debug_half": {"retirer", "panne", "reparer-result"},
    "debug_repaired": {"retirer", "panne", "reparer-result", "reparer-vote"},
    "debug_removed": {"retirer", "ranger"},
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_real_cluster_is_judged_right(moment: str) -> None:
    state = from_raw(json.loads((RECORDED / f"{moment}.json").read_text()))
    done = {e.name for e in VOTING_EXERCISES if judge(e.name, state).ok}
    assert done == MOMENTS[moment]
    watched = any(s.update_state == "updating" for s in state.services)  # tasks that run, so far
    assert watched == (moment in ("vote_lua", "debug_half", "debug_repaired"))
    assert moving(state) == (watched or moment in ("vote_starting", "vote_leaving"))


def test_a_stack_under_another_name_is_pointed_at() -> None:
    assert "votre" in judge("deployer", deployed("votre")).rows[0].hint


def test_an_engine_that_never_joined_is_named() -> None:
    wrong = [row for row in judge("deployer", ALONE).rows if not row.ok]
    assert [row.what for row in wrong if "swarm join" in row.hint] == ["node3"]


def test_a_stack_that_leaves_is_on_its_way_until_its_networks_are_gone() -> None:
    assert not moving(deployed())
    assert moving(NETWORKS_LEFT)
    assert not moving(swarm())


# -- what is asked of the running app -------------------------------------------------------


def pages(*problems: str) -> tuple[Answers, ...]:
    """All nodes answer at three ports, except for the problems of the last port's nodes."""
    well = tuple((n, "") for n in NODES)
    ill = tuple(zip(NODES, (*problems, "", "", "")[:3], strict=True))
    return Answers(5000, well), Answers(5001, well), Answers(8080, ill)


def ballot(after: int, *, problem: str = "", choice: str = "a") -> Ballot:
    before = Scores(3, 4, "7 votes")
    return Ballot(choice, "node1", problem, before, Scores(after, 4, f"{after + 4} votes"), 10.0)


def answered_by(*replicas: str | None) -> Sample:
    frame = pd.DataFrame({"replica": pd.Series(replicas, dtype=object)})
    return Sample(frame, 5000, "/", NODES, 2, False, len(replicas), 1.0, (), 0)


GOOD = {
    "deployer": [pages()],
    "echelle-vote": [answered_by("a", "b", "c", "d", "a")],
    "worker-lua": [ballot(4)],
    "ecrire-compose": [ballot(4), ballot(3), replace(ballot(3), before=None, after=None)],
    "reparer-vote": [ballot(4), ballot(5)],
}
BAD = {
    "deployer": [pages("connexion refusée"), pages(*["pas de réponse"] * 3)],
    "echelle-vote": [answered_by("a", "b", "a", None), answered_by("a", "b", "c", "d", "e")],
    "worker-lua": [ballot(3), ballot(4, problem="la page ne répond pas"), ballot(4, choice="b")],
    "ecrire-compose": [ballot(4, problem="la page ne répond pas")],
    "reparer-vote": [
        ballot(3),
        replace(ballot(4), before=None),
        replace(ballot(4), after=None),
    ],
}


TestProbes = probes(VOTING_EXERCISES, RIGHT, GOOD, BAD)


def test_a_ballot_says_what_became_of_it() -> None:
    assert ballot(4).counting == "compté"
    assert "pas compté au bout de 10 s (« 7 votes »)" in repr(ballot(3))
    assert "ne répond pas" in repr(replace(ballot(3), after=None))
    assert "&lt;" in replace(ballot(4), problem="<b>")._repr_html_()
    for shown in (ballot(3), ballot(4)):
        for _, text in shown._rows():
            assert text in repr(shown) and text.split(" (")[0] in shown._repr_html_()


# -- stacks ---------------------------------------------------------------------------------


def test_the_services_of_a_stack() -> None:
    state = replace(deployed(), services=(*deployed().services, *broken().services))
    assert [s.name for s in services_of(state, "debug")] == sorted(
        s.name for s in broken().services
    )
    assert services_of(state, "absente") == ()


def test_exercises_that_wait_longer_say_so() -> None:
    assert all(e.patience > EXERCISES["initialiser"].patience for e in VOTING_EXERCISES)


def test_a_page_that_is_silent_is_asked_for_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        server.settimeout(20)
        port = server.getsockname()[1]
        with pytest.raises(TimeoutError):
            access.fetch("127.0.0.1", port)
        with pytest.raises(TimeoutError):
            access.fetch("127.0.0.1", port, "POST", body="vote=a")  # which would be cast twice
        asked = []
        for _ in range(3):
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(1000).partition(b" ")[0])
    assert asked == [b"GET", b"GET", b"POST"]
