"""Judge from raw answers of the Docker API how far a service is; pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.state import Node, Service, Task, ended, service_from_raw, tasks_from_raw


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a service towards the state that was asked for."""

    service: str  # name
    wanted: int | None  # tasks that must run (or complete, for a job); None while that is not known
    # tasks that run as wanted; tasks of a former version do not count. Of a job, those that have
    # completed in its present run.
    running: int
    starting: int  # tasks on their way
    failed: int  # tasks that failed since the wait began
    tasks: tuple[Task, ...]  # every task of the service, history included
    elapsed: float  # seconds since the wait began
    message: str  # the same in a French sentence
    stopping: int = 0  # tasks whose container has still to stop
    # tasks of a service that is no job, which ended by themselves and are not replaced
    completed: int = 0
    done: bool = False  # the service is as wanted


OnProgress = Callable[[Progress], None]


def progress_of(
    raw_service: Mapping[str, Any],
    raw_tasks: Sequence[Mapping[str, Any]],
    nodes: Mapping[str, Node],
    *,
    elapsed: float = 0.0,
    seen: Collection[str] = (),
) -> Progress:
    """Judge a service from raw answers of the Docker API; pure.

    ``nodes`` are by id; tasks whose ids are in ``seen`` had failed before, and are not counted.
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
