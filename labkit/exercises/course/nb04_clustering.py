"""Pure checks of a cluster that is made, loses managers, and comes apart.

They hold for any number of machines, so that a group can use them on its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from labkit import elections
from labkit.elections import unaware
from labkit.engine.embedded.logs import LogLine, logs
from labkit.errors import SettingError
from labkit.exercises.course.nb01_swarm import left_behind, stayed, swarm_started
from labkit.exercises.exercise import Exercise, Measure, Probe
from labkit.exercises.questions import Question, about, alone, asked_of, listing, only, seen
from labkit.exercises.rows import (
    exists_row,
    find_service,
    member_row,
    port_text,
    running_row,
    scaled_rows,
    service_rows,
)
from labkit.state import ClusterState, Node, capture
from labkit.text.french import enumerate_fr
from labkit.verdict import Row

MESH, PORT, REPLICAS, FEW = "whoami", 80, 5, 2
DIRECT, DIRECT_PORT = "whoami-direct", 8081

# s, under emulation
_JOIN = 60.0  # an engine that starts waits 20 s for a quorum that is not there, then votes
_FALL = 90.0  # a heartbeat that fails, then an election
_RETURN = 150.0
_SPELL = timedelta(minutes=3)  # of elections, one after the other
_AGAIN = "Attendez quelques secondes, puis revérifiez."


# -- making it ------------------------------------------------------------------------------


def _joined(state: ClusterState) -> Iterator[Row]:
    if len(state.engines) < 2:
        yield Row.fault(
            "Moteurs",
            "deux au moins",
            str(len(state.engines)),
            "« labkit node add » en ajoute un ; en groupe, nommez-les tous dans LABKIT_ENGINE.",
        )
    for number, engine in enumerate(state.engines, 1):
        row = member_row(engine, state)
        if number <= 2 and row.ok:
            role = "manager" if engine.manager else "worker"
            row = Row.whether(
                engine.name,
                "manager, prêt",
                engine.manager,
                f"{role}, prêt",
                f"Il est entré avec le jeton des workers : « docker --context {engine.name} swarm "
                "leave », puis « swarm join » avec celui des managers.",
            )
        yield row


def _created(state: ClusterState) -> Iterator[Row]:
    yield from service_rows(state, MESH, PORT, "ingress", (REPLICAS, FEW))


def _without_replica(state: ClusterState) -> Iterator[Row]:
    yield from scaled_rows(state, MESH, FEW)
    service = find_service(state, MESH)
    with_task = {t.node_id for t in state.running(MESH)} if service else set()
    bare = [n.name for n in state.nodes if n.state == "ready" and n.id not in with_task]
    yield Row(
        "Nœuds prêts, sans replica",
        "un au moins",
        str(len(bare)) if service else "—",
        bool(service and bare),
        "Avec deux replicas, il faut trois nœuds.",
    )


def _direct(state: ClusterState) -> Iterator[Row]:
    service = find_service(state, DIRECT)
    yield exists_row(state, DIRECT)
    ports = service.ports if service else ()
    yield Row.among(
        "Port publié",
        port_text(DIRECT_PORT, 80, "host"),
        [port_text(p.published, p.target, p.mode) for p in ports],
        f"« --publish mode=host,published={DIRECT_PORT},target=80 »",
        none="—",
    )
    mode = service.mode if service else "—"
    yield Row.equal("Mode", "global", mode, "« --mode global » : une task par nœud.")
    ready = {n.id for n in state.nodes if n.state == "ready" and n.availability == "active"}
    on = {t.node_id for t in state.running(DIRECT)} if service else set()
    yield Row.whether(
        "Nœuds qui exécutent une task",
        str(len(ready)),
        bool(ready) and on == ready,
        str(len(on)),
        f"« docker service ps {DIRECT} » dit où elles en sont. {_AGAIN}",
    )


# -- losing managers ------------------------------------------------------------------------


def _three_managers(state: ClusterState) -> Iterator[Row]:
    count = len(state.managers)
    yield Row.equal(
        "Managers",
        "3",
        str(count) if state.active else "inconnu : aucun manager ne répond",
        "« docker node promote node3 »",
    )
    yield _all_reachable(state)


def _all_reachable(state: ClusterState) -> Row:
    """Return whether every manager answers the others, and knows that it is one, and who leads."""
    knowing = {e.node_id for e in state.engines if e.manager and not unaware(e, state)}
    silent = [
        n.name for n in state.managers if n.reachability != "reachable" or n.id not in knowing
    ]
    ok = bool(state.managers) and not silent
    return Row.whether(
        "Managers joignables",
        "tous",
        ok,
        "pas " + enumerate_fr(silent) if silent else "aucun",
        f"« labkit node ls » dit quelle machine est éteinte. {_AGAIN}",
    )


def _lost(state: ClusterState) -> Iterator[Row]:
    off = [e.name for e in state.engines if not e.reachable]
    yield Row(
        "Moteurs éteints",
        "un",
        enumerate_fr(off) or "aucun",
        len(off) == 1,
        "« labkit node start … » rallume ceux qui sont de trop." if off
        else "« labkit node kill node2 »",
    )  # fmt: skip
    found = "perdu" if state.swarm == "no-quorum" else "là"
    hint = "Il faut deux managers, pas trois, et en éteindre un : « docker node ls » les montre."
    workers = {n.name for n in state.nodes if n.role == "worker"}
    if spared := [name for name in off if name in workers]:
        hint = (
            f"{spared[0]} est un worker : « labkit node start {spared[0]} », puis éteignez un "
            "manager, « labkit node kill node2 »."
        )
    if state.swarm == "inactive":
        found, hint = "aucun Swarm", "Initialisez d’abord le Swarm : « docker swarm init »."
    yield Row.equal("Quorum", "perdu", found, hint)


def _back(state: ClusterState) -> Iterator[Row]:
    off = [e.name for e in state.engines if not e.reachable]
    yield Row.whether(
        "Moteurs",
        "tous en marche",
        bool(state.engines) and not off,
        "éteints : " + enumerate_fr(off) if off else "tous en marche",
        f"« labkit node start {off[0]} »" if off else "Relancez la cellule de démarrage.",
    )
    yield _leader(state.leader, "élu")
    yield _all_reachable(state)
    away = [n.name for n in state.nodes if n.state != "ready"]
    yield Row.whether(
        "Nœuds",
        "tous prêts",
        bool(state.nodes) and not away,
        "pas " + enumerate_fr(away) if away else "inconnus",
        _AGAIN,
    )
    service = find_service(state, MESH)
    yield running_row(state, MESH, service.replicas if service else None)


def _leader(node: Node | None, wanted: str) -> Row:
    return Row.whether(
        "Leader",
        wanted,
        node is not None,
        "aucun",
        "Une élection prend de quinze à quarante secondes, davantage sur une machine occupée, et "
        "il faut que la majorité des managers soit en marche.",
    )


def _leader_fell(state: ClusterState) -> Iterator[Row]:
    off = {e.name for e in state.engines if not e.reachable}
    managers = [n for n in state.managers if n.name in off]
    yield Row(
        "Managers éteints",
        "un sur trois",
        f"{len(managers)} sur {len(state.managers)}" if state.active else "inconnu",
        (len(managers), len(state.managers)) == (1, 3),
        "« docker node ls » montre le leader, « labkit node kill … » l’éteint.",
    )
    leader = state.leader
    yield _leader(leader if leader and leader.name not in off else None, "un de ceux qui restent")


@dataclass(frozen=True, slots=True)
class Fall:
    """The last election, as the log of the present leader tells it."""

    # lost, elected: names of the leader that fell silent and of the one elected then; "" where the
    # log does not say
    lost: str
    elected: str
    off: tuple[str, ...]  # names of the nodes whose engine does not answer


_LOST = re.compile(r"(?:lost leader|changed leader from) \w+ \((\w+)\)")
_ELECTED = re.compile(
    r"(?:elected leader|changed leader from \w+(?: \(\w+\))? to) \w+ \((\w+)\) at term (\d+)"
)


def _ask_fall() -> Fall | None:
    """Read the leader's log; None on machines whose log labkit does not read."""
    elections.wait()
    state = capture().require()
    leader = state.leader
    engine = next((e for e in state.engines if leader and e.node_id == leader.id), None)
    if engine is None:
        return Fall("", "", ())
    try:
        log = logs(engine.name, election=True)
    except SettingError:
        return None
    return read_fall(log, tuple(e.name for e in state.engines if not e.reachable))


