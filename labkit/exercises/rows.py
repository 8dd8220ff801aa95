"""Rows that checks of several notebooks share: members of the swarm, services of whoami."""

from collections.abc import Iterator
from contextlib import suppress

from labkit.errors import NoSuchNode
from labkit.state import ClusterState, EngineState, Node, Service
from labkit.text.french import enumerate_fr
from labkit.verdict import Row

IMAGE = "traefik/whoami"
MESH, HOST = "whoami", "whoami-host"

ENGINE_SWARM = {
    "": "injoignable",
    "inactive": "aucun Swarm",
    "active": "actif",
    "pending": "en cours d’adhésion",
    "error": "en erreur",
    "locked": "verrouillé",
}


def memberships(state: ClusterState) -> Iterator[Row]:
    """Return a row for each engine: whether it is a ready member of the swarm."""
    if not state.engines:
        yield Row.fault("Moteurs", "trois", "aucun", "Relancez la cellule de démarrage.")
    for engine in state.engines:
        yield member_row(engine, state)


def member_row(engine: EngineState, state: ClusterState) -> Row:
    """Return whether an engine is a member of the swarm, and ready."""
    found, ok = _membership(engine, state)
    hint = way_out_for(state, engine.name) or (
        f"« docker --context {engine.name} swarm leave --force », puis rejoignez le Swarm."
        if found in {_OTHER_SWARM, ENGINE_SWARM["error"]}
        else f"« docker --context {engine.name} swarm join --token … »"
        if engine.swarm == "inactive"
        else "Attendez quelques secondes, puis revérifiez ; sinon, « labkit doctor »."
    )
    return Row.whether(engine.name, MEMBER, ok, found, hint)


def way_out_for(state: ClusterState, engine: str) -> str:
    """Return the way out of what is amiss with an engine, or an empty text."""
    return next((t.remedy for t in state.troubles if engine in t.nodes), "")


MEMBER = "membre du Swarm, prêt"
_OTHER_SWARM = "membre d’un autre Swarm"


def _membership(engine: EngineState, state: ClusterState) -> tuple[str, bool]:
    if engine.swarm != "active":
        return ENGINE_SWARM.get(engine.swarm, engine.swarm), False
    node = next((n for n in state.nodes if n.id == engine.node_id), None)
    if node is None:
        return (_OTHER_SWARM if state.active else "aucun manager ne répond"), False
    if node.state != "ready":
        return f"membre du Swarm, {node.state}", False
    return MEMBER, True


def service_rows(
    state: ClusterState, name: str, port: int, mode: str, replicas: tuple[int, ...]
) -> Iterator[Row]:
    """Check a service of whoami.

    Of the numbers of ``replicas`` that are accepted, the first is what was asked for.
    """
    service = find_service(state, name)
    yield exists_row(state, name)
    image = service.image.partition(":")[0] if service else "—"
    hint = (
        f"« docker service update --image {IMAGE} {name} »"
        if service
        else f"L’image se donne à la fin : … {IMAGE}"
    )
    yield Row.equal("Image", IMAGE, image, hint)
    wanted_port = f"published={port},target=80" + (",mode=host" if mode == "host" else "")
    ports = service.ports if service else ()
    flag = f"« --publish {wanted_port} »" + (f" ou « -p {port}:80 »" if mode == "ingress" else "")
    if ports:
        flag = f"« docker service rm {name} », puis recréez-le avec {flag}"
    elif service:
        flag = f"« docker service update --publish-add {wanted_port} {name} »"
    found = [port_text(p.published, p.target, p.mode) for p in ports]
    yield Row.among("Port publié", port_text(port, 80, mode), found, flag, none="—")
    wanted = service.replicas if service else None
    yield replicas_row(wanted, replicas, f"« --replicas {replicas[0]} »")
    yield running_row(state, name, wanted if wanted in replicas else replicas[0])


def scaled_rows(state: ClusterState, name: str, count: int) -> Iterator[Row]:
    """Check that a service of whoami has that many replicas, asked for and running."""
    service = find_service(state, name)
    yield exists_row(state, name)
    wanted = service.replicas if service else None
    yield replicas_row(wanted, (count,), f"« docker service scale {name}={count} »")
    yield running_row(state, name, count)


def exists_row(state: ClusterState, name: str) -> Row:
    """Return whether a service of that name is there."""
    service = find_service(state, name)
    others = [s.name for s in state.services if s.image.partition(":")[0] == IMAGE]
    others = [n for n in others if n not in (MESH, HOST)]
    if service:
        found, hint = name, ""
    elif not state.active:
        found = "aucun manager n’a répondu"
        hint = "Initialisez d’abord le Swarm : « docker swarm init »."
    elif others:
        found = enumerate_fr(others)
        hint = f"Supprimez-le (« docker service rm {others[0]} ») et nommez-le : --name {name}."
    else:
        found, hint = "aucun", f"« docker service create --name {name} … »"
    return Row.whether("Service", name, service is not None, found, hint)


def replicas_row(wanted: int | None, accepted: tuple[int, ...], hint: str) -> Row:
    """Return whether a service wants one of the accepted numbers of replicas."""
    expected = wanted if wanted in accepted else accepted[0]
    return Row.equal("Replicas demandés", expected, "—" if wanted is None else str(wanted), hint)


def running_row(state: ClusterState, name: str, wanted: int | None) -> Row:
    """Return whether that many tasks of a service run."""
    tasks = state.tasks_of(name) if state.has_service(name) else ()
    running = sum(t.running for t in tasks)
    done = sum(t.completed for t in state.ended(name)) if tasks or state.has_service(name) else 0
    # in mode host, a node takes one task: more cannot run
    most = wanted or 0
    if name == HOST:
        most = min(most, sum(n.state == "ready" for n in state.nodes))
    errors = sorted({t.error for t in tasks if t.error and not t.running})
    hint = f"Lisez « docker service ps --no-trunc {name} »"
    found = str(running)
    if done:
        found += f", et {done} terminée{'s' if done > 1 else ''}"
    if errors:
        hint += f" : {errors[0]}"
    elif done:
        hint += " : une task qui se termine d’elle-même n’est pas remplacée."
    else:
        hint += ", attendez, puis revérifiez."
    return Row("Tasks en marche", str(most), found, running == most and running > 0, hint)


def find_node(state: ClusterState, name: str) -> Node | None:
    """Return the node of that host name, or of that engine; None if the swarm has none."""
    with suppress(NoSuchNode):
        return state.node(name)
    return None


def find_service(state: ClusterState, name: str) -> Service | None:
    """Return the service of that name, or None."""
    return next((s for s in state.services if s.name == name), None)


def port_text(published: int | None, target: int, mode: str) -> str:
    """Say how a port is published."""
    kind = "ingress : le routing mesh" if mode == "ingress" else f"mode {mode}"
    return f"{published or '(au hasard)'} → {target} ({kind})"
