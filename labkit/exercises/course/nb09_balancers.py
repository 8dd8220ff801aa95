"""HAProxy beside Traefik and the routing mesh, and Portainer: checks by real requests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from docker.errors import DockerException

from labkit.engine import connect
from labkit.errors import LabkitError, SettingError, TrafficError
from labkit.exercises.course.nb02_voting import gone_row, stack_rows
from labkit.exercises.exercise import Exercise, Measure, Probe
from labkit.exercises.measures.access import qui_repond
from labkit.exercises.measures.balancing import (
    MESH_PORT,
    PORT,
    PORTES,
    STACK,
    TRAEFIK_PORT,
    WHOAMI,
    answering,
    serveurs,
)
from labkit.exercises.questions import (
    Question,
    asked_of,
    config,
    config_rows,
    definition,
    listing,
    seen,
    virtual,
    whole,
)
from labkit.exercises.rows import find_service
from labkit.files import replacing
from labkit.polling import until
from labkit.state import ClusterState
from labkit.text.french import enumerate_fr
from labkit.traffic import send
from labkit.verdict import Row

REPLICAS = 5
FILE, MORE = "haproxy/stack-haproxy.yml", "haproxy/trois-portes.yml"
PORTAINER, PORTAINER_FILE, PORTAINER_PORT = "portainer", "portainer/stack-portainer.yml", 9000
PORTAINER_IMAGE = "portainer/portainer-ce:lts"

_START = 180.0  # s for the stack to start under emulation, an image being pulled first
_FIRST_ANSWER = 60.0  # s for a proxy to answer, once it runs, and to know its replicas
_HUB_SECONDS = 10.0  # that Docker Hub may take to say that it has an image
_DEPLOY = f"« docker stack deploy --compose-file {FILE} {STACK} »"
_DEPLOY_MORE = f"« docker stack deploy -c {FILE} -c {MORE} {STACK} »"
_DEPLOY_PORTAINER = f"« docker stack deploy --compose-file {PORTAINER_FILE} {PORTAINER} »"


# -- Docker Hub -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hub:
    """Whether the engines get an image; true when they do."""

    image: str  # its name
    reason: str = ""  # in French why not; "" when they do

    def __bool__(self) -> bool:
        return not self.reason

    def __repr__(self) -> str:
        return f"Sauté : {self.reason}" if self.reason else f"{self.image} est disponible."


def hub_repond(image: str = PORTAINER_IMAGE) -> Hub:
    """Ask an engine whether it gets an image: it has it, or a registry knows it.

    The engine asks the registries that it pulls from; nothing is downloaded.
    """
    endpoint = connect().endpoints[0]
    try:
        client = endpoint.client(timeout=_HUB_SECONDS)
        try:
            if not client.api.images(name=image):
                client.images.get_registry_data(image)
        finally:
            client.close()
    except (DockerException, requests.RequestException, OSError):
        return Hub(
            image,
            f"{endpoint.name} n’obtient pas {image}. Docker Hub ne répond pas d’ici, et cette "
            "image n’est ni dans le registre du cluster, ni dans un paquet dont le cours "
            "pourrait la tirer.",
        )
    return Hub(image)


def _no_hub() -> str:
    return hub_repond().reason


# -- deployed -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BalancerDoors:
    """Replicas that answer at each door, and HAProxy's statistics of its own."""

    answering: Mapping[str, int] = field(default_factory=dict)  # door -> replicas that answered
    # up, down: servers that HAProxy sees well, and ill; -1 when its statistics do not answer
    up: int = -1
    down: int = -1


def _replicas(state: ClusterState, deploy: str) -> Row:
    service = find_service(state, WHOAMI)
    wanted = service.replicas if service else None
    return Row.equal(
        f"Replicas demandés de {WHOAMI}",
        REPLICAS,
        "—" if wanted is None else str(wanted),
        f"« docker service scale {WHOAMI}={REPLICAS} »" if service else deploy,
    )


def _published(state: ClusterState, name: str, port: int, mode: str, deploy: str) -> Row:
    service = find_service(state, f"{STACK}_{name}")
    ports = [(p.published, p.mode) for p in service.ports] if service else []
    shown = [f"{number} ({how})" for number, how in ports]
    return Row.among(f"Port de {STACK}_{name}", f"{port} ({mode})", shown, deploy)


