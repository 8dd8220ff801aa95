"""Wait until a service is as it was asked to be, or say why it will not be.

Judging is pure: :func:`progress_of` judges raw answers of the Docker API, :class:`Patience` what
the looks so far are enough for, :func:`failure` whether more waiting would mend anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from docker.errors import NotFound

from labkit.engine.clients import NO_ANSWER, read
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import (
    ConvergenceTimeout,
    ImageNotFound,
    LabkitError,
    NoSuchService,
    PortTaken,
)
from labkit.hints import images_at_hand
from labkit.polling import until
from labkit.state import (
    ClusterState,
    Node,
    Service,
    Task,
    capture,
    ended,
    service_from_raw,
    tasks_from_raw,
)

__all__ = ["OnProgress", "Patience", "Progress", "converge", "failure", "inspect", "progress_of"]

_INTERVAL = 0.4  # s between two looks
_NODES_EVERY = 5.0  # s between two captures of the whole cluster
_SILENCE = 30.0  # s that managers may be too busy to answer, while one waits
_STABLE = 5.0  # s without a failure before a service that had one is believed
_HOPELESS = 6.0  # s after which tasks that no node can take are given up
_CRASHES = 3  # failures of one slot after which it is given up


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a service towards the state that was asked for.

    Attributes
    ----------
    service
        Name.
    wanted
        Tasks that must run (or complete, for a job); None while that is not known.
    running
        Tasks that run as wanted; tasks of a former version do not count. Of a job, those that
        have completed in its present run.
    starting
        Tasks on their way.
    failed
        Tasks that failed since the wait began.
    tasks
        Every task of the service, history included.
    elapsed
        Seconds since the wait began.
    message
        The same in a French sentence.
    stopping
        Tasks whose container has still to stop.
    completed
        Tasks of a service that is no job, which ended by themselves and are not replaced.
    done
        The service is as wanted.
    """

    service: str
    wanted: int | None
    running: int
    starting: int
    failed: int
    tasks: tuple[Task, ...]
    elapsed: float
    message: str
    stopping: int = 0
    completed: int = 0
    done: bool = False


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a service has been as wanted, or without hope; each look makes the next."""

    good_since: float | None = None
    hopeless_since: float | None = None
    progress: Progress | None = None

    def look(self, progress: Progress) -> Patience:
        """Return the patience that is left once a service is seen so."""

        def since(before: float | None, true: bool) -> float | None:
            return (progress.elapsed if before is None else before) if true else None

        return replace(
            self,
            good_since=since(self.good_since, progress.done),
            hopeless_since=since(self.hopeless_since, _hopeless(progress)),
            progress=progress,
        )

    def _for(self, since: float | None) -> float:
        return -1.0 if since is None or self.progress is None else self.progress.elapsed - since

    @property
    def done(self) -> bool:
        """The service is as wanted, and has been for a while if something had failed."""
        failed = self.progress is not None and self.progress.failed
        return self._for(self.good_since) >= (_STABLE if failed else 0)

    @property
    def over(self) -> bool:
        """No node could take the tasks that are missing, for too long."""
        return self._for(self.hopeless_since) >= _HOPELESS


def progress_of(
    raw_service: Mapping[str, Any],
    raw_tasks: Sequence[Mapping[str, Any]],
    nodes: Mapping[str, Node],
    *,
    elapsed: float = 0.0,
    seen: Collection[str] = (),
) -> Progress:
    """Judge a service from raw answers of the Docker API; pure.

    Parameters
    ----------
    raw_service, raw_tasks
        ``GET /services/{id}`` and ``GET /tasks`` of that service.
    nodes
        By id.
    elapsed
        Seconds since the wait began.
    seen
        Ids of tasks that had failed before, and are not to be counted.
    """
    service = service_from_raw(raw_service, {})
    names = {node.id: node.name for node in nodes.values()}
    tasks = tasks_from_raw(raw_tasks, services={service.id: service.name}, nodes=names)
    version = _version(raw_service["Spec"]["TaskTemplate"])
    same = {raw["ID"] for raw in raw_tasks if _version(raw.get("Spec") or {}) == version}
    fresh = {t.id for t in tasks if t.id in same and t.iteration == service.iteration}
    wanted = _wanted(service, tasks, nodes)
    good = {
        t.slot or t.node_id
        for t in tasks
        if t.id in fresh and (t.completed if service.job else t.running)
    }
    completed = 0
    if not service.job:
        completed = sum(t.completed and t.id in fresh for t in ended(service, tasks))
    starting = sum(t.starting for t in tasks if t.id in fresh)
    former = sum(t.current and not t.failed for t in tasks if t.id not in fresh)
    failed = sum(t.failed for t in tasks if t.id in fresh and t.id not in seen)
    down = {node.id for node in nodes.values() if node.state == "down"}  # nobody can stop those
    stopping = sum(t.stopping for t in tasks if t.node_id not in down)
    enough = len(good) + completed == wanted
    done = enough and not (starting or former or stopping)
    return Progress(
        service=service.name,
        wanted=wanted,
        running=len(good),
        starting=starting,
        failed=failed,
        tasks=tasks,
        elapsed=elapsed,
        message=_sentence(
            len(good), wanted, starting, stopping, failed, former, completed, job=service.job
        ),
        stopping=stopping,
        completed=completed,
        done=done,
    )


def _version(template: Mapping[str, Any]) -> tuple[str, int]:
    """Return what tells a task of the present version from a former one."""
    image = (template.get("ContainerSpec") or {}).get("Image", "")
    return image, template.get("ForceUpdate") or 0


def _wanted(service: Service, tasks: Sequence[Task], nodes: Mapping[str, Node]) -> int | None:
    if service.replicas is not None:
        return service.replicas
    if not service.constraints:
        return sum(n.state == "ready" and n.availability == "active" for n in nodes.values())
    return len({t.node_id for t in tasks if t.current or (service.job and t.completed)}) or None


def _sentence(
    running: int,
    wanted: int | None,
    starting: int,
    stopping: int,
    failed: int,
    former: int,
    completed: int = 0,
    *,
    job: bool = False,
) -> str:
    what = f"terminée{'s' if running > 1 else ''}" if job else "en marche"
    parts = [f"{running}/{'?' if wanted is None else wanted} {what}"]
    for count, one, many in (
        (completed, "1 terminée", f"{completed} terminées"),
        (starting, "1 démarre", f"{starting} démarrent"),
        (former, "1 à remplacer", f"{former} à remplacer"),
        (stopping, "1 s’arrête", f"{stopping} s’arrêtent"),
        (failed, "1 échec", f"{failed} échecs"),
    ):
        if count:
            parts.append(one if count == 1 else many)
    return ", ".join(parts)


class _Watch:
    """The swarm as seen while waiting: asks a manager, and another one if that one leaves."""

    def __init__(self, fleet: Fleet, on_progress: OnProgress | None) -> None:
        self.fleet = fleet
        self.start = time.monotonic()
        self._on_progress = on_progress
        self._last: Progress | None = None
        self._captured = float("-inf")
        self._heard = float("-inf")
        self.refresh()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def refresh(self) -> None:
        """Capture the cluster, at most every few seconds; a short silence is waited out."""
        if self.elapsed - self._captured >= _NODES_EVERY:
            state = capture(self.fleet)
            if not state.active and self.elapsed - self._heard < _SILENCE:
                return
            self.state = state.require()
            self.nodes = {n.id: n for n in self.state.nodes}
            self._captured = self._heard = self.elapsed

    def fresh(self) -> ClusterState | None:
        """Return the cluster as it is now; None in a short silence."""
        self._captured = float("-inf")
        self.refresh()
        return self.state if self._captured >= 0 else None

    def ask(self, service_id: str, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """Return a service and its tasks as they are; None when the manager was lost."""
        assert self.state.asked is not None
        endpoint = self.fleet[self.state.asked]
        try:
            service = inspect(endpoint, service_id, name)
            tasks = read(
                endpoint,
                lambda api: api.tasks(filters={"service": service_id}),
            )
        except NO_ANSWER:
            # Managers change, leaders too: find another one, or learn why there is none.
            self._captured = float("-inf")
            return None
        return service, tasks

    def tell(self, progress: Progress) -> None:
        last, self._last = self._last, progress
        if self._on_progress is None:
            return
        if last is None or _shown(last) != _shown(progress):
            self._on_progress(progress)


def _shown(progress: Progress) -> tuple[object, ...]:
    return progress.message, progress.done, tuple((t.id, t.state) for t in progress.tasks)


def converge(
    fleet: Fleet,
    name: str,
    service_id: str,
    timeout: float,
    on_progress: OnProgress | None,
    seen: Collection[str] = (),
) -> ClusterState:
    """Wait until the service is as wanted, and return the cluster as it then is.

    Parameters
    ----------
    seen
        Ids of tasks that had failed before, and are not to be counted.

    Raises
    ------
    ImageNotFound, PortTaken, ConvergenceTimeout
        As soon as more waiting would not help; the last also when time is over.
    """
    watch = _Watch(fleet, on_progress)
    patience = Patience()

    def look() -> ClusterState | None:
        nonlocal patience
        watch.refresh()
        if (answer := watch.ask(service_id, name)) is None:
            return None
        service, tasks = answer
        progress = progress_of(service, tasks, watch.nodes, elapsed=watch.elapsed, seen=seen)
        patience = patience.look(progress)
        watch.tell(progress)
        if patience.done and (state := watch.fresh()):
            return state
        if not progress.done and (
            error := failure(
                service, progress, seen, lambda task, image: _lacks(fleet, task, image)
            )
        ):
            raise error
        if patience.over:
            raise _not_placed(progress, capture(fleet))
        return None

    state = until(look, seconds=timeout, every=_INTERVAL)
    if state is None:
        raise _timeout(name, patience.progress, watch.elapsed)
    return state


def inspect(endpoint: Endpoint, service_id: str, name: str) -> dict[str, Any]:
    """Return a service as the Docker API describes it.

    Raises
    ------
    NoSuchService
    """
    try:
        raw: dict[str, Any] = read(endpoint, lambda api: api.inspect_service(service_id))
    except NotFound as error:
        raise NoSuchService(
            f"Le service « {name} » n’existe plus.",
            remedy="Quelqu’un l’a supprimé : regardez « docker service ls ».",
        ) from error
    return raw


def _hopeless(progress: Progress) -> bool:
    """Whether the only tasks missing are tasks that no node can take."""
    starting = [t for t in progress.tasks if t.starting]
    waiting = [t for t in starting if t.state == "pending" and t.error]
    return bool(waiting) and len(waiting) == len(starting) and not progress.stopping


def failure(
    raw_service: Mapping[str, Any],
    progress: Progress,
    seen: Collection[str],
    lacks_image: Callable[[Task, str], bool],
) -> LabkitError | None:
    """Return the error of failures that more waiting will not mend, if there are any.

    Parameters
    ----------
    raw_service
        ``GET /services/{id}``.
    seen
        Ids of tasks that had failed before.
    lacks_image
        Whether the node of a task has no such image.
    """
    update = raw_service.get("UpdateStatus") or {}
    image = raw_service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    fresh = [
        t for t in progress.tasks if t.failed and t.id not in seen and t.image == _plain(image)
    ]
    rejected = [t for t in fresh if t.state == "rejected"]
    lacking = sorted({t.node or t.node_id for t in rejected if lacks_image(t, image)})
    if lacking:
        return ImageNotFound(
            f"L’image « {_plain(image)} » est introuvable : {', '.join(lacking)} ne "
            f"{'peuvent' if len(lacking) > 1 else 'peut'} ni la trouver ni la télécharger.",
            remedy=f"Vérifiez l’orthographe du nom et du tag{_at_hand()}, "
            f"puis supprimez le service : « docker service rm {progress.service} » — "
            f"ou revenez en arrière : « docker service rollback {progress.service} ».",
        )
    slots = [t.slot or t.node_id for t in fresh]
    crashing = any(slots.count(slot) >= _CRASHES for slot in slots)
    for_good = [t for t in ended(service_from_raw(raw_service, {}), progress.tasks) if t in fresh]
    if crashing or for_good or (fresh and update.get("State") == "paused"):
        return ConvergenceTimeout(
            f"Les tasks du service « {progress.service} » échouent"
            f"{', et ne sont pas relancées' if for_good else ' les unes après les autres'} : "
            f"{_reasons(fresh)}.",
            remedy=f"Lisez « docker service ps --no-trunc {progress.service} » et "
            f"« docker service logs {progress.service} ».",
        )
    return None


def _at_hand() -> str:
    names = images_at_hand()
    return f" (images à portée : {', '.join(names)})" if names else ""


def _plain(image: str) -> str:
    return image.partition("@")[0]


def _lacks(fleet: Fleet, task: Task, image: str) -> bool:
    """Whether the task's node has no such image; its engine is asked when it is ours."""
    for endpoint in fleet:
        if endpoint.name == task.node:
            try:
                read(endpoint, lambda api: api.inspect_image(image))
            except NotFound:
                return True
            except NO_ANSWER:
                break
            return False
    return "No such image" in task.error or "pull" in task.error


