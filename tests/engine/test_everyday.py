"""Everyday commands that end in something odd, on a real swarm: what is told, and the way out."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from swarms import leave_all

import labkit
from labkit.elections import awaited, overdue
from labkit.engine.embedded.faults import in_guest
from labkit.engine.endpoint import Fleet
from labkit.exercises.settling import unnoticed
from labkit.services import Scale
from labkit.state import ClusterState, Trouble, capture
from labkit.views.scaler import Scaler

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
IMAGE = "traefik/whoami"
PYTHON = "python:3.13-slim"


def docker(*words: str, fails: bool = False, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=300, input=stdin
    )
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def until(
    fleet: Fleet, reached: Callable[[ClusterState], object], seconds: float = 180
) -> ClusterState:
    limit = time.monotonic() + seconds
    while not reached(state := capture(fleet)):
        assert time.monotonic() < limit, repr(state) + repr(state.troubles)
        time.sleep(0.5)
    return state


def trouble(fleet: Fleet, word: str) -> Trouble:
    """Return what is amiss that names a word, once it is; with plain spaces."""
    state = until(fleet, lambda s: any(word in t.what for t in s.troubles))
    (found,) = (t for t in state.troubles if word in t.what)
    return found


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def status_of(name: str, state: ClusterState) -> str:
    scaler = Scaler(name)
    try:
        scaler.show(state)
        return plain(scaler._status.value)
    finally:
        scaler.close()


@pytest.fixture
def swarm(clean_swarm: Fleet) -> Iterator[Fleet]:
    """A swarm that a test may spoil."""
    yield clean_swarm
    if capture(clean_swarm).swarm != "active":
        labkit.reset(quiet=True)
    else:
        leave_all(clean_swarm)


def test_a_job_runs_completes_and_is_scaled(swarm: Fleet) -> None:
    docker("service", "create", "--quiet", "--detach", "--name", "tri", "--mode", "replicated-job",
           "--replicas", "4", "--max-concurrent", "2", PYTHON,
           "python3", "-c", "import time; time.sleep(6)")  # fmt: skip
    state = until(swarm, lambda s: s.ended("tri") and s.running("tri"))
    done, running = len(state.ended("tri")), len(state.running("tri"))
    assert state.tally("tri").startswith(f"{done}/4 terminée")
    assert f"{running} en marche" in state.tally("tri")
    state = until(swarm, lambda s: len(s.ended("tri")) == 4)
    assert state.tally("tri") == "4/4 terminées" and not state.troubles
    Scale("tri", 5).apply(swarm)
    state = until(swarm, lambda s: len(s.ended("tri")) == 5)
    assert state.tally("tri") == "5/5 terminées" and state.service("tri").iteration == 1


def test_tasks_that_are_not_started_again(swarm: Fleet) -> None:
    for name, status in (("une-fois", 0), ("rate", 3)):
        docker("service", "create", "--quiet", "--detach", "--name", name,
               "--restart-condition", "none", PYTHON, "sh", "-c", f"exit {status}")  # fmt: skip
    found = trouble(swarm, "rate")
    assert "--restart-condition none" in found.what and "non-zero exit (3)" in found.what
    state = until(swarm, lambda s: s.ended("une-fois"))
    assert state.tally("une-fois") == "1/1 terminée" and state.tally("rate") == "0/1"
    # the way out, once what failed is mended
    assert "docker service update --force rate" in plain(found.remedy)
    docker("service", "update", "--quiet", "--detach", "--force", "--args", "sleep 600", "rate")
    until(swarm, lambda s: s.running("rate") and not s.troubles)


def test_a_locked_manager_and_its_key(swarm: Fleet) -> None:
    docker("swarm", "update", "--autolock")
    key = docker("swarm", "unlock-key", "--quiet").strip()
    subprocess.run(["labkit", "node", "stop", "node1"], check=True, timeout=200)
    subprocess.run(["labkit", "node", "start", "node1"], check=True, timeout=200)
    state = until(swarm, lambda s: s.swarm == "locked")
    (found,) = state.troubles
    assert "verrouillé" in found.what
    assert "docker --context node1 swarm unlock" in plain(found.remedy)
    docker("--context", "node1", "swarm", "unlock", stdin=key)
    until(swarm, lambda s: s.active and all(n.state == "ready" for n in s.nodes))


def test_a_node_that_left_and_came_back(swarm: Fleet) -> None:
    token = docker("swarm", "join-token", "--quiet", "worker").strip()
    docker("--context", "node3", "swarm", "leave")
    until(swarm, lambda s: s.engine("node3").swarm == "inactive")
    docker("--context", "node3", "swarm", "join", "--token", token, "192.168.77.11:2377")
    state = until(swarm, lambda s: s.stale and s.node("node3").state == "ready")
    (old,) = state.stale
    (found,) = (t for t in state.troubles if "node3" in t.what)
    assert f"docker node rm {old.id[:12]}" in plain(found.remedy)
    assert "ambiguous" in docker("node", "inspect", "node3", fails=True)
    docker("node", "rm", old.id[:12])
    until(swarm, lambda s: not s.stale and not s.troubles)


def test_an_engine_too_busy_to_answer_is_awaited(swarm: Fleet) -> None:
    engine = "$(cat /run/node3/docker.pid)"
    in_guest(f"kill -STOP {engine}")
    try:
        state = capture(swarm, timeout=3)
        assert overdue(state.engine("node3")) and not overdue(state.engine("node2"))
        assert awaited(state) == "que le moteur de node3 réponde" and unnoticed(state)
    finally:
        in_guest(f"kill -CONT {engine}")
    until(swarm, lambda s: not awaited(s) and not unnoticed(s))
    in_guest("node kill 3")  # off, not busy: nobody waits for it
    state = until(swarm, lambda s: s.node("node3").state == "down")
    assert not overdue(state.engine("node3")) and not unnoticed(state)
    in_guest("node start 3", 60)
    until(swarm, lambda s: s.node("node3").state == "ready")


def test_a_node_that_was_struck_off(swarm: Fleet) -> None:
    docker("node", "rm", "--force", "node2")
    found = trouble(swarm, "node2")
    way = "docker --context node2 swarm leave --force"
    assert way in plain(found.remedy)
    docker(*way.split()[1:])
    until(swarm, lambda s: s.engine("node2").swarm == "inactive")


def test_a_service_that_takes_a_port_of_the_swarm(swarm: Fleet) -> None:
    """7946 is what the nodes tell each other of the networks at: they go on, no new one joins."""
    docker("service", "create", "--quiet", "--detach", "--name", "bloc",
           "--publish", "7946:80", IMAGE)  # fmt: skip
    found = trouble(swarm, "7946/tcp")
    assert "« bloc »" in plain(found.what)
    assert "docker service update --publish-rm 80/tcp bloc" in plain(found.remedy)
    docker("service", "update", "--quiet", "--detach", "--publish-rm", "80/tcp", "bloc")
    until(swarm, lambda s: not s.troubles)


def test_an_update_start_first_where_the_port_is_the_hosts(swarm: Fleet) -> None:
    docker("service", "create", "--quiet", "--detach", "--name", "hote", "--replicas", "3",
           "--publish", "mode=host,published=8085,target=80", "--update-order", "start-first",
           IMAGE)  # fmt: skip
    until(swarm, lambda s: len(s.running("hote")) == 3)
    docker("service", "update", "--quiet", "--detach", "--env-add", "A=1", "hote")
    found = trouble(swarm, "start-first")
    state = capture(swarm)
    assert state.tally("hote") == "3/3, 1 en attente"
    shown = status_of("hote", state)
    assert "✔" not in shown and "1 en attente" in shown
    way = "docker service update --update-order stop-first --force hote"
    assert way in plain(found.remedy) and way in shown
    docker(*way.split()[1:], "--detach", "--quiet")
    new = docker(
        "service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Env}}", "hote"
    )
    assert "A=1" in new
    until(swarm, lambda s: not s.troubles and s.tally("hote") == "3/3")
