"""HAProxy beside Traefik and the routing mesh: what is measured, and checks by real requests."""

from __future__ import annotations

import http.client
import io
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import DockerException

from labkit import elections
from labkit.engine import Fleet, connect
from labkit.errors import ConvergenceTimeout, DockerFailed, LabkitError, SettingError, TrafficError
from labkit.exercises.course.nb02_voting import find, gone_row, stack_rows
from labkit.exercises.exercise import Exercise, Probe
from labkit.exercises.files import replacing
from labkit.exercises.measures.access import fetch, qui_repond
from labkit.polling import until
from labkit.state import ClusterState, Task, capture
from labkit.text.french import enumerate_fr
from labkit.traffic import Sample, send
from labkit.verdict import Row

if TYPE_CHECKING:
    import pandas as pd

STACK, WHOAMI, REPLICAS = "front", "front_whoami", 5
FILE, MORE = "haproxy/stack-haproxy.yml", "haproxy/trois-portes.yml"
MESH_PORT, TRAEFIK_PORT, PORT, STATISTICS = 9990, 8000, 8001, 8404
DOMAIN = "whoami.localhost"
PORTAINER, PORTAINER_FILE, PORTAINER_PORT = "portainer", "portainer/stack-portainer.yml", 9000
PORTAINER_IMAGE = "portainer/portainer-ce:lts"

PORTES: Mapping[str, Mapping[str, Any]] = {
    "routing mesh": {"port": MESH_PORT},
    "Traefik": {"port": TRAEFIK_PORT, "host": DOMAIN, "services": WHOAMI},
    "HAProxy": {"port": PORT, "host": DOMAIN, "services": WHOAMI},
}
"""Each door to the same replicas, as :func:`labkit.traffic.send` is to be asked for it."""

_START = 180.0  # s for the stack to start under emulation, an image being pulled first
_FIRST_ANSWER = 60.0  # s for a proxy to answer, once it runs, and to know its replicas
_HUB_SECONDS = 10.0  # that Docker Hub may take to say that it has an image
_NOTICED = 30.0  # s for HAProxy to notice that a server is ill
_DIES_AFTER = 2.0  # s of requests before the replica dies
_DOCKER_SECONDS = 60.0  # that « docker rm » may take
_DEPLOY = f"« docker stack deploy --compose-file {FILE} {STACK} »"
_DEPLOY_MORE = f"« docker stack deploy -c {FILE} -c {MORE} {STACK} »"
_DEPLOY_PORTAINER = f"« docker stack deploy --compose-file {PORTAINER_FILE} {PORTAINER} »"


# -- measured -------------------------------------------------------------------------------


def serveurs(pannes: int = 0) -> pd.DataFrame:
    """Return what HAProxy's own statistics say of its servers.

    ``pannes`` waits, 30 s at most, until HAProxy sees that many servers ``DOWN``. Raises
    ``TrafficError`` when the page does not answer.

    Returns
    -------
    DataFrame
        Index ``place``; columns ``adresse`` (that DNS gave), ``état`` (HAProxy's word: ``UP``,
        ``DOWN``, ``MAINT`` for a place that no replica has) and ``requêtes``.
    """
    return until(_servers, lambda t: (t["état"] == "DOWN").sum() >= pannes, _NOTICED, 0.5)


def _servers() -> pd.DataFrame:
    fleet = connect()
    state = capture(fleet)
    nodes = {t.node_id for t in state.tasks if t.running and t.service == f"{STACK}_haproxy"}
    name = next((e.name for e in state.engines if e.node_id in nodes), fleet.endpoints[0].name)
    try:
        status, body = fetch(*fleet.published(name, STATISTICS), path="/;csv")
    except (OSError, http.client.HTTPException):
        status, body = 0, b""
    if status != 200:
        raise TrafficError(
            "La page de statistiques de HAProxy ne répond pas.",
            remedy=f"Lisez « docker service logs {STACK}_haproxy ».",
        )
    return servers_from(body.decode())