def _deployed(state: ClusterState) -> Iterator[Row]:
    yield from stack_rows(state, STACK, _DEPLOY, ("haproxy", "whoami"))
    yield _replicas(state, _DEPLOY)
    yield _published(state, "haproxy", PORT, "host", _DEPLOY)


def _ask(doors: tuple[str, ...]) -> BalancerDoors:
    """Ask at each door until it is as it should be, or time is up."""

    def good(found: BalancerDoors) -> bool:
        return all(row.ok for row in _judge_front(found))

    return until(lambda: _look(doors), good, _FIRST_ANSWER, 1)


def _look(doors: tuple[str, ...]) -> BalancerDoors:
    found = dict.fromkeys(doors, 0)
    for door in doors:
        with suppress(LabkitError):
            found[door] = answering(send(**PORTES[door], requests=5 * REPLICAS, concurrency=2))
    try:
        states = serveurs()["état"]
    except TrafficError:
        return BalancerDoors(found)
    return BalancerDoors(found, int((states == "UP").sum()), int((states == "DOWN").sum()))


def _ask_front() -> BalancerDoors:
    return _ask(("HAProxy",))


def _judge_front(doors: BalancerDoors) -> Iterator[Row]:
    for door, found in doors.answering.items():
        service = {"HAProxy": "haproxy", "Traefik": "traefik"}.get(door, "whoami")
        yield Row.equal(
            f"Replicas qui répondent par {door}",
            REPLICAS,
            found,
            f"Lisez « docker service logs {STACK}_{service} », attendez, puis revérifiez.",
        )
    yield Row.equal(
        "Ce que HAProxy dit de ses serveurs",
        _health(REPLICAS, 0),
        _health(doors.up, doors.down) if doors.up >= 0 else "sa page ne répond pas",
        "Attendez quelques secondes, puis revérifiez : HAProxy interroge chaque replica toutes "
        "les secondes.",
    )


def _health(up: int, down: int) -> str:
    return f"{up} en bonne santé, {down} en panne"


# -- three doors ----------------------------------------------------------------------------


def _three(state: ClusterState) -> Iterator[Row]:
    yield from stack_rows(state, STACK, _DEPLOY_MORE, ("haproxy", "traefik", "whoami"))
    yield _replicas(state, _DEPLOY_MORE)
    yield _published(state, "whoami", MESH_PORT, "ingress", _DEPLOY_MORE)
    yield _published(state, "traefik", TRAEFIK_PORT, "host", _DEPLOY_MORE)


def _ask_three() -> BalancerDoors:
    return _ask(tuple(PORTES))


# -- Portainer ------------------------------------------------------------------------------


def preparer_portainer(dossier: str | Path = "portainer") -> str:
    """Write the password of Portainer's administrator, unless there is one; say where it is.

    The stack makes a secret of the file: a Portainer without a password lets whoever comes first
    choose it. Raises ``SettingError`` when the file cannot be written there.
    """
    password = Path(dossier) / "mot-de-passe.txt"
    if password.exists():
        return f"{password} est là : le mot de passe n’a pas changé."
    try:
        with replacing(password) as file:
            file.write(f"{secrets.token_urlsafe(12)}\n".encode())
    except OSError as error:
        raise SettingError(
            f"{password} ne peut pas être écrit ({error.strerror}).",
            remedy="Lancez cette cellule dans « notebooks ».",
        ) from None
    return f"{password} est écrit : c’est le mot de passe de « admin »."


def _portainer(state: ClusterState) -> Iterator[Row]:
    yield from stack_rows(state, PORTAINER, _DEPLOY_PORTAINER, ("agent", "portainer"))
    server = find_service(state, f"{PORTAINER}_portainer")
    constraints = server.constraints if server else ()
    yield Row(
        f"Contrainte de {PORTAINER}_portainer",
        "node.role == manager",
        enumerate_fr(constraints) or "aucune",
        any(c.replace(" ", "") == "node.role==manager" for c in constraints),
        _DEPLOY_PORTAINER,
    )


def _ask_page() -> bool:
    return until(lambda: qui_repond(PORTAINER_PORT).nombre > 0, bool, _FIRST_ANSWER, 1)


def _judge_page(answers: bool) -> Iterator[Row]:
    yield Row.whether(
        "Page de Portainer",
        "répond",
        answers,
        "ne répond pas",
        f"Lisez « docker service logs {PORTAINER}_portainer ».",
    )


