"""The checks of the stack on a cluster: each accepts what is right and refuses what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from both_ways import checks, probes
from test_voting_exercises import APP, DEAD, LOST, NOW, ballot, deployed, out, pages, swarm

from labkit.exercises import copies
from labkit.exercises.catalogue import EXERCISES, judge
from labkit.exercises.copies import Agreement, WrittenCopy
from labkit.exercises.course.nb02_voting import FILE
from labkit.exercises.course.nb05_orchestration import ORCHESTRATION_EXERCISES
from labkit.exercises.course.nb05b_nodes import NODE_EXERCISES
from labkit.exercises.exercise import PATIENCE
from labkit.exercises.measures import ballots
from labkit.exercises.measures.ballots import Scores
from labkit.state import ClusterState, Service, Task, UpdatePolicy, from_raw, service_from_raw

BOTH = (*ORCHESTRATION_EXERCISES, *NODE_EXERCISES)  # of one stack, in two notebooks
PINNED = ("node.labels.donnees == oui",)
CAREFUL = UpdatePolicy(1, 5.0, "pause", "stop-first")
SAFE = UpdatePolicy(2, 0.0, "rollback", "start-first")
LUA = f"{APP}worker:lua"
NO_ROOM = "no suitable node (insufficient resources on 3 nodes)"


def service(state: ClusterState, name: str, **changes: object) -> ClusterState:
    """Return the state with one service of the stack changed, not its tasks."""
    return replace(
        state,
        services=tuple(
            replace(s, **changes) if s.name == f"vote_{name}" else s for s in state.services
        ),
    )


def tasks(state: ClusterState, name: str, *nodes: str, **changes: object) -> ClusterState:
    """Return the state with the tasks of one service of the stack on these nodes, running."""
    full = f"vote_{name}"
    image = state.service(full).image
    made = [
        replace(
            Task(f"{full}{i}", f"id-{full}", full, i, f"id-{n}", n, "running", "running", image),
            **changes,
        )
        for i, n in enumerate(nodes, 1)
    ]
    return replace(state, tasks=(*(t for t in state.tasks if t.service != full), *made))


def scaled(state: ClusterState, name: str, *nodes: str) -> ClusterState:
    return tasks(service(state, name, replicas=len(nodes)), name, *nodes)


def added(state: ClusterState, name: str, *nodes: str, **changes: object) -> ClusterState:
    """Return the state with one more service of the stack."""
    full = f"vote_{name}"
    new = Service(f"id-{full}", full, "traefik/whoami:latest", "replicated", 4, stack="vote")
    state = replace(state, services=(*state.services, new))
    return tasks(service(state, name, **changes), name, *nodes)


def nodes(state: ClusterState, **changes: dict[str, object]) -> ClusterState:
    """Return the state with some nodes changed, by name."""
    changed = tuple(replace(n, **changes.get(n.name, {})) for n in state.nodes)
    return replace(state, nodes=changed)


def managers(*names: str, mute: str = "", state: ClusterState | None = None) -> ClusterState:
    state = state or swarm()
    return replace(
        state,
        nodes=tuple(
            replace(
                n,
                role="manager" if n.name in names else "worker",
                reachability=(
                    ("unreachable" if n.name == mute else "reachable") if n.name in names else None
                ),
            )
            for n in state.nodes
        ),
    )


# -- states ---------------------------------------------------------------------------------

SPREAD = tasks(deployed(), "vote", "node2", "node3")
TWO_SCALES = scaled(scaled(SPREAD, "vote", "node1", "node2", "node3"), "worker", "node1", "node1")
GLOBAL = tasks(
    service(SPREAD, "result", mode="global", replicas=None), "result", "node1", "node2", "node3"
)
LABELLED = nodes(
    SPREAD,
    node1={"labels": {"salle": "nord"}},
    node2={"labels": {"salle": "sud"}},
    node3={"labels": {"salle": "sud"}},
)
ROOMS = added(
    LABELLED, "whoami", "node1", "node1", "node2", "node3", preferences=("node.labels.salle",)
)
IN_LUA = scaled(
    service(service(SPREAD, "worker", image=LUA, update=CAREFUL), "vote", update=SAFE),
    "worker",
    "node1",
    "node1",
)
ROLLED_BACK = service(SPREAD, "vote", update_state="rollback_completed")
WAITING = tasks(ROOMS, "whoami", "node1", "node2", "node3")
WAITING = replace(
    WAITING,
    tasks=(
        *WAITING.tasks,
        Task("w", "id-vote_whoami", "vote_whoami", 4, "", None, "pending", "running",
             error=NO_ROOM),
    ),
)  # fmt: skip
MOVED = SPREAD
for _name in ("db", "redis", "worker", "visualizer", "result"):
    MOVED = tasks(MOVED, _name, "node2")
MOVED = managers("node1", "node2", state=MOVED)
DRAINED = nodes(MOVED, node1={"availability": "drain"})
BACK = nodes(GLOBAL)
AT_HOME = service(service(SPREAD, "db", constraints=PINNED), "redis", constraints=PINNED)
ALONE = replace(LOST, engines=tuple(replace(e, reachable=e.name != "node2") for e in LOST.engines))
FORCED = nodes(managers("node1", state=SPREAD), node2={"role": "manager", "state": "down"})
GHOST = replace(swarm(), nodes=(*swarm().nodes, replace(swarm().nodes[1], id="old")))

RIGHT = {
    "cluster-deployer": [SPREAD, TWO_SCALES, GLOBAL, ROOMS, MOVED],
    "ecrire-echelles": [SPREAD, TWO_SCALES],
    "echelles": [
        TWO_SCALES,
        scaled(scaled(SPREAD, "vote", *["node1"] * 3), "result", *["node2"] * 5),
    ],
    "une-par-noeud": [
        GLOBAL,
        nodes(tasks(GLOBAL, "result", "node2", "node3"), node1={"availability": "drain"}),
        nodes(tasks(GLOBAL, "result", "node1", "node3"), node2={"state": "down"}),
    ],
    "deux-salles": [ROOMS, tasks(ROOMS, "whoami", "node2", "node2", "node3", "node3")],
    "peu-a-peu": [
        IN_LUA,
        scaled(IN_LUA, "worker", "node1", "node1", "node1"),
        service(IN_LUA, "worker", update=UpdatePolicy(1, 10.0, "rollback", "start-first")),
        tasks(service(IN_LUA, "worker", image=f"registry:5000/{LUA}"), "worker", "node1", "node1",
              image=f"registry:5000/{LUA}"),
    ],
    "coquille": [ROLLED_BACK],
    "reservation": [WAITING],
    "liberer": [ROOMS],
    "promouvoir-deux": [managers("node1", "node2", "node3")],
    "dechoir-un": [managers("node1", "node2")],
    "vider-node1": [DRAINED],
    "ramener-node1": [BACK, SPREAD],
    "reequilibrer": [ROOMS, nodes(tasks(ROOMS, "whoami", *["node2", "node3"] * 2),
                                  node1={"availability": "drain"})],
    "attacher-donnees": [
        AT_HOME,
        service(AT_HOME, "db", constraints=("node.hostname == node1",)),
        service(AT_HOME, "redis", constraints=("node.role == manager", *PINNED)),
    ],
    "perdre-quorum": [ALONE],
    "forcer-cluster": [FORCED, SPREAD],
    "cluster-entier": [swarm(), managers("node1", "node2", "node3")],
}  # fmt: skip
WRONG = {
    "cluster-deployer": [out(), swarm(), deployed(), deployed(without="db"), LOST],
    "ecrire-echelles": [out(), swarm(), deployed("votre")],
    "echelles": [
        out(),
        swarm(),
        SPREAD,
        scaled(SPREAD, "vote", *["node1"] * 3),
        scaled(TWO_SCALES, "worker", *["node1"] * 3),
        scaled(scaled(SPREAD, "vote", *["node1"] * 3), "db", "node1", "node1"),
        scaled(TWO_SCALES, "redis", "node1", "node1"),
        tasks(TWO_SCALES, "worker", "node1"),
    ],
    "une-par-noeud": [
        out(),
        SPREAD,
        scaled(SPREAD, "result", "node1", "node2", "node3"),
        tasks(GLOBAL, "result", "node1", "node2"),
        tasks(GLOBAL, "result"),
    ],
    "deux-salles": [
        out(),
        SPREAD,
        LABELLED,
        nodes(ROOMS, node3={"labels": {}}),
        nodes(ROOMS, node1={"labels": {"salle": "sud"}}),
        service(ROOMS, "whoami", preferences=()),
        service(ROOMS, "whoami", preferences=("node.labels.rack",)),
        service(ROOMS, "whoami", replicas=3),
        tasks(ROOMS, "whoami", "node1", "node2"),
    ],
    "peu-a-peu": [
        out(),
        SPREAD,
        service(IN_LUA, "worker", image=f"{APP}worker:1"),
        scaled(IN_LUA, "worker", "node1"),
        service(IN_LUA, "worker", update=None),
        service(IN_LUA, "worker", update=UpdatePolicy(2, 5.0, "pause", "stop-first")),
        service(IN_LUA, "worker", update=UpdatePolicy(1, 0.0, "pause", "stop-first")),
        service(IN_LUA, "vote", update=None),
        service(IN_LUA, "vote", update=UpdatePolicy(2, 0.0, "rollback", "stop-first")),
        service(IN_LUA, "vote", update=UpdatePolicy(2, 0.0, "continue", "start-first")),
        tasks(IN_LUA, "worker", "node1", "node1", image=f"{APP}worker:1"),
    ],
    "coquille": [
        out(),
        SPREAD,
        service(SPREAD, "vote", update_state="paused"),
        service(SPREAD, "vote", update_state="completed"),
        tasks(ROLLED_BACK, "vote", "node2"),
    ],
    "reservation": [out(), SPREAD, ROOMS],
    "liberer": [out(), SPREAD, WAITING, tasks(ROOMS, "whoami", "node1")],
    "promouvoir-deux": [
        out(),
        swarm(),
        managers("node1", "node2"),
        managers("node1", "node2", "node3", mute="node3"),
    ],
    "dechoir-un": [
        out(),
        managers("node1"),
        managers("node1", "node3"),
        managers("node1", "node2", "node3"),
        managers("node1", "node2", mute="node2"),
    ],
    "vider-node1": [
        out(),
        MOVED,
        nodes(SPREAD, node1={"availability": "drain"}),
        nodes(MOVED, node1={"availability": "pause"}),
        managers("node2", state=DRAINED),
        nodes(DRAINED, node1={"availability": "drain", "state": "down"}),
        tasks(DRAINED, "db"),
    ],
    "ramener-node1": [out(), DRAINED, tasks(BACK, "result", "node2", "node3")],
    "reequilibrer": [
        out(),
        SPREAD,
        tasks(ROOMS, "whoami", "node2", "node2", "node3", "node3"),
        tasks(ROOMS, "whoami", "node1", "node2", "node3"),
    ],
    "attacher-donnees": [
        out(),
        SPREAD,
        service(AT_HOME, "db", constraints=("node.role == manager",)),
        tasks(AT_HOME, "db", "node2"),
        tasks(AT_HOME, "redis"),
        replace(AT_HOME, services=()),
    ],
    "perdre-quorum": [
        out(),
        swarm(),
        LOST,
        DEAD,
        replace(ALONE, swarm="active"),
        replace(LOST, engines=tuple(replace(e, reachable=e.name != "node3") for e in LOST.engines)),
    ],
    "forcer-cluster": [
        out(),
        LOST,
        nodes(swarm(), node1={"leader": False}),
        managers("node1", "node2", mute="node2"),
    ],
    "cluster-entier": [
        out(),
        LOST,
        GHOST,
        managers("node1", "node2"),
        nodes(swarm(), node2={"state": "down"}),
    ],
}


TestChecks = checks(BOTH, RIGHT, WRONG)


def test_the_exercises_have_names_and_patience_of_their_own() -> None:
    names = {e.name for e in BOTH}
    hasty = {e.name for e in BOTH if e.patience <= PATIENCE}
    assert hasty == {"forcer-cluster"}  # a swarm without quorum is not waited for
    assert len(names) == len(BOTH)
    assert all(EXERCISES[e.name] is e for e in BOTH)  # no other took its name


# -- what is asked of the file and of the running app ---------------------------------------

ASKED = {"db": "1", "redis": "1", "result": "1", "visualizer": "1", "vote": "3", "worker": "2"}


def asks(**changes: str) -> WrittenCopy:
    return WrittenCopy("", tuple((ASKED | changes).items()))


GOOD = {
    "cluster-deployer": [pages()],
    "ecrire-echelles": [asks(), asks(worker="1", result="2"), asks(visualizer="4")],
    "echelles": [Agreement("")],
    "peu-a-peu": [ballot(4)],
    "attacher-donnees": [Scores(1, 0, "1 vote")],
    "forcer-cluster": [ballot(4)],
}
BAD = {
    "cluster-deployer": [pages("connexion refusée")],
    "ecrire-echelles": [
        WrittenCopy("Ce fichier est absent."),
        asks(vote="2"),
        asks(worker="1"),
        asks(worker="3"),
        asks(db="2"),
        asks(worker="—"),
    ],
    "echelles": [
        Agreement("Ce fichier est absent."),
        Agreement("", ("service « vote », deploy.replicas : 2 dans le fichier, 3",)),
    ],
    "peu-a-peu": [ballot(3)],
    "attacher-donnees": [
        None,
        Scores(0, 0, "Aucun vote pour l’instant"),
        Scores(3, 0, "En attente de la base de données…"),
    ],
    "forcer-cluster": [ballot(3), ballot(4, problem="pas de réponse")],
}


TestProbes = probes(BOTH, RIGHT, GOOD, BAD)


def test_a_survivor_whose_mesh_is_empty_is_told_to_restart_its_engine() -> None:
    exercise = next(e for e in BOTH if e.name == "forcer-cluster")
    assert exercise.probe is not None
    accepted, _ = exercise.probe.judge(ballot(4, problem="pas de réponse"))
    assert not accepted.ok
    assert accepted.hint.index("labkit node stop node1") < accepted.hint.index("node start node1")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write the student's file, with one text replaced, in the working directory."""
    text = (Path(__file__).parents[2] / "notebooks" / FILE).read_text("utf-8")
    monkeypatch.chdir(tmp_path)

    def write(old: str = "", new: str = "") -> None:
        Path(copies.COPY).write_text(text.replace(old, new) if old else text, "utf-8")

    return write


