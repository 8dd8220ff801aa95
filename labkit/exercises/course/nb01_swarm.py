"""Pure checks of the swarm and of single services, one an exercise: ``ClusterState -> Row…``.

They never raise, whatever the state, and each can fail. Texts are French, for students.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labkit.exercises.exercise import Exercise
from labkit.exercises.rows import (
    ENGINE_SWARM,
    HOST,
    MESH,
    exists_row,
    find_service,
    memberships,
    replicas_row,
    scaled_rows,
    service_rows,
    way_out_for,
)
from labkit.exercises.settling import able_nodes
from labkit.state import ClusterState, Task
from labkit.verdict import Row

MESH_PORT, HOST_PORT = 9999, 9998
CREATED, SCALED = 5, 8
HOST_CREATED, HOST_SCALED = 2, 5


# -- the swarm ------------------------------------------------------------------------------


def swarm_started(state: ClusterState) -> Iterator[Row]:
    """Check that the first engine leads a swarm."""
    first = state.engines[0] if state.engines else None
    name = first.name if first else "node1"
    swarm = first.swarm if first else ""
    yield Row.equal(
        f"Swarm sur {name}",
        "actif",
        ENGINE_SWARM.get(swarm, swarm),
        "Tapez « docker swarm init » : sans autre précision, docker s’adresse à node1."
        if swarm == "inactive"
        else way_out_for(state, name)
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


def left_behind(state: ClusterState) -> Iterator[Row]:
    """Check that no engine is in a swarm any more."""
    if not state.engines:
        yield Row.fault("Moteurs", "trois", "aucun", "Relancez la cellule de démarrage.")
    for engine in state.engines:
        yield Row.whether(
            engine.name,
            ENGINE_SWARM["inactive"],
            engine.swarm == "inactive",
            ENGINE_SWARM.get(engine.swarm, engine.swarm),
            f"« docker --context {engine.name} swarm leave --force »",
        )


# -- services -------------------------------------------------------------------------------


def _created(state: ClusterState) -> Iterator[Row]:
    yield from service_rows(state, MESH, MESH_PORT, "ingress", (CREATED, SCALED))


def _scaled(state: ClusterState) -> Iterator[Row]:
    yield from scaled_rows(state, MESH, SCALED)


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