def read_fall(log: Iterable[LogLine], off: tuple[str, ...]) -> Fall:
    """Read who was lost and who was elected last; pure.

    On a busy machine one election may follow another: of the leaders lost in the last minutes, one
    that is off counts first.
    """
    lines = [line for line in log if line.when]
    lost = [(m[1], line.when) for line in lines if (m := _LOST.search(line.text))]
    elected = [m[1] for line in lines if (m := _ELECTED.search(line.text))]
    end = lines[-1].when if lines else None
    late = [name for name, when in lost if when and end and end - when < _SPELL]
    fallen = [name for name in late if name in off] or [name for name, _ in lost]
    return Fall(fallen[-1] if fallen else "", elected[-1] if elected else "", off)


def judge_fall(fall: Fall | None) -> Iterator[Row]:
    """Return the rows for what the leader's log tells; pure."""
    if fall is None:
        return
    yield Row.whether(
        "Dans le journal, le leader perdu",
        "le manager éteint",
        fall.lost in fall.off,
        fall.lost or "aucun",
        "Un manager éteint qui n’était pas le leader ne provoque pas d’élection. Rallumez-le, "
        "puis éteignez celui que « docker node ls » appelle Leader.",
    )
    yield Row.whether(
        "Dans le journal, le leader élu",
        "un de ceux qui restent",
        bool(fall.elected) and fall.elected not in fall.off,
        fall.elected if fall.elected in fall.off else "un de ceux qui restent",
        _AGAIN,
    )


