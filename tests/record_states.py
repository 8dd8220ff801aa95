"""Record what a real cluster answers in interesting moments, for the unit tests.

Run it on a cluster that may be thrown away: it makes every engine leave its swarm. ::

    python tests/record_states.py [swarm] [election] [voting] [kubernetes]

Certificates, tokens and whatever the state is not made of are dropped before writing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from actions import create, deploy, remove, remove_stack, update
from swarms import leave_all, make_clean, make_swarm, swarm_addresses
from voters import FILE, remove_volumes

import labkit.engine
from labkit.engine.clients import talk
from labkit.engine.endpoint import Fleet
from labkit.errors import ConvergenceTimeout, ImageNotFound
from labkit.exercises.course.nb03_breakdown import stale
from labkit.exercises.course.nb07_traefik import preparer_traefik
from labkit.nodes import Activate, Drain, Promote, kill, start
from labkit.services import Scale
from labkit.state import ClusterState, RawCluster, ask, capture, from_raw

SOLUTIONS = {
    "traefik-bonjour": "docker service create --name bonjour --replicas 2 --network web_public "
    "--label traefik.enable=true "
    "--label 'traefik.http.routers.bonjour.rule=Host(`bonjour.localhost`)' "
    "--label traefik.http.services.bonjour.loadbalancer.server.port=80 traefik/whoami",
    "traefik-cookie": "docker service update web_whoami "
    "--label-add traefik.http.services.whoami.loadbalancer.sticky.cookie=true",
}
HOST = "mode=host,published=9999,target=80"
RECORDED = Path(__file__).parent / "unit" / "recorded"

# what is kept of each answer; True keeps all of it
_SWARM = dict.fromkeys(
    "NodeID NodeAddr LocalNodeState ControlAvailable Error Nodes Managers RemoteManagers".split(),
    True,
)
_KEEP: dict[str, Mapping[str, Any]] = {
    "info": {"Name": True, "ServerVersion": True, "Swarm": _SWARM},
    "nodes": {
        "ID": True,
        "Version": True,
        "CreatedAt": True,
        "Spec": True,
        "Description": {"Hostname": True, "Platform": True, "Engine": {"EngineVersion": True}},
        "Status": True,
        "ManagerStatus": True,
    },
    "services": dict.fromkeys(
        ("ID", "Version", "CreatedAt", "Spec", "Endpoint", "UpdateStatus", "JobStatus"), True
    ),
    "tasks": {
        "ID": True,
        "CreatedAt": True,
        "Spec": True,
        "ServiceID": True,
        "Slot": True,
        "NodeID": True,
        "Status": True,
        "DesiredState": True,
        "JobIteration": True,
    },
    "networks": dict.fromkeys(
        ("Id", "Name", "Driver", "Scope", "Ingress", "Attachable", "Labels"), True
    ),
}


def kept(raw: Mapping[str, Any], keep: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``keep`` allows of an answer."""
    return {
        key: raw[key] if how is True else kept(raw[key] or {}, how)
        for key, how in keep.items()
        if key in raw
    }


def scrubbed(raw: RawCluster) -> dict[str, Any]:
    """Return the answers without secrets and without what the state is not made of."""
    out: dict[str, Any] = {
        key: raw[key] for key in ("captured_at", "asked", "refusal") if key in raw
    }
    out["engines"] = [
        {**engine, "info": engine["info"] and kept(engine["info"], _KEEP["info"])}
        for engine in raw["engines"]
    ]
    for key in ("nodes", "services", "tasks", "networks"):
        answers = raw[key]
        out[key] = None if answers is None else [kept(a, _KEEP[key]) for a in answers]
    return out


