"""Pure checks of the voting stack's nodes: their roles, their data, their quorum."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from labkit.exercises.copies import COPY
from labkit.exercises.course.nb02_voting import STACK, find, judge_ballot, tasks_row
from labkit.exercises.course.nb04_clustering import elected_row, last_election
from labkit.exercises.course.nb05_orchestration import (
    DATA,
    EDIT,
    MOVE,
    WHOAMI,
    labels_row,
    on_the_first,
    one_each,
)
from labkit.exercises.exercise import Exercise, Measure, Probe
from labkit.exercises.measures.ballots import Ballot, Scores, cast, resultats
from labkit.exercises.questions import Question, asked_of, compact, definition, listing, seen
from labkit.exercises.rows import find_node, find_service, memberships
from labkit.exercises.settling import able_nodes, moving
from labkit.polling import until
from labkit.stacks import services_of
from labkit.state import ClusterState, capture
from labkit.text.french import enumerate_fr
from labkit.verdict import Row

FIRST, SECOND, THIRD = "node1", "node2", "node3"
_OURS = ("node.labels.", "node.hostname", "node.id")  # what tells one node from the others
_RECOUNT = 90.0  # s for a lost node's tasks to be placed anew, and a vote to pass through them
_REREAD = 60.0  # s for the page of results to find its database again


# -- roles and availability -----------------------------------------------------------------


def _managers(wanted: tuple[str, ...], hint: str, state: ClusterState) -> Iterator[Row]:
    names = sorted(n.name for n in state.managers)
    ours = sorted(n.name if (n := find_node(state, w)) else w for w in wanted)
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
    node = find_node(state, FIRST)
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
    node = find_node(state, FIRST)
    found = f"{node.availability}, {node.state}" if node else "nœud inconnu"
    yield Row.equal(
        f"Disponibilité de {FIRST}",
        "active, ready",
        found,
        f"« docker node update --availability active {FIRST} »",
    )
    for service in services_of(state, STACK):
        if service.mode == "global":
            yield one_each(state, service)


def _balanced(state: ClusterState) -> Iterator[Row]:
    service = find(state, WHOAMI)
    if service is None:
        yield Row.fault(f"Service {WHOAMI}", "déployé", "aucun service de ce nom", EDIT)
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
            f"contrainte « node.labels.donnees == oui ». {EDIT}",
        )
        if service:
            nodes = [t.node or "—" for t in state.running(service.id)]
            first = find_node(state, FIRST)
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
    first = find_node(state, FIRST)
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
        return bool(ballot) or time.monotonic() - start >= (MOVE if moving(capture()) else _RECOUNT)

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


NODE_EXERCISES = (
    Exercise(
        "promouvoir-deux",
        "Promouvoir deux nœuds",
        partial(_managers, (FIRST, SECOND, THIRD), f"« docker node promote {SECOND} {THIRD} »"),
        None,
        MOVE,
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
        MOVE,
    ),
    Exercise("vider-node1", f"Vider {FIRST}", _drained, None, MOVE),
    Exercise(
        "ramener-node1",
        f"Le retour de {FIRST}",
        _back,
        None,
        MOVE,
        measures=(Measure("retour", on_the_first),),
    ),
    Exercise("reequilibrer", "Rééquilibrer", _balanced, None, MOVE),
    Exercise(
        "attacher-donnees",
        "Attacher les données à leur nœud",
        _pinned,
        Probe(partial(resultats, patience=_REREAD), _judge_scores),
        MOVE,
    ),
    Exercise("perdre-quorum", "Perdre le quorum", _lost, None, MOVE),
    Exercise(
        "forcer-cluster",
        "Repartir du survivant",
        _forced,
        Probe(_cast_at_last, _judge_survivor),
    ),
    Exercise("cluster-entier", "Un cluster entier", _whole, None, MOVE),
)


# -- the questions at the end ---------------------------------------------------------------

_DB = f"{STACK}_db"


def _ties(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    service = find_service(state, _DB)
    rule = compact(next(iter(service.constraints), "")) if service else ""
    hint = "Que dit la définition de db de son placement ?"
    yield seen(compact(said), "Contrainte de db", "celle de la définition", rule, hint)
    yield labels_row(state, said, FIRST)


def _orphans(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    known = {n.id for n in state.nodes}
    lost = [t for t in state.tasks if t.node_id and t.node_id not in known]
    hint = "Dans la liste des tasks de la stack, que montre la colonne NODE pour un nœud disparu ?"
    yield seen(said, "Tasks de l’ancien nœud", "leurs lignes", len(lost) or "", hint, listing(lost))


_ask_remotes = partial(
    asked_of, THIRD, "docker info", lambda api: api.info()["Swarm"].get("RemoteManagers") or ()
)


def _remotes(state: ClusterState, said: str, managers: Any) -> Iterator[Row]:
    hint = f"Que dit le moteur de {THIRD} du Swarm, et des managers qu’il joint ?"
    for manager in managers or [{"Addr": ""}]:
        yield seen(said, f"Manager que {THIRD} connaît", "son adresse", manager["Addr"], hint)


def _before(state: ClusterState, said: str, service: Any) -> Iterator[Row]:
    tasks = ((service or {}).get("PreviousSpec") or {}).get("TaskTemplate") or {}
    rules = (tasks.get("Placement") or {}).get("Constraints") or [""]
    hint = "db a-t-elle déjà été mise à jour ? Sa définition garde alors aussi celle d’avant."
    yield seen(compact(said), "Contrainte d’avant", "celle de db", compact(rules[0]), hint)


def _election(state: ClusterState, said: str, line: Any) -> Iterator[Row]:
    hint = f"Quelle ligne du journal de {FIRST} annonce en dernier un leader élu ?"
    if line is None:
        yield elected_row(said, hint)
        return
    answer = f"{line.when.astimezone():%H:%M:%S}" if line.when else ""
    yield seen(said, "Heure de l’élection", "celle du journal", answer, hint)


NODE_QUESTIONS = (
    Question("attaches-de-db", "Ce qui attache db", _ties),
    Question("tasks-de-l-ancien-node2", "Les tasks d’un nœud disparu", _orphans),
    Question("managers-de-node3", "Les managers que connaît node3", _remotes, _ask_remotes),
    Question("contrainte-d-avant", "La définition d’avant", _before, definition(_DB)),
    Question(
        "heure-de-l-election", "L’heure de l’élection", _election, partial(last_election, FIRST)
    ),
)
