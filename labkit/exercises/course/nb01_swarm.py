"""Pure checks of the swarm and of single services, one an exercise: ``ClusterState -> Row…``.

They never raise, whatever the state, and each can fail. Texts are French, for students.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from labkit.exercises.exercise import Exercise, Measure
from labkit.exercises.questions import (
    AGO,
    DATE,
    Question,
    about,
    alone,
    definition,
    listing,
    seen,
    virtual,
    whole,
)
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
from labkit.exercises.settling import able_nodes, spread
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
    Exercise(
        "initialiser",
        "Initialiser le Swarm",
        swarm_started,
        measures=(Measure("membres", lambda state, _: len(state.nodes)),),
    ),
    Exercise("rejoindre", "Faire entrer les trois nœuds", memberships),
    Exercise(
        "creer-service",
        "Créer le service",
        _created,
        measures=(Measure("tasks-par-noeud", lambda state, _: spread(state, MESH)),),
    ),
    Exercise("changer-echelle", "Changer d’échelle", _scaled),
    Exercise("mode-host", "Publier en mode host", _host_created),
    Exercise(
        "mode-host-5",
        "Demander plus de replicas que de nœuds",
        _host_scaled,
        measures=(Measure("host-5", lambda state, _: len(state.running(HOST))),),
    ),
    Exercise("supprimer", "Supprimer les services", _removed),
    Exercise("quitter", "Quitter le Swarm", left_behind),
)


def stayed(node: str) -> Callable[[ClusterState, Any], str]:
    """Return what tells whether a node that was to leave is still in the swarm."""
    return lambda state, _: "Docker refuse" if state.engine(node).swarm == "active" else "il part"


SWARM_MEASURES = {"quitter-sans-forcer": Measure("quitter", stayed("node1"))}


# -- the questions at the end ---------------------------------------------------------------


def _of_the_first(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    tasks = state.running(MESH) if state.has_service(MESH) else ()
    node = next((t.node for t in tasks if t.slot == 1 and t.node), "")
    lines = about(said, f"{MESH}.1")
    hint = f"Quelle commande liste les tasks de {MESH}, avec leurs nœuds ?"
    yield seen(lines, f"Nœud de {MESH}.1", "son nom", node, hint)
    hint = "Quelle colonne de cette liste dit l’état de la task, et depuis quand ?"
    yield seen(lines, f"Âge de {MESH}.1", "une durée, ou une date", None, hint, AGO, DATE)


def _ports(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    service = find_service(state, MESH)
    port = service.ports[0] if service and service.ports else None
    hint = f"Où la définition de {MESH} parle-t-elle de ses ports ?"
    yield seen(said, "Port publié", "le port du dehors", port.published if port else "", hint)
    hint = "Voyez-vous le port, mais pas le mode ? Demandez la définition, et non la liste."
    yield seen(said, "Mode", "celui de ce port", port.mode if port else "", hint)


def _containers(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    there = [t for t in state.tasks if t.node == "node2" and t.running]
    number = len(there) or ""
    forms = (listing(there), alone(number), rf"Running\W+{number}\b")
    hint = "À quel moteur votre commande s’adresse-t-elle : à node1, ou à node2 ?"
    yield seen(said, "Conteneurs de node2", "leur nombre, ou leur liste", number, hint, *forms)


def _virtual(state: ClusterState, said: str, service: Any) -> Iterator[Row]:
    address = virtual(service, state, "ingress")
    hint = f"Que dit la définition de {MESH} de son point d’entrée ?"
    yield seen(said, "Adresse virtuelle", f"celle de {MESH} sur ingress", address, hint)


def _restart(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    service = find_service(state, MESH)
    hint = f"La définition de {MESH} décrit ses tasks : quelle partie parle de redémarrage ?"
    forms = (rf"Condition\W+{whole(service.restart)}", alone(service.restart)) if service else ()
    wanted = "sa condition (Condition)"
    yield seen(said, "Redémarrage", wanted, service.restart if service else "", hint, *forms)


SWARM_QUESTIONS = (
    Question("whoami-1", "La première task", _of_the_first),
    Question("ports-de-whoami", "Les ports publiés", _ports),
    Question("conteneurs-de-node2", "Les conteneurs de node2", _containers),
    Question("adresse-virtuelle", "L’adresse virtuelle", _virtual, definition(MESH)),
    Question("redemarrage", "La politique de redémarrage", _restart),
)
