"""Questions to the cluster: any command whose output holds the answer passes, no other does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from both_ways import refused
from IPython.core.interactiveshell import InteractiveShell
from three_nodes import NOW, swarm
from traitlets.config import Config

from labkit import course
from labkit.engine.embedded.logs import LogLine
from labkit.errors import EngineNotRunning
from labkit.exercises import answering, notebook, predictions, progress
from labkit.exercises.answering import answer, judge_answer
from labkit.exercises.catalogue import EXERCISES, MEASURES, QUESTIONS
from labkit.state import ClusterState, Network, Port, Service, Task, UpdatePolicy

PAGE = "example-voting-app/kube-deployment.yml"


def whoami() -> ClusterState:
    """A service of three replicas, one a node."""
    service = Service(
        "s1", "whoami", "traefik/whoami:latest", "replicated", 3, (Port(80, 9999),)
    )  # fmt: skip
    networks = (Network("net1", "ingress", "overlay", "swarm", ingress=True),)
    return with_tasks(replace(swarm(), networks=networks), service, "213")


def with_tasks(state: ClusterState, service: Service, on: str) -> ClusterState:
    """Add a service with a running task for each digit of ``on``, the number of a node."""
    tasks = (
        Task(
            f"{service.name[:8]:0<8}task{i:0>13}", service.id, service.name, i, f"id-node{n}",
            f"node{n}", "running", "running", container_id=f"{service.id:0<8}c{i:0>55}",
        )
        for i, n in enumerate(on, 1)
    )  # fmt: skip
    return replace(state, services=(*state.services, service), tasks=(*state.tasks, *tasks))


def vote() -> ClusterState:
    """The voting app, with what the questions ask of it."""
    front, back = "vote_frontend", "vote_backend"
    state = swarm()
    for i, (name, networks, image, on) in enumerate(
        [
            ("db", (back,), "postgres:17", "1"),
            ("redis", (front,), "redis:8.0", "1"),
            ("result", (back,), "examplevotingapp_result:1", "2"),
            ("vote", (front,), "examplevotingapp_vote:1", "23"),
            ("worker", (front, back), "examplevotingapp_worker:lua", "1"),
        ]
    ):
        service = Service(
            f"v{i}", f"vote_{name}", image, "replicated", len(on), networks=networks, stack="vote",
            constraints=("node.role == manager",) if name == "db" else (),
            update=UpdatePolicy(2, 0, "rollback", "stop-first"),
        )  # fmt: skip
        state = with_tasks(state, service, on)
    return state


def debug() -> ClusterState:
    """The repaired stack: the worker's task, after one that was shut down."""
    image = "registry:5000/examplevotingapp_{}:2"
    state = swarm()
    for name, on in (("result", "2"), ("worker", "1")):
        made = Service(f"d-{name}", f"debug_{name}", image.format(name), "replicated", 1)
        state = with_tasks(state, made, on)
    *others, last = state.tasks
    past = replace(last, id="oldtask000000000000000000", state="shutdown", desired="shutdown")
    return replace(state, tasks=(*others, last, past))


def managers() -> ClusterState:
    """Three managers, of which node3 leads, and whoami with a task that was replaced."""
    state = whoami()
    nodes = tuple(
        replace(
            node, role="manager", leader=node.name == "node3", reachability="reachable",
            address=f"192.168.77.1{i}",
        )
        for i, node in enumerate(state.nodes, 1)
    )  # fmt: skip
    past = replace(
        state.tasks[0], id="oldtask000000000000000000", state="shutdown", desired="shutdown"
    )
    return replace(state, nodes=nodes, tasks=(*state.tasks, past))


def rooms() -> ClusterState:
    """The voting app in two rooms: result on each node, a worker that took another's place."""
    state = vote()
    spread = Service(
        "w1", "vote_whoami", "traefik/whoami", "replicated", 4, stack="vote",
        preferences=("node.labels.salle",),
    )  # fmt: skip
    state = with_tasks(state, spread, "1123")
    services = tuple(
        replace(s, mode="global", replicas=None) if s.name == "vote_result" else s
        for s in state.services
    )
    rooms = ("nord", "sud", "sud")
    nodes = tuple(replace(n, labels={"salle": r}) for n, r in zip(state.nodes, rooms, strict=True))
    worker = "examplevotingapp_worker"
    tasks = tuple(
        replace(t, image=f"{worker}:lua") if t.service == "vote_worker" else t for t in state.tasks
    )
    (last,) = state.tasks_of("vote_worker")
    past = replace(
        last, id="oldtask000000000000000000", image=f"{worker}:1", state="shutdown",
        desired="shutdown",
    )  # fmt: skip
    return replace(state, nodes=nodes, services=services, tasks=(*tasks, past))


