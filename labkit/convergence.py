"""Wait until a service is as it was asked to be, or say why it will not be.

Judging is pure: :mod:`labkit.service_progress` judges raw answers of the Docker API,
:class:`Patience` what the looks so far are enough for, and :mod:`labkit.failures` names the
failures that more waiting will not mend.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from docker.errors import NotFound

from labkit.engine.clients import NO_ANSWER, read
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import NoSuchService
from labkit.failures import failure, lacks, not_placed, timed_out
from labkit.polling import until
from labkit.service_progress import OnProgress, ServiceProgress, progress_of
from labkit.state import ClusterState, capture

_INTERVAL = 0.4  # s between two looks
_NODES_EVERY = 5.0  # s between two captures of the whole cluster
_SILENCE = 30.0  # s that managers may be too busy to answer, while one waits
_STABLE = 5.0  # s without a failure before a service that had one is believed
_HOPELESS = 6.0  # s after which tasks that no node can take are given up


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a service has been as wanted, or without hope; each look makes the next."""

    good_since: float | None = None
    hopeless_since: float | None = None
    progress: ServiceProgress | None = None

    def look(self, progress: ServiceProgress) -> Patience:
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


class _Watch:
    """The swarm as seen while waiting: asks a manager, and another one if that one leaves."""

    def __init__(self, fleet: Fleet, on_progress: OnProgress | None) -> None:
        self.fleet = fleet
        self.start = time.monotonic()
        self._on_progress = on_progress
        self._last: ServiceProgress | None = None
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
            tasks = read(endpoint, lambda api: api.tasks(filters={"service": service_id}))
        except NO_ANSWER:
            # Managers change, leaders too: find another one, or learn why there is none.
            self._captured = float("-inf")
            return None
        return service, tasks

    def tell(self, progress: ServiceProgress) -> None:
        last, self._last = self._last, progress
        if self._on_progress is None:
            return
        if last is None or _shown(last) != _shown(progress):
            self._on_progress(progress)


def _shown(progress: ServiceProgress) -> tuple[object, ...]:
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

    Tasks whose ids are in ``seen`` had failed before, and are not counted. Raises ``ImageNotFound``
    or ``PortTaken`` or ``ConvergenceTimeout`` as soon as more waiting would not help; the last also
    when time is over.
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
        if not progress.done and (error := failure(service, progress, seen, partial(lacks, fleet))):
            raise error
        if patience.over:
            raise not_placed(progress, capture(fleet))
        return None

    state = until(look, seconds=timeout, every=_INTERVAL)
    if state is None:
        raise timed_out(name, patience.progress, watch.elapsed)
    return state


def inspect(endpoint: Endpoint, service_id: str, name: str) -> dict[str, Any]:
    """Return a service as the Docker API describes it."""
    try:
        raw: dict[str, Any] = read(endpoint, lambda api: api.inspect_service(service_id))
    except NotFound as error:
        raise NoSuchService(
            f"Le service « {name} » n’existe plus.",
            remedy="Quelqu’un l’a supprimé : regardez « docker service ls ».",
        ) from error
    return raw


def _hopeless(progress: ServiceProgress) -> bool:
    """Whether the only tasks missing are tasks that no node can take."""
    starting = [t for t in progress.tasks if t.starting]
    waiting = [t for t in starting if t.state == "pending" and t.error]
    return bool(waiting) and len(waiting) == len(starting) and not progress.stopping
