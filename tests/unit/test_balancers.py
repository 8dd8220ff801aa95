"""HAProxy beside the mesh and Traefik: checks, measures, and what is skipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from both_ways import checks, probes
from three_nodes import NODES, NOW, swarm

from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import SettingError, TrafficError
from labkit.exercises import notebook
from labkit.exercises.catalogue import EXERCISES
from labkit.exercises.course import nb09_balancers as balancers
from labkit.exercises.course.nb09_balancers import (
    BALANCER_EXERCISES,
    PORTAINER_FILE,
    BalancerDoors,
    Hub,
    hub_repond,
    preparer_portainer,
)
from labkit.exercises.measures import balancing
from labkit.exercises.measures.balancing import PORTES, Loss, answering, servers_from, tableau
from labkit.state import ClusterState, EngineState, Network, Port, Service, Task
from labkit.traffic import Sample
from labkit.verdict import Verdict

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
FRONT: Mapping[str, tuple[int | None, tuple[Port, ...]]] = {
    "front_haproxy": (1, (Port(8001, 8001, "tcp", "host"), Port(8404, 8404, "tcp", "host"))),
    "front_whoami": (5, ()),
}
THREE = {
    **FRONT,
    "front_traefik": (1, (Port(8000, 8000, "tcp", "host"),)),
    "front_whoami": (5, (Port(80, 9990),)),
}
PORTAINER: Mapping[str, tuple[int | None, tuple[Port, ...]]] = {
    "portainer_agent": (None, ()),
    "portainer_portainer": (1, (Port(9000, 9000),)),
}
MANAGER = ("node.role == manager",)


def deployed(
    wanted: Mapping[str, tuple[int | None, tuple[Port, ...]]] = FRONT,
    *,
    running: int = 99,
    constraints: tuple[str, ...] = MANAGER,
) -> ClusterState:
    """Return a swarm with services; at most ``running`` tasks of each run."""
    services, tasks = [], []
    for name, (replicas, ports) in wanted.items():
        stack = name.partition("_")[0]
        mode = "global" if replicas is None else "replicated"
        services.append(
            Service(f"id-{name}", name, "image", mode, replicas, ports, stack=stack,
                    constraints=constraints)
        )  # fmt: skip
        for i in range(3 if replicas is None else replicas):
            node = NODES[i % 3]
            tasks.append(
                Task(f"{name}{i}", f"id-{name}", name, i + 1, f"id-{node}", node,
                     "running" if i < running else "preparing", "running",
                     container_id=f"{i}{name}".ljust(64, "0"))
            )  # fmt: skip
    return replace(swarm(), services=tuple(services), tasks=tuple(tasks))


def without(name: str, wanted: Mapping[str, tuple[int | None, tuple[Port, ...]]]) -> ClusterState:
    return deployed({k: v for k, v in wanted.items() if k != name})


LEFT = replace(swarm(), networks=(Network("n", "front_public", "overlay", "swarm", stack="front"),))
LOST = replace(swarm(), swarm="no-quorum", asked=None, nodes=())
OUT = ClusterState(NOW, "inactive", None, tuple(EngineState(n, True, "26.1.5") for n in NODES))

RIGHT = {
    "haproxy": [deployed(), deployed(THREE)],
    "trois-portes": [deployed(THREE)],
    "portainer": [deployed(PORTAINER), deployed(PORTAINER, constraints=("node.role==manager",))],
    "haproxy-ranger": [swarm(), OUT],
}
WRONG = {
    "haproxy": [
        OUT,
        swarm(),
        without("front_haproxy", FRONT),
        without("front_whoami", FRONT),
        deployed(running=4),
        deployed({**FRONT, "front_whoami": (3, ())}),
        deployed({**FRONT, "front_haproxy": (1, (Port(8001, 8001),))}),
    ],
    "trois-portes": [
        OUT,
        deployed(),
        without("front_traefik", THREE),
        deployed({**THREE, "front_whoami": (5, ())}),
        deployed(THREE, running=2),
    ],
    "portainer": [
        OUT,
        swarm(),
        without("portainer_agent", PORTAINER),
        deployed(PORTAINER, running=2),
        deployed(PORTAINER, constraints=()),
    ],
    "haproxy-ranger": [deployed(), deployed(PORTAINER), LEFT, LOST],
}


TestChecks = checks(BALANCER_EXERCISES, RIGHT, WRONG)


def doors(*found: int, up: int = 5, down: int = 0) -> BalancerDoors:
    return BalancerDoors(dict(zip(PORTES, found, strict=False)), up, down)


GOOD = {"haproxy": [doors(5)], "trois-portes": [doors(5, 5, 5)], "portainer": [True]}
BAD = {
    "haproxy": [doors(4), doors(5, up=4, down=1), doors(5, up=-1, down=-1)],
    "trois-portes": [doors(5, 0, 5), doors(5, 5, 1), doors(3, 5, 5)],
    "portainer": [False],
}


TestProbes = probes(BALANCER_EXERCISES, RIGHT, GOOD, BAD)


# -- HAProxy's statistics -------------------------------------------------------------------

CSV = """\
# pxname,svname,stot,status,addr,
web,FRONTEND,9,OPEN,,
replicas,replica1,4,UP,10.0.1.3:80,
replicas,replica2,3,DOWN 1/2,10.0.1.4:80,
replicas,replica3,0,MAINT (resolution),,
replicas,BACKEND,7,UP,,
statistiques,FRONTEND,2,OPEN,,
"""


def test_the_statistics_are_read() -> None:
    table = servers_from(CSV)
    assert list(table.index) == ["replica1", "replica2", "replica3"]
    assert list(table["état"]) == ["UP", "DOWN", "MAINT"]
    assert list(table["requêtes"]) == [4, 3, 0]
    assert list(table["adresse"]) == ["10.0.1.3:80", "10.0.1.4:80", "—"]


# -- measures -------------------------------------------------------------------------------


def sample(
    rows: list[tuple[float, str | None, float, str | None]], *, keep_alive: bool = False
) -> Sample:
    """Return a sample of (time, replica, latency, error); two replicas were expected."""
    frame = pd.DataFrame(rows, columns=["time_s", "replica", "latency_ms", "error"], dtype=object)
    frame = frame.astype({"time_s": float, "latency_ms": float})
    frame["task"], frame["slot"], frame["replica_node"] = "front_whoami.1", 1, "node1"
    replicas = tuple(
        Task(f"t{i}", "s", "front_whoami", i, "id-node1", "node1", "running", "running",
             container_id=name * 12)
        for i, name in enumerate("ab", 1)
    )  # fmt: skip
    return Sample(
        frame, 8001, "/api", ("node1",), 2, keep_alive, len(rows), 1.0, replicas, len(rows)
    )


A, B, FOREIGN = "a" * 12, "b" * 12, "f" * 12


def test_only_expected_replicas_count() -> None:
    assert answering(sample([(0.1, A, 1.0, None), (0.2, FOREIGN, 1.0, None)])) == 1
    assert answering(sample([(0.1, None, 1.0, "réponse HTTP 503")])) == 0


def test_the_longest_silence_counts_good_answers_alone() -> None:
    rows: list[tuple[float, str | None, float, str | None]] = [
        (0.5, A, 1.0, None), (1.0, B, 1.0, None), (2.0, None, 9.0, "pas de réponse"),
        (4.0, B, 1.0, None), (4.5, A, 1.0, None),
    ]  # fmt: skip
    loss = Loss(sample(rows), "docker rm --force x")
    assert loss.sent == 5
    assert loss.silence_s == 3.0
    assert Loss(sample(rows[:3]), "").silence_s == 1.0
    assert Loss(sample([(7.0, None, 1.0, "x")]), "").silence_s == 7.0
    assert repr(loss).startswith("$ docker rm --force x\n")


def test_the_table_has_a_column_a_door() -> None:
    new = sample([(0.1, A, 10.0, None), (0.2, B, 30.0, None), (0.3, A, 20.0, None),
                  (0.4, None, 900.0, "connexion refusée")])  # fmt: skip
    kept = sample([(0.1, A, 5.0, None)], keep_alive=True)
    loss = Loss(sample([(1.0, A, 1.0, None), (3.0, None, 1.0, "x"), (3.5, A, 1.0, None)]), "")
    table = tableau({"x": new, "y": new}, {"x": kept, "y": kept}, {"x": loss, "y": loss})
    assert list(table.columns) == ["x", "y"]
    assert list(table["x"]) == [2, 67, 1, 20.0, 29.0, 3, 1, 2.5]


def test_the_doors_are_what_send_takes() -> None:
    ports = [porte["port"] for porte in PORTES.values()]
    published = {p.published for _, ports in THREE.values() for p in ports}
    assert set(ports) < published
    assert PORTES["routing mesh"].keys() == {"port", "nodes"}  # the mesh knows no domain
    assert all("host" in PORTES[name] for name in ("Traefik", "HAProxy"))


def test_the_victim_is_on_a_worker() -> None:
    victim = balancing._victim(deployed(THREE))
    assert victim.running and victim.node != "node1"
    with pytest.raises(TrafficError):
        balancing._victim(deployed(THREE, running=0))


def test_the_replica_is_removed_where_it_is() -> None:
    fleet = Fleet(
        kind="host", endpoints=tuple(Endpoint(n, f"tcp://{n}:2376", "127.0.0.1") for n in NODES)
    )
    state = deployed(THREE)
    task = balancing._victim(state)
    words = balancing._removal(fleet, state, task)
    assert words[:3] == ["docker", "--host", f"tcp://{task.node}:2376"]
    assert words[3:] == ["rm", "--force", task.container_id[:12]]


# -- skipped --------------------------------------------------------------------------------


def test_an_engine_without_an_answer_has_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Fleet(kind="host", endpoints=(Endpoint("node1", "tcp://127.0.0.1:9", "127.0.0.1"),))
    monkeypatch.setattr(balancers, "connect", lambda: nobody)
    hub = hub_repond("portainer/portainer-ce:lts")
    assert not hub
    assert repr(hub).startswith("Sauté : node1 n’obtient pas portainer/portainer-ce:lts.")


def test_a_hub_that_answers() -> None:
    assert Hub("an/image:1")
    assert repr(Hub("an/image:1")) == "an/image:1 est disponible."


def test_skipped_is_no_success() -> None:
    verdict = Verdict("Déployer <x>", skipped="Docker Hub ne répond pas <ici>.")
    assert not verdict.ok
    assert verdict.summary == "Déployer <x> : sauté"
    assert repr(verdict) == "– Déployer <x> : sauté\n  Docker Hub ne répond pas <ici>."
    assert "&lt;ici&gt;" in verdict._repr_html_() and "✔" not in verdict._repr_html_()


def test_an_obstacle_is_asked_only_when_the_work_is_not_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded: list[str] = []
    monkeypatch.setattr(notebook, "record", lambda name, verdict: recorded.append(name))
    monkeypatch.setattr(notebook, "capture", swarm)
    portainer = EXERCISES["portainer"]
    for reason, done in (("pas de Hub", False), ("", False), ("pas de Hub", True)):
        exercise = replace(portainer, probe=None, patience=0.0, obstacle=lambda r=reason: r)
        monkeypatch.setitem(notebook.EXERCISES, "portainer", exercise)
        if done:
            monkeypatch.setattr(notebook, "capture", lambda: deployed(PORTAINER))
        verdict = notebook.verifier("portainer")
        assert verdict.skipped == ("" if done else reason)
        assert verdict.ok == done
    assert recorded == ["portainer", "portainer"]  # what was skipped leaves no trace


def test_portainer_has_a_password_before_it_starts(tmp_path: Path) -> None:
    said = preparer_portainer(tmp_path)
    (written,) = tmp_path.iterdir()
    password = written.read_text().strip()
    assert len(password) >= 12  # as Portainer asks
    assert password not in said
    assert written.stat().st_mode & 0o777 == 0o600
    assert "n’a pas changé" in preparer_portainer(tmp_path)
    assert written.read_text().strip() == password
    with pytest.raises(SettingError):
        preparer_portainer(tmp_path / "absent")
    stack = yaml.safe_load((NOTEBOOKS / PORTAINER_FILE).read_text(encoding="utf-8"))
    (name,) = stack["services"]["portainer"]["secrets"]
    assert stack["secrets"] == {name: {"file": written.name}}
    assert f"--admin-password-file /run/secrets/{name}" in stack["services"]["portainer"]["command"]