def survivor() -> ClusterState:
    """The voting app after a forced new cluster: db is tied to node1, a node is no more."""
    state = vote()
    first, *others = state.nodes
    nodes = (replace(first, labels={"donnees": "oui", "salle": "a"}), *others)
    db, *services = state.services
    db = replace(db, constraints=("node.labels.donnees == oui",))
    gone = replace(
        state.tasks[-1], id="gonetask00000000000000000", node_id="id-old", node=None,
        state="orphaned", desired="shutdown",
    )  # fmt: skip
    return replace(state, nodes=nodes, services=(db, *services), tasks=(*state.tasks, gone))


def front() -> ClusterState:
    """HAProxy before two replicas, one of which took the place of a dead one."""
    ports = (Port(8001, 8001, mode="host"), Port(8404, 8404, mode="host"))
    proxy = Service("f1", "front_haproxy", "haproxy:3.0", "replicated", 1, ports, stack="front")
    app = Service("f2", "front_whoami", "traefik/whoami", "replicated", 2, stack="front")
    network = Network("net2", "front_public", "overlay", "swarm", stack="front")
    state = with_tasks(with_tasks(swarm(), proxy, "1"), app, "23")
    last = state.tasks[-1]
    dead = replace(last, id="deadtask00000000000000000", state="failed", desired="shutdown")
    return replace(state, networks=(network,), tasks=(*state.tasks, dead))


def guet() -> ClusterState:
    """The stack to translate: a service of each mode."""
    first = Service("g1", "guet_accueil", "traefik/whoami", "replicated", 4, stack="guet")
    second = Service("g2", "guet_guetteur", "traefik/whoami", "global", None, stack="guet")
    return with_tasks(with_tasks(swarm(), first, "1231"), second, "123")


def listed(state: ClusterState, service: str, *, current: bool = False) -> str:
    """Return the tasks of a service, as ``docker service ps`` lists them."""
    tasks = state.tasks_of(service, current=current)
    return "\n".join(f"{t.id[:12]}   {t.label}   {t.image}   {t.node}   Running" for t in tasks)


