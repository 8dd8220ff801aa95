"""Pure checks of the voting stack on a cluster: its file, its options, its updates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from labkit.exercises.copies import COPY, Agreement, WrittenCopy, agreement, written
from labkit.exercises.course.nb02_voting import (
    LUA,
    PAGES,
    STACK,
    find,
    judge_ballot,
    stack_rows,
    task_of_image,
    tasks_row,
)
from labkit.exercises.exercise import Exercise, Measure, Probe
from labkit.exercises.measures.ballots import cast
from labkit.exercises.questions import Question, listing, only, seen
from labkit.exercises.rows import find_node
from labkit.exercises.settling import able_nodes
from labkit.stacks import services_of
from labkit.state import ClusterState, Service, UpdatePolicy
from labkit.text.french import enumerate_fr
from labkit.verdict import Row

FRONT = 3
SPREAD = 4
ROOM = "node.labels.salle"
DATA = ("db", "redis")  # each on a volume of its own
WHOAMI = f"{STACK}_whoami"

_DEPLOY = f"« docker stack deploy --compose-file {COPY} {STACK} »"
EDIT = f"Changez {COPY}, enregistrez-le, puis redéployez : {_DEPLOY}."
MOVE = 240.0  # s for all tasks of a node to start on others, under emulation


# -- deployed, scaled -----------------------------------------------------------------------


def _deployed(state: ClusterState) -> Iterator[Row]:
    yield from stack_rows(state, STACK, _DEPLOY)
    services = {s.id for s in services_of(state, STACK)}
    nodes = {t.node_id for t in state.tasks if t.service_id in services and t.running}
    yield Row.whether(
        "Nœuds qui exécutent la stack",
        "plusieurs",
        len(nodes) > 1,
        str(len(nodes)),
        "Les trois moteurs sont-ils du même Swarm ? « docker node ls »",
    )


def _there(state: ClusterState) -> Iterator[Row]:
    there = bool(services_of(state, STACK))
    yield Row.whether(f"Stack {STACK}", "déployée", there, "absente", _DEPLOY)


def _judge_written(file: WrittenCopy) -> Iterator[Row]:
    asked = dict(file.replicas)
    edit = f"Changez {COPY} et enregistrez-le (Ctrl-S)."
    yield Row.equal(
        f"Replicas de vote dans {COPY}",
        FRONT,
        file.problem or asked.get("vote", "aucun service de ce nom"),
        edit,
    )
    others = {n: r for n, r in asked.items() if n not in ("vote", *DATA)}
    grown = [f"{n} : {r}" for n, r in others.items() if r not in ("—", "0", "1", str(FRONT))]
    yield Row(
        f"Replicas d’un autre service dans {COPY}",
        f"un autre nombre que 1 et que {FRONT}",
        file.problem or enumerate_fr(grown) or "aucun n’en a changé",
        bool(grown),
        edit,
    )
    data = [f"{n} : {asked[n]}" for n in DATA if n in asked]
    yield Row(
        f"Replicas de db et de redis dans {COPY}",
        "1 chacun",
        file.problem or enumerate_fr(data) or "—",
        all(asked.get(n) == "1" for n in DATA),
        f"Ils écrivent chacun dans un volume : à deux sur le même, ils l’abîmeraient. {edit}",
    )


def _scaled_apart(state: ClusterState) -> Iterator[Row]:
    front = find(state, f"{STACK}_vote")
    wanted = front.replicas if front else None
    yield Row.equal(f"Replicas de {STACK}_vote", FRONT, _number(wanted), EDIT)
    others = [s for s in services_of(state, STACK) if _short(s) not in ("vote", *DATA)]
    grown = [s for s in others if s.replicas not in (None, 0, 1, FRONT)]
    yield Row(
        "Replicas d’un autre service",
        f"un autre nombre que 1 et que {FRONT}",
        enumerate_fr([f"{s.name} : {s.replicas}" for s in grown]) or "aucun n’en a changé",
        bool(grown),
        EDIT,
    )
    data = [s for name in DATA if (s := find(state, f"{STACK}_{name}"))]
    yield Row(
        "Replicas de db et de redis",
        "1 chacun",
        enumerate_fr([f"{_short(s)} : {_number(s.replicas)}" for s in data]) or "—",
        len(data) == len(DATA) and all(s.replicas == 1 for s in data),
        "Ils écrivent chacun dans un volume : à deux sur le même, ils l’abîmeraient. " + EDIT,
    )
    for service in [*([front] if front else []), *grown]:
        yield tasks_row(state, service)


def _judge_agreement(said: Agreement) -> Iterator[Row]:
    found = said.problem or " ; ".join(said.differences)
    yield Row.whether(
        f"{COPY} et le cluster",
        "demandent la même chose",
        not found,
        found,
        f"Ce qui n’est pas écrit dans {COPY} se perd au prochain déploiement. " + EDIT,
    )


# -- options that only Swarm knows ----------------------------------------------------------


def _everywhere(state: ClusterState) -> Iterator[Row]:
    name = f"{STACK}_result"
    service = find(state, name)
    mode = service.mode if service else "aucun service de ce nom"
    yield Row.equal(
        f"Mode de {name}",
        "global",
        mode,
        f"Le mode d’un service ne change pas : « docker service rm {name} », puis {_DEPLOY}."
        if mode == "replicated"
        else EDIT,
    )
    if service and mode == "global":
        yield one_each(state, service)


def one_each(state: ClusterState, service: Service) -> Row:
    """Return the row for a global service: a task on every node that takes tasks."""
    able = able_nodes(state)
    on = {t.node_id for t in state.running(service.id)}
    there = [n.name for n in able if n.id in on]
    return Row(
        f"Nœuds qui exécutent une task de {service.name}",
        enumerate_fr([n.name for n in able]) or "au moins un",
        enumerate_fr(there) or "aucun",
        bool(there) and len(there) == len(able),
        f"Lisez « docker service ps --no-trunc {service.name} », attendez, puis revérifiez.",
    )


def _rooms(state: ClusterState) -> Iterator[Row]:
    key = ROOM.rpartition(".")[2]
    rooms = {n.name: n.labels.get(key, "") for n in state.nodes}
    yield Row(
        f"Label « {key} » des nœuds",
        "un sur chaque nœud, deux salles au moins",
        enumerate_fr([f"{name} : {room or '—'}" for name, room in rooms.items()]) or "—",
        all(rooms.values()) and len(set(rooms.values())) > 1,
        f"« docker node update --label-add {key}=nord node1 », et de même pour les autres.",
    )
    service = find(state, WHOAMI)
    spread = service.preferences if service else ()
    yield Row.among(
        f"Préférence de {WHOAMI}",
        ROOM,
        spread,
        "Sous deploy.placement.preferences : « - spread: node.labels.salle ». " + EDIT,
        none="aucune" if service else "aucun service de ce nom",
    )
    if service:
        yield Row.equal(f"Replicas de {WHOAMI}", SPREAD, _number(service.replicas), EDIT)
        yield tasks_row(state, service)


def _little_by_little(state: ClusterState) -> Iterator[Row]:
    worker, vote = find(state, f"{STACK}_worker"), find(state, f"{STACK}_vote")
    image = worker.image if worker else "aucun service de ce nom"
    yield Row(f"Image de {STACK}_worker", LUA, image, image.endswith(LUA), EDIT)
    wanted = worker.replicas if worker else None
    yield Row(f"Replicas de {STACK}_worker", "2 ou plus", _number(wanted), (wanted or 0) > 1, EDIT)
    yield Row(
        f"Mise à jour de {STACK}_worker",
        "une task à la fois, avec une pause",
        _policy(worker),
        bool(worker and worker.update and worker.update.parallelism == 1)
        and bool(worker and worker.update and worker.update.delay_s > 0),
        "Sous deploy.update_config : parallelism et delay. " + EDIT,
    )
    if worker:
        yield task_of_image(state, worker)
    policy = vote.update if vote else None
    yield Row(
        f"Mise à jour de {STACK}_vote",
        "la nouvelle task d’abord, retour en arrière si elle échoue",
        _order(policy),
        policy is not None and (policy.order, policy.on_failure) == ("start-first", "rollback"),
        "Sous deploy.update_config : order et failure_action. " + EDIT,
    )


def _policy(service: Service | None) -> str:
    if service is None or service.update is None:
        return "rien n’est dit"
    many = service.update.parallelism
    how = (
        "toutes à la fois"
        if not many
        else "une task à la fois"
        if many == 1
        else f"{many} à la fois"
    )
    return how + (", avec une pause" if service.update.delay_s else ", sans pause")


def _order(policy: UpdatePolicy | None) -> str:
    if policy is None:
        return "rien n’est dit"
    first = "la nouvelle" if policy.order == "start-first" else "arrêter l’ancienne"
    then = {
        "rollback": "retour en arrière si elle échoue",
        "pause": "pause si elle échoue",
    }.get(policy.on_failure, "on continue même si elle échoue")
    return f"{first}{' task' if policy.order == 'start-first' else ''} d’abord, {then}"


def _rolled_back(state: ClusterState) -> Iterator[Row]:
    name = f"{STACK}_vote"
    service = find(state, name)
    found = (service.update_state or "aucune") if service else "aucun service de ce nom"
    yield Row.equal(
        f"Dernière mise à jour de {name}",
        _UPDATE["rollback_completed"],
        _UPDATE.get(found, found),
        f"« docker service rollback {name} »"
        if found in {"paused", "rollback_paused"}
        else "Relancez la cellule de la coquille, puis attendez.",
    )
    if service:
        yield task_of_image(state, service)


_UPDATE = {
    "updating": "en cours",
    "paused": "arrêtée sur un échec",
    "completed": "terminée",
    "rollback_started": "échec, retour en arrière en cours",
    "rollback_paused": "échec, retour en arrière arrêté",
    "rollback_completed": "échec, puis retour en arrière terminé",
}


def _out_of_reach(state: ClusterState) -> Iterator[Row]:
    waiting = _waiting(state)
    yield Row.whether(
        f"Task de {WHOAMI} en attente",
        "faute de mémoire",
        any("insufficient resources" in e for e in waiting),
        " ; ".join(waiting) or "aucune",
        "Relancez la cellule qui réserve la mémoire, puis attendez.",
    )


def _within_reach(state: ClusterState) -> Iterator[Row]:
    service = find(state, WHOAMI)
    waiting = _waiting(state)
    yield Row.equal(
        f"Task de {WHOAMI} en attente",
        "aucune",
        " ; ".join(waiting) or ("aucune" if service else "aucun service de ce nom"),
        f"« docker service rollback {WHOAMI} », ou « docker service update --reserve-memory 0 "
        f"{WHOAMI} »",
    )
    if service:
        yield tasks_row(state, service)


def _waiting(state: ClusterState) -> list[str]:
    """Return why tasks of whoami wait for a node, each reason once."""
    service = find(state, WHOAMI)
    tasks = state.tasks_of(service.id) if service else ()
    return sorted({t.error for t in tasks if not t.node_id and t.error})


def _short(service: Service) -> str:
    return service.name.removeprefix(f"{STACK}_")


def _number(replicas: int | None) -> str:
    return "—" if replicas is None else str(replicas)


# -- what was predicted -------------------------------------------------------------------


def _running(prediction: str, service: str) -> Measure:
    """Make the measure of how many tasks of a service run."""
    return Measure(prediction, lambda state, _: len(state.running(f"{STACK}_{service}")))


def on_the_first(state: ClusterState, _: Any) -> int | None:
    """Return how many tasks of whoami run on node1; None without that service."""
    there = state.has_service(WHOAMI)
    return sum(t.node == "node1" for t in state.running(WHOAMI)) if there else None


def _together(state: ClusterState, _: Any) -> str | None:
    """Return whether workers in both languages ran at the same time."""
    tasks = state.tasks_of(f"{STACK}_worker", current=False)
    began = [t.since for t in tasks if t.since and t.running and t.image.endswith(":lua")]
    ended = [t.since for t in tasks if t.since and t.image.endswith(":1")]
    return ("oui" if min(began) < max(ended) else "non") if began and ended else None


ORCHESTRATION_EXERCISES = (
    Exercise("cluster-deployer", "La stack sur trois nœuds", _deployed, PAGES, MOVE),
    Exercise(
        "ecrire-echelles",
        "Écrire deux échelles",
        _there,
        Probe(written, _judge_written),
        MOVE,
    ),
    Exercise(
        "echelles",
        "Deux services, deux échelles",
        _scaled_apart,
        Probe(agreement, _judge_agreement),
        MOVE,
    ),
    Exercise(
        "une-par-noeud",
        "Une task par nœud",
        _everywhere,
        None,
        MOVE,
        measures=(_running("global", "result"),),
    ),
    Exercise(
        "deux-salles",
        "Répartir entre deux salles",
        _rooms,
        None,
        MOVE,
        measures=(Measure("salles", on_the_first),),
    ),
    Exercise(
        "peu-a-peu",
        "Remplacer peu à peu",
        _little_by_little,
        Probe(partial(cast, limit=30.0), partial(judge_ballot, STACK)),
        MOVE,
        measures=(Measure("ensemble", _together),),
        apart=True,
    ),
    Exercise(
        "coquille",
        "La mise à jour qui échoue",
        _rolled_back,
        None,
        MOVE,
        measures=(_running("coquille", "vote"),),
    ),
    Exercise(
        "reservation",
        "Une mémoire que personne n’a",
        _out_of_reach,
        None,
        MOVE,
        measures=(_running("memoire", "whoami"),),
    ),
    Exercise("liberer", "Rendre la mémoire", _within_reach, None, MOVE),
)


# -- the questions at the end ---------------------------------------------------------------


def labels_row(state: ClusterState, said: str, name: str) -> Row:
    """Return whether an output has all labels of a node, each with its value."""
    node = find_node(state, name)
    labels = sorted(node.labels.items()) if node else []
    form = "".join(
        rf"(?=.*\b{re.escape(key)}\W{{1,4}}{re.escape(value)}(?!\w))" for key, value in labels
    )
    answer = ", ".join(f"{key}={value}" for key, value in labels)
    hint = f"Et la définition de {name} ? Les labels d’un nœud y sont, s’il en a."
    return seen(said, f"Labels de {name}", "tous", answer, hint, f"(?s){form}")


def _global(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    names = [s.name for s in state.services]
    wanted = [s.name for s in state.services if s.mode == "global"]
    hint = "La liste des services a une colonne MODE : que sait-elle filtrer ?"
    yield only(said, "Services en mode global", wanted, names, "replicated", hint)


def _spread(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    service = find(state, WHOAMI)
    rule = next(iter(service.preferences), "") if service else ""
    hint = "Que dit la définition de whoami de son placement ?"
    yield seen(said, "Préférence de whoami", "celle de la définition", rule, hint)
    yield labels_row(state, said, "node2")


def _past(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    worker = f"{STACK}_worker"
    tasks = state.tasks_of(worker, current=False) if state.has_service(worker) else ()
    hint = "Quelle liste montre les tasks d’un service, celles d’avant comprises, et leur image ?"
    for image in sorted({t.image for t in tasks}) or [""]:
        yield seen(said, "Image de vote_worker", "chacune", image, hint)
    yield seen(said, "Tasks de vote_worker", "toutes", len(tasks) or "", hint, listing(tasks))


ORCHESTRATION_QUESTIONS = (
    Question("services-partout", "Les services en mode global", _global),
    Question("preference-de-whoami", "Une préférence, un label", _spread),
    Question("images-du-worker", "Les images du worker", _past),
)