# -- coming apart ---------------------------------------------------------------------------


def _gone(state: ClusterState) -> Iterator[Row]:
    """Check that the last engine has left, in good order, and the others have not."""
    *others, gone = state.engines or (None,)
    name = gone.name if gone else "node3"
    swarm = gone.swarm if gone else ""
    yield Row.whether(
        name,
        "hors du Swarm",
        swarm == "inactive",
        "membre du Swarm" if swarm else "éteint",
        f"« docker --context {name} swarm leave »",
    )
    for engine in others:
        if engine:
            yield member_row(engine, state)
    yield _all_reachable(state)


def _left_in_order(state: ClusterState) -> Iterator[Row]:
    yield from _gone(state)
    name = state.engines[-1].name if state.engines else "node3"
    found = next((n.state for n in state.nodes if n.name == name), "rayé")
    yield Row(
        f"{name}, dans la liste des nœuds",
        "down",
        found if state.active else "inconnu",
        state.active and found in {"down", "rayé"},
        _AGAIN,
    )


def _struck(state: ClusterState) -> Iterator[Row]:
    yield from _gone(state)
    name = state.engines[-1].name if state.engines else "node3"
    listed = any(n.name == name for n in state.nodes)
    yield Row.whether(
        f"{name}, dans la liste des nœuds",
        "rayé",
        state.active and not listed,
        "encore là" if state.active else "inconnu",
        f"« docker node rm {name} »",
    )
    yield running_row(state, MESH, REPLICAS)


def _apart(state: ClusterState) -> Iterator[Row]:
    for row in left_behind(state):
        silent = row.found == "injoignable"
        yield replace(row, hint=f"« labkit node start {row.what} »") if silent else row


_LED, _STUCK = "un autre leader est élu", "plus rien ne peut être changé"

CLUSTERING_EXERCISES = (
    Exercise("premier-manager", "Initialiser le cluster", swarm_started, None, _JOIN),
    Exercise("deux-managers", "Faire entrer un manager et un worker", _joined, None, _JOIN),
    Exercise("whoami-80", "Publier whoami sur le port 80", _created, None, _JOIN),
    Exercise("sans-replica", "Un nœud sans replica", _without_replica, None, _JOIN),
    Exercise("en-direct", "Publier sans le mesh", _direct, None, _JOIN),
    Exercise("perdre-le-quorum", "Éteindre un manager sur deux", _lost, None, _FALL),
    Exercise("retrouver-le-quorum", "Retrouver le quorum", _back, None, _RETURN),
    Exercise("trois-managers", "Un troisième manager", _three_managers, None, _JOIN),
    Exercise(
        "perdre-le-leader",
        "Éteindre le leader",
        _leader_fell,
        Probe(_ask_fall, judge_fall),
        _FALL,
        measures=(Measure("trois", lambda state, _: _LED if state.leader else _STUCK),),
        apart=True,
    ),
    Exercise("ancien-leader", "Rallumer l’ancien leader", _back, None, _RETURN, apart=True),
    Exercise("partir", "Faire sortir un nœud", _left_in_order, None, _RETURN),
    Exercise("rayer", "Rayer un nœud de la liste", _struck, None, _JOIN),
    Exercise("dissoudre", "Dissoudre le cluster", _apart),
)