def servers_from(text: str) -> pd.DataFrame:
    """Return the table of :func:`serveurs` from HAProxy's CSV; pure."""
    import pandas as pd

    table = pd.read_csv(io.StringIO(text.removeprefix("# ")))
    ours = table[(table["pxname"] == "replicas") & table["svname"].str.startswith("replica")]
    kept = ours[["svname", "addr", "status", "stot"]].fillna({"addr": "—"})
    kept.columns = pd.Index(["place", "adresse", "état", "requêtes"])
    kept["état"] = kept["état"].str.split().str[0]  # « DOWN 1/2 », « MAINT (resolution) »
    return kept.set_index("place").astype({"requêtes": int})


@dataclass(frozen=True, slots=True)
class Loss:
    """A replica that died while clients asked."""

    sample: Sample  # the requests
    command: str  # what killed it

    @property
    def sent(self) -> int:
        """Requests that ended."""
        return len(self.sample.frame)

    @property
    def silence_s(self) -> float:
        """Longest time without an answer free of error, in seconds."""
        import pandas as pd

        frame = self.sample.frame
        good = frame.loc[frame["error"].isna(), "time_s"].sort_values()
        edges = pd.Series([0.0, *good, frame["time_s"].max()])
        return float(edges.diff().max())

    def __repr__(self) -> str:
        return f"$ {self.command}\n{self.sample!r}"


def perdre_un_replica(porte: str, *, duree: float = 10.0) -> Loss:
    """Ask at a door for a while, kill a replica meanwhile, and wait for the one that replaces it.

    The container is removed by the docker command, on the node that has it; requests go on.
    ``porte`` is a key of :data:`PORTES`, ``duree`` the seconds of requests.

    Raises
    ------
    DockerFailed
        The container could not be removed.
    ConvergenceTimeout
        No other replica runs in its place.
    TrafficError, NoSuchService
        As :func:`labkit.traffic.send` does.
    """
    fleet = connect()
    state = elections.led(fleet).require()
    command = _removal(fleet, state, _victim(state))
    killers: list[subprocess.Popen[str]] = []

    def on_batch(sample: Sample) -> None:
        if not killers and sample.elapsed_s > _DIES_AFTER:
            killers.append(
                subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
                )
            )

    sample = send(
        **PORTES[porte], requests=100_000, concurrency=2, limit=duree,
        fleet=fleet, state=state, on_batch=on_batch,
    )  # fmt: skip
    for killer in killers:
        try:
            _, said = killer.communicate(timeout=_DOCKER_SECONDS)
        except subprocess.TimeoutExpired:
            killer.kill()
            killer.communicate()
            said = "pas de réponse"
        if killer.returncode:
            raise DockerFailed(
                f"« {' '.join(command)} » a échoué : {' '.join(said.split())}",
                remedy="Vérifiez le cluster avec « labkit status », puis relancez la cellule.",
            )
    _replaced(fleet, len(state.running(WHOAMI)))
    return Loss(sample, " ".join(command))


def _replaced(fleet: Fleet, replicas: int) -> None:
    """Wait until as many replicas run as before; one killed a few times is no failing service."""
    if not until(lambda: len(capture(fleet).running(WHOAMI)) >= replicas, bool, _START, 0.5):
        raise ConvergenceTimeout(
            f"Le replica tué de {WHOAMI} n’est toujours pas remplacé.",
            remedy=f"Lisez « docker service ps --no-trunc {WHOAMI} ».",
        )


def _victim(state: ClusterState) -> Task:
    """Return the running replica of the highest slot, on a worker if there is one there.

    Raises ``TrafficError`` when none runs.
    """
    workers = {n.id for n in state.nodes if n.role == "worker"}
    running = [t for t in state.tasks_of(state.service(WHOAMI).id) if t.running]
    if not running:
        raise TrafficError(
            f"Aucun replica de {WHOAMI} ne tourne.",
            remedy=f"Lisez « docker service ps --no-trunc {WHOAMI} ».",
        )
    return max(running, key=lambda t: (t.node_id in workers, t.slot or 0))


