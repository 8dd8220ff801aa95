"""The checks on data: each must accept what is right and refuse what is not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import psutil
import pytest
from both_ways import checks
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from labkit.engine.embedded.record import ImageStatus
from labkit.exercises import (
    EXERCISES,
    Confrontation,
    Prediction,
    Row,
    Verdict,
    judge,
    leading,
    notebook,
)
from labkit.exercises.course.nb01_swarm import SWARM_EXERCISES
from labkit.exercises.leading import ask_first
from labkit.exercises.notebook import Start, _system
from labkit.exercises.settling import moving, spread
from labkit.exercises.shell import TIMED_OUT, interleaved, run, tidy
from labkit.preflight.check import preflight_rows
from labkit.state import ClusterState, EngineState, Node, Port, Service, Task

NAMES = ("node1", "node2", "node3")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
# the shape of a token, not a token
TOKEN = "SWMTKN-1-" + "0a1" * 16 + "ab-" + "9z" * 12 + "z"
MESH, HOST = Port(80, 9999), Port(80, 9998, mode="host")
PORT_IN_USE = "no suitable node (host-mode port already in use on 3 nodes)"


def out() -> ClusterState:
    """Three engines, no swarm."""
    engines = tuple(EngineState(n, reachable=True, version="28.5.2") for n in NAMES)
    return ClusterState(NOW, "inactive", None, engines)


def swarm(members: int = 3) -> ClusterState:
    """Return a swarm of one manager and ``members - 1`` workers."""
    engines, nodes = [], []
    for i, name in enumerate(NAMES):
        if i < members:
            engines.append(EngineState(name, True, "28.5.2", "active", f"id-{name}", i == 0))
            role = "worker" if i else "manager"
            nodes.append(Node(f"id-{name}", name, role, "active", "ready", leader=i == 0))
        else:
            engines.append(EngineState(name, True, "28.5.2"))
    return ClusterState(NOW, "active", "node1", tuple(engines), tuple(nodes))


def with_service(
    state: ClusterState,
    name: str = "whoami",
    *,
    replicas: int = 5,
    on: str = "12323",
    port: Port = MESH,
    image: str = "traefik/whoami:latest",
    pending: int = 0,
    error: str = "",
) -> ClusterState:
    """Add a service with a running task for each digit of ``on`` (the node's number)."""
    service = Service(f"id-{name}", name, image, "replicated", replicas, (port,))
    tasks = [
        Task(f"{name}{i}", service.id, name, i, f"id-node{n}", f"node{n}", "running", "running")
        for i, n in enumerate(on, 1)
    ]
    for i in range(len(on) + 1, len(on) + 1 + pending):
        tasks.append(
            Task(f"{name}{i}", service.id, name, i, "", None, "pending", "running", error=error)
        )
    return replace(state, services=(*state.services, service), tasks=(*state.tasks, *tasks))


RIGHT = {
    "initialiser": [swarm(1), swarm(3)],
    "rejoindre": [swarm(3)],
    "creer-service": [with_service(swarm()), with_service(swarm(), replicas=8, on="12312312")],
    "changer-echelle": [with_service(swarm(), replicas=8, on="12312312")],
    "mode-host": [
        with_service(swarm(), "whoami-host", replicas=2, on="13", port=HOST),
        with_service(
            swarm(), "whoami-host", replicas=5, on="123", port=HOST, pending=2, error=PORT_IN_USE
        ),
    ],
    "mode-host-5": [
        with_service(
            swarm(), "whoami-host", replicas=5, on="123", port=HOST, pending=2, error=PORT_IN_USE
        )
    ],
    "supprimer": [swarm(), out()],
    "quitter": [out()],
}

_other = replace(
    swarm(),
    engines=(*swarm().engines[:2], EngineState("node3", True, "28", "active", "elsewhere", True)),
)
_down = replace(swarm(), nodes=(*swarm().nodes[:2], replace(swarm().nodes[2], state="down")))
_lost = replace(swarm(), swarm="no-quorum", asked=None, nodes=(), services=(), tasks=())
_dead = ClusterState(
    NOW, "unreachable", None, tuple(EngineState(n, False, swarm="", error="x") for n in NAMES)
)

WRONG = {
    "initialiser": [out(), _lost, _dead],
    "rejoindre": [out(), swarm(1), swarm(2), _other, _down, _dead],
    "creer-service": [
        out(),
        swarm(),
        with_service(swarm(), on="123"),
        with_service(swarm(), "hello"),
        with_service(swarm(), replicas=3, on="123"),
        with_service(swarm(), port=Port(80, 8080)),
        with_service(swarm(), port=Port(9999, 9999)),
        with_service(swarm(), port=Port(80, 9999, mode="host")),
        with_service(swarm(), image="nginx:latest"),
    ],
    "changer-echelle": [
        out(),
        swarm(),
        with_service(swarm()),
        with_service(swarm(), replicas=8, on="12312"),
    ],
    "mode-host": [
        out(),
        swarm(),
        with_service(swarm(), "whoami-host", replicas=2, on="13", port=Port(80, 9998)),
        with_service(swarm(), "whoami-host", replicas=2, on="1", port=HOST, pending=1),
    ],
    "mode-host-5": [
        out(),
        swarm(),
        with_service(swarm(), "whoami-host", replicas=2, on="13", port=HOST),
        with_service(
            swarm(), "whoami-host", replicas=5, on="123", port=HOST, pending=2, error="no image"
        ),
    ],
    "supprimer": [with_service(swarm()), _lost, _dead],
    "quitter": [swarm(1), swarm(3), _lost, _dead],
}


TestChecks = checks(SWARM_EXERCISES, RIGHT, WRONG)


@pytest.mark.parametrize("name", EXERCISES)
def test_no_check_raises_on_an_empty_state(name: str) -> None:
    verdict = judge(name, ClusterState(NOW, "unreachable", None))
    assert not verdict.ok
    assert verdict.rows


def test_an_unknown_exercise_fails_and_offers_the_nearest() -> None:
    verdict = judge("creer-servise", swarm())
    assert not verdict.ok
    assert 'verifier("creer-service")' in verdict.rows[0].hint


def test_a_service_under_another_name_is_pointed_at() -> None:
    row = judge("creer-service", with_service(swarm(), "hello")).rows[0]
    assert (row.found, row.ok) == ("hello", False)
    assert "docker service rm hello" in row.hint


def test_spread_counts_nodes_without_tasks() -> None:
    assert spread(with_service(swarm()), "whoami") == "2, 2 et 1"
    assert spread(with_service(swarm(), on="11"), "whoami") == "2, 0 et 0"
    assert spread(swarm(), "whoami") == "0, 0 et 0"
    assert spread(out(), "whoami") == "0"


def test_moving_is_for_tasks_that_start_or_stop() -> None:
    state = with_service(swarm())
    assert not moving(state)
    assert moving(with_service(swarm(), pending=2))  # the scheduler has not spoken yet
    assert not moving(with_service(swarm(), pending=2, error=PORT_IN_USE))  # it has
    starting = replace(state.tasks[0], state="preparing")
    stopping = replace(state.tasks[0], desired="shutdown")
    assert moving(replace(state, tasks=(starting, *state.tasks[1:])))
    assert moving(replace(state, tasks=(*state.tasks, stopping)))
    assert moving(replace(state, tasks=()))  # the services are there, their tasks not yet


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (out(), "vous partez de zéro"),
        (with_service(swarm()), "services : whoami"),
        (_lost, "aucun manager ne répond"),
        (_dead, "0 moteurs"),
    ],
)
def test_the_start_says_where_one_is(state: ClusterState, said: str) -> None:
    assert said in repr(Start(state))
    assert "traefik/whoami" in repr(Start(state, ["traefik/whoami"]))


