"""Errors of services that will not become as they were asked to be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from docker.errors import NotFound

from labkit.engine.clients import NO_ANSWER, read
from labkit.engine.endpoint import Fleet
from labkit.errors import ConvergenceTimeout, ImageNotFound, LabkitError, PortTaken
from labkit.hints import images_at_hand
from labkit.state import ClusterState, Task, ended, service_from_raw

if TYPE_CHECKING:
    from labkit.service_progress import ServiceProgress

_CRASHES = 3  # failures of one slot after which it is given up


def failure(
    raw_service: Mapping[str, Any],
    progress: ServiceProgress,
    seen: Collection[str],
    lacks_image: Callable[[Task, str], bool],
) -> LabkitError | None:
    """Return the error of failures that more waiting will not mend, if there are any.

    Tasks in ``seen`` had failed before; ``lacks_image`` tells whether the node of a task has no
    such image.
    """
    update = raw_service.get("UpdateStatus") or {}
    image = raw_service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    fresh = [
        t for t in progress.tasks if t.failed and t.id not in seen and t.image == _plain(image)
    ]
    rejected = [t for t in fresh if t.state == "rejected"]
    lacking = sorted({t.node or t.node_id for t in rejected if lacks_image(t, image)})
    if lacking:
        names = images_at_hand()
        at_hand = f" (images à portée : {', '.join(names)})" if names else ""
        return ImageNotFound(
            f"L’image « {_plain(image)} » est introuvable : {', '.join(lacking)} ne "
            f"{'peuvent' if len(lacking) > 1 else 'peut'} ni la trouver ni la télécharger.",
            remedy=f"Vérifiez l’orthographe du nom et du tag{at_hand}, "
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


def _plain(image: str) -> str:
    return image.partition("@")[0]


def lacks(fleet: Fleet, task: Task, image: str) -> bool:
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


def not_placed(progress: ServiceProgress, state: ClusterState) -> ConvergenceTimeout | PortTaken:
    """Return the error of tasks that no node can take."""
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


def timed_out(name: str, progress: ServiceProgress | None, elapsed: float) -> ConvergenceTimeout:
    """Return the error of a service that is not as wanted when time is over."""
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
