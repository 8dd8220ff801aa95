"""Whether a cluster is still on its way: a check made too early would refuse what is right."""

from __future__ import annotations

from dataclasses import replace

from test_voting_exercises import deployed, swarm

from labkit.exercises.settling import moving
from labkit.state import ClusterState, Service, Task


def node(cluster: ClusterState, name: str, **changes: object) -> ClusterState:
    """Return the state with one node changed."""
    nodes = tuple(replace(n, **changes) if n.name == name else n for n in cluster.nodes)
    return replace(cluster, nodes=nodes)


def vote(state: ClusterState, **changes: object) -> ClusterState:
    """Return the state with the service of votes changed, not its tasks."""
    services = tuple(replace(s, **changes) if s.name == "vote_vote" else s for s in state.services)
    return replace(state, services=services)


def everywhere(*names: str, constraints: tuple[str, ...] = ()) -> ClusterState:
    """Return a swarm with a global service, and its tasks on these nodes."""
    service = Service("id-agent", "agent", "x", "global", None, constraints=constraints)
    tasks = [
        Task(f"agent{n}", "id-agent", "agent", None, f"id-{n}", n, "running", "running")
        for n in names
    ]
    return replace(swarm(), services=(service,), tasks=tuple(tasks))


def test_an_update_is_on_its_way_until_it_ends_or_waits() -> None:
    state = deployed()
    assert not moving(state)
    for known in ("updating", "rollback_started"):
        assert moving(vote(state, update_state=known))
    for known in ("completed", "paused", "rollback_paused", "rollback_completed"):
        assert not moving(vote(state, update_state=known))
    waiting = Task("w", "id-vote_vote", "vote_vote", 3, "", None, "pending", "running",
                   error="no suitable node")  # fmt: skip
    stuck = replace(state, tasks=(*state.tasks, waiting))
    assert not moving(vote(stuck, update_state="updating"))


def test_a_node_that_is_emptied_is_on_its_way_until_it_is_empty() -> None:
    assert moving(node(deployed(), "node1", availability="drain"))
    assert not moving(node(deployed(), "node2", availability="drain"))


def test_a_global_service_is_on_its_way_until_every_node_has_a_task() -> None:
    assert moving(everywhere("node1", "node2"))
    assert not moving(everywhere("node1", "node2", "node3"))
    assert not moving(node(everywhere("node1", "node2"), "node3", availability="drain"))
    assert not moving(everywhere("node1", constraints=("node.role == manager",)))


def test_a_role_is_on_its_way_until_the_node_votes_or_no_longer_does() -> None:
    voting = {"role": "manager", "reachability": "reachable"}
    assert not moving(node(swarm(), "node2", **voting))
    assert moving(node(swarm(), "node2", role="manager"))
    assert moving(node(swarm(), "node2", reachability="reachable"))
    assert not moving(node(swarm(), "node2", role="manager", state="down"))


def test_a_new_leader_that_does_not_know_yet_which_nodes_live_is_waited_for() -> None:
    assert moving(node(swarm(), "node2", state="unknown"))
    assert not moving(node(swarm(), "node2", state="down"))
