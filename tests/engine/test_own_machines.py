"""Machines that labkit did not make: one over TLS, one over a unix socket, one over ssh.

Their engines are this machine's own docker.io, in namespaces (``machines.py``).
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from actions import create, remove
from machines import (
    PYTHON,
    TLS_PORT,
    Machines,
    eventually,
    give_python,
    missing,
    three_machines,
)

import labkit
from labkit import traffic
from labkit.engine.embedded.images import WHOAMI
from labkit.errors import EngineUnreachable, SettingError
from labkit.exercises import adresses, commencer, preflight, qui_repond
from labkit.exercises.notebook import FRESH
from labkit.nodes import Activate, Demote, Drain, Promote
from labkit.services import Scale
from labkit.state import ClusterState, capture
from labkit.verdict import Row, Verdict
from labkit.views.live import Look

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.timeout(180),
]
ALL_OPEN = "ouvert entre toutes les machines"


@pytest.fixture(scope="module")
def made() -> Iterator[Machines]:
    with three_machines() as machines:
        yield machines


@pytest.fixture
def machines(made: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machines]:
    """The three machines, in no swarm, named by the environment of a user who has nothing else."""
    for name in [n for n in os.environ if n.startswith(("DOCKER_", "LABKIT_"))]:
        monkeypatch.delenv(name)
    for name in ("DOCKER_CONFIG", "DOCKER_CLI_HINTS"):  # what labkit.up() sets is undone, too
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{made.programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(made.certificates))
    monkeypatch.setenv("LABKIT_ENGINE", ",".join(made.urls))
    yield made
    made.leave()


def docker(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"docker {args}: {done.stderr}"
    return done


def labkit_command(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labkit", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def row(verdict: Verdict, what: str) -> Row:
    (found,) = [r for r in verdict.rows if r.what == what]
    return found


def make_swarm(machines: Machines) -> None:
    """Do what a group types: init on one, join on the others."""
    docker("--context", "node1", "swarm", "init")
    token = docker("--context", "node1", "swarm", "join-token", "-q", "worker").stdout.strip()
    for node in ("node2", "node3"):
        docker("--context", node, "swarm", "join", "--token", token, f"{machines[0].address}:2377")

    def whole() -> bool:
        return sum(n.state == "ready" for n in capture().nodes) == 3

    eventually(whole, "three nodes are not ready")


# -- reaching them --------------------------------------------------------------------------


def test_up_connects_and_gives_a_context_a_node(machines: Machines, tmp_path: Path) -> None:
    fleet = labkit.up()
    assert fleet == labkit.connect()
    assert [e.name for e in fleet] == ["node1", "node2", "node3"]
    assert [e.address for e in fleet] == [machines[0].address, "127.0.0.1", machines[2].address]
    assert [e.swarm_address for e in fleet] == [None] * 3
    status = labkit.status()
    assert status.engine == "host"
    assert [n.swarm for n in status.nodes] == ["inactive"] * 3
    assert len({n.engine_version for n in status.nodes} - {""}) == 1
    for endpoint, machine in zip(fleet, machines, strict=True):
        said = docker("--context", endpoint.name, "info", "-f", "{{.Name}}")
        assert said.stdout.strip() == machine.name
    assert Path(os.environ["DOCKER_CONFIG"]).is_relative_to(tmp_path / "state")
    assert not (tmp_path / ".docker").exists()


def test_contexts_stay_and_follow_the_certificates(machines: Machines) -> None:
    labkit.up()
    docker("context", "use", "node3")
    labkit.up()
    assert docker("context", "show").stdout.strip() == "node3"
    certificate = machines.certificates / "cert.pem"
    os.utime(certificate, (1, 1))
    labkit.up()
    assert docker("context", "show").stdout.strip() == "node1"


def test_the_command(machines: Machines) -> None:
    assert "node3" in labkit_command("up").stdout
    said = json.loads(labkit_command("status", "--json").stdout)
    assert [n["name"] for n in said["nodes"]] == ["node1", "node2", "node3"]
    script = (
        f'eval "$({sys.executable} -m labkit env)"; docker --context node2 info -f "{{{{.Name}}}}"'
    )
    in_shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert in_shell.stdout.strip() == "vm2", in_shell.stderr


@pytest.mark.parametrize("of", ["environment", "context", "DOCKER_CONTEXT"])
def test_host_is_the_engine_that_docker_speaks_to(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, of: str
) -> None:
    monkeypatch.setenv("LABKIT_ENGINE", "host")
    url = f"tcp://{machines[0].address}:{TLS_PORT}"
    if of == "environment":
        monkeypatch.setenv("DOCKER_HOST", url)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    else:
        monkeypatch.delenv("DOCKER_CERT_PATH")
        tls = machines.certificates
        place = f"host={url},ca={tls}/ca.pem,cert={tls}/cert.pem,key={tls}/key.pem"
        docker("context", "create", "mine", "--docker", place)
        if of == "context":
            docker("context", "use", "mine")
        else:
            docker("context", "create", "other", "--docker", "host=unix:///nowhere")
            docker("context", "use", "other")
            monkeypatch.setenv("DOCKER_CONTEXT", "mine")
    before = {p: p.read_bytes() for p in (tmp_path / ".docker").rglob("*") if p.is_file()}
    for _ in range(2):  # the second time, the active context is labkit's own
        fleet = labkit.up()
        assert [(e.name, e.url, e.address) for e in fleet] == [("node1", url, machines[0].address)]
        assert capture().engines[0].reachable
        assert docker("info", "-f", "{{.Name}}").stdout.strip() == "vm1"
        assert docker("--context", "node1", "info", "-f", "{{.Name}}").stdout.strip() == "vm1"
    after = {p: p.read_bytes() for p in (tmp_path / ".docker").rglob("*") if p.is_file()}
    assert after == before


def test_a_silent_machine_costs_no_more_than_the_time_given(machines: Machines) -> None:
    labkit.up()
    assert all(e.reachable for e in capture().engines)
    daemon = machines[2].daemon
    daemon.send_signal(signal.SIGSTOP)
    try:
        state = capture(timeout=3)
    finally:
        daemon.send_signal(signal.SIGCONT)
    assert [e.reachable for e in state.engines] == [True, True, False]
    assert state.engine("node3").error == "pas de réponse dans le délai"
    assert all(e.reachable for e in capture().engines)


def test_no_ssh_is_left_behind(machines: Machines) -> None:
    kept = {p.pid for p in psutil.Process().children()}  # connections that labkit keeps for later
    client = labkit.connect()["node3"].client()
    mine = {p.pid for p in psutil.Process().children() if p.name() == "ssh"} - kept
    assert mine
    client.close()
    eventually(lambda: not any(psutil.pid_exists(p) for p in mine), "an ssh is left")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ssh://stranger", "ssh : Host key verification failed."),
        ("ssh://nobody-here@vm3", "ssh : nobody-here@.*Permission denied"),
        ("unix:///nowhere/docker.sock", "sa socket n’existe pas"),
        ("tcp://127.0.0.1:9", "connexion refusée ou coupée"),
        ("tcp://host.invalid:2375", "nom de machine inconnu"),
    ],
)
def test_an_engine_that_is_not_reached_says_why(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, url: str, why: str
) -> None:
    monkeypatch.setenv("LABKIT_ENGINE", f"{machines.urls[1]},{url}")
    monkeypatch.delenv("DOCKER_CERT_PATH")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker-py's, where there is no socket
        state = capture()
        gc.collect()
    assert [e.reachable for e in state.engines] == [True, False]
    assert re.match(why, state.engine("node2").error), state.engine("node2").error
    alone = replace(state, swarm="unreachable", engines=state.engines[1:])
    with pytest.raises(EngineUnreachable) as refused:
        alone.require()
    assert "HTTPConnectionPool" not in refused.value.message


# -- the course on them ---------------------------------------------------------------------


def test_the_course_runs_on_them(machines: Machines) -> None:
    commencer()
    make_swarm(machines)
    assert "services" in repr(commencer())
    state = Promote("node2").apply()
    assert [n.role for n in state.nodes] == ["manager", "manager", "worker"]
    state = create("quiet", "--replicas", "3", image=WHOAMI.name)
    assert {t.node for t in state.running("quiet")} == {"vm1", "vm2", "vm3"}
    assert len(Scale("quiet", 5).apply().running("quiet")) == 5
    state = Drain("node3").apply()
    assert not state.tasks_on("node3")
    Activate("node3").apply()
    state = create("web", "--mode", "global", "--publish",
                   "mode=host,published=8080,target=80", image=WHOAMI.name)  # fmt: skip
    assert len(state.running("web")) == 3
    assert dict(adresses(8080).urls) == {
        "node1": f"http://{machines[0].address}:8080/",
        "node2": "http://127.0.0.1:8080/",  # behind a unix socket: this machine, says labkit
        "node3": f"http://{machines[2].address}:8080/",
    }
    assert dict(qui_repond(8080).by_node)["node3"] == ""
    sample = traffic.send(8080, nodes=("node1", "node3"), requests=40)
    assert not sample.failures, sample.errors()
    assert set(sample.frame["replica_node"]) == {"vm1", "vm3"}
    seen = Look(None)()
    assert isinstance(seen, ClusterState)
    assert {s.name for s in seen.services} == {"quiet", "web"}
    for name in ("quiet", "web"):
        remove(name)
    state = Demote("node2").apply()
    assert [n.role for n in state.nodes] == ["manager", "worker", "worker"]


def test_a_swarm_of_others_is_left_alone(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    labkit.up()
    make_swarm(machines)
    before = docker("--context", "node1", "node", "ls", "-q").stdout
    for stop in (labkit.reset, labkit.down):
        with pytest.raises(SettingError) as refused:
            stop()
        assert f"nœud « vm3 » d’un Swarm dont les managers sont {machines[0].address}:2377" in str(
            refused.value
        )
        assert f"{machines[0].address}:2377 (vm1)" in refused.value.message
        assert "swarm leave --force" in refused.value.remedy
    for command in ("reset", "down"):
        done = labkit_command(command)
        assert (done.returncode, done.stdout) == (1, "")
        assert "qu’il n’a pas créés" in done.stderr
    monkeypatch.setenv(FRESH, "1")
    with pytest.raises(SettingError):
        commencer()
    assert docker("--context", "node1", "node", "ls", "-q").stdout == before
    assert [n.swarm for n in labkit.status().nodes] == ["active"] * 3


# -- preflight ------------------------------------------------------------------------------


def test_preflight_of_sound_machines(machines: Machines) -> None:
    labkit.up()
    verdict = preflight()
    assert verdict.ok, verdict
    for port in ("2377/tcp", "7946/tcp", "7946/udp", "4789/udp"):
        assert row(verdict, f"Port {port}").found == ALL_OPEN
    assert row(verdict, "Adresse de node3").found == machines[2].address
    doctor = labkit_command("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert f"Port 4789/udp : {ALL_OPEN}" in doctor.stdout
    for machine in machines:  # nothing of the probes is left
        client = machine.engine().client()
        assert client.containers.list(all=True) == []
        client.close()


def test_preflight_names_closed_ports(machines: Machines) -> None:
    labkit.up()
    with (
        machines[1].closed("4789/udp", "DROP"),
        machines[0].closed("7946/udp", "REJECT"),
        machines[2].closed("2377/tcp", "REJECT"),
        machines[1].closed("2377/tcp", "DROP"),
    ):
        verdict = preflight()
    assert row(verdict, "Port 4789/udp").found == "fermé : node1 → node2, node3 → node2"
    assert "ufw allow 4789/udp" in row(verdict, "Port 4789/udp").hint
    assert row(verdict, "Port 7946/udp").found == "fermé : node2 → node1, node3 → node1"
    closed = "fermé : node1 → node2, node1 → node3, node2 → node3, node3 → node2"
    assert row(verdict, "Port 2377/tcp").found == closed
    assert row(verdict, "Port 7946/tcp").found == ALL_OPEN


def test_preflight_chooses_among_addresses(machines: Machines) -> None:
    """Every machine has the same second address, as behind the NAT of VirtualBox."""
    labkit.up()
    for machine in machines:
        machine.ip("link", "add", "nat0", "type", "veth", "peer", "nat1")
        for name in ("nat0", "nat1"):
            machine.ip("link", "set", name, "up")
        machine.ip("address", "add", "10.0.2.15/24", "dev", "nat0")
    try:
        verdict = preflight()
        refused = docker("--context", "node1", "swarm", "init", check=False)
        docker("--context", "node1", "swarm", "init", "--advertise-addr", machines[0].address)
    finally:
        for machine in machines:
            machine.ip("link", "delete", "nat0")
    assert "could not choose an IP address" in refused.stderr
    for i, machine in enumerate(machines, 1):
        found = row(verdict, f"Adresse de node{i}")
        assert not found.ok
        assert found.found == f"10.0.2.15, {machine.address}"
        assert f"--advertise-addr {machine.address} " in found.hint
    assert row(verdict, "Port 4789/udp").found == ALL_OPEN


def test_preflight_says_what_it_could_not_check(machines: Machines) -> None:
    labkit.up()
    client = machines[1].engine().client()
    client.images.remove(PYTHON)
    client.close()
    try:
        verdict = preflight()
    finally:
        give_python(machines[1])
    address, port = row(verdict, "Adresse de node2"), row(verdict, "Port 4789/udp")
    assert address.found == "non vérifié : aucune image avec Python n’y est"
    assert port.found == (
        "non vérifié : node1 → node2, node2 → node1, node2 → node3, node3 → node2"
    )
    assert "nc -u -l -p 4789" in port.hint
    assert not verdict.ok


def test_preflight_of_a_swarm_that_is_theirs(machines: Machines) -> None:
    labkit.up()
    make_swarm(machines)
    verdict = preflight()
    assert row(verdict, "Swarm").found == "le même : node1, node2, node3"
    assert row(verdict, "Swarm").ok
    # the engines hold the ports: what listens there answers over TCP, and not over UDP
    assert row(verdict, "Port 7946/tcp").found == ALL_OPEN
    assert row(verdict, "Port 7946/udp").found.startswith("non vérifié : ")
    assert not row(verdict, "Port 7946/udp").ok


def test_preflight_says_whose_swarm_a_machine_is_in(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    labkit.up()
    make_swarm(machines)
    docker("--context", "node2", "swarm", "leave")
    docker("--context", "node2", "swarm", "init")
    two = preflight()
    assert row(two, "Swarm de node2").found == (
        f"nœud « vm2 » d’un Swarm dont les managers sont {machines[1].address}:2377 (vm2)"
    )
    assert not row(two, "Swarm de node1").ok
    assert "docker --context node2 swarm leave --force" in row(two, "Swarm de node2").hint
    monkeypatch.setenv("LABKIT_ENGINE", machines.urls[2])  # a worker alone: who leads it?
    alone = preflight()
    assert row(alone, "Swarm de node1").found == (
        f"nœud « vm3 » d’un Swarm dont les managers sont {machines[0].address}:2377"
    )
    assert "non vérifié" in row(alone, "Ports entre les machines").found
