"""Pure checks of the monitored cluster, and what they ask of its Prometheus."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from labkit import metrics
from labkit.errors import MetricsError
from labkit.exercises.course.nb02_voting import gone_row, stack_rows, tasks_row
from labkit.exercises.exercise import Exercise, Measure, Probe
from labkit.exercises.questions import Question, config, config_rows, seen
from labkit.exercises.rows import find_service
from labkit.polling import until
from labkit.state import ClusterState, Service, capture
from labkit.text.french import enumerate_fr
from labkit.verdict import Row

STACK = "supervision"
FILE = "supervision/stack-supervision.yml"
NAMES = ("node-exporter", "prometheus")
NETWORK = f"{STACK}_default"
LABEL = "prometheus-job"
NODE_JOBS = ("moteurs", "node-exporter")
APP = "whoami"
FEW, MANY = 3, 5
VICTIM = "node3"

_START = 150.0  # s for images to be pulled and three or four tasks to start under emulation
_SEEN = 90.0  # s for the swarm and then Prometheus to notice what changed
_DEPLOY = f"« docker stack deploy --compose-file {FILE} {STACK} »"
_WAIT = "Prometheus relit le cluster toutes les cinq secondes : attendez, puis revérifiez."


@dataclass(frozen=True, slots=True)
class Scraped:
    """Prometheus's targets beside the swarm's tasks of the same moment."""

    ready: tuple[str, ...]  # names of the nodes that the swarm calls ready, in order
    replicas: int  # how many tasks whoami is to have
    tasks: tuple[str, ...]  # the nodes of the running tasks of whoami, one name a task
    # ``(job, node, service, health)`` of each target
    targets: tuple[tuple[str, str, str, str], ...]

    def nodes_up(self, job: str) -> tuple[str, ...]:
        """Return the nodes whose target of that job is up, in order."""
        return tuple(sorted(n for j, n, _, h in self.targets if j == job and h == "up"))

    def nodes_down(self, job: str) -> tuple[str, ...]:
        """Return the nodes whose target of that job is down, in order."""
        return tuple(sorted(n for j, n, _, h in self.targets if j == job and h == "down"))

    def of_app(self, job: str) -> tuple[str, ...]:
        """Return the node of each target of whoami in that job, in order, once it was scraped."""
        return tuple(
            sorted(n for j, n, s, h in self.targets if (j, s) == (job, APP) and h != "unknown")
        )

    @property
    def all_of_app(self) -> bool:
        """Whether every task that whoami is to have runs, and is a target."""
        return 0 < self.replicas == len(self.tasks) and self.of_app("tasks") == self.tasks


def _look() -> Scraped:
    state = capture()
    found = metrics.targets()
    service = find_service(state, APP)
    app = state.running(APP) if service else ()
    return Scraped(
        tuple(sorted(n.name for n in state.nodes if n.state == "ready")),
        (service.replicas or 0) if service else 0,
        tuple(sorted(t.node or "" for t in app)),
        tuple(zip(found["job"], found["node"], found["service"], found["health"], strict=True)),
    )


def _probe(judge: Callable[[Any], Iterator[Row]], look: Callable[[], Any] = _look) -> Probe:
    """Make a probe that looks until all is well, or for as long as noticing may take."""

    def ask() -> Any:
        silent: list[MetricsError] = []

        def heard() -> Any:
            try:
                return look()
            except MetricsError as error:
                silent.append(error)
                return None

        def enough(found: Any) -> bool:
            return found is not None and all(row.ok for row in judge(found))

        found = until(heard, enough, _SEEN, 1)
        if found is None:
            raise silent[-1]
        return found

    return Probe(ask, judge, look)


# -- deployed -------------------------------------------------------------------------------


def _deployed(state: ClusterState) -> Iterator[Row]:
    yield from stack_rows(state, STACK, _DEPLOY, NAMES)
    if exporter := find_service(state, f"{STACK}_node-exporter"):
        ready = sorted(n.name for n in state.nodes if n.state == "ready")
        here = sorted(t.node or "" for t in state.running(exporter.name))
        yield Row.equal(
            "Nœuds où tourne un node-exporter",
            enumerate_fr(ready),
            enumerate_fr(here) or "aucun",
            "Dans le fichier de stack, « mode: global » place une task sur chaque nœud.",
        )


def _judge_nodes(scraped: Scraped) -> Iterator[Row]:
    for job in NODE_JOBS:
        up = scraped.nodes_up(job)
        yield Row.equal(
            f"Cibles « {job} » qui répondent à Prometheus",
            enumerate_fr(scraped.ready),
            enumerate_fr(up) or "aucune",
            "La page de Prometheus, sous « Status » puis « Targets », dit ce qui manque et "
            f"pourquoi. {_WAIT}",
        )


# -- discovered -----------------------------------------------------------------------------


def _app(state: ClusterState, wanted: int, *, more: bool = False) -> Iterator[Row]:
    service = find_service(state, APP)
    found = service.replicas if service else None
    yield Row(
        f"Replicas demandés de {APP}",
        f"{wanted}{' ou plus' * more}",
        "aucun service de ce nom" if service is None else str(found),
        found is not None and (found == wanted or (more and found > wanted)),
        f"« docker service scale {APP}={wanted} »"
        if service
        else f"« docker service create --name {APP} --replicas {FEW} … traefik/whoami »",
    )
    if service:
        yield from _discoverable(service)
        yield tasks_row(state, service)


def _discoverable(service: Service) -> Iterator[Row]:
    yield Row.among(
        f"Réseau de {APP}",
        NETWORK,
        sorted(service.networks),
        "« docker service update --network-add supervision_default whoami »",
    )
    label = service.labels.get(LABEL, "")
    yield Row(
        f"Label {LABEL} de {APP}",
        "une valeur",
        label or "aucune",
        bool(label),
        "« docker service update --label-add prometheus-job=whoami whoami »",
    )


def _judge_app(scraped: Scraped) -> Iterator[Row]:
    found = scraped.of_app("tasks")
    yield Row(
        f"Cibles de {APP} par le rôle tasks",
        f"une par task : {scraped.replicas}",
        str(len(found)),
        scraped.all_of_app,
        _WAIT,
    )
    found = scraped.of_app("services")
    yield Row(
        f"Cibles de {APP} par le rôle services",
        "une, son adresse virtuelle",
        str(len(found)),
        len(found) == 1,
        _WAIT,
    )


# -- alerted --------------------------------------------------------------------------------


def _alerting(state: ClusterState) -> Iterator[Row]:
    yield from stack_rows(state, STACK, _DEPLOY, ("prometheus",))


def _rules() -> tuple[tuple[str, str], ...]:
    found = metrics.alerts()
    return tuple(zip(found["alert"], found["query"], strict=True))


def _judge_rules(rules: tuple[tuple[str, str], ...]) -> Iterator[Row]:
    yield Row.whether(
        "Règles d’alerte de Prometheus",
        "une sur up",
        any(re.search(r"\bup\b.*==\s*0", query) for _, query in rules),
        " ; ".join(f"{name} : {query}" for name, query in rules) or "aucune",
        "L’expression est vraie quand « up » vaut 0. Le fichier est-il dans le dossier "
        f"/etc/prometheus/alertes ? « docker service inspect --pretty {STACK}_prometheus »",
    )


# -- a node that is lost, and comes back ----------------------------------------------------


def _engine(state: ClusterState, *, alive: bool) -> Iterator[Row]:
    found = next((e.reachable for e in state.engines if e.name == VICTIM), None)
    words = {True: "répond", False: "ne répond pas", None: "aucun moteur de ce nom"}
    yield Row.equal(
        f"Moteur de {VICTIM}",
        words[alive],
        words[found],
        f"« labkit node {'start' if alive else 'kill'} {VICTIM} »",
    )


def _killed(state: ClusterState) -> Iterator[Row]:
    yield from _engine(state, alive=False)


def _back(state: ClusterState) -> Iterator[Row]:
    yield from _engine(state, alive=True)


def _judge_killed(scraped: Scraped) -> Iterator[Row]:
    for job in NODE_JOBS:
        down = scraped.nodes_down(job)
        yield Row.whether(
            f"Cible « {job} » de {VICTIM}",
            "ne répond plus",
            VICTIM in down,
            "répond, ou inconnue",
            _WAIT,
        )
    found = scraped.of_app("tasks")
    yield Row(
        f"Cibles de {APP} par le rôle tasks",
        f"une par task : {scraped.replicas}, aucune sur {VICTIM}",
        f"{len(found)}, dont {found.count(VICTIM)} sur {VICTIM}",
        scraped.all_of_app and VICTIM not in found,
        f"Le manager attend un peu avant de croire {VICTIM} perdu. {_WAIT}",
    )


# -- the end --------------------------------------------------------------------------------


def _removed(state: ClusterState) -> Iterator[Row]:
    service = find_service(state, APP)
    yield Row.whether(
        f"Service {APP}", "supprimé", service is None, "encore là", f"« docker service rm {APP} »"
    )
    yield gone_row(state, STACK)


# -- what was predicted -------------------------------------------------------------------


def _exporters(_: ClusterState, scraped: Scraped) -> int:
    return sum(job == "node-exporter" for job, *_ in scraped.targets)


def _by_role(_: ClusterState, scraped: Scraped) -> str:
    jobs = [job for job, *_ in scraped.targets]
    return f"{jobs.count('tasks')} et {jobs.count('services')}"


MONITORING_MEASURES = {
    "ecrit-par-la-socket": Measure(
        "socket", lambda _, said: "oui" if "ecrit-par-la-socket" in said else "non"
    )
}

MONITORING_EXERCISES = (
    Exercise(
        "superviser",
        "Déployer la supervision",
        _deployed,
        _probe(_judge_nodes),
        _START,
        measures=(Measure("exporteurs", _exporters),),
    ),
    Exercise(
        "decouvrir",
        "Un service se fait découvrir",
        lambda state: _app(state, FEW, more=True),
        _probe(_judge_app),
        _START,
        measures=(Measure("roles", _by_role),),
    ),
    Exercise(
        "decouvrir-5",
        "Cinq tasks, cinq cibles",
        lambda state: _app(state, MANY),
        _probe(_judge_app),
        _START,
    ),
    Exercise("alerte", "Poser une alerte", _alerting, _probe(_judge_rules, _rules), _START),
    Exercise("noeud-tue", "Un nœud disparaît", _killed, _probe(_judge_killed), _SEEN),
    Exercise("noeud-revenu", "Le nœud revient", _back, _probe(_judge_nodes), _SEEN),
    Exercise("ranger-supervision", "Ranger la supervision", _removed, None, _START),
)


# -- the questions at the end ---------------------------------------------------------------

_RUNNING = 'swarm_manager_tasks_total{state="running"}'
_SILENT = f'5 * count_over_time((up{{job="moteurs", node="{VICTIM}"}} == 0)[5m:5s])'
_LATELY = "30s"
_CLOSE = 5  # s by which two answers may differ


def _value(query: str) -> float | None:
    """Return the largest value of a query now; None where there is no series."""
    frame = metrics.query(query)
    return None if frame.empty else float(frame["value"].max())


def _lately(query: str) -> tuple[float, float] | None:
    """Return the least and the most that a query gave lately: Prometheus may read between two."""
    low, high = (_value(f"{kind}_over_time({query}[{_LATELY}])") for kind in ("min", "max"))
    return None if low is None or high is None else (low, high)


def _number(low: float, high: float) -> str:
    """Return the pattern of a whole number in these bounds, as Prometheus and pandas write it."""
    numbers = "|".join(str(n) for n in range(int(low), int(high) + 1))
    return rf"(?<![\w.:-])(?:{numbers})(?=(?:\.0)?(?![\w.:-]))"


def _running(state: ClusterState, said: str, value: Any) -> Iterator[Row]:
    hint = "Quelle mesure du manager compte les tasks, et quel label choisit leur état ?"
    form = _number(*value) if value else ""
    yield seen(said, "Tasks en marche", "leur nombre", None if value else "", hint, form)


def _leader(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    leader = state.leader.name if state.leader else ""
    hint = "Quelle mesure des moteurs vaut 1 pour le leader, et pour lui seul ?"
    forms = (rf"(?m)\b{leader}\b.*(?<![\d.])1(?:\.0)?\W*$", rf'"{leader}".{{,80}}"1"')
    yield seen(said, "Leader", "son nom, et 1", leader, hint, *forms)


def _durations(state: ClusterState, said: str, _: Any) -> Iterator[Row]:
    hint = "Prometheus mesure aussi ses lectures (scrape) : quelle mesure, et pour quel job ?"
    for node in state.nodes or [None]:
        name = node.name if node else ""
        forms = (rf"\b{name}\b.*(?<![\d.])\d\.\d+",)
        yield seen(
            said,
            f"Lecture de {name}".strip(),
            "une durée",
            "une durée" if name else "",
            hint,
            *forms,
        )


def _silence(state: ClusterState, said: str, value: Any) -> Iterator[Row]:
    hint = f"Combien de lectures de {VICTIM} ont échoué (up à 0), et combien de secondes chacune ?"
    answer = "" if value is None else f"{int(value)} s environ"
    bounds = ((value or 0) - _CLOSE, (value or 0) + _CLOSE)
    yield seen(said, f"Silence de {VICTIM}", "des secondes", answer, hint, _number(*bounds))


MONITORING_QUESTIONS = (
    Question("tasks-du-manager", "Les tasks du manager", _running, partial(_lately, _RUNNING)),
    Question("leader-mesure", "Le leader, mesuré", _leader),
    Question("duree-des-lectures", "La durée des lectures", _durations),
    Question("silence-de-node3", "Le silence de node3", _silence, partial(_value, _SILENT)),
    Question(
        "config-de-prometheus",
        "La config de Prometheus",
        config_rows,
        config(f"{STACK}_prometheus"),
    ),
)