VIRTUAL = {"Endpoint": {"VirtualIPs": [{"NetworkID": "net1", "Addr": "10.0.0.5/24"}]}}
DIGEST = f"registry:5000/examplevotingapp_worker:2@sha256:{'ab' * 32}"
DEFINED = {"Spec": {"TaskTemplate": {"ContainerSpec": {"Image": DIGEST}}}}
CONFIG = "global:\n  scrape_interval: 5s\n\nscrape_configs:\n  - job_name: moteurs\n"
BEFORE = {
    "PreviousSpec": {"TaskTemplate": {"Placement": {"Constraints": ["node.role == manager"]}}}
}
RAFT = "raft.node: 65d9b048aca0f147 (node2) {} 1b23106ee240441d (node3) at term {}"
ELECTION = LogLine(NOW, "info", RAFT.format("elected leader", 9), "raft")
SETTINGS = {
    "Dispatcher": {"HeartbeatPeriod": 5_000_000_000},
    "CAConfig": {"NodeCertExpiry": 7_776_000_000_000_000},
}
PS = "ID      NAME      IMAGE     NODE    CURRENT STATE\nabc     whoami.1  traefik   node2   {}\n"
NODES = "ID  HOSTNAME  STATUS\na  node1  Ready\nb  node2  Ready\nc  node3  Ready"
SERVICES = "vote_db\nvote_redis\nvote_result\nvote_vote\nvote_worker"
LS = "a  vote_worker  replicated  1/1  examplevotingapp_worker:lua"
# of each question: the state, what more was asked, outputs that answer, and some that do not
CASES: dict[str, tuple[Callable[[], ClusterState], Any, list[str], list[str]]] = {
    "whoami-1": (
        whoami, None,
        [
            PS.format("Running 32 seconds ago"),
            PS.format("Running about a minute ago"),
            "node2 2026-11-24T10:00:00.123Z",
        ],
        [NODES, PS.format("Running"), PS.format("Up 3 minutes").replace("node2", "node3")],
    ),
    "ports-de-whoami": (
        whoami, None,
        ['[{"TargetPort":80,"PublishedPort":9999,"PublishMode":"ingress"}]',
         "Ports:\n PublishedPort = 9999\n  TargetPort = 80\n  PublishMode = ingress"],
        ["whoami  replicated  3/3  *:9999->80/tcp", "ingress", ""],
    ),
    "conteneurs-de-node2": (
        whoami, None,
        ["1\n", " Containers: 4\n  Running: 1\n", "s1000000c000  traefik/whoami  Up 3 minutes"],
        ["3\n", "s1000000c001  traefik/whoami", " Running: 12", NODES],
    ),
    "adresse-virtuelle": (
        whoami, VIRTUAL,
        ['[{"NetworkID":"x","Addr":"10.0.0.5/24"}]', "10.0.0.5"],
        ["10.0.0.50/24", "110.0.0.5", ""],
    ),
    "redemarrage": (
        whoami, None,
        ['{"Condition":"any","Delay":5000000000}', "any\n", 'Condition": "any"'],
        ["many", "any other words", "{}"],
    ),
    "place-de-db": (
        vote, None,
        ['a  vote_db.1  postgres:17  node1  Running\n["node.role == manager"]',
         'node1\n["node.role==manager"]'],
        ["a  vote_db.1  postgres:17  node1  Running", '["node.role == manager"]', ""],
    ),
    "services-de-backend": (
        vote, None,
        ["vote_db\nvote_result\nvote_worker\n",
         f"{SERVICES}\nvote_backend: vote_db vote_result vote_worker"],
        [SERVICES, "vote_db\nvote_worker", "vote_backend", ""],
    ),
    "image-du-worker": (vote, None, [LS], [LS.replace("lua", "1"), "vote_worker"]),
    "lots-de-vote": (
        vote, None,
        ["2\n", '{"Parallelism":2,"FailureAction":"rollback"}', "UpdateConfig:\n Parallelism:\t2"],
        ['{"Parallelism":12}', "vote_vote  2/2", ""],
    ),
    "file-de-redis": (vote, "3", ["3\n", "(integer) 3"], ["0\n", "13\n", "3 votes"]),
    "echecs-du-worker": (
        debug, None,
        [listed(debug(), "debug_worker"), "0\n"],
        [listed(debug(), "debug_worker", current=True), "1\n", NODES],
    ),
    "registre-du-worker": (
        debug, None,
        ["a  debug_worker  1/1  registry:5000/examplevotingapp_worker:2", "registry:5000"],
        ["examplevotingapp_worker:2", "registry", ""],
    ),
    "empreinte-du-worker": (
        debug, DEFINED,
        [f"registry:5000/examplevotingapp_worker:2@sha256:{'ab' * 32}", f"sha256:{'ab' * 32}"],
        ["registry:5000/examplevotingapp_worker:2", f"sha256:{'cd' * 32}", ""],
    ),
    "images-du-registre": (
        debug, None,
        ['{"repositories":["examplevotingapp_result","examplevotingapp_worker"]}',
         "examplevotingapp_result\nexamplevotingapp_worker\n"],
        ["registry:5000/examplevotingapp_result\nregistry:5000/examplevotingapp_worker",
         '{"repositories":["examplevotingapp_result"]}', ""],
    ),
    "votes-comptes": (
        debug, 3,
        ["Chats : 2, Chiens : 1 (« 3 votes »)", " count\n-------\n     3\n(1 row)"],
        ["Chats : 2, Chiens : 1 (« 13 votes »)", " count\n-------\n     4\n(1 row)"],
    ),
    "adresse-du-leader": (
        managers, None,
        ['node1 {"Reachability":"reachable","Addr":"192.168.77.11:2377"}\n'
         'node3 {"Leader":true,"Reachability":"reachable","Addr":"192.168.77.13:2377"}',
         "Hostname: node3\nManager Status:\n Address: 192.168.77.13:2377\n Leader: Yes"],
        ["node3 Ready Active Leader", "node1 192.168.77.11\nnode3 192.168.77.13", ""],
    ),
    "derniere-election": (
        managers, ELECTION,
        [str(ELECTION), f"{RAFT.format('elected leader', 8)}\n{ELECTION}", "node3\n9\n"],
        [RAFT.format("elected leader", 8), NODES, ""],
    ),
    "replicas-remplaces": (
        managers, None,
        [listed(managers(), "whoami")],
        [listed(managers(), "whoami", current=True), NODES],
    ),
    "signe-de-vie": (
        managers, SETTINGS,
        ["  Heartbeat Period: 5 seconds", "5s\n", '{"HeartbeatPeriod":5000000000}'],
        ["  Heartbeat Tick: 1", "15 seconds", "50000000000", ""],
    ),
    "validite-du-certificat": (
        managers, SETTINGS,
        ["  Expiry Duration: 3 months", "2160h0m0s\n", '"NodeCertExpiry":7776000000000000'],
        ["13 months", "160h0m0s", ""],
    ),
    "services-partout": (
        rooms, None,
        ["v2   vote_result   global   3/3   examplevotingapp_result:1", "vote_result\n",
         "vote_result global\nvote_vote replicated\nvote_whoami replicated"],
        ["vote_result\nvote_vote", "vote_whoami", ""],
    ),
    "preference-de-whoami": (
        rooms, None,
        ['[{"Spread":{"SpreadDescriptor":"node.labels.salle"}}]\n{"salle":"sud"}',
         "Preferences: [{node.labels.salle}]\nLabels:\n - salle=sud"],
        ['[{"Spread":{"SpreadDescriptor":"node.labels.salle"}}]', '{"salle":"sud"}',
         '"node.labels.salle"\n{"salle":"nord"}', ""],
    ),
    "images-du-worker": (
        rooms, None,
        [listed(rooms(), "vote_worker")],
        [listed(rooms(), "vote_worker", current=True), NODES],
    ),
    "attaches-de-db": (
        survivor, None,
        ['["node.labels.donnees == oui"]\n{"salle":"a","donnees":"oui"}',
         '["node.labels.donnees==oui"]\nLabels:\n - donnees=oui\n - salle=a'],
        ['["node.labels.donnees == oui"]', '{"donnees":"oui","salle":"a"}', ""],
    ),
    "tasks-de-l-ancien-node2": (
        survivor, None,
        [listed(survivor(), "vote_worker"), "gonetask0000 vote_worker.1 id-old Orphaned"],
        [listed(survivor(), "vote_worker", current=True), NODES],
    ),
    "managers-de-node3": (
        survivor, [{"NodeID": "id-node1", "Addr": "192.168.77.11:2377"}],
        ['[{"NodeID":"id-node1","Addr":"192.168.77.11:2377"}]',
         "Manager Addresses:\n  192.168.77.11:2377"],
        ["192.168.77.13", "[]", NODES],
    ),
    "contrainte-d-avant": (
        survivor, BEFORE,
        ['["node.role == manager"]', "[node.role==manager]"],
        ['["node.labels.donnees == oui"]', ""],
    ),
    "heure-de-l-election": (
        survivor, ELECTION,
        [str(ELECTION), f"{NOW.astimezone():%H:%M:%S}"],
        [RAFT.format("elected leader", 9), "00:00:01", ""],
    ),
    "tasks-du-manager": (
        swarm, (9.0, 11.0),
        ["   instance  state  value\n0  192.168.77.11:9323  running  11.0", '"value":[17.5,"9"]'],
        ["0  192.168.77.11:9323  running  12.0", "11.5", "8.0", ""],
    ),
    "leader-mesure": (
        swarm, None,
        ["0  swarm_manager_leader  192.168.77.11:9323  moteurs  node1    1.0",
         '{"metric":{"node":"node1"},"value":[1796035.1,"1"]}'],
        ["0  swarm_manager_leader  192.168.77.12:9323  moteurs  node2    1.0", "node1  0.0", NODES],
    ),
    "duree-des-lectures": (
        swarm, None,
        ["\n".join(f"{n}  192.168.77.1{n}:9323  moteurs  node{n}  0.01{n}" for n in (1, 2, 3))],
        ["node1  0.012\nnode2  0.013", "node1 1.0\nnode2 1.0", NODES],
    ),
    "silence-de-node3": (
        swarm, 75.0,
        ["node3   75.0", "node3   70.0", "80\n", '"value":[17.5,"75"]'],
        ["node3   60.0", "node3  175.0", ""],
    ),
    "config-de-prometheus": (
        swarm, CONFIG,
        [CONFIG, f"ID: x\nData:\n{CONFIG}"],
        ["scrape_configs:", "Z2xvYmFsOgogIHNjcmFwZQ==", ""],
    ),
    "vip-de-front": (
        front, {"Endpoint": {"VirtualIPs": [{"NetworkID": "net2", "Addr": "10.0.1.5/24"}]}},
        ['[{"Addr":"10.0.0.9/24"},{"Addr":"10.0.1.5/24"}]'],
        ['[{"Addr":"10.0.0.9/24"}]', ""],
    ),
    "adresses-des-replicas": (
        front, {"10.0.1.7": "id-node2", "10.0.1.9": "id-node3"},
        ["10.0.1.9  node3\n10.0.1.7  node2"],
        ["10.0.1.9\n10.0.1.7", "10.0.1.9  node3", "node2 node3", ""],
    ),
    "config-de-haproxy": (front, CONFIG, [CONFIG], ["defaults", ""]),
    "ports-de-haproxy": (
        front, None,
        ["PublishedPort = 8001\nPublishMode = host\nPublishedPort = 8404\nPublishMode = host"],
        ["a  front_haproxy  replicated  1/1  *:8001, *:8404", "8001 host", ""],
    ),
    "replica-tue": (
        front, None,
        [listed(front(), "front_whoami")],
        [listed(front(), "front_whoami", current=True), NODES],
    ),
    "objets-du-manifeste": (
        swarm, PAGE,
        ["'12 objets (5 Service, 2 PersistentVolumeClaim, 5 Deployment)'",
         "      5 kind: Deployment\n      2 kind: PersistentVolumeClaim\n      5 kind: Service"],
        ["12 objets", "5 Service, 5 Deployment", ""],
    ),
    "ligne-du-service": (
        swarm, PAGE,
        ["182\n", "183:kind: Service", "12:kind: Service\n183:kind: Service", "185:  name: vote"],
        ["12:kind: Service", "198:kind: Deployment", "200:  name: vote"],
    ),
    "services-internes": (
        swarm, PAGE,
        ["['redis', 'db', 'worker']", "db: -, redis: -, worker: -, vote: LoadBalancer"],
        ["['redis', 'db']", "['redis', 'db', 'worker', 'vote']", ""],
    ),
    "volume-de-db": (
        swarm, PAGE,
        ["(ComposeMount(source='db-data', target='/var/lib/postgresql/data'),)"],
        ["db-data", "/var/lib/postgresql/data", "redis-data /data"],
    ),
    "quatrieme-noeud": (
        guet, None,
        ["a  guet_accueil   replicated  4/4\nb  guet_guetteur  global  3/3",
         '{"Global":{}}', listed(guet(), "guet_guetteur")],
        ["a  guet_guetteur  traefik/whoami", listed(guet(), "guet_accueil"), NODES],
    ),
}  # fmt: skip


