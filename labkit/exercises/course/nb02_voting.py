"""Pure checks of the voting app's stacks, and what they ask of the running app."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from labkit.exercises.exercise import Exercise, Probe
from labkit.exercises.measures.access import Answers, qui_repond
from labkit.exercises.measures.ballots import Ballot, cast
from labkit.exercises.questions import (
    Question,
    about,
    alone,
    asked_of,
    compact,
    only,
    seen,
)
from labkit.exercises.rows import find_service, member_row
from labkit.polling import until
from labkit.stacks import services_of
from labkit.state import ClusterState, Service, capture
from labkit.text.french import enumerate_fr
from labkit.traffic import Sample, send
from labkit.verdict import Row

STACK, BROKEN, MINI = "vote", "debug", "mini"
FILE = "example-voting-app/docker-stack.yml"
NAMES = ("db", "redis", "result", "visualizer", "vote", "worker")
PORTS = {"vote": 5000, "result": 5001, "visualizer": 8080}
SCALED = 4
LUA = "examplevotingapp_worker:lua"
REGISTRY = "registry:5000/"
OWN = "mon-compose.yml"
QUEUED = ("redis", "vote")  # the services of that file

START = 150.0
"""Seconds for six services to start under emulation."""
_FIRST_ANSWER = 45.0  # s for their programs to answer, once they run
_DEPLOY = f"« docker stack deploy --compose-file {FILE} {STACK} »"


# -- deployed -------------------------------------------------------------------------------


def stack_rows(
    state: ClusterState, stack: str, deploy: str, names: tuple[str, ...] = NAMES
) -> Iterator[Row]:
    """Return the rows for a stack whose services run; ``deploy`` says how to deploy it."""
    found = _services(state, stack)
    stacks = {s.stack for s in state.services if s.stack} - {stack}
    others = sorted(other for other in stacks if set(names) <= set(_services(state, other)))
    if not state.active:
        hint = "Initialisez d’abord le Swarm : « docker swarm init »."
    elif others and not found:
        hint = f"La stack déployée s’appelle {enumerate_fr(others)} : le nom se donne à la fin."
    else:
        hint = deploy
    yield Row(
        f"Services de la stack {stack}",
        enumerate_fr(names),
        enumerate_fr(sorted(found)) or "aucun",
        set(names) <= set(found),
        hint,
    )
    for name in names:
        if name in found:
            yield tasks_row(state, found[name])


def _services(state: ClusterState, stack: str) -> dict[str, Service]:
    """Return the services of a stack by the names that its file gives them."""
    return {s.name.removeprefix(f"{stack}_"): s for s in services_of(state, stack)}


def tasks_row(state: ClusterState, service: Service) -> Row:
    """Return the row for a service all of whose tasks run."""
    tasks = state.tasks_of(service.id)
    running = sum(t.running for t in tasks)
    wanted = len(tasks) if service.replicas is None else service.replicas
    errors = sorted({t.error for t in tasks if t.error and not t.running})
    hint = f"Lisez « docker service ps --no-trunc {service.name} »"
    return Row.whether(
        f"Tasks de {service.name}",
        f"{max(1, wanted)} en marche",
        running == wanted and running > 0,
        f"{running} en marche",
        f"{hint} : {errors[0]}" if errors else f"{hint}, attendez, puis revérifiez.",
    )


def _deployed(state: ClusterState) -> Iterator[Row]:
    if state.active:  # an engine that never joined has no door to the stack
        yield from (row for e in state.engines if not (row := member_row(e, state)).ok)
    yield from stack_rows(state, STACK, _DEPLOY)
    found = {p.published for s in services_of(state, STACK) for p in s.ports}
    for name, port in PORTS.items():
        yield Row.whether(
            f"Port publié de {name}",
            str(port),
            port in found,
            "—",
            f"Relisez « ports » dans {FILE}.",
        )


def _ask_pages() -> tuple[Answers, ...]:
    """Ask for each page at each node; a program that has just started may need a moment."""
    return until(
        lambda: tuple(qui_repond(port) for port in PORTS.values()),
        lambda pages: all(p.nombre == len(p.by_node) for p in pages),
        _FIRST_ANSWER,
        1,
    )


def _judge_pages(pages: tuple[Answers, ...]) -> Iterator[Row]:
    for name, answer in zip(PORTS, pages, strict=True):
        nodes = [node for node, problem in answer.by_node if not problem]
        yield Row.whether(
            f"Page de {name}",
            f"répond sur {enumerate_fr([node for node, _ in answer.by_node])}",
            answer.nombre == len(answer.by_node),
            f"répond sur {enumerate_fr(nodes)}" if nodes else "ne répond nulle part",
            f"Lisez « docker service logs {STACK}_{name} », attendez, puis revérifiez.",
        )


# -- scaled ---------------------------------------------------------------------------------


def _scaled(state: ClusterState) -> Iterator[Row]:
    name = f"{STACK}_vote"
    service = find_service(state, name)
    scale = f"« docker service scale {name}={SCALED} »"
    wanted = service.replicas if service else None
    yield Row.equal(
        f"Replicas demandés de {name}",
        SCALED,
        "aucun service de ce nom" if service is None else str(wanted),
        _DEPLOY if service is None else scale,
    )
    if service:
        yield tasks_row(state, service)


def _ask_replicas() -> Sample:
    return send(PORTS["vote"], requests=10 * SCALED, concurrency=2, path="/")


def _judge_replicas(sample: Sample) -> Iterator[Row]:
    found = int(sample.frame["replica"].nunique())
    yield Row.equal(
        "Conteneurs qui répondent sur le port 5000",
        SCALED,
        found,
        "Une task qui vient de démarrer ne reçoit pas encore de requêtes : revérifiez.",
    )


# -- votes ----------------------------------------------------------------------------------


def judge_ballot(stack: str, ballot: Ballot) -> Iterator[Row]:
    """Return the rows for a vote that should be accepted and counted."""
    yield Row.whether(
        "Un bulletin de plus, glissé dans l’urne",
        "accepté",
        ballot.accepted,
        ballot.problem,
        f"Lisez « docker service logs {stack}_vote ».",
    )
    yield Row.whether(
        "Le même, sur la page des résultats",
        "compté",
        ballot.counted,
        ballot.counting,
        f"Suivez le chemin du vote : « docker service logs {stack}_worker », puis "
        f"« docker service logs {stack}_result ».",
    )


# -- a file of one's own --------------------------------------------------------------------


def _own(state: ClusterState) -> Iterator[Row]:
    deploy = f"« docker stack deploy --compose-file {OWN} {MINI} »"
    yield from stack_rows(state, MINI, deploy, QUEUED)
    networks = [set(s.networks) for n, s in _services(state, MINI).items() if n in QUEUED]
    common = set.intersection(*networks) - {"ingress"} if networks else set()
    yield Row.whether(
        f"Réseau commun à {enumerate_fr(QUEUED)}",
        "un au moins",
        len(networks) == len(QUEUED) and bool(common),
        "aucun",
        f"Sans « networks », tous les services de {OWN} sont sur le réseau « default ». {deploy}",
    )


def _cast_in_own() -> Ballot:
    """Vote once the page takes votes; nobody counts them."""
    return until(lambda: cast(limit=1.0), lambda b: b.accepted, _FIRST_ANSWER, 1)


def _judge_own(ballot: Ballot) -> Iterator[Row]:
    yield next(judge_ballot(MINI, ballot))


def _lua(state: ClusterState) -> Iterator[Row]:
    name = f"{STACK}_worker"
    service = find_service(state, name)
    image = service.image if service else ""
    yield Row(
        f"Image de {name}",
        LUA,
        image or "aucun service de ce nom",
        image.endswith(LUA),
        f"« docker service update --image {LUA} {name} »" if service else _DEPLOY,
    )
    if service:
        yield task_of_image(state, service)


def task_of_image(state: ClusterState, service: Service) -> Row:
    """Return the row for a service whose tasks all run the image that it has now."""
    running = [t for t in state.tasks_of(service.id) if t.running]
    new = sum(t.image == service.image for t in running)
    return Row.whether(
        f"Tasks de {service.name} avec cette image",
        f"{service.replicas or 1} en marche",
        new == len(running) == (service.replicas or 1),
        f"{new} en marche",
        f"Lisez « docker service ps --no-trunc {service.name} », attendez, puis revérifiez.",
    )


# -- broken, and repaired -------------------------------------------------------------------


def _broken(state: ClusterState) -> Iterator[Row]:
    yield gone_row(state, STACK)
    yield from stack_rows(state, BROKEN, "Relancez la cellule qui déploie la stack à débugger.")
    for name in ("worker", "result"):
        service = find_service(state, f"{BROKEN}_{name}")
        image = service.image if service else ""
        tag = image.rpartition(":")[2]
        yield Row(
            f"Image de {BROKEN}_{name}",
            "celle d’avant la réparation, ou la vôtre",
            image or "—",
            tag == "before" or image.startswith(REGISTRY),
            f"« docker stack rm {BROKEN} », puis relancez la cellule qui déploie la stack.",
        )


def _rebuilt(state: ClusterState, name: str) -> Iterator[Row]:
    service = find_service(state, f"{BROKEN}_{name}")
    image = service.image if service else ""
    yield Row(
        f"Image de {BROKEN}_{name}",
        f"la vôtre : {REGISTRY}…",
        image or "aucun service de ce nom",
        image.startswith(REGISTRY),
        f"Changez la ligne « image: » de {name} dans stack-a-debugger.yml, puis redéployez.",
    )
    if service:
        yield task_of_image(state, service)


def _repaired(state: ClusterState) -> Iterator[Row]:
    yield from _rebuilt(state, "result")
    yield from _rebuilt(state, "worker")


def gone_row(state: ClusterState, stack: str) -> Row:
    """Return the row for a stack of which nothing is left."""
    services = services_of(state, stack)
    networks = [n for n in state.networks if n.stack == stack]
    sure = state.swarm in {"active", "inactive"}
    left = [f"{len(services)} services"] * bool(services)
    left += [f"{len(networks)} réseaux"] * bool(networks)
    return Row.equal(
        f"Stack {stack}",
        "retirée",
        enumerate_fr(left) or ("retirée" if sure else "inconnue : aucun manager ne répond"),
        f"« docker stack rm {stack} »" if left else "« labkit doctor »",
    )


def removed(stack: str, state: ClusterState) -> Iterator[Row]:
    """Return the row for a stack that has to be gone."""
    yield gone_row(state, stack)


find = find_service  # as notebook 05's checks know it


def _ballot(stack: str) -> Probe:
    return Probe(partial(cast, limit=20.0), partial(judge_ballot, stack))


PAGES = Probe(_ask_pages, _judge_pages)
"""Asks for the stack's three pages at each node."""