def test_the_start_names_the_nodes_that_are_off() -> None:
    off = replace(swarm(), engines=(*swarm().engines[:2], EngineState("node3", False, swarm="")))
    assert "« labkit node start node3 »" in repr(Start(off))
    assert "labkit node start" not in repr(Start(swarm())) + repr(Start(_dead))


# -- verdicts and predictions ---------------------------------------------------------------


def test_a_verdict_shows_hints_only_where_they_help() -> None:
    rows = (Row("A", "1", "1", True, "never shown"), Row("B", "<2>", "3", False, "try"))
    verdict = Verdict("T", rows)
    for text in (repr(verdict), verdict._repr_html_()):
        assert "try" in text
        assert "never shown" not in text
        assert "1 point à revoir" in text
    assert "&lt;2&gt;" in verdict._repr_html_()
    assert not Verdict("empty").ok


@pytest.mark.parametrize(
    ("predicted", "right", "comment"),
    [("a", True, "Bien vu"), ("b", False, "Surprise"), (None, False, "rien prédit")],
)
def test_a_confrontation(predicted: str | None, right: bool, comment: str) -> None:
    confrontation = Confrontation("Q ?", predicted, "a")
    assert confrontation.right is right
    assert comment in repr(confrontation)
    assert comment in confrontation._repr_html_()
    assert "Votre prédiction" in repr(confrontation)
    assert "<td style='text-align:left'>Q\u00a0?</td>" in confrontation._repr_html_()


