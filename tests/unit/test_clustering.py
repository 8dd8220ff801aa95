"""A cluster that is made, loses managers and comes apart: its checks, and its measures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from both_ways import checks

from labkit.exercises import Doors, Pages, Visitors, judge
from labkit.exercises.course.nb04_clustering import CLUSTERING_EXERCISES, Fall, judge_fall
from labkit.exercises.measures.pages import Visitor, parse_page
from labkit.exercises.settling import moving, unnoticed
from labkit.state import ClusterState, EngineState, Node, Port, Service, Task, from_raw
from labkit.traffic import Sample
from labkit.views import doors_figure, doors_html
from labkit.views.picture import png

RECORDED = Path(__file__).parent / "recorded"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
NAMES = ("node1", "node2", "node3")


def recorded(name: str) -> ClusterState:
    return from_raw(json.loads((RECORDED / f"{name}.json").read_text()))


def out(off: str = "") -> ClusterState:
    """Three engines without a swarm; those whose numbers are in ``off`` do not answer."""
    engines = tuple(
        EngineState(n, reachable=n[-1] not in off, swarm="" if n[-1] in off else "inactive")
        for n in NAMES
    )
    return ClusterState(NOW, "inactive", None, engines)


def swarm(roles: str = "mmw", *, leader: int = 1, off: str = "", down: str = "") -> ClusterState:
    """Return a swarm: a letter an engine, m(anager), w(orker) or "-" for one that is in none.

    ``off`` are the numbers of engines without power, ``down`` those that the swarm knows to be.
    """
    engines, nodes = [], []
    for i, (name, role) in enumerate(zip(NAMES, roles, strict=True), 1):
        dead = str(i) in off
        member = role != "-"
        engines.append(
            EngineState(name, reachable=False, swarm="")
            if dead
            else EngineState(name, True, "26.1.5", "active", f"id-{name}", role == "m")
            if member
            else EngineState(name, True, "26.1.5")
        )
        if member:
            manager = role == "m"
            reach = ("unreachable" if dead else "reachable") if manager else None
            state = "down" if str(i) in down else "ready"
            nodes.append(
                Node(f"id-{name}", name, "manager" if manager else "worker", "active", state,
                     leader=i == leader, reachability=reach)
            )  # fmt: skip
    return ClusterState(NOW, "active", "node1", tuple(engines), tuple(nodes))


_MESH = Port(80, 80)


def whoami(
    state: ClusterState, on: str = "12312", *, replicas: int = 5, port: Port = _MESH
) -> ClusterState:
    service = Service("id-w", "whoami", "traefik/whoami:latest", "replicated", replicas, (port,))
    return _with(state, service, on)


def direct(
    state: ClusterState, on: str = "123", *, mode: str = "global", how: str = "host"
) -> ClusterState:
    service = Service(
        "id-d", "whoami-direct", "traefik/whoami:latest", mode, None, (Port(80, 8081, mode=how),)
    )
    return _with(state, service, on)


def _with(state: ClusterState, service: Service, on: str) -> ClusterState:
    tasks = [
        Task(f"{service.name}{i}", service.id, service.name, i, f"id-node{n}", f"node{n}",
             "running", "running")
        for i, n in enumerate(on, 1)
    ]  # fmt: skip
    return replace(state, services=(*state.services, service), tasks=(*state.tasks, *tasks))


def lost(off: str = "2", roles: str = "mmw") -> ClusterState:
    """No manager answers for the swarm."""
    return replace(swarm(roles, off=off), swarm="no-quorum", asked=None, nodes=())


DEAD = ClusterState(NOW, "unreachable", None, tuple(EngineState(n, False, swarm="") for n in NAMES))
LEFT = replace(  # node3 has left and is still in the list
    swarm("mm-"), nodes=(*swarm("mm-").nodes, Node("old", "node3", "worker", "active", "down"))
)

RIGHT = {
    "premier-manager": [swarm("m--"), swarm(), recorded("single_node")],
    "deux-managers": [swarm(), swarm("mmm"), recorded("two_managers")],
    "whoami-80": [whoami(swarm()), whoami(swarm(), "12", replicas=2)],
    "sans-replica": [whoami(swarm(), "12", replicas=2), whoami(swarm(), "33", replicas=2)],
    "en-direct": [direct(swarm()), whoami(direct(swarm()))],
    "perdre-le-quorum": [lost(), lost("1")],
    "retrouver-le-quorum": [whoami(swarm()), whoami(swarm(leader=2))],
    "trois-managers": [swarm("mmm"), recorded("three_managers")],
    "perdre-le-leader": [swarm("mmm", leader=2, off="1"), swarm("mmm", off="3", down="3")],
    "ancien-leader": [whoami(swarm("mmm", leader=3))],
    "partir": [LEFT, swarm("mm-"), whoami(LEFT, "12121")],
    "rayer": [whoami(swarm("mm-"), "12121")],
    "dissoudre": [out(), recorded("no_swarm")],
}
WRONG = {
    "premier-manager": [out(), DEAD, lost()],
    "deux-managers": [
        out(),
        DEAD,
        lost(),
        swarm("m--"),
        swarm("mm-"),
        swarm("mww"),
        swarm("mmw", off="3", down="3"),
        replace(swarm("mm-"), engines=swarm("mm-").engines[:1]),
        recorded("three_nodes_empty"),
    ],
    "whoami-80": [
        out(),
        swarm(),
        whoami(swarm(), "123"),
        whoami(swarm(), port=Port(80, 9999)),
        whoami(swarm(), port=Port(80, 80, mode="host")),
        recorded("three_nodes_whoami_5"),
    ],
    "sans-replica": [
        swarm(),
        whoami(swarm()),
        whoami(swarm(), "1", replicas=2),
        whoami(swarm("mm-"), "12", replicas=2),
    ],
    "en-direct": [
        swarm(),
        direct(swarm(), "12"),
        direct(swarm(), how="ingress"),
        direct(swarm(), mode="replicated"),
    ],
    "perdre-le-quorum": [out(), swarm(), swarm("mmm", off="2"), lost(""), lost("23"), DEAD],
    "retrouver-le-quorum": [
        lost(),
        whoami(swarm(off="2")),
        whoami(swarm(down="2")),
        whoami(swarm(leader=0)),
        whoami(swarm(), "123"),
        swarm(),
        DEAD,
    ],
    "trois-managers": [
        swarm(),
        lost(),
        swarm("mmm", off="3"),
        # the swarm says manager, the engine does not know it yet
        replace(swarm("mmm"), engines=swarm("mmw").engines),
        recorded("two_managers"),
    ],
    "perdre-le-leader": [
        swarm("mmm"),
        lost(),
        swarm("mmm", leader=0, off="1"),
        swarm("mmm", leader=1, off="1"),  # nobody has noticed
        swarm("mmw", off="3"),
        swarm("mmm", off="12", leader=3),
    ],
    "ancien-leader": [whoami(swarm("mmm", off="1", leader=2)), lost(), DEAD],
    "partir": [
        swarm("mmm"),
        swarm("mmw"),
        lost("3"),
        replace(LEFT, nodes=(*LEFT.nodes[:2], replace(LEFT.nodes[2], state="ready"))),
        replace(LEFT, engines=(*LEFT.engines[:2], EngineState("node3", False, swarm=""))),
        swarm("m--"),
    ],
    "rayer": [whoami(LEFT, "12121"), whoami(swarm("mm-"), "12"), whoami(swarm("mmm")), out()],
    "dissoudre": [swarm(), swarm("m--"), lost(), out(off="2"), DEAD],
}


TestChecks = checks(CLUSTERING_EXERCISES, RIGHT, WRONG)


@pytest.mark.parametrize(
    ("fall", "right"),
    [
        (Fall("node1", "node2", ("node1",)), True),
        (Fall("node1", "node2", ("node3",)), False),  # a follower was killed, later
        (Fall("", "node1", ("node3",)), False),  # no leader was ever lost
        (Fall("node1", "", ("node1",)), False),
        (Fall("node1", "node1", ("node1",)), False),
        (Fall("", "", ()), False),
    ],
)
def test_the_log_says_whether_it_was_the_leader(fall: Fall, right: bool) -> None:
    rows = list(judge_fall(fall))
    assert all(row.ok for row in rows) == right
    assert all(row.hint for row in rows if not row.ok)


def test_the_log_counts_only_where_it_was_read() -> None:
    fallen = swarm("mmm", leader=2, off="1")
    assert judge("perdre-le-leader", fallen, None).ok
    assert not judge("perdre-le-leader", fallen, Fall("", "node2", ("node1",))).ok


def test_a_node_that_died_or_left_is_awaited_until_the_swarm_knows() -> None:
    assert not unnoticed(swarm())
    assert unnoticed(swarm(off="2"))
    assert not unnoticed(swarm("mmm", off="2", down="2"))
    assert unnoticed(swarm(off="2", down="2"))  # one manager of two: it is about to step down
    assert unnoticed(swarm(down="2"))  # back, and not yet known to be
    # promoted, and does not know it yet; demoted, the same
    assert unnoticed(replace(swarm("mmm"), engines=swarm("mmw").engines))
    assert unnoticed(replace(swarm("mmw"), engines=swarm("mmm").engines))
    assert not unnoticed(LEFT)
    assert unnoticed(replace(LEFT, nodes=(*LEFT.nodes[:2], replace(LEFT.nodes[2], state="ready"))))
    again = Node("id-node3", "node3", "worker", "active", "ready")
    assert not unnoticed(replace(swarm(), nodes=(*LEFT.nodes[:2], LEFT.nodes[2], again)))


def test_what_cannot_stop_on_a_node_that_is_down_is_not_awaited() -> None:
    state = whoami(swarm(off="2"))
    stopping = tuple(replace(t, desired="shutdown") for t in state.tasks if t.node == "node2")
    others = whoami(state, "13131").tasks[len(state.tasks) :]
    state = replace(state, tasks=(*others, *stopping))
    assert moving(state)
    assert not moving(replace(state, nodes=swarm(off="2", down="2").nodes))


# -- the page -------------------------------------------------------------------------------

PAGE = """Hostname: 6afa69c52b4a
IP: 127.0.0.1
IP: 10.0.0.8
RemoteAddr: 10.0.0.2:52270
GET / HTTP/1.1
Host: 127.0.0.1
"""


def page(host: str, remote: str, port: int) -> dict[str, str]:
    text = PAGE.replace("6afa69c52b4a", host).replace("10.0.0.2:52270", f"{remote}:{port}")
    return parse_page(text)


def test_a_page_is_read_by_its_labels() -> None:
    assert parse_page(PAGE) == {
        "Hostname": "6afa69c52b4a",
        "IP": "127.0.0.1, 10.0.0.8",
        "RemoteAddr (adresse)": "10.0.0.2",
        "RemoteAddr (port)": "52270",
        "Host": "127.0.0.1",
    }
    assert parse_page("<html>nothing</html>") == {}


def test_the_lines_that_change_at_one_door_and_at_all() -> None:
    pages = Pages(
        80,
        (
            ("node1", tuple(page(h, "10.0.0.2", n) for n, h in enumerate("abababab"))),
            ("node2", tuple(page(h, "10.0.0.3", 90 + n) for n, h in enumerate("cbcbcbcb"))),
        ),
    )
    assert pages.varient == "Hostname et RemoteAddr"
    rows = [line.split("  ") for line in repr(pages).splitlines()]
    said = {r[0]: [t.strip() for t in r[1:] if t.strip()] for r in rows}
    assert said["Hostname"] == ["2", "3"]
    assert said["RemoteAddr (adresse)"] == ["toujours la même", "2"]
    assert said["RemoteAddr (port)"] == ["une par page, ou presque"] * 2
    assert said["Host"] == ["toujours la même"] * 2
    assert "<td style='text-align:left'>Hostname</td>" in pages._repr_html_()


def test_a_page_that_never_changes() -> None:
    pages = Pages(80, (("node1", (page("a", "10.0.0.2", 1),) * 3),))
    assert pages.varient == "aucune"


def test_what_the_page_says_is_escaped() -> None:
    pages = Pages(80, (("node1", (parse_page("<b>x</b>: <i>y</i>"),)),))
    assert "<b>" not in pages._repr_html_()


@pytest.mark.parametrize(
    ("owners", "answer"),
    [
        (NAMES, "celle du nœud interrogé"),
        (("", "", ""), "celle du client"),
        (("node1", "", ""), "cela dépend de la porte"),
        (("node2", "node2", "node2"), "cela dépend de la porte"),
    ],
)
def test_whose_address_it_is(owners: Sequence[str], answer: str) -> None:
    each = enumerate(zip(NAMES, owners, strict=True))
    seen = tuple(Visitor(door, f"10.0.0.{i}", owner) for i, (door, owner) in each)
    visitors = Visitors(80, seen)
    assert visitors.reponse == answer
    assert ("le client" in repr(visitors)) == ("" in owners)
    assert visitors._repr_html_().count("<tr>") == 4


# -- the doors ------------------------------------------------------------------------------


def sample(answers: Sequence[tuple[str, int]], *, replicas: str = "12", failed: int = 0) -> Sample:
    """Answers as (door, number of the replica), then failures at node1."""
    tasks = tuple(
        Task(f"t{i}", "id-w", "whoami", i, f"id-node{n}", f"node{n}", "running", "running",
             container_id=f"{i:012x}ffff")
        for i, n in enumerate(replicas, 1)
    )  # fmt: skip
    rows = [
        {"node": door, "replica": f"{i:012x}", "slot": i, "task": f"whoami.{i}",
         "replica_node": f"node{replicas[i - 1]}", "error": None}
        for door, i in answers
    ]  # fmt: skip
    blank = {"node": "node1", "replica": None, "slot": None, "task": None, "replica_node": None}
    rows += [{**blank, "error": "pas de réponse"}] * failed
    frame = pd.DataFrame(rows)
    return Sample(frame, 80, "/api", NAMES, 4, False, len(rows), 1.0, tasks, len(rows))


EVEN = [(door, i) for door in NAMES for i in (1, 2)] * 3


def test_doors_count_by_node_asked_and_replica() -> None:
    doors = Doors(sample(EVEN, failed=2))
    assert list(doors.table.index) == list(NAMES)
    assert list(doors.table.columns) == ["whoami.1 · node1", "whoami.2 · node2", "échecs"]
    assert doors.table.to_numpy().tolist() == [[3, 3, 2], [3, 3, 0], [3, 3, 0]]
    assert doors.sans_replica == ("node3",)


def test_a_replica_or_a_door_without_answers_is_there() -> None:
    doors = Doors(sample([("node1", 1)], replicas="123"))
    assert doors.table.to_numpy().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert doors.sans_replica == ()
    assert "node1 : 1 ; node2 : 0" in doors.alternative


def test_doors_are_drawn_with_a_table_that_says_the_same() -> None:
    mesure = sample(EVEN)
    texts = {t.get_text() for ax in doors_figure(mesure).axes for t in ax.texts}
    assert texts == {"3"}
    assert png(doors_figure(mesure), dpi=40) == png(doors_figure(mesure), dpi=40)
    assert doors_html(mesure).count("<td class='n'>3</td>") == 6
    shown = Doors(mesure)._repr_html_()
    assert "<img alt='Replicas qui ont répondu à chaque porte ; node1 : 2" in shown


def test_a_worker_that_was_killed_instead_of_a_manager_is_named() -> None:
    rows = judge("perdre-le-quorum", swarm(off="3")).rows
    (quorum,) = (row for row in rows if row.what == "Quorum")
    assert not quorum.ok
    assert "labkit node start node3" in quorum.hint
    assert "labkit node kill node2" in quorum.hint
