"""Stacks: deployed and removed by the real ``docker`` command, then awaited like services.

An action is a value, as in :mod:`labkit.services`: ``Deploy("vote", "docker-stack.yml").command``
is what a student types, ``.apply()`` runs it and waits for the swarm.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from labkit.engine import connect
from labkit.engine.endpoint import Fleet
from labkit.errors import ConvergenceTimeout, DockerFailed, NoSuchStack
from labkit.hints import way_out
from labkit.services import OnProgress, wait
from labkit.state import ClusterState, Service, capture

__all__ = ["Deploy", "Remove", "services_of"]

_INTERVAL = 0.5  # s between two looks
_CLI_TIMEOUT = 120.0  # s that docker itself may take


def services_of(state: ClusterState, stack: str) -> tuple[Service, ...]:
    """Return the services of a stack, by name; none if there is no such stack."""
    return tuple(s for s in state.services if s.stack == stack)


@dataclass(frozen=True, slots=True)
class Deploy:
    """Deploy a stack, or update it.

    Parameters
    ----------
    stack
        Its name.
    file
        The stack file.
    """

    stack: str
    file: Path | str

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        words = ["docker", "stack", "deploy", "--compose-file", os.fspath(self.file), self.stack]
        return shlex.join(words)

    def apply(
        self,
        fleet: Fleet | None = None,
        *,
        timeout: float = 300.0,
        on_progress: OnProgress | None = None,
    ) -> ClusterState:
        """Deploy, and wait until each service of the stack is as wanted.

        Parameters
        ----------
        fleet
            The engines; None takes :func:`labkit.engine.connect`.
        timeout
            Seconds to wait; the stack stays when they are over.
        on_progress
            Called at each change, one service after the other.

        Returns
        -------
        ClusterState
            As captured once all is as wanted.

        Raises
        ------
        DockerFailed
            When docker refuses the file, in docker's own words.
        ConvergenceTimeout, ImageNotFound
            As :func:`labkit.services.wait` does, for one of the services.
        """
        fleet = connect() if fleet is None else fleet
        deadline = time.monotonic() + timeout
        state = capture(fleet).require()
        _docker(fleet, state, self.command)
        state = _answer(fleet, deadline)
        for service in services_of(state, self.stack):
            left = max(1.0, deadline - time.monotonic())
            state = wait(service.name, fleet, timeout=left, on_progress=on_progress)
        return state


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a stack; its volumes stay on their nodes."""

    stack: str

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        return shlex.join(["docker", "stack", "rm", self.stack])

    def apply(self, fleet: Fleet | None = None, *, timeout: float = 120.0) -> ClusterState:
        """Remove the stack, and wait until its tasks and networks are gone.

        An engine removes a task's container a moment after the task.

        Parameters and result are those of :meth:`Deploy.apply`.

        Raises
        ------
        NoSuchStack
        DockerFailed, ConvergenceTimeout
        """
        fleet = connect() if fleet is None else fleet
        deadline = time.monotonic() + timeout
        state = capture(fleet).require()
        ids = {s.id for s in services_of(state, self.stack)}
        if not ids:
            raise NoSuchStack(
                f"Aucune stack ne s’appelle « {self.stack} ».",
                remedy="« docker stack ls » les liste.",
            )
        _docker(fleet, state, self.command)
        while True:
            state = _answer(fleet, deadline)
            tasks = any(t.service_id in ids and not t.failed for t in state.tasks)
            networks = any(n.stack == self.stack for n in state.networks)
            if not (tasks or networks or services_of(state, self.stack)):
                return state
            if time.monotonic() > deadline:
                raise ConvergenceTimeout(
                    f"La stack « {self.stack} » n’est pas encore partie.",
                    remedy="Regardez « docker stack ls », puis « docker network ls ».",
                )
            time.sleep(_INTERVAL)


def _answer(fleet: Fleet, deadline: float) -> ClusterState:
    """Return the state once a manager answers: a busy one may need more than one question."""
    while not (state := capture(fleet)).active and time.monotonic() < deadline:
        time.sleep(_INTERVAL)
    return state.require()


def _docker(fleet: Fleet, state: ClusterState, command: str) -> None:
    """Run a docker command on the manager that answers.

    Raises
    ------
    DockerFailed
    """
    program = shutil.which("docker")
    if program is None:
        raise DockerFailed(
            "La commande docker est introuvable.",
            remedy="Lancez d’abord labkit.up() : la commande vient avec le cluster.",
        )
    # our own fleet has a context a node; other engines are those of the user's configuration
    place = ["--context", str(state.asked)] if fleet.docker_config else []
    words = [program, *place, *shlex.split(command)[1:]]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_CLI_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise DockerFailed(
            f"« {command} » n’a pas abouti en {_CLI_TIMEOUT:.0f} s.",
            remedy="Vérifiez le cluster avec « labkit status ».",
        ) from None
    if done.returncode:
        raise DockerFailed(
            f"« {command} » a échoué : {' '.join(done.stderr.split())}",
            remedy=way_out(done.stderr)
            or "Relisez le fichier et l’état du cluster (« docker stack ls »).",
        )
