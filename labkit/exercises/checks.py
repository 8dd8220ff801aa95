"""Pure checks of the swarm and of single services, one an exercise: ``ClusterState -> Row…``.

They never raise, whatever the state, and each can fail. Texts are French, for students.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from labkit.elections import member, unaware, undecided
from labkit.exercises.exercise import Exercise
from labkit.state import ClusterState, EngineState, Node, Service, Task
from labkit.text.french import enumerate_fr
from labkit.verdict import Row

__all__ = [
    "MEMBER",
    "SWARM_EXERCISES",
    "able_nodes",
    "exists_row",
    "find_service",
    "left_behind",
    "member_row",
    "memberships",
    "moving",
    "port_text",
    "replicas_row",
    "running_row",
    "service_rows",
    "spread",
    "swarm_started",
    "unnoticed",
]

IMAGE = "traefik/whoami"
MESH, HOST = "whoami", "whoami-host"
MESH_PORT, HOST_PORT = 9999, 9998
CREATED, SCALED = 5, 8
HOST_CREATED, HOST_SCALED = 2, 5


_UPDATING = {"updating", "rollback_started"}


def able_nodes(state: ClusterState) -> tuple[Node, ...]:
    """Return the nodes that may be given tasks now: ready, and active."""
    return tuple(n for n in state.nodes if n.state == "ready" and n.availability == "active")


def _wanted(service: Service, state: ClusterState) -> int:
    """Return how many tasks are to be made; which nodes a constraint allows is not known here.

    A job makes its tasks as it likes, and what ended by itself is not made again.
    """
    if service.job:
        return 0
    over = len(state.ended(service.id))
    if service.mode == "global" and not service.constraints:
        return len(able_nodes(state)) - over
    return (service.replicas or 0) - over


def _changing_role(node: Node) -> bool:
    votes = node.leader or node.reachability is not None
    return node.state == "ready" and votes != (node.role == "manager")


def moving(state: ClusterState) -> bool:
    """Whether the cluster is still on its way: tasks starting, stopping, or not even made.

    A task that waits with a reason (no suitable node…) may wait for ever, and holds up the update
    that made it: that is rest. The networks of a stack that was removed outlive its tasks by a
    moment; a node that was promoted or demoted takes one to become what it is told to be, and a new
    leader one to learn which nodes live. A task that should stop on a node that is down cannot,
    until that comes back: that is rest, too.
    """
    made = Counter(t.service_id for t in state.tasks if t.current)
    waiting = {t.service_id for t in state.tasks if t.current and not t.node_id and t.error}
    emptied = {n.id for n in state.nodes if n.state == "ready" and n.availability == "drain"}
    down = {n.id for n in state.nodes if n.state == "down"}
    stacks = {s.stack for s in state.services}
    return (
        any(made[s.id] < _wanted(s, state) for s in state.services)
        or any(s.update_state in _UPDATING and s.id not in waiting for s in state.services)
        or any(t.current and t.node_id in emptied for t in state.tasks)
        or any(t.starting and (t.node_id or not t.error) for t in state.tasks)
        or any(t.stopping and t.node_id not in down for t in state.tasks)
        or any(n.stack and n.stack not in stacks for n in state.networks)
        or any(_changing_role(n) or n.state == "unknown" for n in state.nodes)
    )


def unnoticed(state: ClusterState) -> bool:
    """Whether a node died, left, came back or changed its role, and not all know it yet."""
    return undecided(state) or any(_unnoticed(engine, state) for engine in state.engines)


def _unnoticed(engine: EngineState, state: ClusterState) -> bool:
    if engine.reachable and engine.swarm != "inactive":
        node = member(engine, state)
        return unaware(engine, state) or (node is not None and node.state != "ready")
    taken = {e.node_id for e in state.engines}
    return any(
        n.name == engine.name and n.id not in taken and n.state == "ready" for n in state.nodes
    )


def spread(state: ClusterState, service: str) -> str:
    """Return how many running tasks the nodes have, most first, such as ``2, 2 et 1``.

    Nodes that could take a task and have none count as 0; without the service all do.
    """
    tasks = state.running(service) if state.has_service(service) else ()
    by_node = Counter(t.node_id for t in tasks)
    able = {n.id for n in able_nodes(state)}
    counts = sorted((by_node[i] for i in able | set(by_node)), reverse=True)
    return enumerate_fr([str(c) for c in counts]) or "0"


# -- the swarm ------------------------------------------------------------------------------


def swarm_started(state: ClusterState) -> Iterator[Row]:
    """Check that the first engine leads a swarm."""
    first = state.engines[0] if state.engines else None
    name = first.name if first else "node1"
    swarm = first.swarm if first else ""
    yield Row.equal(
        f"Swarm sur {name}",
        "actif",
        _ENGINE_SWARM.get(swarm, swarm),
        "Tapez « docker swarm init » : sans autre précision, docker s’adresse à node1."
        if swarm == "inactive"
        else _hint_of(state, name)
        or f"Quittez-le d’abord avec « docker --context {name} swarm leave --force ».",
    )
    yield Row.whether(
        f"Rôle de {name}",
        "manager",
        bool(first and first.manager),
        "worker" if swarm == "active" else "aucun",
        "Le nœud qui initialise le Swarm en devient le premier manager.",
    )
    leader = state.leader
    yield Row.whether(
        "Leader",
        "un manager élu",
        leader is not None,
        "aucun",
        "Un leader est élu dès que le Swarm est initialisé et que ses managers se répondent.",
    )


def memberships(state: ClusterState) -> Iterator[Row]:
    """Return a row for each engine: whether it is a ready member of the swarm."""
    if not state.engines:
        yield Row.fault("Moteurs", "trois", "aucun", "Relancez la cellule de démarrage.")
    for engine in state.engines:
        yield member_row(engine, state)


def member_row(engine: EngineState, state: ClusterState) -> Row:
    """Return whether an engine is a member of the swarm, and ready."""
    found, ok = _membership(engine, state)
    return Row.whether(
        engine.name,
        MEMBER,
        ok,
        found,
        _hint_of(state, engine.name)
        or (
            f"« docker --context {engine.name} swarm leave --force », puis rejoignez le Swarm."
            if found in {_OTHER_SWARM, _ENGINE_SWARM["error"]}
            else f"« docker --context {engine.name} swarm join --token … »"
            if engine.swarm == "inactive"
            else "Attendez quelques secondes, puis revérifiez ; sinon, « labkit doctor »."
        ),
    )


def _hint_of(state: ClusterState, engine: str) -> str:
    """Return the way out of what is amiss with an engine, or an empty text."""
    return next((t.remedy for t in state.troubles if engine in t.nodes), "")


MEMBER = "membre du Swarm, prêt"
_OTHER_SWARM = "membre d’un autre Swarm"


def _membership(engine: EngineState, state: ClusterState) -> tuple[str, bool]:
    if engine.swarm != "active":
        return _ENGINE_SWARM.get(engine.swarm, engine.swarm), False
    node = next((n for n in state.nodes if n.id == engine.node_id), None)
    if node is None:
        return (_OTHER_SWARM if state.active else "aucun manager ne répond"), False
    if node.state != "ready":
        return f"membre du Swarm, {node.state}", False
    return MEMBER, True


def left_behind(state: ClusterState) -> Iterator[Row]:
    """Check that no engine is in a swarm any more."""
    if not state.engines:
        yield Row.fault("Moteurs", "trois", "aucun", "Relancez la cellule de démarrage.")
    for engine in state.engines:
        yield Row.whether(
            engine.name,
            _ENGINE_SWARM["inactive"],
            engine.swarm == "inactive",
            _ENGINE_SWARM.get(engine.swarm, engine.swarm),
            f"« docker --context {engine.name} swarm leave --force »",
        )


# -- services -------------------------------------------------------------------------------


def _created(state: ClusterState) -> Iterator[Row]:
    yield from service_rows(state, MESH, MESH_PORT, "ingress", (CREATED, SCALED))


def _scaled(state: ClusterState) -> Iterator[Row]:
    service = find_service(state, MESH)
    yield exists_row(state, MESH)
    wanted = service.replicas if service else None
    yield replicas_row(wanted, (SCALED,), f"« docker service scale {MESH}={SCALED} »")
    yield running_row(state, MESH, SCALED)


def _host_created(state: ClusterState) -> Iterator[Row]:
    yield from service_rows(state, HOST, HOST_PORT, "host", (HOST_CREATED, HOST_SCALED))


def _host_scaled(state: ClusterState) -> Iterator[Row]:
    service = find_service(state, HOST)
    yield exists_row(state, HOST)
    wanted = service.replicas if service else None
    yield replicas_row(
        wanted, (HOST_SCALED,), f"« docker service scale --detach {HOST}={HOST_SCALED} »"
    )
    tasks = state.tasks_of(HOST) if service else ()
    nodes = {t.node_id for t in tasks if t.running}
    able = able_nodes(state)
    yield Row(
        "Nœuds qui exécutent une task",
        f"{len(able)} : une task par nœud",
        str(len(nodes)),
        bool(nodes) and len(nodes) == min(len(able), HOST_SCALED),
        "Attendez quelques secondes, puis revérifiez.",
    )
    waiting = [t for t in tasks if t.state == "pending"]
    missing = max(0, HOST_SCALED - len(able))
    yield Row(
        "Tasks en attente (Pending)",
        f"{missing}, faute de nœud dont le port {HOST_PORT} soit libre",
        f"{len(waiting)}{_why(waiting)}",
        len(waiting) == missing and all("host-mode port" in t.error for t in waiting),
        f"Lisez « docker service ps --no-trunc {HOST} ».",
    )


def _why(waiting: Iterable[Task]) -> str:
    errors = {t.error for t in waiting if t.error}
    if not errors:
        return ""
    if all("host-mode port" in e for e in errors):
        return f", faute de nœud dont le port {HOST_PORT} soit libre"
    return " : " + " ; ".join(sorted(errors))


def _removed(state: ClusterState) -> Iterator[Row]:
    names = ", ".join(s.name for s in state.services)
    sure = state.swarm in {"active", "inactive"}
    yield Row.equal(
        "Services",
        "aucun",
        names or ("aucun" if sure else "inconnus : aucun manager ne répond"),
        f"« docker service rm {names.replace(', ', ' ')} »" if names else "« labkit doctor »",
    )


def service_rows(
    state: ClusterState, name: str, port: int, mode: str, replicas: tuple[int, ...]
) -> Iterator[Row]:
    """Check a service of whoami.

    Parameters
    ----------
    state
        The cluster.
    name
        Its name.
    port, mode
        How its port 80 is to be published; ``ingress`` or ``host``.
    replicas
        The numbers of replicas that are accepted; the first is what was asked for.
    """
    service = find_service(state, name)
    yield exists_row(state, name)
    image = service.image.partition(":")[0] if service else "—"
    yield Row.equal(
        "Image",
        IMAGE,
        image,
        f"« docker service update --image {IMAGE} {name} »"
        if service
        else f"L’image se donne à la fin : … {IMAGE}",
    )
    wanted_port = f"published={port},target=80" + (",mode=host" if mode == "host" else "")
    ports = service.ports if service else ()
    flag = f"« --publish {wanted_port} »" + (f" ou « -p {port}:80 »" if mode == "ingress" else "")
    if ports:
        flag = f"« docker service rm {name} », puis recréez-le avec {flag}"
    elif service:
        flag = f"« docker service update --publish-add {wanted_port} {name} »"
    yield Row.among(
        "Port publié",
        port_text(port, 80, mode),
        [port_text(p.published, p.target, p.mode) for p in ports],
        flag,
        none="—",
    )
    wanted = service.replicas if service else None
    yield replicas_row(wanted, replicas, f"« --replicas {replicas[0]} »")
    yield running_row(state, name, wanted if wanted in replicas else replicas[0])


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
    return Row.equal(
        "Replicas demandés",
        wanted if wanted in accepted else accepted[0],
        "—" if wanted is None else str(wanted),
        hint,
    )


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
    return Row(
        "Tasks en marche",
        str(most),
        f"{running}, et {done} terminée{'s' if done > 1 else ''}" if done else str(running),
        running == most and running > 0,
        f"{hint} : {errors[0]}"
        if errors
        else f"{hint} : une task qui se termine d’elle-même n’est pas remplacée."
        if done
        else f"{hint}, attendez, puis revérifiez.",
    )


def find_service(state: ClusterState, name: str) -> Service | None:
    """Return the service of that name, or None."""
    return next((s for s in state.services if s.name == name), None)


def port_text(published: int | None, target: int, mode: str) -> str:
    """Say how a port is published."""
    kind = "ingress : le routing mesh" if mode == "ingress" else f"mode {mode}"
    return f"{published or '(au hasard)'} → {target} ({kind})"


_ENGINE_SWARM = {
    "": "injoignable",
    "inactive": "aucun Swarm",
    "active": "actif",
    "pending": "en cours d’adhésion",
    "error": "en erreur",
    "locked": "verrouillé",
}

SWARM_EXERCISES = (
    Exercise("initialiser", "Initialiser le Swarm", swarm_started),
    Exercise("rejoindre", "Faire entrer les trois nœuds", memberships),
    Exercise("creer-service", "Créer le service", _created),
    Exercise("changer-echelle", "Changer d’échelle", _scaled),
    Exercise("mode-host", "Publier en mode host", _host_created),
    Exercise("mode-host-5", "Demander plus de replicas que de nœuds", _host_scaled),
    Exercise("supprimer", "Supprimer les services", _removed),
    Exercise("quitter", "Quitter le Swarm", left_behind),
)
