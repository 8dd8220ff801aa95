"""Services and stacks, made by the real ``docker`` command and awaited as labkit awaits them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from labkit.convergence import converge
from labkit.engine import connect
from labkit.engine.endpoint import Fleet
from labkit.polling import until
from labkit.service_progress import OnProgress
from labkit.stacks import services_of
from labkit.state import ClusterState, capture

IMAGE = "traefik/whoami"
QUICKLY = ("--detach", "--no-resolve-image")  # no engine of a test asks a registry


def docker(fleet: Fleet | None, *words: str) -> None:
    """Run a docker command on the manager that answers."""
    fleet = fleet or connect()
    asked = capture(fleet).require().asked
    place = ["--context", asked] if fleet.docker_config else ["--host", fleet[asked or ""].url]
    done = subprocess.run(["docker", *place, *words], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


def create(
    name: str,
    *options: str,
    image: str = IMAGE,
    args: tuple[str, ...] = (),
    fleet: Fleet | None = None,
    timeout: float = 120,
    on_progress: OnProgress | None = None,
) -> ClusterState:
    """Create a service and wait until its tasks run."""
    docker(fleet, "service", "create", *QUICKLY, "--name", name, *options, image, *args)
    return wait(name, fleet, timeout=timeout, on_progress=on_progress)


def update(name: str, *options: str, fleet: Fleet | None = None) -> ClusterState:
    """Update a service and wait until its tasks are of the new version."""
    docker(fleet, "service", "update", *QUICKLY, *options, name)
    return wait(name, fleet)


def wait(
    name: str,
    fleet: Fleet | None = None,
    *,
    timeout: float = 120,
    on_progress: OnProgress | None = None,
) -> ClusterState:
    """Wait until a service is as it was asked to be."""
    fleet = fleet or connect()
    state = until(lambda: capture(fleet), lambda s: s.active, 30).require()
    return converge(fleet, name, state.service(name).id, timeout, on_progress)


def remove(name: str, fleet: Fleet | None = None) -> ClusterState:
    """Remove a service, and wait until no container of it is left on a node that lives."""
    fleet = fleet or connect()
    service = capture(fleet).require().service(name)
    docker(fleet, "service", "rm", name)

    def gone(state: ClusterState) -> bool:
        down = {n.id for n in state.nodes if n.state == "down"}
        mine = [t for t in state.tasks if t.service_id == service.id and t.node_id not in down]
        return state.active and all(t.failed for t in mine)

    state = until(lambda: capture(fleet), gone, 120)
    assert gone(state), f"{name} is not gone"
    return state


def deploy(stack: str, file: Path, fleet: Fleet, timeout: float = 300) -> ClusterState:
    """Deploy a stack, and wait until each of its services is as wanted."""
    docker(fleet, "stack", "deploy", "--detach", "--compose-file", str(file), stack)
    state = until(lambda: capture(fleet), lambda s: s.active, 30).require()
    for service in services_of(state, stack):
        state = wait(service.name, fleet, timeout=timeout)
    return state


def remove_stack(stack: str, fleet: Fleet) -> ClusterState:
    """Remove a stack, and wait until its tasks and networks are gone; its volumes stay."""
    ids = {s.id for s in services_of(capture(fleet).require(), stack)}
    docker(fleet, "stack", "rm", "--detach", stack)

    def gone(state: ClusterState) -> bool:
        tasks = any(t.service_id in ids and not t.failed for t in state.tasks)
        networks = any(n.stack == stack for n in state.networks)
        return state.active and not (tasks or networks or services_of(state, stack))

    state = until(lambda: capture(fleet), gone, 120, 0.5)
    assert gone(state), f"the stack {stack} is not gone"
    return state