def test_the_corrected_edition_blames_nobody_for_no_prediction() -> None:
    confrontation = Confrontation("Q ?", None, "a", told=True)
    for said in (repr(confrontation), confrontation._repr_html_()):
        assert "Mesure" in said and "prédi" not in said


def test_a_prediction_is_a_widget_with_a_static_fallback() -> None:
    prediction = Prediction("Q ?", ["a", "b"])
    assert prediction.answer is None
    data, _ = prediction._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<li>b</li>" in data["text/html"]
    prediction.choose("b")
    assert prediction.answer == "b"
    with pytest.raises(ValueError, match="a, b"):
        prediction.choose("c")


# -- commands -----------------------------------------------------------------------------


def test_progress_is_said_once() -> None:
    lines = [
        "overall progress: 0 out of 5 tasks\n",
        "1/5:  \n",
        "overall progress: 0 out of 5 tasks\n",
        "overall progress: 5 out of 5 tasks\n",
        "verify: Waiting 5 seconds to verify that tasks are stable...\n",
        "verify: Service abc converged\n",
    ]
    assert list(tidy(lines)) == [lines[0], lines[3], lines[5]]


def test_a_solution_says_each_command_before_what_it_answers() -> None:
    said: list[str] = []
    cell = '# why\nx="it\'s  two"\n\necho "$x" \\\n  here\n'
    assert run(interleaved(cell), said.append) == 0
    assert said == ['$ x="it\'s  two"\n', '$ echo "$x" here\n', "it's  two here\n"]


def test_run_streams_lines_and_returns_the_exit_code() -> None:
    said: list[str] = []
    assert run(f"echo {TOKEN}; echo error >&2; exit 3", said.append) == 3
    assert said == ["SWMTKN-1-•••\n", "error\n"]


def test_run_ends_what_takes_too_long() -> None:
    said: list[str] = []
    assert run("echo before; sleep 30; echo after", said.append, timeout=3) == TIMED_OUT
    assert said == ["before\n"]


# -- preflight ------------------------------------------------------------------------------


def test_a_command_ends_with_a_kernel_that_is_killed() -> None:
    stubborn = "trap '' TERM; sleep 77.5 & echo $$ $!; while :; do sleep 0.1; done"
    code = (
        f"from labkit.exercises.shell import run; run({stubborn!r}, lambda t: print(t, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as kernel:
        assert kernel.stdout is not None
        started = [psutil.Process(int(pid)) for pid in kernel.stdout.readline().split()]
        assert len(started) == 2
        kernel.kill()
    assert psutil.wait_procs(started, timeout=20)[1] == []


def test_what_a_command_leaves_in_the_background_stays() -> None:
    said: list[str] = []
    assert run("sleep 77.5 >/dev/null 2>&1 & echo $!", said.append) == 0
    left = psutil.Process(int(said[0]))
    with pytest.raises(psutil.TimeoutExpired):
        left.wait(0.5)
    left.kill()
    assert run('read -r line; echo "<$line>"', said.append) == 0
    assert said[-1] == "<>\n", "standard input is empty"


def test_preflight_accepts_a_good_machine_and_says_what_is_a_stand_in() -> None:
    images = [ImageStatus("traefik/whoami:latest", "stand-in")]
    rows = list(preflight_rows(out(), images, cli=True, memory=2e9, disk=2e9))
    assert all(row.ok for row in rows)
    assert any("image de remplacement" in row.found for row in rows)


@pytest.mark.parametrize(
    "change",
    [
        {"cli": False},
        {"memory": 1e8},
        {"disk": 1e6},
        {"images": []},
        {"state": _dead},
    ],
)
def test_preflight_refuses(change: dict[str, object]) -> None:
    facts: dict[str, object] = {
        "state": out(),
        "images": [ImageStatus("traefik/whoami", "hub")],
        "cli": True,
        "memory": 2e9,
        "disk": 2e9,
    } | change
    state, images = facts.pop("state"), facts.pop("images")
    rows = list(preflight_rows(state, images, **facts))  # type: ignore[arg-type]
    assert not all(row.ok for row in rows)
    assert all(row.hint for row in rows if not row.ok)


@pytest.mark.parametrize(
    "typed, said",
    [
        ("echo '{{.Name}} {{json .Spec}}' {node} $node", "{{.Name}} {{json .Spec}} node2 node2\n"),
        ("echo '{{.Name}}' $NOT_OF_PYTHON", "{{.Name}}\n"),
        ("echo {node}", "node2\n"),
        ("echo {nodes['a']}", "node3\n"),
    ],
)
def test_what_follows_an_exclamation_mark_keeps_the_fields_of_docker(
    typed: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config, user_ns={"node": "node2", "nodes": {"a": "node3"}})
    _system(shell, typed)
    assert capsys.readouterr().out == said
    assert shell.user_ns["_exit_code"] == 0


def test_a_fault_asks_a_question_before_it_tells_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leading, "_asked", set())
    state = with_service(swarm(), "hello")
    verdict = judge("creer-service", state)
    hints = [row.hint for row in verdict.rows if not row.ok]
    first, second = (
        [row.hint for row in ask_first("creer-service", verdict, state).rows if not row.ok]
        for _ in range(2)
    )
    assert "docker service rm hello" in hints[0] and second == hints
    assert first[0].startswith("Qu’est-ce qui en décide, dans ce que vous avez tapé ?")
    assert first[1:4] == ["", "", ""], "one question at a time"
    assert first[4] == hints[4] and hints[4].startswith("Lisez"), "which leads already"
    more = replace(verdict, rows=(Row.fault("Replicas", "5", "3", "« docker service scale »"),))
    asked = ask_first("creer-service", more, state).rows[0].hint
    assert asked.startswith("Trop, ou trop peu"), "another fault has its own question"