def save(fleet: Fleet, name: str, when: Callable[[ClusterState], bool] = lambda _: True) -> None:
    """Record the first state that is as the moment asks."""
    limit = time.monotonic() + 300
    while not when(from_raw(raw := ask(fleet, timeout=3))):
        if time.monotonic() > limit:
            raise TimeoutError(f"the moment {name} did not come")
        time.sleep(0.1)
    text = json.dumps(scrubbed(raw), ensure_ascii=False, indent=1) + "\n"
    for secret in ("SWMTKN", "CERTIFICATE", "PRIVATE KEY", "JoinTokens"):
        assert secret not in text, f"{secret} in {name}"
    (RECORDED / f"{name}.json").write_text(text)
    print(name, len(text), "bytes")


def set_replicas(fleet: Fleet, name: str, replicas: int) -> None:
    """Ask for a scale without waiting."""
    with talk(fleet.endpoints[0]) as api:
        raw = api.inspect_service(name)
        raw["Spec"]["Mode"]["Replicated"]["Replicas"] = replicas
        spec = raw["Spec"]
        api.update_service(
            raw["ID"],
            raw["Version"]["Index"],
            spec["TaskTemplate"],
            name,
            mode=spec["Mode"],
            endpoint_spec=spec["EndpointSpec"],
        )


def record_swarm(fleet: Fleet) -> None:
    """Go through the moments of a swarm and of single services."""
    first = fleet.endpoints[0]
    leave_all(fleet)
    save(fleet, "no_swarm")
    with talk(first, 60) as api:
        api.init_swarm(advertise_addr=swarm_addresses(fleet)[0])
    save(fleet, "single_node", lambda s: s.active and s.nodes[0].state == "ready")
    leave_all(fleet)
    make_swarm(fleet)
    save(fleet, "three_nodes_empty")

    create("whoami", "--replicas", "5", "--publish", "9999:80", fleet=fleet)
    save(fleet, "three_nodes_whoami_5")
    set_replicas(fleet, "whoami", 8)
    save(fleet, "scaling_up", lambda s: sum(t.starting for t in s.tasks) == 3)
    Scale("whoami", 8).apply(fleet)
    set_replicas(fleet, "whoami", 5)
    save(fleet, "scaling_down", lambda s: sum(t.stopping for t in s.tasks) == 3)
    Scale("whoami", 5).apply(fleet)
    Drain("node2").apply(fleet)
    save(fleet, "node2_drained")
    Activate("node2").apply(fleet)
    save(fleet, "node2_active_again")
    with talk(first) as api:
        raw = api.inspect_service("whoami")
        raw["Spec"]["TaskTemplate"]["ForceUpdate"] += 1
        api.update_service(
            raw["ID"],
            raw["Version"]["Index"],
            raw["Spec"]["TaskTemplate"],
            "whoami",
            mode=raw["Spec"]["Mode"],
            endpoint_spec=raw["Spec"]["EndpointSpec"],
        )
    save(
        fleet,
        "updating",
        lambda s: (
            s.service("whoami").update_state == "updating" and any(t.starting for t in s.tasks)
        ),
    )
    remove("whoami", fleet)

    try:
        create("absent", "--replicas", "2", image="nosuch/image:1", fleet=fleet)
    except ImageNotFound:
        save(fleet, "missing_image", lambda s: any(t.failed for t in s.tasks))
    remove("absent", fleet)
    try:
        create("hote", "--replicas", "5", "--publish", HOST, fleet=fleet)
    except ConvergenceTimeout:
        save(fleet, "host_mode_pending")
    remove("hote", fleet)
    create("partout", "--mode", "global", fleet=fleet)
    update("partout", "--force", fleet=fleet)
    save(fleet, "global_service")
    remove("partout", fleet)

    create("whoami", "--replicas", "3", "--publish", "9999:80", fleet=fleet)
    Promote("node2").apply(fleet)
    save(fleet, "two_managers")
    Promote("node3").apply(fleet)
    save(fleet, "three_managers")
    for name in ("node2", "node3"):
        with talk(fleet[name], 60) as api:
            api.leave_swarm(force=True)  # by force, so that its vote goes with it
    save(fleet, "quorum_lost", lambda s: s.swarm == "no-quorum")
    with talk(first, 60) as api:
        api.leave_swarm(force=True)