def _reasons(tasks: Sequence[Task]) -> str:
    """Return each different reason once, with the tasks that gave it."""
    by_reason: dict[str, list[str]] = {}
    for task in tasks:
        where = f" sur {task.node}" if task.node else ""
        reason = f"{task.state}{where}" + (f" : {task.error}" if task.error else "")
        labels = by_reason.setdefault(reason, [])
        if task.label not in labels:
            labels.append(task.label)
    return " ; ".join(f"{', '.join(labels)} ({reason})" for reason, labels in by_reason.items())


def _not_placed(progress: Progress, state: ClusterState) -> ConvergenceTimeout | PortTaken:
    waiting = [t for t in progress.tasks if t.starting and t.error]
    ports: frozenset[int] = frozenset()
    if state.has_service(progress.service):
        mine = state.service(progress.service).ports
        ports = frozenset(p.published for p in mine if p.mode == "host" and p.published)
    if progress.running == 0 and (taken := _port_taken(state, ports, progress.service)):
        return taken
    for trouble in state.troubles:
        if trouble.service == progress.service:
            return ConvergenceTimeout(trouble.what, remedy=trouble.remedy)
    return ConvergenceTimeout(
        f"Aucun nœud ne peut prendre toutes les tasks du service « {progress.service} » "
        f"({progress.message}) : {_reasons(waiting)}.",
        remedy="Demandez moins de replicas, libérez des nœuds ou relâchez les contraintes, puis "
        f"regardez « docker service ps --no-trunc {progress.service} ».",
    )


def _timeout(name: str, progress: Progress | None, elapsed: float) -> ConvergenceTimeout:
    if progress is None:
        what = "aucun manager n’a répondu"
    else:
        stuck = [t for t in progress.tasks if t.starting or t.stopping or (t.current and t.failed)]
        what = progress.message + (f" — {_reasons(stuck)}" if stuck else "")
    return ConvergenceTimeout(
        f"Le service « {name} » n’est pas comme demandé après {elapsed:.0f} s : {what}.",
        remedy=f"Regardez « docker service ps --no-trunc {name} » ; attendez encore, ou réduisez "
        "ce que vous demandez.",
    )


def _port_taken(state: ClusterState, ports: Collection[int], asker: str) -> PortTaken | None:
    """Return the error that names the service that publishes one of ``ports``, if any does."""
    for service in state.services:
        for port in service.ports:
            if service.name != asker and port.published in ports:
                return PortTaken(
                    f"Le port {port.published} est déjà publié par le service « {service.name} ».",
                    remedy=f"Prenez un autre port, ou supprimez ce service : "
                    f"« docker service rm {service.name} ».",
                )
    return None