def more(asked: Any) -> Any:
    """Return what a question asked for: a manifest is read."""
    from labkit import kubernetes

    return kubernetes.read(course.source() / PAGE) if asked == PAGE else asked


def outputs(right: bool) -> list[Any]:
    return [
        pytest.param(name, state(), said, asked, id=f"{name}-{i}")
        for name, (state, asked, *both) in CASES.items()
        for i, said in enumerate(both[0 if right else 1])
    ]


@pytest.mark.parametrize(("name", "state", "said", "asked"), outputs(right=True))
def test_an_output_with_the_answer_passes(
    name: str, state: ClusterState, said: str, asked: Any
) -> None:
    verdict = judge_answer(QUESTIONS[name], state, said, more(asked))
    assert verdict.ok, verdict


@pytest.mark.parametrize(("name", "state", "said", "asked"), outputs(right=False))
def test_an_output_without_it_is_asked_where_it_looked(
    name: str, state: ClusterState, said: str, asked: Any
) -> None:
    verdict = judge_answer(QUESTIONS[name], state, said, more(asked))
    refused(verdict)
    for row in verdict.rows:  # a question leads on, and names no answer
        assert row.ok or row.hint.endswith("?") or "?" in row.hint


def test_every_question_is_tested_and_stands_in_a_notebook() -> None:
    assert CASES.keys() == QUESTIONS.keys()
    assert not QUESTIONS.keys() & EXERCISES.keys()
    paths = sorted(course.source().glob("*.ipynb"))
    code = "\n".join(c.source for p in paths for c in course.corrected(p.name).cells)
    asked = re.findall(r"^%%reponse (\S+)$", code, re.MULTILINE)
    rooms = {*EXERCISES, *MEASURES}
    assert sorted(name for name in asked if name not in rooms) == sorted(QUESTIONS)