def record_election(fleet: Fleet) -> None:
    """Kill the leader of three managers, and take the moment when nobody leads."""
    leave_all(fleet)
    make_swarm(fleet)
    for name in ("node2", "node3"):
        Promote(name).apply(fleet)
    state = capture(fleet)
    assert state.leader is not None
    kill(state.leader.name, fleet, quiet=True)
    save(fleet, "election", lambda s: s.swarm == "no-leader")
    start(state.leader.name, fleet, quiet=True)


def record_voting(fleet: Fleet) -> None:
    """Go through the moments of the voting app's stacks: as it should be, broken, repaired."""
    make_clean(fleet)
    remove_volumes(fleet)
    subprocess.run(["docker", "stack", "deploy", "--detach", "-c", FILE, "vote"], check=True)
    save(fleet, "vote_starting", lambda s: any(t.starting for t in s.tasks))
    deploy("vote", FILE, fleet)
    save(fleet, "vote_stack")
    Scale("vote_vote", 4).apply(fleet)
    save(fleet, "vote_scaled")
    update("vote_worker", "--image", "examplevotingapp_worker:lua", fleet=fleet)
    save(fleet, "vote_lua")
    subprocess.run(["docker", "stack", "rm", "--detach", "vote"], check=True)
    save(fleet, "vote_leaving", lambda s: any(t.stopping for t in s.tasks))
    with_patience = time.monotonic() + 60
    while any(n.stack for n in from_raw(ask(fleet)).networks):
        assert time.monotonic() < with_patience
        time.sleep(0.5)

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "docker-stack.yml"
        file.write_text(stale(FILE.read_text(encoding="utf-8")), encoding="utf-8")
        deploy("debug", file, fleet)
        save(fleet, "debug_broken")
        for name in ("result", "worker"):
            mine = f"registry:5000/examplevotingapp_{name}:2"
            for words in (("tag", f"examplevotingapp_{name}:1", mine), ("push", mine)):
                subprocess.run(["docker", *words], check=True, stdout=subprocess.DEVNULL)
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(f"examplevotingapp_{name}:before", mine), "utf-8")
            deploy("debug", file, fleet)
            save(fleet, "debug_half" if name == "result" else "debug_repaired")
    remove_stack("debug", fleet)
    save(fleet, "debug_removed")


def record_kubernetes(fleet: Fleet) -> None:
    """Go through the moments of the stack that students write a manifest for."""
    make_clean(fleet)
    file = FILE.parents[1] / "kubernetes" / "stack-guet.yml"
    deploy("guet", file, fleet)
    save(fleet, "guet")
    Scale("guet_accueil", 3).apply(fleet)
    save(fleet, "guet_scaled")
    remove_stack("guet", fleet)


def record_proxies(fleet: Fleet) -> None:
    """Go through the moments of Traefik's stack, with the commands of its notebook."""
    make_clean(fleet)
    file = FILE.parents[1] / "traefik" / "stack-traefik.yml"
    preparer_traefik(file.parent)
    deploy("web", file, fleet)
    save(fleet, "web_stack")
    for name, moment in (("traefik-bonjour", "web_bonjour"), ("traefik-cookie", "web_sticky")):
        subprocess.run(["sh", "-c", SOLUTIONS[name]], check=True, stdout=subprocess.DEVNULL)
        save(fleet, moment)
    remove("bonjour", fleet)
    remove_stack("web", fleet)
    save(fleet, "web_removed")


def main() -> None:
    """Record all moments, or those that are named."""
    fleet = labkit.engine.up()
    RECORDED.mkdir(exist_ok=True)
    moments = {
        "swarm": record_swarm,
        "election": record_election,
        "voting": record_voting,
        "kubernetes": record_kubernetes,
        "proxies": record_proxies,
    }
    for name in sys.argv[1:] or moments:
        moments[name](fleet)


if __name__ == "__main__":
    main()
