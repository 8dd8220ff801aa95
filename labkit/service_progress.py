"""Judge from raw answers of the Docker API how far a service is; pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.state import Node, Service, Task, ended, service_from_raw, tasks_from_raw


@dataclass(frozen=True, slots=True)
class ServiceProgress:
    """Progress of a service towards the state that was asked for."""

    service: str  # name
    job: bool  # its tasks are to complete, not to run for ever
    wanted: int | None  # tasks that must run (or complete, for a job); None while that is not known
    # tasks that run as wanted; tasks of a former version do not count. Of a job, those that have
    # completed in its present run.
    running: int
    # tasks of a service that is no job, which ended by themselves and are not replaced
    completed: int
    starting: int  # tasks on their way
    former: int  # tasks of a former version that are still wanted
    stopping: int  # tasks whose container has still to stop
    failed: int  # tasks that failed since the wait began
    tasks: tuple[Task, ...]  # every task of the service, history included
    elapsed: float  # seconds since the wait began

    @property
    def done(self) -> bool:
        """The service is as wanted."""
        enough = self.running + self.completed == self.wanted
        return enough and not (self.starting or self.former or self.stopping)

    @property
    def message(self) -> str:
        """The same in a French sentence."""
        what = f"terminée{'s' if self.running > 1 else ''}" if self.job else "en marche"
        parts = [f"{self.running}/{'?' if self.wanted is None else self.wanted} {what}"]
        for count, one, many in (
            (self.completed, "terminée", "terminées"),
            (self.starting, "démarre", "démarrent"),
            (self.former, "à remplacer", "à remplacer"),
            (self.stopping, "s’arrête", "s’arrêtent"),
            (self.failed, "échec", "échecs"),
        ):
            if count:
                parts.append(f"{count} {one if count == 1 else many}")
        return ", ".join(parts)


OnProgress = Callable[[ServiceProgress], None]


def progress_of(
    raw_service: Mapping[str, Any],
    raw_tasks: Sequence[Mapping[str, Any]],
    nodes: Mapping[str, Node],
    *,
    elapsed: float = 0.0,
    seen: Collection[str] = (),
) -> ServiceProgress:
    """Judge a service from raw answers of the Docker API; pure.

    ``nodes`` are by id; tasks whose ids are in ``seen`` had failed before, and are not counted.
    """
    service = service_from_raw(raw_service, {})
    names = {node.id: node.name for node in nodes.values()}
    tasks = tasks_from_raw(raw_tasks, services={service.id: service.name}, nodes=names)
    version = _version(raw_service["Spec"]["TaskTemplate"])
    same = {raw["ID"] for raw in raw_tasks if _version(raw.get("Spec") or {}) == version}
    fresh = {t.id for t in tasks if t.id in same and t.iteration == service.iteration}
    good = {
        t.slot or t.node_id
        for t in tasks
        if t.id in fresh and (t.completed if service.job else t.running)
    }
    over = () if service.job else ended(service, tasks)
    down = {node.id for node in nodes.values() if node.state == "down"}  # nobody can stop those
    return ServiceProgress(
        service=service.name,
        job=service.job,
        wanted=_wanted(service, tasks, nodes),
        running=len(good),
        completed=sum(t.completed and t.id in fresh for t in over),
        starting=sum(t.starting for t in tasks if t.id in fresh),
        former=sum(t.current and not t.failed for t in tasks if t.id not in fresh),
        stopping=sum(t.stopping for t in tasks if t.node_id not in down),
        failed=sum(t.failed for t in tasks if t.id in fresh and t.id not in seen),
        tasks=tasks,
        elapsed=elapsed,
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
