"""Nodes that stop, are killed, cut off, added and removed, on a real swarm.

Each fault must be seen by the swarm, and nothing else on the cluster may notice: the containers
of the other nodes are the same before and after.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from actions import create
from swarms import make_swarm

import labkit
from labkit import elections, nodes
from labkit.engine.clients import talk
from labkit.engine.embedded.faults import in_guest
from labkit.engine.endpoint import Fleet
from labkit.errors import EngineUnreachable, QuorumLost, SettingError
from labkit.exercises.shell import interleaved, run
from labkit.nodes import Promote
from labkit.state import ClusterState, capture

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

PORT = 9999


@pytest.fixture(scope="module")
def cluster() -> Iterator[Fleet]:
    """A cluster of this module's own: three managers and whoami on each."""
    labkit.down()
    before = os.environ.get("LABKIT_CLUSTER")
    os.environ["LABKIT_CLUSTER"] = "noeuds"
    fleet = labkit.up(quiet=True)
    make_swarm(fleet)
    for name in ("node2", "node3"):
        elections.wait(fleet=fleet)  # a manager more may cost an election on a busy machine
        Promote(name).apply(fleet)
    create("whoami", "--mode", "global", "--publish", f"{PORT}:80", fleet=fleet)
    yield fleet
    labkit.down()
    del os.environ["LABKIT_CLUSTER"]
    if before:
        os.environ["LABKIT_CLUSTER"] = before
    labkit.up(quiet=True)


@pytest.fixture
def whole(cluster: Fleet) -> Fleet:
    """The cluster with nothing left of an earlier fault."""
    for machine in nodes.power(cluster):
        if machine.cut:
            nodes.heal(machine.name, cluster, quiet=True)
        nodes.start(machine.name, cluster, quiet=True)
    until(cluster, is_whole)
    return cluster


def is_whole(state: ClusterState) -> bool:
    return (
        state.active
        and all(n.state == "ready" and n.reachability == "reachable" for n in state.nodes)
        and len(state.running("whoami")) == len(state.nodes)
        and not any(t.stopping for t in state.tasks)
    )


def until(fleet: Fleet, reached: Callable[[ClusterState], bool]) -> ClusterState:
    limit = time.monotonic() + 150
    while not reached(state := capture(fleet, timeout=5)):
        assert time.monotonic() < limit, state
        time.sleep(0.5)
    return state


def node_is(name: str, state: str) -> Callable[[ClusterState], bool]:
    return lambda seen: seen.active and seen.node(name).state == state


def containers(fleet: Fleet, *names: str) -> dict[str, list[str]]:
    """Return the ids of what runs on nodes, and when each began."""
    found = {}
    for name in names:
        with talk(fleet[name]) as api:
            found[name] = sorted(
                c["Id"] + api.inspect_container(c["Id"])["State"]["StartedAt"]
                for c in api.containers()
            )
        assert found[name]
    return found


def mesh(fleet: Fleet, name: str) -> bool:
    """Tell whether a node's published port answers a new connection."""
    address, port = fleet.published(name, PORT)
    asked = subprocess.run(
        ["curl", "--silent", "--max-time", "3", "--noproxy", "*", f"http://{address}:{port}/"],
        capture_output=True, text=True,
    )  # fmt: skip
    return "Hostname" in asked.stdout


def until_mesh(fleet: Fleet, name: str) -> None:
    limit = time.monotonic() + 60
    while not mesh(fleet, name):
        assert time.monotonic() < limit, f"{name} does not answer"
        time.sleep(0.5)


def left_of(number: int) -> str:
    """Return what the machine still holds of a node that has no power."""
    return in_guest(
        f"ps -o args | grep -E 'node{number}[ /]' | grep -v grep\n"
        f"grep -E '/run/node{number}/|/run/netns/node{number} |/docker/node{number}[ /]'"
        " /proc/mounts\n"
        f"find /sys/fs/cgroup/node{number} -mindepth 1 -type d\n"
        f"ls -d /run/node{number} /run/node{number}.sock /sys/class/net/veth{number} "
        f"/run/netns/node{number} 2>/dev/null; true"
    ).strip()


