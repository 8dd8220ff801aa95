"""Everyday commands that end in something odd are told as they are, with the way out.

The states are recorded answers of a real cluster, with the few fields that docker 26.1.5 was seen
to answer otherwise in such a moment.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import SwarmLocked
from labkit.exercises.catalogue import judge
from labkit.exercises.notebook import Start
from labkit.exercises.rows import memberships, running_row
from labkit.exercises.settling import moving
from labkit.hints import way_out
from labkit.preflight.check import preflight_rows
from labkit.services import progress_of
from labkit.state import ClusterState, from_raw
from labkit.views.cluster_picture import cluster_svg
from labkit.views.cluster_view import ClusterView
from labkit.views.palette import sign_of
from labkit.views.scaler import Scaler

RECORDED = Path(__file__).parent / "recorded"
LOCKED = {
    "NodeID": "",
    "NodeAddr": "192.168.77.11",
    "LocalNodeState": "locked",
    "ControlAvailable": False,
    "Error": "Swarm is encrypted and needs to be unlocked before it can be used. Please use "
    '"docker swarm unlock" to unlock it.',
    "RemoteManagers": None,
}
PENDING = {
    **LOCKED,
    "LocalNodeState": "pending",
    "Error": "",
    "RemoteManagers": [{"NodeID": "", "Addr": "192.168.77.11:2377"}],
}
ONCE = {"RestartPolicy": {"Condition": "none", "Delay": 5000000000, "MaxAttempts": 0}}
JOB = {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 6}}


def recorded(moment: str) -> Any:
    return json.loads((RECORDED / f"{moment}.json").read_text())


def node_of(raw: Any, name: str) -> Any:
    return next(n for n in raw["nodes"] if n["Description"]["Hostname"] == name)


def jobs(*services: tuple[str, dict[str, Any], int | None, list[tuple[int, str, str, int]]]) -> Any:
    """Return the answers for services of one task each: name, mode, iteration, and of each task
    the slot, state, wanted state and iteration. Docker leaves out slots and iterations that are 0.
    """
    raw, one = recorded("three_nodes_empty"), recorded("three_nodes_whoami_5")
    for name, mode, iteration, tasks in services:
        service = deepcopy(one["services"][0])
        service |= {"ID": name, "Endpoint": {}}
        service["Spec"] |= {"Name": name, "Mode": mode, "EndpointSpec": {}}
        if iteration is None:
            service["Spec"]["TaskTemplate"] |= ONCE
        else:
            service["JobStatus"] = {"JobIteration": {"Index": iteration} if iteration else {}}
        raw["services"].append(service)
        for number, (slot, state, desired, run) in enumerate(tasks):
            task = deepcopy(one["tasks"][0])
            task |= {"ID": f"{name}-{number}", "ServiceID": name, "DesiredState": desired}
            task |= {"Slot": slot, "NodeID": raw["nodes"][number % 3]["ID"]}
            task["Status"] = {**task["Status"], "State": state}
            if state == "failed":
                task["Status"]["Err"] = "task: non-zero exit (3)"
            if not slot:
                del task["Slot"]
            if iteration is not None:
                task["JobIteration"] = {"Index": run} if run else {}
            raw["tasks"].append(task)
    return raw


def raw_of(moment: str) -> Any:
    """Return recorded answers, changed where docker 26.1.5 answered otherwise in such a moment."""
    if moment == "locked":
        raw = recorded("three_nodes_empty")
        raw |= dict.fromkeys(("asked", "nodes", "services", "tasks", "networks"))
        raw["engines"][0]["info"]["Swarm"] = LOCKED
    elif moment == "one_locked":
        raw = recorded("three_managers")
        raw["engines"][0]["info"]["Swarm"] = LOCKED
        raw["asked"] = "node2"
        node_of(raw, "node1")["Status"]["State"] = "down"
    elif moment == "node3_twice":
        raw = recorded("three_nodes_empty")
        old = deepcopy(node_of(raw, "node3"))
        old["ID"] = "ndctkk9yqpj16w6zsk1n8iggp"
        old["Status"]["State"] = "down"
        raw["nodes"].append(old)
    elif moment == "node3_left":
        raw = recorded("three_nodes_empty")
        node_of(raw, "node3")["Status"]["State"] = "down"
        raw["engines"][2]["info"]["Swarm"] = {"NodeID": "", "LocalNodeState": "inactive"}
    elif moment == "node2_struck_off":
        raw = recorded("three_nodes_empty")
        raw["nodes"].remove(node_of(raw, "node2"))
    elif moment == "port_2377":
        raw = recorded("three_nodes_whoami_5")
        raw["services"][0]["Spec"]["Name"] = "bloc"
        raw["services"][0]["Endpoint"]["Ports"][0]["PublishedPort"] = 2377
        raw["engines"][1]["info"]["Swarm"] = PENDING
    elif moment == "start_first_host":
        raw = recorded("host_mode_pending")
        spec = raw["services"][0]["Spec"]
        spec["Mode"]["Replicated"]["Replicas"] = 3
        spec["UpdateConfig"] = {"Parallelism": 1, "FailureAction": "pause", "Order": "start-first"}
        waiting = [t for t in raw["tasks"] if t["Status"]["State"] == "pending"]
        raw["tasks"] = [t for t in raw["tasks"] if t not in waiting[1:]]
        running = next(t for t in raw["tasks"] if t["Status"]["State"] == "running")
        waiting[0]["Slot"] = running["Slot"]  # which it is to replace
    elif moment == "job_running":
        done = [(n, "complete", "complete", 0) for n in (0, 1)]
        raw = jobs(("tri", JOB, 0, [*done, *((n, "running", "complete", 0) for n in (2, 3))]))
    elif moment == "jobs_over":
        one = {"Replicated": {"Replicas": 1}}
        raw = jobs(
            ("tri", JOB, 0, [(n, "complete", "complete", 0) for n in range(6)]),
            ("partout", {"GlobalJob": {}}, 0, [(0, "complete", "complete", 0)] * 3),
            ("une-fois", one, None, [(1, "complete", "shutdown", 0)]),
            ("rate", one, None, [(1, "failed", "shutdown", 0)]),
        )
    else:
        assert moment == "job_again"
        again = {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 7}}
        done = [(n, "complete", "complete", 0) for n in range(6)]
        raw = jobs(("tri", again, 1, [*done, (1, "running", "complete", 1)]))
    return raw


def state_of(moment: str) -> ClusterState:
    return from_raw(raw_of(moment))


def ways(state: ClusterState) -> str:
    """Return all that is amiss, and the ways out, with plain spaces."""
    return " ".join(f"{t.what} {t.remedy}" for t in state.troubles).replace("\u00a0", " ")


def seen_everywhere(state: ClusterState, text: str) -> None:
    """Assert that whatever shows a state shows this text."""
    view = ClusterView()
    view.show(state)
    failing = judge("quitter", state)  # an exercise that is not done
    preflight = list(preflight_rows(state, (), cli=True, memory=1e12, disk=1e12))
    for shown in (state._repr_html_(), view._html.value, repr(failing), repr(preflight),
                  repr(Start(state))):  # fmt: skip
        assert text in shown.replace("\u00a0", " "), shown
    view.close()


# -- tasks that end by themselves -----------------------------------------------------------


def test_a_job_counts_what_has_completed() -> None:
    state = state_of("job_running")
    job = state.service("tri")
    assert job.job and job.iteration == 0 and job.replicas == 6
    done, running = len(state.ended("tri")), len(state.running("tri"))
    assert done and running and {sign_of(t).kind for t in state.running("tri")} == {"running"}
    said = f"{done}/6 terminée{'s' if done > 1 else ''}, {running} en marche"
    assert state.tally("tri") == said
    assert f"tri {said}" in state._repr_html_() and f"tri {said}" in cluster_svg(state)
    scaler = Scaler("tri")
    scaler.show(state)
    assert not scaler._slider.disabled and scaler.value == 6
    assert f"{done} sur 6 tasks terminée" in scaler._status.value
    assert f"{running} en marche" in scaler._status.value
    assert "relance" in scaler._status.value
    scaler.close()


def test_tasks_that_completed_are_done_and_not_missing() -> None:
    state = state_of("jobs_over")
    assert state.tally("tri") == "6/6 terminées" and state.tally("partout") == "3/3 terminées"
    assert state.tally("une-fois") == "1/1 terminée" and state.tally("rate") == "0/1"
    assert [t.completed for t in state.ended("une-fois")] == [True]
    assert not moving(state)
    assert {sign_of(t).kind for t in state.tasks} == {"complete", "failed"}
    raw = raw_of("jobs_over")
    nodes = {n.id: n for n in state.nodes}
    for service in raw["services"]:
        mine = [t for t in raw["tasks"] if t["ServiceID"] == service["ID"]]
        progress = progress_of(service, mine, nodes)
        assert progress.done == (service["Spec"]["Name"] != "rate"), progress.message
        assert "terminée" in progress.message or not progress.done
    row = running_row(state, "une-fois", 1)
    assert row.found == "0, et 1 terminée" and "n’est pas remplacée" in row.hint


def test_a_failure_that_is_not_mended_says_why() -> None:
    state = state_of("jobs_over")
    (trouble,) = state.troubles
    assert trouble.service == "rate" and "--restart-condition none" in trouble.what
    assert "non-zero exit (3)" in trouble.what
    seen_everywhere(state, "docker service update --force rate")
    scaler = Scaler("rate")
    scaler.show(state)
    assert "✖" in scaler._status.value and "docker service logs rate" in scaler._status.value
    scaler.close()


def test_another_number_of_tasks_begins_a_job_anew() -> None:
    state = state_of("job_again")
    assert state.service("tri").iteration == 1 and state.service("tri").replicas == 7
    done = sum(t.completed and t.iteration == 1 for t in state.tasks_of("tri", current=False))
    assert state.tally("tri").startswith(f"{done}/7 terminée")


# -- nodes ----------------------------------------------------------------------------------


def test_a_locked_manager_is_no_lost_quorum() -> None:
    state = state_of("locked")
    assert state.swarm == "locked" and not state.active
    with pytest.raises(SwarmLocked, match="verrouillé") as caught:
        state.require()
    unlock = "docker --context node1 swarm unlock"
    assert unlock in caught.value.remedy and "labkit reset" in caught.value.remedy
    assert "ttendez" not in str(caught.value) and "dressez-vous" not in str(caught.value)
    for row in memberships(state):
        if row.what == "node1":
            assert row.found == "verrouillé" and unlock in row.hint
    seen_everywhere(state, unlock)


def test_one_locked_manager_of_three_is_told_while_the_others_answer() -> None:
    state = state_of("one_locked")
    assert state.active and state.engine("node1").swarm == "locked"
    assert "docker --context node1 swarm unlock" in ways(state) and "unlock-key" in ways(state)
    assert "✖ verrouillé" in cluster_svg(state)
    seen_everywhere(state, "docker --context node1 swarm unlock")


def test_a_node_that_came_back_is_not_the_one_it_was() -> None:
    state = state_of("node3_twice")
    (old,) = state.stale
    assert old.name == "node3" and old.state == "down" and old.id != state.node("node3").id
    assert state.node("node3").state == "ready"
    assert f"ancien : {old.id[:12]}" in cluster_svg(state)
    seen_everywhere(state, f"docker node rm {old.id[:12]}")
    view = ClusterView()
    view.show(state)
    offered = {value for _, value in view.controls._node.options}
    assert {old.id[:12], state.node("node3").id[:12]} < offered  # docker refuses the name
    view.close()
    assert state_of("node3_left").stale == ()


def test_a_node_that_was_struck_off_is_told_to_leave() -> None:
    state = state_of("node2_struck_off")
    assert "node2" not in {n.name for n in state.nodes}
    (row,) = (r for r in memberships(state) if r.what == "node2")
    assert not row.ok and "docker --context node2 swarm leave --force" in row.hint
    seen_everywhere(state, "docker --context node2 swarm leave --force")


# -- ports ----------------------------------------------------------------------------------


def test_the_service_that_took_a_port_of_the_swarm_is_named() -> None:
    state = state_of("port_2377")
    (row,) = (r for r in memberships(state) if r.what == "node2")
    assert not row.ok and "docker service update --publish-rm 80/tcp bloc" in row.hint.replace(
        "\u00a0", " "
    )
    assert "« bloc » publie le port 2377/tcp" in ways(state) and "(node2)" in ways(state)
    seen_everywhere(state, "docker service update --publish-rm 80/tcp bloc")
    service = state.service("bloc")
    (port,) = service.ports
    for published, protocol in ((7946, "tcp"), (7946, "udp"), (4789, "udp"), (9323, "tcp")):
        taken = replace(port, published=published, protocol=protocol)
        other = replace(state, services=(replace(service, ports=(taken,)),))
        assert f"publie le port {published}/{protocol}" in ways(other)
    harmless = replace(port, published=9999)
    assert not replace(state, services=(replace(service, ports=(harmless,)),)).troubles


def test_start_first_in_mode_host_counts_the_task_that_waits() -> None:
    state = state_of("start_first_host")
    assert state.tally("hote") == "3/3, 1 en attente"
    (waits,) = (t for t in state.tasks_of("hote") if t.state == "pending")
    (trouble,) = state.troubles
    # one that replaces nothing waits for a node, whatever the order of updates
    alone = [t for t in state.tasks if not (t.running and t.slot == waits.slot)]
    assert "start-first" in trouble.what
    assert not replace(state, tasks=tuple(alone)).troubles
    scaler = Scaler("hote")
    scaler.show(state)
    shown = scaler._status.value.replace("\u00a0", " ")
    assert "✔" not in shown and "1 en attente (no suitable node" in shown
    assert "docker service update --update-order stop-first --force hote" in shown
    scaler.close()


# -- what docker says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ("rpc error: code = InvalidArgument desc = only updates to Labels are allowed", "nouveau"),
        ("the input device is not a TTY", "terminal"),
        ("Error response from daemon: node node3 is ambiguous (2 matches found)", "docker node rm"),
        ("Swarm is encrypted and needs to be unlocked before it can be used.", "swarm unlock"),
        ("Error response from daemon: service web not found", ""),
    ],
)
def test_the_way_out_of_what_docker_says(said: str, way: str) -> None:
    assert way in way_out(said) if way else not way_out(said)


def test_a_file_of_variables_is_not_read_by_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = "invalid reference format"
    assert not way_out(said)
    (tmp_path / ".env").write_text("TAG=3\n")
    assert "set -a; . ./.env; set +a" in way_out(said)