@pytest.mark.parametrize("name", ["derniere-election", "heure-de-l-election"])
def test_any_election_answers_where_the_log_is_not_read(name: str) -> None:
    line = "time=2026-11-24T10:00:00Z level=info msg=" + RAFT.format("elected leader", 3)
    asked = judge_answer(QUESTIONS[name], managers(), line, None)
    assert asked.ok, asked
    refused(judge_answer(QUESTIONS[name], managers(), NODES, None))


@pytest.mark.parametrize("name", ["preference-de-whoami", "attaches-de-db"])
def test_a_node_is_found_by_its_engine_whatever_its_own_name(name: str) -> None:
    state, asked, right, wrong = CASES[name]
    mine = state()
    mine = replace(mine, nodes=tuple(replace(n, name=f"vm-{n.name}") for n in mine.nodes))
    assert all(judge_answer(QUESTIONS[name], mine, said, more(asked)).ok for said in right)
    assert not any(judge_answer(QUESTIONS[name], mine, said, more(asked)).ok for said in wrong)


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_question_raises_on_an_empty_state(name: str) -> None:
    for state in (ClusterState(NOW, "unreachable", None), swarm()):
        assert not judge_answer(QUESTIONS[name], state, "").ok


# -- the cell -------------------------------------------------------------------------------


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Run cells below ``%%reponse`` in a shell, against a state; return what is said."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    monkeypatch.setattr(answering, "get_ipython", lambda: shell)
    monkeypatch.setattr(answering, "_asked", set())
    monkeypatch.setattr(answering, "capture", whoami)
    monkeypatch.setattr(notebook, "capture", whoami)
    known = replace(QUESTIONS["adresse-virtuelle"], more=lambda: VIRTUAL)
    monkeypatch.setitem(QUESTIONS, known.name, known)
    monkeypatch.setenv("LABKIT_PROGRESS", str(tmp_path / "progress.jsonl"))
    yield lambda cell, name="adresse-virtuelle": repr(answer(name, cell))