def test_kill_is_a_pulled_plug_and_the_election_is_in_the_log(whole: Fleet) -> None:
    state = capture(whole)
    assert state.leader is not None
    leader = state.leader.name
    others = [e.name for e in whole if e.name != leader]
    before = containers(whole, *others)
    identity = state.leader.id

    nodes.kill(leader, whole, quiet=True)
    assert left_of(int(leader[-1])) == ""
    assert not mesh(whole, leader)
    assert nodes.ls(whole).loc[leader, "moteur"] == "sans courant"
    seen = set()

    def led_again(state: ClusterState) -> bool:
        seen.add(state.swarm)
        return state.active and state.leader is not None and state.leader.name != leader

    state = until(whole, led_again)
    assert seen <= {"active", "no-leader"}  # two managers of three live: no lost quorum
    assert state.leader is not None
    elected = state.leader.name
    log = nodes.logs(elected, election=True, since="5m", fleet=whole)
    became = [line for line in log if re.search("became leader", line.text)]
    assert became and f"({elected})" in became[-1].text, str(log)
    assert re.search(rf"lost leader \w+ \({leader}\)", str(log)), str(log)
    assert len(log) < len(nodes.logs(elected, since="5m", fleet=whole))
    until(whole, node_is(leader, "down"))
    for name in others:
        until_mesh(whole, name)

    nodes.start(leader, whole, quiet=True)
    state = until(whole, is_whole)
    assert state.node(leader).id == identity and len(state.nodes) == len(whole)
    until_mesh(whole, leader)
    assert containers(whole, *others) == before


def asleep(name: str, seconds: float) -> None:
    """Keep an engine from doing anything for a while: it has no voice in an election."""
    engine = f"$(cat /run/{name}/docker.pid)"
    in_guest(f"kill -STOP {engine}; (sleep {seconds}; kill -CONT {engine}) >/dev/null 2>&1 &")


def test_what_follows_a_fault_waits_for_a_leader(whole: Fleet) -> None:
    """The survivors are kept from voting for some time: an election as on a busy machine."""
    leader = elections.wait(fleet=whole).name
    nodes.kill(leader, whole, quiet=True)
    for name in (e.name for e in whole if e.name != leader):
        asleep(name, 25)
    said: list[str] = []
    found = elections.wait(said.append, fleet=whole)
    assert found.name != leader and found.seconds > 20
    assert any("un leader" in line for line in said)

    nodes.start(leader, whole, quiet=True)
    asleep(found.name, 15)  # it cannot tell the old leader that it leads: that one stands, too
    again = elections.wait(said.append, fleet=whole)
    state = capture(whole)
    assert state.leader is not None and again.name == state.leader.name
    assert not any(elections.unaware(engine, state) for engine in state.engines)
    elections.wait(fleet=whole)
    assert capture(whole).active


def test_the_command_waits_too_and_a_step_goes_on_after_what_is_done_already(
    whole: Fleet,
) -> None:
    def step(*commands: str) -> tuple[int, str]:
        said: list[str] = []
        return run(interleaved("\n".join(commands)), said.append), "".join(said)

    leader = elections.wait(fleet=whole).name
    worker, docker = (
        ("node3", "docker --context node1")
        if leader != "node3"
        else ("node2", "docker --context node1")
    )
    code, said = step(
        f"{docker} node demote {worker}",
        "labkit wait",
        f"docker --context {worker} swarm leave",
        f"docker --context {worker} swarm leave",  # it has
        f"{docker} node rm --force {worker}",
        "echo end",
    )
    assert code == 0 and said.endswith("end\n"), said
    token = f'"$({docker} swarm join-token --quiet manager)"'
    join = f"docker --context {worker} swarm join --token {token} 192.168.77.11:2377"
    code, said = step(join, join, "labkit wait", "docker --context node1 node promote nobody", "x")
    assert code != 0 and said.count("$ ") == 4, said
    until(whole, is_whole)


def test_stop_and_start(whole: Fleet) -> None:
    others = ["node1", "node3"]
    before = containers(whole, *others)
    nodes.stop("node2", whole, quiet=True)
    assert [m.engine for m in nodes.power(whole)] == ["up", "stopped", "up"]
    assert "shim" not in left_of(2)  # its containers ended with it
    with pytest.raises(EngineUnreachable):
        capture(Fleet("embedded", (whole["node2"],))).require()
    assert "Processing signal 'terminated'" in str(nodes.logs("node2", since="5m", fleet=whole))
    until(whole, lambda s: s.active and s.node("node2").reachability == "unreachable")
    nodes.stop("node2", whole, quiet=True)  # again: nothing
    nodes.start("node2", whole, quiet=True)
    until(whole, is_whole)
    assert containers(whole, *others) == before