def _removed(state: ClusterState) -> Iterator[Row]:
    yield gone_row(state, STACK)
    yield gone_row(state, PORTAINER)


BALANCER_EXERCISES = (
    Exercise("haproxy", "Déployer HAProxy", _deployed, Probe(_ask_front, _judge_front), _START),
    Exercise(
        "trois-portes",
        "Trois portes pour les mêmes replicas",
        _three,
        Probe(_ask_three, _judge_front),
        _START,
    ),
    Exercise(
        "portainer",
        "Déployer Portainer",
        _portainer,
        Probe(_ask_page, _judge_page),
        _START,
        _no_hub,
    ),
    Exercise("haproxy-ranger", "Ranger", _removed, None, _START),
)

BALANCER_MEASURES = {
    "publier-sans-vip": Measure(
        "dnsrr",
        lambda state, _: "il se crée" if state.has_service("sans-vip") else "docker refuse",
    )
}


# -- the questions at the end ---------------------------------------------------------------

_HAPROXY, _PUBLIC = f"{STACK}_haproxy", f"{STACK}_public"


def _virtual(state: ClusterState, said: str, service: Any) -> Iterator[Row]:
    address = virtual(service, state, _PUBLIC)
    hint = f"{WHOAMI} est sur plusieurs réseaux : que dit sa définition de son point d’entrée ?"
    yield seen(said, "Adresse virtuelle", f"celle sur {_PUBLIC}", address, hint)


def _ask_addresses() -> dict[str, str]:
    """Return the node's id of each running replica, by its address in the public network."""
    filters = {"service": WHOAMI, "desired-state": "running"}
    tasks = asked_of(None, f"docker service ps {WHOAMI}", lambda api: api.tasks(filters=filters))
    return {
        address.partition("/")[0]: task.get("NodeID", "")
        for task in tasks
        for attached in task.get("NetworksAttachments") or ()
        if attached["Network"]["Spec"]["Name"] == _PUBLIC
        for address in attached.get("Addresses") or ()
    }


def _addresses(state: ClusterState, said: str, found: Any) -> Iterator[Row]:
    hint = f"Que sait {_PUBLIC} des tasks de ses services ? « docker network inspect --help »."
    for address in sorted(found or ()) or [""]:
        yield seen(said, "Adresse d’un replica", f"sur {_PUBLIC}", address, hint)
    hint = "Et où sont-ils ? Le nom de chaque nœud suffit, ou son adresse."
    for node in state.nodes:
        if node.id in (found or {}).values():
            forms = (whole(node.name), whole(node.address or node.name))
            yield seen(said, "Nœud", "son nom, ou son adresse", node.name, hint, *forms)


def _ports(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    service = find_service(state, _HAPROXY)
    hint = f"Où la définition de {_HAPROXY} parle-t-elle de ses ports ?"
    for port in service.ports if service else ():
        yield seen(said, "Port publié", "celui du dehors", port.published or "", hint)
    hint = "Voyez-vous les ports, mais pas leur mode ? Demandez la définition, et non la liste."
    mode = service.ports[0].mode if service and service.ports else ""
    yield seen(said, "Mode", "celui de ces ports", mode, hint)


def _killed(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    tasks = state.tasks_of(WHOAMI, current=False) if find_service(state, WHOAMI) else ()
    dead = [t for t in tasks if t.failed]
    after = [t for t in tasks if t.current and t.slot in {d.slot for d in dead}]
    hint = f"Quelle liste garde les tasks passées de {WHOAMI}, et leur état ?"
    names = enumerate_fr([t.label for t in dead])
    yield seen(said, "Replicas tués", "leurs lignes", names, hint, listing(dead))
    hint = "Quelle task a pris la même place, et tourne à présent ?"
    answer = "une task à la même place" if after else ""
    yield seen(said, "Remplacement", "les tasks qui tournent", answer, hint, listing(after))


BALANCER_QUESTIONS = (
    Question("vip-de-front", "L’adresse virtuelle", _virtual, definition(WHOAMI)),
    Question("adresses-des-replicas", "Les adresses des replicas", _addresses, _ask_addresses),
    Question("config-de-haproxy", "La config de HAProxy", config_rows, config(_HAPROXY)),
    Question("ports-de-haproxy", "Les ports de HAProxy", _ports),
    Question("replica-tue", "Le replica tué", _killed),
)
