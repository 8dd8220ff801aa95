"""Several doors to the same replicas: HAProxy's own statistics, and the loss of a replica."""

from __future__ import annotations

import http.client
import io
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import elections
from labkit.engine import Fleet, connect
from labkit.errors import ConvergenceTimeout, DockerFailed, TrafficError
from labkit.exercises.measures.access import fetch
from labkit.polling import until
from labkit.state import ClusterState, Task, capture
from labkit.traffic import Sample, send

if TYPE_CHECKING:
    import pandas as pd

STACK, WHOAMI = "front", "front_whoami"
MESH_PORT, TRAEFIK_PORT, PORT, STATISTICS = 9990, 8000, 8001, 8404
DOMAIN = "whoami.localhost"

PORTES: Mapping[str, Mapping[str, Any]] = {
    "routing mesh": {"port": MESH_PORT, "nodes": "node1"},
    "Traefik": {"port": TRAEFIK_PORT, "host": DOMAIN, "services": WHOAMI},
    "HAProxy": {"port": PORT, "host": DOMAIN, "services": WHOAMI},
}
"""Each door to the same replicas, as :func:`labkit.traffic.send` is to be asked for it: the mesh at
node1, where the two proxies run."""

_REPLACED = 180.0  # s for a replica to be replaced under emulation
_NOTICED = 30.0  # s for HAProxy to notice that a server is ill
_DIES_AFTER = 2.0  # s of requests before the replica dies
_DOCKER_SECONDS = 60.0  # that « docker rm » may take


def serveurs(pannes: int = 0) -> pd.DataFrame:
    """Return what HAProxy's own statistics say of its servers.

    Index ``place``; columns ``adresse`` (that DNS gave), ``état`` (HAProxy's word: ``UP``,
    ``DOWN``, ``MAINT`` for a place that no replica has) and ``requêtes``. ``pannes`` waits, 30 s at
    most, until HAProxy sees that many servers ``DOWN``. Raises ``TrafficError`` when the page does
    not answer.
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
        why = "La page de statistiques de HAProxy ne répond pas."
        raise TrafficError(why, remedy=f"Lisez « docker service logs {STACK}_haproxy ».")
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
        return f"$ {self.command}\n{self.sample.title()}"


def perdre_un_replica(porte: str, *, duree: float = 10.0) -> Loss:
    """Ask at a door for a while, kill a replica meanwhile, and wait for the one that replaces it.

    The container is removed by the docker command, on the node that has it; requests go on.
    ``porte`` is a key of :data:`PORTES`, ``duree`` the seconds of requests. Raises ``DockerFailed``
    when the container could not be removed, ``ConvergenceTimeout`` when no other replica runs in
    its place, and what :func:`labkit.traffic.send` does.
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
    if not until(lambda: len(capture(fleet).running(WHOAMI)) >= replicas, bool, _REPLACED, 0.5):
        why = f"Le replica tué de {WHOAMI} n’est toujours pas remplacé."
        raise ConvergenceTimeout(why, remedy=f"Lisez « docker service ps --no-trunc {WHOAMI} ».")


def _victim(state: ClusterState) -> Task:
    """Return the running replica of the highest slot, on a worker if there is one there.

    Raises ``TrafficError`` when none runs.
    """
    workers = {n.id for n in state.nodes if n.role == "worker"}
    running = [t for t in state.tasks_of(state.service(WHOAMI).id) if t.running]
    if not running:
        why = f"Aucun replica de {WHOAMI} ne tourne."
        raise TrafficError(why, remedy=f"Lisez « docker service ps --no-trunc {WHOAMI} ».")
    return max(running, key=lambda t: (t.node_id in workers, t.slot or 0))


def _removal(fleet: Fleet, state: ClusterState, task: Task) -> list[str]:
    engine = next(e.name for e in state.engines if e.node_id == task.node_id)
    place = ["--context", engine] if fleet.docker_config else ["--host", fleet[engine].url]
    return ["docker", *place, "rm", "--force", task.container_id[:12]]


def tableau(
    neuves: Mapping[str, Sample], gardees: Mapping[str, Sample], pertes: Mapping[str, Loss]
) -> pd.DataFrame:
    """Return all measurements in one table; pure.

    Samples are by door: a new connection a request, and connections kept open. A row is a
    measurement, with its unit in the name; a column a door, in the order of ``neuves``.
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