def test_nobody_is_asked_about_a_cluster_that_does_not_answer() -> None:
    row = Row.fault("Swarm", "actif", "sans quorum", "« labkit node start node2 »")
    verdict = Verdict.of("Titre", [row])
    for state in (None, ClusterState(NOW, "no-quorum", None)):
        assert ask_first("essai", verdict, state) is verdict
    waiting = Verdict.of("Titre", [Row.fault("Tasks", "5", "3", "Attendez, puis revérifiez.")])
    assert ask_first("essai", waiting, swarm()) == waiting, "which leads, and is no answer"


def advice(name: str, state: ClusterState, what: str) -> str:
    """What a check says to try about one of its rows, which has to be red."""
    row = next(row for row in judge(name, state).rows if row.what == what)
    assert not row.ok
    return row.hint


def test_the_advice_mends_a_service_that_is_there() -> None:
    state = with_service(swarm(), image="traefik/whoiam:latest")
    assert "docker service update --image traefik/whoami whoami" in advice(
        "creer-service", state, "Image"
    )
    port = "Port publié"
    unpublished = replace(state.services[0], ports=())
    added = "docker service update --publish-add published=9999,target=80 whoami"
    assert added in advice("creer-service", replace(state, services=(unpublished,)), port)
    state = with_service(swarm(), port=Port(9999, 80))
    said = advice("creer-service", state, port)
    assert "docker service rm whoami" in said
    assert "-p 9999:80" in said
    state = with_service(swarm(), "whoami-host", replicas=2, on="12", port=Port(80, 9998))
    said = advice("mode-host", state, port)
    assert "docker service rm whoami-host" in said
    assert "--publish published=9998,target=80,mode=host" in said
    assert "--publish published=9998,target=80,mode=host" in advice("mode-host", swarm(), port)


def test_a_check_waits_once_more_where_tasks_still_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = with_service(swarm())
    first, *others = done.tasks
    on_its_way = replace(first, state="starting")
    few = replace(done, tasks=(on_its_way, *(replace(t, state="starting") for t in others)))
    more = replace(done, tasks=(on_its_way, *others))

    def settled(states: list[ClusterState]) -> tuple[ClusterState, str]:
        said: list[str] = []
        seen = iter(states)
        monkeypatch.setattr(notebook, "capture", lambda: next(seen))
        state = notebook._settled("creer-service", 1.5, said.append, acted=True)
        return state, "".join(said)

    monkeypatch.setattr(notebook, "_LOOK", 0.5)
    monkeypatch.setattr(notebook, "PATIENCE", 0.0)
    state, said = settled([few, few, few, more, more, done])
    assert state is done and said.count("les tasks changent encore") == 1
    # nothing moved for long: time is up
    state, said = settled([few] * 6)
    assert state is few and "changent encore" not in said
    # and never for more than twice as long
    state, said = settled([few, more] * 50)
    assert state is not done and said.count("changent encore") == 1