def test_the_file_says_what_it_asks_for(file: Callable[..., None]) -> None:
    assert copies.written().problem
    file("replicas: 2", "replicas: 3")
    assert copies.written().problem == ""
    assert dict(copies.written().replicas) == ASKED | {"worker": "1"}
    file("mode: replicated", "mode: global")
    assert dict(copies.written().replicas)["worker"] == "—"


def test_file_and_cluster_are_compared(
    file: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = from_raw_stack()
    monkeypatch.setattr(copies, "capture", lambda: state)
    assert copies.agreement().problem
    file()
    assert copies.agreement() == Agreement("")
    file("replicas: 2", "replicas: 3")
    (told,) = copies.agreement().differences
    assert "vote" in told and "3 dans le fichier, 2 sur le cluster" in told


def from_raw_stack() -> ClusterState:
    raw = (Path(__file__).parent / "recorded" / "vote_stack.json").read_text("utf-8")
    return from_raw(json.loads(raw))


# -- the state ------------------------------------------------------------------------------


def test_a_service_says_how_it_is_spread_and_updated() -> None:
    raw = {
        "ID": "x",
        "Version": {"Index": 1},
        "Spec": {
            "Name": "x",
            "TaskTemplate": {
                "Placement": {"Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.a"}}]}
            },
            "UpdateConfig": {
                "Parallelism": 1,
                "Delay": 5_000_000_000,
                "FailureAction": "rollback",
                "Order": "start-first",
            },
        },
    }
    found = service_from_raw(raw, {})
    assert found.preferences == ("node.labels.a",)
    assert found.update == UpdatePolicy(1, 5.0, "rollback", "start-first")
    policies = {s.name: s.update for s in from_raw_stack().services}
    assert policies["vote_vote"] == UpdatePolicy(2, 0.0, "rollback", "stop-first")
    assert policies["vote_result"].delay_s == 10
    assert policies["vote_db"] is None


def test_results_may_wait_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Scores(3, 0, "En attente de la base de données…")
    answers = iter([None, waiting, Scores(3, 0, "3 votes")])
    fleet = type("Fleet", (), {"published": lambda *_: ("", 0)})()
    monkeypatch.setattr(ballots, "connect", lambda: fleet)
    monkeypatch.setattr(ballots, "_settled", lambda _: next(answers))
    assert ballots.resultats("node1") is None
    assert ballots.resultats("node1", patience=60) == Scores(3, 0, "3 votes")


def test_states_are_of_one_moment() -> None:
    assert {s.captured_at for states in RIGHT.values() for s in states} == {NOW}


def test_the_wrong_node_that_was_emptied_is_named() -> None:
    state = nodes(managers("node1", "node2"), node2={"availability": "drain"})
    first = judge("vider-node1", state).rows[0]
    assert not first.ok
    assert "--availability active node2" in first.hint
    assert "--availability drain node1" in first.hint