VOTING_EXERCISES = (
    Exercise("deployer", "Déployer la stack", _deployed, PAGES, START),
    Exercise(
        "echelle-vote",
        "Mettre le vote à l’échelle",
        _scaled,
        Probe(_ask_replicas, _judge_replicas),
        START,
    ),
    Exercise("worker-lua", "Changer le langage du worker", _lua, _ballot(STACK), START),
    Exercise("retirer", "Retirer la stack", partial(removed, STACK), None, START),
    Exercise("ecrire-compose", "Écrire un fichier", _own, Probe(_cast_in_own, _judge_own), START),
    Exercise("panne", "La stack à débugger", _broken, None, START),
    Exercise("reparer-result", "Réparer result", partial(_rebuilt, name="result"), None, START),
    Exercise("reparer-vote", "Le vote est compté", _repaired, _ballot(BROKEN), START),
    Exercise("ranger", "Ranger", partial(removed, BROKEN), None, START),
)


# -- the questions at the end ---------------------------------------------------------------


def _place(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    name = f"{STACK}_db"
    service = find_service(state, name)
    node = next((t.node for t in state.running(name)), "") if service else ""
    hint = f"Quelle commande liste les tasks de {name}, avec leurs nœuds ?"
    yield seen(about(said, f"{name}.1"), "Nœud de db", "son nom", node, hint)
    hint = "Et qu’est-ce qui l’y oblige ? Que dit la définition du service de son placement ?"
    rule = next(iter(service.constraints), "") if service else ""
    yield seen(compact(said), "Contrainte", "celle de la définition", compact(rule), hint)


def _on_backend(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    names = [s.name for s in services_of(state, STACK)]
    there = [s.name for s in services_of(state, STACK) if f"{STACK}_backend" in s.networks]
    hint = "Que sait ce réseau de ses services ? « docker network inspect --help » : une option ?"
    yield only(said, "Services de vote_backend", there, names, f"{STACK}_backend", hint)


def _image(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    service = find_service(state, f"{STACK}_worker")
    hint = "Quelle colonne de la liste des services nomme l’image ?"
    yield seen(said, "Image de worker", "son nom", service.image if service else "", hint)


def _lots(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    service = find_service(state, f"{STACK}_vote")
    number = service.update.parallelism if service and service.update else ""
    hint = (
        "La définition de vote_vote dit comment la mettre à jour : quelle ligne compte les tasks ?"
    )
    forms = (rf"Parallelism\W+{number}\b", alone(number))
    yield seen(said, "Tasks à la fois", "leur nombre", number, hint, *forms)


def _ask_queue() -> str:
    """Return how many votes wait in redis; "" where no redis runs."""
    state, name = capture(), f"{STACK}_redis"
    task = (
        next((t for t in state.running(name) if t.node), None)
        if state.active and find_service(state, name)
        else None
    )
    if task is None:
        return ""
    command = ["redis-cli", "llen", "votes"]
    said: bytes = asked_of(
        task.node,
        "docker exec",
        lambda api: api.exec_start(api.exec_create(task.container_id, command)),
    )
    return said.decode().strip()


def _queue(state: ClusterState, said: str, number: Any) -> Iterator[Row]:
    hint = "Quel conteneur peut parler à redis, et avec quel programme ?"
    forms = (alone(number), rf"\(integer\) {number}\b")
    yield seen(said, "Votes dans la file", "leur nombre", number or "", hint, *forms)


VOTING_QUESTIONS = (
    Question("place-de-db", "Le nœud de db", _place),
    Question("services-de-backend", "Les services de vote_backend", _on_backend),
    Question("image-du-worker", "L’image du worker", _image),
    Question("lots-de-vote", "Une mise à jour de vote", _lots),
    Question("file-de-redis", "La file de redis", _queue, _ask_queue),
)
