"""Traefik in front of services: what it needs to start, and checks by real requests."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.engine import connect
from labkit.errors import LabkitError, SettingError, TrafficError
from labkit.exercises.course.nb02_voting import gone_row, stack_rows, tasks_row
from labkit.exercises.exercise import Exercise, Measure, Probe
from labkit.exercises.measures.access import fetch, problem_of
from labkit.exercises.measures.balancing import answering
from labkit.exercises.rows import find_service
from labkit.polling import until
from labkit.state import ClusterState, Service, capture
from labkit.text.french import enumerate_fr
from labkit.traffic import Sample, send
from labkit.verdict import Row

if TYPE_CHECKING:
    import pandas as pd

STACK, FILE, PORT = "web", "traefik/stack-traefik.yml", 8000
NAMES = ("essai", "gardien", "traefik", "whoami")
NETWORK = f"{STACK}_public"
ADDED, ADDED_REPLICAS = "bonjour", 2
STICKY = "traefik.http.services.whoami.loadbalancer.sticky.cookie"
USER = "ada"
_PASSWORD = "mot-de-passe.txt"

_START = 240.0  # s for four services to start under emulation, two images being pulled first
_FIRST_ANSWER = 60.0  # s for Traefik to answer, once it runs, and to have read its labels
_DEPLOY = f"« docker stack deploy --compose-file {FILE} {STACK} »"


def preparer_traefik(dossier: str | Path = "traefik") -> str:
    """Write the password of Traefik's dashboard, unless there is one; say in French where it is.

    The password goes to one file, its hash to the one that the stack makes a secret of. The hash is
    SHA-1, which the standard library has and Traefik accepts. Raises ``SettingError`` when there is
    no such directory.
    """
    folder = Path(dossier)
    password, hashed = folder / _PASSWORD, folder / "tableau.htpasswd"
    if not folder.is_dir():
        raise SettingError(
            f"« {folder} » n’est pas un dossier.", remedy="Lancez cette cellule dans « notebooks »."
        )
    if password.exists() and hashed.exists():
        return f"{password} est là : le mot de passe n’a pas changé."
    chosen = secrets.token_urlsafe(9)
    digest = base64.b64encode(hashlib.sha1(chosen.encode()).digest()).decode()
    for path, text in ((password, chosen), (hashed, f"{USER}:{{SHA}}{digest}")):
        path.touch(mode=0o600)
        path.write_text(f"{text}\n")
    return f"{password} est écrit : c’est le mot de passe de « {USER} »."


def domaine(nom: str, *, mot_de_passe: str = "", chemin: str = "/") -> int | str:
    """Ask once for a domain at Traefik's port, as a browser would; return the HTTP status.

    Without an answer, it is the reason in French. ``mot_de_passe`` is that of the dashboard's user;
    none is sent without one.
    """
    said = _ask(nom, chemin, mot_de_passe)
    return said if isinstance(said, str) else said[0]


def routes(dossier: str | Path = "traefik") -> pd.DataFrame:
    """Ask the dashboard's API, with its password, which rule leads to which service.

    Index ``Routeur`` (name and provider), by name; columns ``Règle``, ``Service``, ``État``.
    Source: ``GET /api/http/routers``. Raises ``TrafficError`` when the dashboard does not answer,
    or refuses the password.
    """
    import pandas as pd

    said = _ask("traefik.localhost", "/api/http/routers", _password(Path(dossier)))
    if isinstance(said, str) or said[0] != 200:
        problem = said if isinstance(said, str) else f"réponse {said[0]}"
        raise TrafficError(
            f"Le tableau de bord de Traefik ne se lit pas : {problem}.",
            remedy=f"Déployez d’abord la stack : {_DEPLOY}.",
        )
    rows = {r["name"]: (r["rule"], r["service"], r["status"]) for r in json.loads(said[1])}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["Règle", "Service", "État"])
    return frame.rename_axis("Routeur").sort_index()


def _password(folder: Path) -> str:
    file = folder / _PASSWORD
    return file.read_text().strip() if file.exists() else ""


def _ask(domain: str, path: str, password: str) -> tuple[int, bytes] | str:
    """Return status and body, or in French why there were none."""
    headers = {"Host": domain}
    if password:
        pair = base64.b64encode(f"{USER}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    fleet = connect()
    place = fleet.published(capture(fleet).asked or fleet.endpoints[0].name, PORT)
    try:
        return fetch(*place, path=path, headers=headers)
    except (OSError, http.client.HTTPException) as error:
        return problem_of(error)


# -- deployed -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProxyDoors:
    """Traefik's answer at each of its doors: HTTP status, or why there was none."""

    service: int | str  # a domain that a label names
    unknown: int | str  # one that no label names
    # closed, opened: the dashboard, without and with its password
    closed: int | str
    opened: int | str


def _deployed(state: ClusterState) -> Iterator[Row]:
    yield from stack_rows(state, STACK, _DEPLOY, NAMES)
    whoami = find_service(state, f"{STACK}_whoami")
    if whoami:
        yield _unpublished(whoami)


def _unpublished(service: Service) -> Row:
    ports = [str(p.published) for p in service.ports]
    return Row.equal(
        f"Ports publiés de {service.name}",
        "aucun",
        enumerate_fr(ports) or "aucun",
        f"« docker service update --publish-rm {service.ports[0].target} {service.name} »"
        if ports
        else "",
    )


def _ask_doors() -> ProxyDoors:
    """Ask at each door; Traefik reads the labels every few seconds."""
    password = _password(Path(FILE).parent)
    return until(
        lambda: ProxyDoors(
            domaine("whoami.localhost"),
            domaine("personne.localhost"),
            domaine("traefik.localhost", chemin="/api/version"),
            domaine("traefik.localhost", chemin="/api/version", mot_de_passe=password),
        ),
        lambda doors: doors.service == 200 and doors.opened != 404,
        _FIRST_ANSWER,
        1,
    )