def test_cut_and_heal(whole: Fleet) -> None:
    others = ["node1", "node2"]
    before, cut_off = containers(whole, *others), containers(whole, "node3")
    nodes.cut("node3", whole, quiet=True)
    assert nodes.ls(whole).loc["node3", "câble"] == "coupé"
    assert not mesh(whole, "node3") and mesh(whole, "node1")
    until(whole, node_is("node3", "down"))
    assert containers(whole, "node3") == cut_off  # it goes on alone, and labkit reaches it
    nodes.heal("node3", whole, quiet=True)
    until(whole, is_whole)
    until_mesh(whole, "node3")
    assert containers(whole, *others) == before


def test_nodes_come_and_go(whole: Fleet) -> None:
    before = containers(whole, *(e.name for e in whole))
    endpoint = nodes.add(quiet=True)
    assert endpoint.name == "node4"
    # a new cable must not change the address to which QEMU sends what is for the engines
    assert in_guest("cat /sys/class/net/br0/address").strip() == "02:00:00:00:00:09"
    fleet = labkit.up(quiet=True)  # joins it again, whatever its number of nodes now
    assert [e.name for e in fleet] == ["node1", "node2", "node3", "node4"]
    with talk(fleet["node1"]) as api:
        token = api.inspect_swarm()["JoinTokens"]["Worker"]
    joined = subprocess.run(
        ["docker", "--context", "node4", "swarm", "join", "--token", token, "--advertise-addr",
         str(endpoint.swarm_address), f"{fleet['node1'].swarm_address}:2377"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "joined a swarm as a worker" in joined.stdout, joined.stderr
    until(fleet, lambda s: s.active and len(s.nodes) == 4 and len(s.running("whoami")) == 4)
    until_mesh(fleet, "node4")

    Promote("node4").apply(fleet)
    subprocess.run(["docker", "context", "use", "node4"], check=True, capture_output=True)
    nodes.rm("node4", quiet=True)
    assert left_of(4) == "" and in_guest("ls /var/lib/docker | grep node4; true") == ""
    contexts = subprocess.run(
        ["docker", "context", "ls", "--format", "{{.Name}} {{.Current}}"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    assert "node1 true" in contexts and not any(c.startswith("node4") for c in contexts)
    assert [e.name for e in labkit.connect()] == ["node1", "node2", "node3"]
    state = until(whole, is_whole)
    assert [n.name for n in state.nodes] == ["node1", "node2", "node3"]
    assert containers(whole, *(e.name for e in whole)) == before


def test_the_command(whole: Fleet) -> None:
    def labkit_node(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "labkit", "node", *words],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    listed = labkit_node("ls").stdout
    assert re.search(r"node1 +en marche +branché +ready +active +(leader|reachable)", listed)
    assert "leader" in listed
    said = labkit_node("logs", "node1", "--election").stdout
    assert "became" in said and "SWMTKN-" not in said
    wrong = labkit_node("kill", "node9")
    assert wrong.returncode == 1 and "node1, node2, node3" in wrong.stderr


def test_what_is_refused(whole: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="node1"):
        nodes.rm("node1", quiet=True)
    nodes.kill("node3", whole, quiet=True)
    until(whole, lambda s: s.active and s.node("node3").reachability == "unreachable")
    with pytest.raises(QuorumLost, match="quorum"):
        nodes.rm("node2", quiet=True)
    assert len(labkit.connect()) == 3
    monkeypatch.setattr("labkit.engine.embedded.cluster.NODE_MEMORY", 100_000)
    with pytest.raises(SettingError, match="mémoire") as caught:
        nodes.add(quiet=True)
    assert "LABKIT_MEMORY" in caught.value.remedy
    monkeypatch.setenv("LABKIT_ENGINE", "tcp://127.0.0.1:9")
    for act, instead in ((nodes.stop, "systemctl stop docker"), (nodes.logs, "journalctl")):
        with pytest.raises(SettingError, match="les vôtres") as caught:
            act("node1")
        assert instead in caught.value.remedy