def test_a_cell_is_run_and_its_output_judged(
    asking: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    question = "# À vous : quelle adresse ?\n"
    assert asking(question) == "None"
    assert "attend votre commande" in capsys.readouterr().out
    assert progress.read() == ()  # what is not answered has not failed
    script = "%%bash\nlabkit() { echo 10.0.0.5; }\nlabkit node"
    for cell in ("print('10.0.0.5')", "'10.0.0.5'", script, "!echo 10.0.0.5"):
        for _ in range(2):
            assert "✔ L’adresse virtuelle : réussi" in asking(question + cell), cell
    assert "10.0.0.5" in capsys.readouterr().out
    said = asking(question + "!echo 10.0.0.6")
    assert "✘" in said and "« 10.0.0.6 »" in said and "10.0.0.5" not in said
    assert [a.ok for a in progress.read()] == [True] * 8 + [False]
    assert progress.progression().summary.startswith("0 exercice sur")


def test_what_was_no_answer_is_not_judged(
    asking: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert asking("1/0") == "None"
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert asking("_exit_code = 130  # as a command that Ctrl-C ended\nprint('10.0.0.5')") == "None"
    assert asking('from labkit.exercises import solution\nsolution("whoami-1")') == "None"
    assert "Nom inconnu" in asking("!echo", name="adresse")
    assert progress.read() == ()


def test_an_engine_that_is_off_is_said(
    asking: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def off() -> ClusterState:
        raise EngineNotRunning("Aucun cluster n’est démarré.", remedy="« labkit up »")

    monkeypatch.setattr(answering, "capture", off)
    assert "« labkit up »" in asking("!echo 10.0.0.5")
    assert progress.read() == ()


# -- exercises ------------------------------------------------------------------------------

ROOM = "# À vous : tapez ici votre commande docker, précédée de !\n"


def test_an_exercise_is_checked_once_its_commands_have_run(
    asking: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = asking(f"{ROOM}!echo \\\n  done", name="creer-service")
    assert "✘ Créer le service" in said and "Replicas demandés : 3" in said
    assert capsys.readouterr().out.strip() == "done"
    monkeypatch.setattr(notebook, "capture", swarm)
    refused = 'x=$(echo 1)\n[ "$x" = 2 ]\nfalse'  # and what went before may have sufficed
    sed = "sed -i '/^  vote:$/,/^$/ s/a: .*/a: 3/' /dev/null"
    scripts = (
        "%%bash\ntrue", "!true", "!", "x = 1", refused, sed, f"!true\n{sed}",
        "for x in 1 2; do\n    echo said $x\ndone",
    )  # fmt: skip
    for script in scripts:
        assert "✔ Initialiser le Swarm : réussi" in asking(ROOM + script, name="initialiser")
    said = capsys.readouterr().out
    assert "said 2" in said
    assert "Traceback" not in said and "SyntaxError" not in said
    assert asking("print('typed in haste'))", name="initialiser") == "None"
    assert "SyntaxError" in capsys.readouterr().out
    assert [(a.exercise, a.ok) for a in progress.read()] == [
        ("creer-service", False), *[("initialiser", True)] * len(scripts),
    ]  # fmt: skip


def test_what_only_asks_for_help_is_no_attempt(asking: Callable[..., str]) -> None:
    helped = f"{ROOM}!echo docker swarm --help"
    assert asking(helped, name="creer-service") == "None"
    assert asking("1/0", name="creer-service") == "None"
    assert asking("from labkit.exercises import solution\nsolution('creer-service')") == "None"
    assert progress.read() == ()
    assert "✘" in asking(f"{helped}\n!echo", name="creer-service")


def test_what_was_done_in_a_terminal_is_checked_without_a_command(
    asking: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "✔ Initialiser le Swarm : réussi" in asking(ROOM, name="initialiser")
    assert capsys.readouterr().out == ""
    for exercise in EXERCISES.values():
        if exercise.name in {"initialiser", "premier-manager", "rejoindre"} or exercise.obstacle:
            continue
        answering._asked.clear()
        if asking(ROOM, name=exercise.name) == "None":  # as it stands in the corrected edition
            assert capsys.readouterr().out == f"{answering._ELSEWHERE}\n"
    assert {a.ok for a in progress.read()} == {True}
    # who asks again is told what is missing
    answering._asked.clear()
    assert asking(ROOM, name="creer-service") == "None"
    assert "Replicas demandés : 3" in asking(ROOM, name="creer-service")
    assert not progress.read()[-1].ok


def test_a_prediction_is_set_against_what_was_done(
    asking: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(predictions.FRESH, raising=False)
    monkeypatch.setattr(predictions, "_predictions", {})
    asking("!true", name="initialiser")  # another notebook, which predicts nothing
    predicted = predictions.predire("membres", "Combien de nœuds ?", ["1", "3"])
    asking("!true", name="initialiser")
    assert "Mesure" not in capsys.readouterr().out
    predicted.choose("1")
    asking("!true", name="initialiser")
    assert "Votre prédiction : 1\nMesure : 3\n" in capsys.readouterr().out
    predictions.predire("file", "Votre vote est…", ["perdu", "dans la file de redis"]).choose(
        "perdu"
    )
    assert asking("!echo 2", name="file-en-panne") == "None"
    assert "Mesure : dans la file de redis" in capsys.readouterr().out
    assert asking("!echo rien", name="file-en-panne") == "None"
    assert "Mesure" not in capsys.readouterr().out


def test_names_are_of_one_kind() -> None:
    assert not set(EXERCISES) & set(QUESTIONS)
    assert not set(MEASURES) & {*EXERCISES, *QUESTIONS}