def _judge_doors(doors: ProxyDoors) -> Iterator[Row]:
    logs = f"Lisez « docker service logs {STACK}_traefik », attendez, puis revérifiez."
    yield _door("whoami.localhost", 200, doors.service, logs)
    yield _door("Un domaine que rien ne nomme", 404, doors.unknown, logs)
    yield _door("Tableau de bord, sans mot de passe", 401, doors.closed, logs)
    yield _door(
        "Tableau de bord, avec le mot de passe",
        200,
        doors.opened,
        f"« docker stack rm {STACK} », relancez preparer_traefik(), puis {_DEPLOY}.",
    )


def _door(title: str, expected: int, found: int | str, hint: str) -> Row:
    said = f"réponse {found}" if isinstance(found, int) else found
    return Row.equal(title, f"réponse {expected}", said, hint)


# -- a service of one's own -----------------------------------------------------------------


def _exposed(state: ClusterState) -> Iterator[Row]:
    service = find_service(state, ADDED)
    yield Row.whether(
        f"Service {ADDED}",
        "créé",
        service is not None,
        "aucun service de ce nom",
        f"« docker service create --name {ADDED} --network {NETWORK} --replicas "
        f"{ADDED_REPLICAS} --label … traefik/whoami »",
    )
    if service is None:
        return
    yield tasks_row(state, service)
    yield _unpublished(service)
    yield Row.among(
        f"Réseau de {ADDED}",
        NETWORK,
        service.networks,
        f"« docker service update --network-add {NETWORK} {ADDED} »",
    )
    wanted = {
        "traefik.enable": "true",
        f"traefik.http.services.{ADDED}.loadbalancer.server.port": "80",
    }
    for label, value in wanted.items():
        yield Row.equal(
            label,
            value,
            service.labels.get(label, "—"),
            f"« docker service update --label-add {label}={value} {ADDED} »",
        )


def _ask_domain(service: str, *, cookies: bool = False) -> Sample | None:
    """Send requests to a service's domain; None while nobody answers there."""
    name = service.removeprefix(f"{STACK}_")

    def good(sample: Sample) -> bool:
        steady = not cookies or sample.frame["replica"].nunique() == 1
        return not sample.failures and steady

    try:
        return until(
            lambda: send(
                PORT, host=f"{name}.localhost", services=service, requests=10, concurrency=1,
                cookies=cookies,
            ),
            good, _FIRST_ANSWER, 1,
        )  # fmt: skip
    except LabkitError:
        return None


def _judge_exposed(sample: Sample | None) -> Iterator[Row]:
    found = answering(sample) if sample else 0
    yield Row.equal(
        f"Replicas qui répondent à {ADDED}.localhost",
        ADDED_REPLICAS,
        found,
        "La règle est-elle entre guillemets simples ? "
        f"« traefik.http.routers.{ADDED}.rule=Host(`{ADDED}.localhost`) »",
    )


# -- sticky ---------------------------------------------------------------------------------


def _sticky(state: ClusterState) -> Iterator[Row]:
    name = f"{STACK}_whoami"
    service = find_service(state, name)
    labels = service.labels if service else {}
    found = sorted(label for label in labels if label.lower().startswith(STICKY))
    yield Row(
        f"Label de {name}",
        f"{STICKY}=true, ou {STICKY}.name=…",
        enumerate_fr([f"{label}={labels[label]}" for label in found])
        or ("aucun de ce genre" if service else "aucun service de ce nom"),
        any(labels[label].lower() != "false" for label in found),
        f"« docker service update --label-add {STICKY}=true {name} »" if service else _DEPLOY,
    )


def _ask_sticky() -> Sample | None:
    return _ask_domain(f"{STACK}_whoami", cookies=True)


def _judge_sticky(sample: Sample | None) -> Iterator[Row]:
    found = answering(sample) if sample else 0
    yield Row.equal(
        "Replicas qui répondent à un même navigateur, en dix requêtes",
        "1",
        found,
        f"Relisez le label : « docker service inspect --pretty {STACK}_whoami ».",
    )


# -- removed --------------------------------------------------------------------------------


def _removed(state: ClusterState) -> Iterator[Row]:
    yield gone_row(state, STACK)
    left = find_service(state, ADDED)
    yield Row.whether(
        f"Service {ADDED}", "retiré", left is None, "encore là", f"« docker service rm {ADDED} »"
    )


# -- what was predicted -------------------------------------------------------------------


def _published(state: ClusterState, _: Any) -> int:
    return len({port.published for service in state.services for port in service.ports})


def _replaced(state: ClusterState, _: Any) -> int:
    return sum(not task.current for task in state.tasks_of(f"{STACK}_whoami", current=False))


PROXY_EXERCISES = (
    Exercise(
        "traefik",
        "Déployer Traefik",
        _deployed,
        Probe(_ask_doors, _judge_doors),
        _START,
        measures=(Measure("ports", _published),),
    ),
    Exercise(
        "traefik-bonjour",
        "Exposer un service par un domaine",
        _exposed,
        Probe(lambda: _ask_domain(ADDED), _judge_exposed),
        _START,
    ),
    Exercise(
        "traefik-cookie",
        "Garder un visiteur sur son replica",
        _sticky,
        Probe(_ask_sticky, _judge_sticky),
        _START,
        measures=(Measure("etiquettes", _replaced),),
    ),
    Exercise("traefik-ranger", "Ranger", _removed, None, _START),
)
