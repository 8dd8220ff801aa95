"""Pure checks of the voting stack on a cluster: its options, its nodes, its quorum."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from labkit.exercises.copies import COPY, Agreement, Written, agreement, written
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
from labkit.exercises.exercise import Exercise, Probe
from labkit.exercises.measures.ballots import Ballot, Scores, cast, resultats
from labkit.exercises.rows import memberships
from labkit.exercises.settling import able_nodes, moving
from labkit.polling import until
from labkit.state import ClusterState, Node, Service, UpdatePolicy, capture
from labkit.text.french import enumerate_fr
from labkit.verdict import Row

__all__ = ["ORCHESTRATION_EXERCISES"]

FRONT = 3
SPREAD = 4
ROOM = "node.labels.salle"
DATA = ("db", "redis")  # each on a volume of its own
WHOAMI = f"{STACK}_whoami"
FIRST, SECOND, THIRD = "node1", "node2", "node3"
_OURS = ("node.labels.", "node.hostname", "node.id")  # what tells one node from the others

_DEPLOY = f"« docker stack deploy --compose-file {COPY} {STACK} »"
_EDIT = f"Changez {COPY}, enregistrez-le, puis redéployez : {_DEPLOY}."
_MOVE = 240.0  # s for all tasks of a node to start on others, under emulation
_RECOUNT = 90.0  # s for a lost node's tasks to be placed anew, and a vote to pass through them
_REREAD = 60.0  # s for the page of results to find its database again


# -- deployed, scaled -----------------------------------------------------------------------


def _deployed(state: ClusterState) -> Iterator[Row]:
    yield from stack_rows(state, STACK, _DEPLOY)
    services = {s.id for s in state.services if s.stack == STACK}
    nodes = {t.node_id for t in state.tasks if t.service_id in services and t.running}
    yield Row.whether(
        "Nœuds qui exécutent la stack",
        "plusieurs",
        len(nodes) > 1,
        str(len(nodes)),
        "Les trois moteurs sont-ils du même Swarm ? « docker node ls »",
    )


def _there(state: ClusterState) -> Iterator[Row]:
    there = bool(_stack(state))
    yield Row.whether(f"Stack {STACK}", "déployée", there, "absente", _DEPLOY)


def _judge_written(file: Written) -> Iterator[Row]:
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
    yield Row.equal(f"Replicas de {STACK}_vote", FRONT, _number(wanted), _EDIT)
    others = [s for s in _stack(state) if _short(s) not in ("vote", *DATA)]
    grown = [s for s in others if s.replicas not in (None, 0, 1, FRONT)]
    yield Row(
        "Replicas d’un autre service",
        f"un autre nombre que 1 et que {FRONT}",
        enumerate_fr([f"{s.name} : {s.replicas}" for s in grown]) or "aucun n’en a changé",
        bool(grown),
        _EDIT,
    )
    data = [s for name in DATA if (s := find(state, f"{STACK}_{name}"))]
    yield Row(
        "Replicas de db et de redis",
        "1 chacun",
        enumerate_fr([f"{_short(s)} : {_number(s.replicas)}" for s in data]) or "—",
        len(data) == len(DATA) and all(s.replicas == 1 for s in data),
        "Ils écrivent chacun dans un volume : à deux sur le même, ils l’abîmeraient. " + _EDIT,
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
        f"Ce qui n’est pas écrit dans {COPY} se perd au prochain déploiement. " + _EDIT,
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
        else _EDIT,
    )
    if service and mode == "global":
        yield _one_each(state, service)


def _one_each(state: ClusterState, service: Service) -> Row:
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
        f"« docker node update --label-add {key}=nord {FIRST} », et de même pour les autres.",
    )
    service = find(state, WHOAMI)
    spread = service.preferences if service else ()
    yield Row.among(
        f"Préférence de {WHOAMI}",
        ROOM,
        spread,
        "Sous deploy.placement.preferences : « - spread: node.labels.salle ». " + _EDIT,
        none="aucune" if service else "aucun service de ce nom",
    )
    if service:
        yield Row.equal(f"Replicas de {WHOAMI}", SPREAD, _number(service.replicas), _EDIT)
        yield tasks_row(state, service)


def _little_by_little(state: ClusterState) -> Iterator[Row]:
    worker, vote = find(state, f"{STACK}_worker"), find(state, f"{STACK}_vote")
    image = worker.image if worker else "aucun service de ce nom"
    yield Row(f"Image de {STACK}_worker", LUA, image, image.endswith(LUA), _EDIT)
    wanted = worker.replicas if worker else None
    yield Row(f"Replicas de {STACK}_worker", "2 ou plus", _number(wanted), (wanted or 0) > 1, _EDIT)
    yield Row(
        f"Mise à jour de {STACK}_worker",
        "une task à la fois, avec une pause",
        _policy(worker),
        bool(worker and worker.update and worker.update.parallelism == 1)
        and bool(worker and worker.update and worker.update.delay_s > 0),
        "Sous deploy.update_config : parallelism et delay. " + _EDIT,
    )
    if worker:
        yield task_of_image(state, worker)
    policy = vote.update if vote else None
    yield Row(
        f"Mise à jour de {STACK}_vote",
        "la nouvelle task d’abord, retour en arrière si elle échoue",
        _order(policy),
        policy is not None and (policy.order, policy.on_failure) == ("start-first", "rollback"),
        "Sous deploy.update_config : order et failure_action. " + _EDIT,
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


# -- roles and availability -----------------------------------------------------------------


def _managers(wanted: tuple[str, ...], hint: str, state: ClusterState) -> Iterator[Row]:
    names = sorted(n.name for n in state.managers)
    ours = sorted(n.name if (n := _node(state, w)) else w for w in wanted)
    yield Row.equal("Managers", enumerate_fr(ours), enumerate_fr(names) or "—", hint)
    mute = [n.name for n in state.managers if not (n.leader or n.reachability == "reachable")]
    yield Row.whether(
        "Managers qui votent",
        "tous",
        bool(names) and not mute,
        f"pas {enumerate_fr(mute)}" if mute else "aucun",
        "Attendez quelques secondes, puis revérifiez.",
    )


def _drained(state: ClusterState) -> Iterator[Row]:
    node = _node(state, FIRST)
    found = node.availability if node else "nœud inconnu"
    others = [n.name for n in state.nodes if n.availability == "drain" and n is not node]
    back = "".join(f"« docker node update --availability active {n} », puis " for n in others)
    yield Row.equal(
        f"Disponibilité de {FIRST}",
        "drain",
        found,
        f"{back}« docker node update --availability drain {FIRST} »",
    )
    standing = f"{node.role}, {node.state}" if node else "—"
    yield Row.equal(
        f"{FIRST} dans le Swarm",
        "manager, ready",
        standing,
        f"« docker node promote {FIRST} » ; drain ne fait pas sortir un nœud du Swarm.",
    )
    here = [t for t in state.tasks if node and t.node_id == node.id and (t.running or t.stopping)]
    yield Row.whether(
        f"Tasks sur {FIRST}",
        "0",
        node is not None and not here,
        str(len(here)),
        "Attendez quelques secondes, puis revérifiez.",
    )
    for name in ("db", "vote"):
        if service := find(state, f"{STACK}_{name}"):
            yield tasks_row(state, service)


def _back(state: ClusterState) -> Iterator[Row]:
    node = _node(state, FIRST)
    found = f"{node.availability}, {node.state}" if node else "nœud inconnu"
    yield Row.equal(
        f"Disponibilité de {FIRST}",
        "active, ready",
        found,
        f"« docker node update --availability active {FIRST} »",
    )
    for service in _stack(state):
        if service.mode == "global":
            yield _one_each(state, service)


def _balanced(state: ClusterState) -> Iterator[Row]:
    service = find(state, WHOAMI)
    if service is None:
        yield Row.fault(f"Service {WHOAMI}", "déployé", "aucun service de ce nom", _EDIT)
        return
    on = {t.node_id for t in state.running(service.id)}
    able = able_nodes(state)
    yield Row.equal(
        f"Nœuds qui exécutent {WHOAMI}",
        enumerate_fr([n.name for n in able]) or "au moins un",
        enumerate_fr([n.name for n in able if n.id in on]) or "aucun",
        "Swarm ne place que des tasks neuves. Une option de « docker service update » les "
        "renouvelle toutes : « --force ».",
    )
    yield tasks_row(state, service)


def _pinned(state: ClusterState) -> Iterator[Row]:
    for name in DATA:
        service = find(state, f"{STACK}_{name}")
        rules = service.constraints if service else ()
        pinned = [r for r in rules if r.startswith(_OURS)]
        yield Row(
            f"Contrainte de {STACK}_{name}",
            "une qui désigne le nœud de ses données",
            enumerate_fr(rules) or ("aucune" if service else "aucun service de ce nom"),
            bool(pinned),
            f"« docker node update --label-add donnees=oui {FIRST} », puis, dans {COPY}, la "
            f"contrainte « node.labels.donnees == oui ». {_EDIT}",
        )
        if service:
            nodes = [t.node or "—" for t in state.running(service.id)]
            first = _node(state, FIRST)
            yield Row(
                f"Nœud de {STACK}_{name}",
                FIRST,
                enumerate_fr(nodes) or "aucun",
                first is not None and nodes == [first.name],
                f"Lisez « docker service ps --no-trunc {service.name} » : {FIRST} porte-t-il le "
                "label ?",
            )


def _judge_scores(scores: Scores | None) -> Iterator[Row]:
    total = scores.a + scores.b if scores and scores.live else 0
    yield Row.whether(
        "Votes sur la page des résultats",
        "au moins un",
        total > 0,
        scores.message if scores else "la page ne répond pas",
        f"db est-elle sur {FIRST}, avec ses données ? Sinon, votez, puis revérifiez.",
    )


# -- quorum ---------------------------------------------------------------------------------


def _lost(state: ClusterState) -> Iterator[Row]:
    yield Row.equal(
        "Quorum",
        "perdu",
        {"no-quorum": "perdu", "active": "atteint"}.get(state.swarm, "aucun Swarm ne répond"),
        f"Il faut deux managers, puis éteindre {SECOND} : « labkit node kill {SECOND} ».",
    )
    gone = [e.name for e in state.engines if not e.reachable]
    yield Row.equal(
        "Moteurs qui ne répondent plus",
        SECOND,
        enumerate_fr(gone) or "aucun",
        f"« labkit node start {enumerate_fr([n for n in gone if n != SECOND])} »"
        if set(gone) - {SECOND}
        else f"« labkit node kill {SECOND} »",
    )


def _forced(state: ClusterState) -> Iterator[Row]:
    leader = state.leader.name if state.leader else "aucun"
    first = _node(state, FIRST)
    yield Row(
        "Leader",
        FIRST,
        leader if state.active else "aucun manager ne répond",
        first is not None and first.leader,
        "Sur le survivant : « docker swarm init --force-new-cluster --advertise-addr … »",
    )
    mute = [n.name for n in state.voters if not n.leader and n.reachability != "reachable"]
    yield Row.equal(
        "Managers qui manquent au vote",
        "aucun",
        enumerate_fr(mute) or ("aucun" if state.voters else "tous"),
        "Le Swarm repart de ce que sait le survivant, qui doit être le seul à voter.",
    )


def _cast_at_last() -> Ballot:
    """Vote as one who comes back: a survivor starts its tasks again, and those that are lost."""
    start = time.monotonic()

    def accepted() -> Ballot | None:
        scores = resultats()
        if scores and scores.live:  # else nobody could say whether the vote was counted
            ballot = cast(limit=_RECOUNT)
            return ballot if ballot.accepted else None
        return None

    def enough(ballot: Ballot | None) -> bool:
        return bool(ballot) or time.monotonic() - start >= (
            _MOVE if moving(capture()) else _RECOUNT
        )

    return until(accepted, enough, every=2) or cast(limit=_RECOUNT)


def _judge_survivor(ballot: Ballot) -> Iterator[Row]:
    accepted, counted = judge_ballot(STACK, ballot)
    yield replace(
        accepted,
        hint="Le moteur du survivant a-t-il redémarré ? Jusque-là, son mesh est vide : « labkit "
        f"node stop {FIRST} », puis « labkit node start {FIRST} » ; sur une machine à vous, « sudo "
        "systemctl restart docker ».",
    )
    yield counted


def _whole(state: ClusterState) -> Iterator[Row]:
    yield from memberships(state)
    engines = {e.node_id for e in state.engines}
    ghosts = [n.name for n in state.nodes if n.id not in engines]
    yield Row.equal(
        "Nœuds fantômes",
        "aucun",
        enumerate_fr([f"un ancien {g}" for g in ghosts]) or ("aucun" if state.active else "—"),
        "« docker node ls » donne son ID, puis « docker node rm --force ID ». Docker dit qu’il est "
        "encore manager ? « docker node demote ID » d’abord.",
    )
    count = len(state.managers)
    yield Row(
        "Nombre de managers",
        "impair",
        str(count),
        count % 2 == 1,
        "Deux managers ne valent pas mieux qu’un : promouvez-en un troisième, ou rétrogradez.",
    )


def _node(state: ClusterState, name: str) -> Node | None:
    """Return the node of an engine, or of that name; None if the swarm has none."""
    ids = {e.node_id for e in state.engines if e.name == name and e.node_id}
    return next((n for n in state.nodes if n.id in ids), None) or next(
        (n for n in state.nodes if n.name == name), None
    )


def _stack(state: ClusterState) -> list[Service]:
    return [s for s in state.services if s.stack == STACK]


def _short(service: Service) -> str:
    return service.name.removeprefix(f"{STACK}_")


def _number(replicas: int | None) -> str:
    return "—" if replicas is None else str(replicas)


_COUNTED = partial(judge_ballot, STACK)

ORCHESTRATION_EXERCISES = (
    Exercise("cluster-deployer", "La stack sur trois nœuds", _deployed, PAGES, _MOVE),
    Exercise(
        "ecrire-echelles",
        "Écrire deux échelles",
        _there,
        Probe(written, _judge_written),
        _MOVE,
    ),
    Exercise(
        "echelles",
        "Deux services, deux échelles",
        _scaled_apart,
        Probe(agreement, _judge_agreement),
        _MOVE,
    ),
    Exercise("une-par-noeud", "Une task par nœud", _everywhere, None, _MOVE),
    Exercise("deux-salles", "Répartir entre deux salles", _rooms, None, _MOVE),
    Exercise(
        "peu-a-peu",
        "Remplacer peu à peu",
        _little_by_little,
        Probe(partial(cast, limit=30.0), _COUNTED),
        _MOVE,
    ),
    Exercise("coquille", "La mise à jour qui échoue", _rolled_back, None, _MOVE),
    Exercise("reservation", "Une mémoire que personne n’a", _out_of_reach, None, _MOVE),
    Exercise("liberer", "Rendre la mémoire", _within_reach, None, _MOVE),
    Exercise(
        "promouvoir-deux",
        "Promouvoir deux nœuds",
        partial(_managers, (FIRST, SECOND, THIRD), f"« docker node promote {SECOND} {THIRD} »"),
        None,
        _MOVE,
    ),
    Exercise(
        "dechoir-un",
        "Déchoir un manager",
        partial(
            _managers,
            (FIRST, SECOND),
            f"« docker node demote {THIRD} » ; {SECOND}, lui, doit être manager.",
        ),
        None,
        _MOVE,
    ),
    Exercise("vider-node1", f"Vider {FIRST}", _drained, None, _MOVE),
    Exercise("ramener-node1", f"Le retour de {FIRST}", _back, None, _MOVE),
    Exercise("reequilibrer", "Rééquilibrer", _balanced, None, _MOVE),
    Exercise(
        "attacher-donnees",
        "Attacher les données à leur nœud",
        _pinned,
        Probe(partial(resultats, patience=_REREAD), _judge_scores),
        _MOVE,
    ),
    Exercise("perdre-quorum", "Perdre le quorum", _lost, None, _MOVE),
    Exercise(
        "forcer-cluster",
        "Repartir du survivant",
        _forced,
        Probe(_cast_at_last, _judge_survivor),
    ),
    Exercise("cluster-entier", "Un cluster entier", _whole, None, _MOVE),
)