CLUSTERING_MEASURES = {
    "echelle-sans-quorum": Measure(
        "deux", lambda state, _: "décide seul" if state.active else "ne peut plus rien changer"
    ),
    "partir-sans-forcer": Measure("partir", stayed("node3")),
}

# -- the questions at the end ---------------------------------------------------------------


def _who_leads(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    leader = state.leader
    names = [n.name for n in state.managers]
    hint = "Quelle commande dit de chaque manager s’il est leader ?"
    yield only(said, "Leader du Swarm", [leader.name] if leader else [], names, "Leader", hint)
    hint = "Que dit la définition de ce nœud, là où elle parle de lui comme manager ?"
    address = leader.address if leader else ""
    yield seen(said, "Adresse du leader", "celle que les autres joignent", address, hint)


def last_election(node: str) -> LogLine | None:
    """Return the line of a node's log that tells of the last election; an empty one without any.

    None on machines whose log labkit does not read.
    """
    try:
        log = logs(node, election=True)
    except SettingError:
        return None
    lines = (line for line in reversed(log.lines) if _ELECTED.search(line.text))
    return next(lines, LogLine(None, "", ""))


def elected_row(said: str, hint: str) -> Row:
    """Return whether an output has a log's line of an election, whichever."""
    form = r"elected leader \w+.* at term \d+"
    return seen(said, "Ligne de l’élection", "dans le journal", None, hint, form)


def _last_vote(state: ClusterState, said: str, line: Any) -> Iterator[Row]:
    hint = "Quelle ligne du journal de node2 annonce en dernier un leader élu ?"
    if line is None:
        yield elected_row(said, hint)
        return
    found = _ELECTED.search(line.text)
    name, term = found.groups() if found else ("", "")
    yield seen(about(said, f"term {term}"), "Leader élu en dernier", "son nom", name, hint)
    forms = (rf"\bterm {term}\b", alone(term))
    yield seen(said, "Term de l’élection", "son numéro", term, hint, *forms)


def _replaced(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    tasks = state.tasks_of(MESH, current=False) if state.has_service(MESH) else ()
    there = [t for t in tasks if t.running]
    hint = f"Quelle commande liste les tasks de {MESH}, avec leurs nœuds ?"
    yield seen(said, "Replicas en marche", "leurs lignes", len(there) or "", hint, listing(there))
    hint = "Quelle liste garde aussi les tasks passées, et leur dernier état ?"
    past = sum(not t.current for t in tasks) if tasks else ""
    yield seen(said, "Tasks remplacées", "leurs lignes", past, hint, listing(tasks))


_settings = partial(
    asked_of, None, "docker info", lambda api: api.info()["Swarm"]["Cluster"]["Spec"]
)
_UNITS = {1: "s(?:econds)?", 3600: "h(?:0m0s|ours)?", 86400: "days", 2592000: "months"}


def _duration(
    state: ClusterState, said: str, settings: Any, *, of: tuple[str, str], what: str, hint: str
) -> Iterator[Row]:
    """Check that an output has a duration of the swarm's settings, as docker or Go write it."""
    part, key = of
    nanoseconds = settings[part][key] if settings else 0
    seconds = nanoseconds // 10**9
    spelt = (rf"{seconds // unit} ?{name}" for unit, name in _UNITS.items() if seconds >= unit)
    form = rf"(?<![\w.])(?:{nanoseconds}|{'|'.join(spelt)})(?!\w)"
    yield seen(said, what, "une durée", None if nanoseconds else "", hint, form)


CLUSTERING_QUESTIONS = (
    Question("adresse-du-leader", "Le leader et son adresse", _who_leads),
    Question(
        "derniere-election", "La dernière élection", _last_vote, partial(last_election, "node2")
    ),
    Question("replicas-remplaces", "Les replicas remplacés", _replaced),
    Question(
        "signe-de-vie",
        "Le signe de vie d’un nœud",
        partial(
            _duration,
            of=("Dispatcher", "HeartbeatPeriod"),
            what="D’un signe de vie à l’autre",
            hint="« docker info » décrit le Swarm : quelle ligne y parle d’un battement de cœur ?",
        ),
        _settings,
    ),
    Question(
        "validite-du-certificat",
        "La validité d’un certificat",
        partial(
            _duration,
            of=("CAConfig", "NodeCertExpiry"),
            what="Durée de validité",
            hint="« docker info » parle de l’autorité (CA) : quelle ligne dit une échéance ?",
        ),
        _settings,
    ),
)