def _removal(fleet: Fleet, state: ClusterState, task: Task) -> list[str]:
    engine = next(e.name for e in state.engines if e.node_id == task.node_id)
    place = ["--context", engine] if fleet.docker_config else ["--host", fleet[engine].url]
    return ["docker", *place, "rm", "--force", task.container_id[:12]]


def tableau(
    neuves: Mapping[str, Sample],
    gardees: Mapping[str, Sample],
    pertes: Mapping[str, Loss],
) -> pd.DataFrame:
    """Return all measurements in one table; pure.

    Samples are by door: a new connection a request, and connections kept open.

    Returns
    -------
    DataFrame
        A row a measurement, with its unit in the name; a column a door, in the order of
        ``neuves``.
    """
    import pandas as pd

    columns = {}
    for door, new in neuves.items():
        kept, loss = gardees[door], pertes[door]
        good = new.frame.loc[new.frame["error"].isna(), "latency_ms"]
        measured = {
            "replicas qui répondent, connexions neuves": answering(new),
            "… le plus sollicité, en % des réponses": round(100 * new.counts()["share"].max()),
            "replicas qui répondent, une connexion gardée": answering(kept),
            "latence médiane, en ms": round(good.median(), 1),
            "latence dépassée par 5 % des requêtes, en ms": round(good.quantile(0.95), 1),
            "un replica meurt : requêtes envoyées": loss.sent,
            "… échouées": loss.sample.failures,
            "… plus long silence, en s": round(loss.silence_s, 1),
        }
        columns[door] = pd.Series(measured, dtype=object)  # whole numbers stay whole
    return pd.DataFrame(columns)


def answering(sample: Sample) -> int:
    """Return how many of the replicas that were expected to answer did."""
    expected = {t.container_id[:12] for t in sample.replicas}
    return len(expected & set(sample.frame["replica"].dropna()))


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
            if not client.images.list(name=image):
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
class Doors:
    """Replicas that answer at each door, and HAProxy's statistics of its own."""

    answering: Mapping[str, int] = field(default_factory=dict)  # door -> replicas that answered
    # up, down: servers that HAProxy sees well, and ill; -1 when its statistics do not answer
    up: int = -1
    down: int = -1


def _replicas(state: ClusterState, deploy: str) -> Row:
    service = find(state, WHOAMI)
    wanted = service.replicas if service else None
    return Row.equal(
        f"Replicas demandés de {WHOAMI}",
        REPLICAS,
        "—" if wanted is None else str(wanted),
        f"« docker service scale {WHOAMI}={REPLICAS} »" if service else deploy,
    )


def _published(state: ClusterState, name: str, port: int, mode: str, deploy: str) -> Row:
    service = find(state, f"{STACK}_{name}")
    ports = [(p.published, p.mode) for p in service.ports] if service else []
    shown = [f"{number} ({how})" for number, how in ports]
    return Row.among(f"Port de {STACK}_{name}", f"{port} ({mode})", shown, deploy)


def _deployed(state: ClusterState) -> Iterator[Row]:
    yield from stack_rows(state, STACK, _DEPLOY, ("haproxy", "whoami"))
    yield _replicas(state, _DEPLOY)
    yield _published(state, "haproxy", PORT, "host", _DEPLOY)


def _ask(doors: tuple[str, ...]) -> Doors:
    """Ask at each door until it is as it should be, or time is up."""

    def good(found: Doors) -> bool:
        return all(row.ok for row in _judge_front(found))

    return until(lambda: _look(doors), good, _FIRST_ANSWER, 1)


def _look(doors: tuple[str, ...]) -> Doors:
    found = dict.fromkeys(doors, 0)
    for door in doors:
        with suppress(LabkitError):
            found[door] = answering(send(**PORTES[door], requests=5 * REPLICAS, concurrency=2))
    try:
        states = serveurs()["état"]
    except TrafficError:
        return Doors(found)
    return Doors(found, int((states == "UP").sum()), int((states == "DOWN").sum()))


def _ask_front() -> Doors:
    return _ask(("HAProxy",))


def _judge_front(doors: Doors) -> Iterator[Row]:
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


def _ask_three() -> Doors:
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
    server = find(state, f"{PORTAINER}_portainer")
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
