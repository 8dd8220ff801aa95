"""Scale a service: say its ``docker …`` command, act, and wait for the swarm.

An action is a value: ``Scale("whoami", 5).command`` is what a student types, ``.apply()`` does the
same through the docker SDK.
"""

import shlex
from dataclasses import dataclass
from typing import Any

from labkit.convergence import converge, inspect
from labkit.engine import connect
from labkit.engine.clients import update_spec
from labkit.engine.endpoint import Fleet
from labkit.errors import DockerFailed, SettingError
from labkit.service_progress import OnProgress, ServiceProgress, progress_of
from labkit.state import ClusterState, capture, manager

__all__ = ["OnProgress", "Scale", "ServiceProgress", "not_scalable", "progress_of"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Change how many tasks a replicated service has, or how many a job is to complete.

    A job then begins a new run, in which all of its tasks are done again.
    """

    name: str
    replicas: int

    def __post_init__(self) -> None:
        if self.replicas < 0:
            raise SettingError(
                f"{self.replicas} replicas : un service ne peut pas en avoir moins de zéro.",
                remedy="Donnez un nombre entier positif ou nul.",
            )

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        return shlex.join(["docker", "service", "scale", f"{self.name}={self.replicas}"])

    def apply(
        self,
        fleet: Fleet | None = None,
        *,
        timeout: float = 120.0,
        on_progress: OnProgress | None = None,
    ) -> ClusterState:
        """Scale, wait until as many tasks run and the others have stopped, and return the cluster.

        The service stays as it was asked to be when ``timeout`` seconds are over. Raises
        ``ImageNotFound`` as soon as a node says that it cannot have the image, ``PortTaken`` or
        ``ConvergenceTimeout`` when no node can take the tasks or time is over, ``DockerFailed``
        when the engine refuses: also for a global service, which has no number of replicas.
        """
        fleet = connect() if fleet is None else fleet
        state = capture(fleet).require()
        service = state.service(self.name)
        seen = frozenset(t.id for t in state.tasks_of(service.id, current=False) if t.failed)
        update_spec(
            lambda: manager(fleet),
            self.command,
            lambda endpoint: inspect(endpoint, service.id, self.name),
            self._edit,
            lambda api, version, spec: api.update_service(
                service.id,
                version,
                task_template=spec["TaskTemplate"],
                name=spec["Name"],
                labels=spec.get("Labels"),
                mode=spec["Mode"],
                update_config=spec.get("UpdateConfig"),
                rollback_config=spec.get("RollbackConfig"),
                endpoint_spec=spec.get("EndpointSpec"),
            ),
        )
        return converge(fleet, self.name, service.id, timeout, on_progress, seen)

    def _edit(self, spec: dict[str, Any]) -> bool:
        if "Replicated" in spec["Mode"]:
            spec["Mode"]["Replicated"]["Replicas"] = self.replicas
        elif "ReplicatedJob" in spec["Mode"]:
            spec["Mode"]["ReplicatedJob"]["TotalCompletions"] = self.replicas
        else:
            raise not_scalable(self.name)
        return True  # even the same number: a job then begins a new run


def not_scalable(name: str) -> DockerFailed:
    """Return the error of a service that has no number of replicas."""
    return DockerFailed(
        f"Le service « {name} » est global : il ne se met pas à l’échelle.",
        remedy="Un service global a une task par nœud : ajoutez ou retirez des nœuds.",
    )
