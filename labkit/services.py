"""Actions on services: each says its ``docker …`` command, acts, and waits for the swarm.

An action is a value: ``Create("whoami", "traefik/whoami", replicas=5).command`` is what a
student types, ``.apply()`` does the same through the docker SDK. What is sent is what the CLI
sends, so the engine's own defaults hold (restart always, update one task at a time).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from docker.errors import DockerException, NotFound

from labkit._docker import engine_errors, read, talk
from labkit.engine import connect
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import (
    ConvergenceTimeout,
    DockerFailed,
    EngineUnreachable,
    ImageNotFound,
    NoLeader,
    NoSuchService,
    PortTaken,
    SettingError,
)
from labkit.hints import images_at_hand
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

__all__ = [
    "Create",
    "OnProgress",
    "Progress",
    "Remove",
    "Scale",
    "Update",
    "not_scalable",
    "progress_of",
    "wait",
]

_INTERVAL = 0.4  # s between two looks
_NODES_EVERY = 5.0  # s between two captures of the whole cluster
_SILENCE = 30.0  # s that managers may be too busy to answer, while one waits
_STABLE = 5.0  # s without a failure before a service that had one is believed
_HOPELESS = 6.0  # s after which tasks that no node can take are given up
_CRASHES = 3  # failures of one slot after which it is given up
_RETRIES = 10  # of an update that came out of sequence


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a service is on its way to what was asked.

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


# -- actions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Create:
    """Create a service.

    Parameters
    ----------
    name, image
        As in ``docker service create --name NAME IMAGE``.
    replicas
        Tasks wanted, for mode ``replicated``.
    publish
        Pairs (published port, port in the container), TCP.
    mode
        ``replicated`` or ``global``.
    publish_mode
        ``ingress`` (routing mesh) or ``host``.
    constraints
        Such as ``node.role == worker``.
    networks
        Names of overlay networks.
    args
        Arguments given to the image.
    env
        ``NAME=value`` strings.

    Raises
    ------
    SettingError
        When a value cannot be meant.
    """

    name: str
    image: str
    replicas: int = 1
    publish: tuple[tuple[int, int], ...] = ((9999, 80),)
    mode: str = "replicated"
    publish_mode: str = "ingress"
    constraints: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in {"replicated", "global"}:
            raise SettingError(
                f"Le mode « {self.mode} » n’est pas connu.",
                remedy="Écrivez « replicated » ou « global ».",
            )
        if self.publish_mode not in {"ingress", "host"}:
            raise SettingError(
                f"Le mode de publication « {self.publish_mode} » n’est pas connu.",
                remedy="Écrivez « ingress » ou « host ».",
            )
        _check_replicas(self.replicas)

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        words = ["docker", "service", "create", "--name", self.name]
        if self.mode == "global":
            words += ["--mode", "global"]
        else:
            words += ["--replicas", str(self.replicas)]
        for published, target in self.publish:
            if self.publish_mode == "host":
                words += ["--publish", f"mode=host,published={published},target={target}"]
            else:
                words += ["--publish", f"{published}:{target}"]
        for option, values in (
            ("--constraint", self.constraints),
            ("--network", self.networks),
            ("--env", self.env),
        ):
            for value in values:
                words += [option, value]
        return shlex.join([*words, self.image, *self.args])

    def apply(
        self,
        fleet: Fleet | None = None,
        *,
        timeout: float = 120.0,
        on_progress: OnProgress | None = None,
    ) -> ClusterState:
        """Create the service and wait until its tasks run.

        Parameters
        ----------
        fleet
            The engines; None takes :func:`labkit.engine.connect`.
        timeout
            Seconds to wait; the service stays when they are over.
        on_progress
            Called at each change.

        Returns
        -------
        ClusterState
            As captured once the service is as wanted.

        Raises
        ------
        EngineNotRunning, EngineUnreachable, NoSwarm, NotAManager, QuorumLost
        PortTaken
            When another service publishes the port.
        ImageNotFound
            As soon as a node says that it cannot have the image; the service stays.
        ConvergenceTimeout
            When time is over, or no node can take the tasks.
        DockerFailed
            When the engine refuses for another reason, such as a name already in use.
        """
        fleet, endpoint, state = _open(fleet)
        if state.has_service(self.name):
            raise DockerFailed(
                f"Un service s’appelle déjà « {self.name} ».",
                remedy=f"Supprimez-le (« docker service rm {self.name} ») ou prenez un autre nom.",
            )
        spec = self._spec()
        try:
            with engine_errors(endpoint, self.command), talk(endpoint) as api:
                made = api.create_service(
                    spec["TaskTemplate"],
                    name=self.name,
                    labels={},
                    mode=spec["Mode"],
                    endpoint_spec=spec["EndpointSpec"],
                )
        except DockerFailed as error:
            now = capture(fleet).require()
            raise _port_taken(now, self._ports(), self.name) or error from error.__cause__
        return _watch(fleet, self.name, made["ID"], timeout, on_progress)

    def _ports(self) -> frozenset[int]:
        return frozenset(published for published, _ in self.publish)

    def _spec(self) -> dict[str, Any]:
        """Return what the CLI sends to ``POST /services/create``."""
        container: dict[str, Any] = {
            "Image": _tagged(self.image),
            "Init": False,
            "DNSConfig": {},
            "Isolation": "default",
        }
        if self.args:
            container["Args"] = list(self.args)
        if self.env:
            container["Env"] = list(self.env)
        template: dict[str, Any] = {
            "ContainerSpec": container,
            "Resources": {"Limits": {}, "Reservations": {}},
            "Placement": {"Constraints": list(self.constraints)} if self.constraints else {},
            "ForceUpdate": 0,
        }
        if self.networks:
            template["Networks"] = [{"Target": network} for network in self.networks]
        ports = [
            {
                "Protocol": "tcp",
                "TargetPort": target,
                "PublishedPort": published,
                "PublishMode": self.publish_mode,
            }
            for published, target in self.publish
        ]
        return {
            "TaskTemplate": template,
            "Mode": {"Global": {}}
            if self.mode == "global"
            else {"Replicated": {"Replicas": self.replicas}},
            "EndpointSpec": {"Mode": "vip", **({"Ports": ports} if ports else {})},
        }


@dataclass(frozen=True, slots=True)
class Scale:
    """Change how many tasks a replicated service has, or how many a job is to complete.

    A job then begins a new run, in which all of its tasks are done again.
    """

    name: str
    replicas: int

    def __post_init__(self) -> None:
        _check_replicas(self.replicas)

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
        """Scale, then wait until as many tasks run and the others have stopped.

        Parameters, result and errors are those of :meth:`Create.apply`.

        Raises
        ------
        NoSuchService
        DockerFailed
            Also for a global service, which has no number of replicas.
        """

        def edit(spec: dict[str, Any]) -> None:
            if "Replicated" in spec["Mode"]:
                spec["Mode"]["Replicated"]["Replicas"] = self.replicas
            elif "ReplicatedJob" in spec["Mode"]:
                spec["Mode"]["ReplicatedJob"]["TotalCompletions"] = self.replicas
            else:
                raise not_scalable(self.name)

        return _change(fleet, self.name, self.command, edit, timeout, on_progress)


@dataclass(frozen=True, slots=True)
class Update:
    """Give a service another image, or make all its tasks anew (``force``)."""

    name: str
    image: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.image is None and not self.force:
            raise SettingError(
                "Rien n’est à mettre à jour.", remedy="Donnez une image, ou « force=True »."
            )

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        words = ["docker", "service", "update"]
        if self.image is not None:
            words += ["--image", self.image]
        if self.force:
            words += ["--force"]
        return shlex.join([*words, self.name])

    def apply(
        self,
        fleet: Fleet | None = None,
        *,
        timeout: float = 120.0,
        on_progress: OnProgress | None = None,
    ) -> ClusterState:
        """Update, then wait until every task is of the new version.

        Parameters, result and errors are those of :meth:`Create.apply`.

        Raises
        ------
        NoSuchService
        """

        def edit(spec: dict[str, Any]) -> None:
            template = spec["TaskTemplate"]
            if self.image is not None:
                template["ContainerSpec"]["Image"] = _tagged(self.image)
            if self.force:
                template["ForceUpdate"] = template.get("ForceUpdate", 0) + 1

        return _change(fleet, self.name, self.command, edit, timeout, on_progress)


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a service."""

    name: str

    @property
    def command(self) -> str:
        """The same as a docker command line."""
        return shlex.join(["docker", "service", "rm", self.name])

    def apply(
        self,
        fleet: Fleet | None = None,
        *,
        timeout: float = 120.0,
        on_progress: OnProgress | None = None,
    ) -> ClusterState:
        """Remove the service, then wait until its containers are gone.

        Parameters, result and errors are those of :meth:`Create.apply`.

        Raises
        ------
        NoSuchService
        """
        fleet, endpoint, state = _open(fleet)
        service = state.service(self.name)
        try:
            with engine_errors(endpoint, self.command), talk(endpoint) as api:
                api.remove_service(service.id)
        except DockerFailed:
            capture(fleet).require().service(self.name)  # raises the better name
            raise
        return _watch_removal(fleet, service, timeout, on_progress)


def wait(
    name: str,
    fleet: Fleet | None = None,
    *,
    timeout: float = 120.0,
    on_progress: OnProgress | None = None,
) -> ClusterState:
    """Wait until a service is as it was asked to be.

    Parameters, result and errors are those of :meth:`Create.apply`.

    Raises
    ------
    NoSuchService
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            fleet, _, state = _open(fleet)
        except (NoLeader, EngineUnreachable):  # a manager with much to do may miss one look
            if time.monotonic() > deadline:
                raise
            time.sleep(_INTERVAL)
            continue
        left = deadline - time.monotonic()
        return _watch(fleet, name, state.service(name).id, left, on_progress)


# -- acting ---------------------------------------------------------------------------------

_NO_ANSWER = (requests.RequestException, DockerException, OSError)


def _open(fleet: Fleet | None) -> tuple[Fleet, Endpoint, ClusterState]:
    """Return the fleet, a manager of it that answers, and the present state."""
    fleet = connect() if fleet is None else fleet
    state = capture(fleet).require()
    assert state.asked is not None  # an active state has been asked for
    return fleet, fleet[state.asked], state


def _change(
    fleet: Fleet | None,
    name: str,
    command: str,
    edit: Callable[[dict[str, Any]], None],
    timeout: float,
    on_progress: OnProgress | None,
) -> ClusterState:
    """Edit a service's whole spec, again if somebody else was faster, and wait."""
    fleet, endpoint, state = _open(fleet)
    service = state.service(name)
    seen = frozenset(t.id for t in state.tasks_of(service.id, current=False) if t.failed)
    for attempt in range(_RETRIES):
        with engine_errors(endpoint, command):
            raw = _inspect(endpoint, service.id, name)
        spec, version = raw["Spec"], raw["Version"]["Index"]
        edit(spec)
        try:
            with engine_errors(endpoint, command), talk(endpoint) as api:
                api.update_service(
                    service.id,
                    version,
                    task_template=spec["TaskTemplate"],
                    name=spec["Name"],
                    labels=spec.get("Labels"),
                    mode=spec["Mode"],
                    update_config=spec.get("UpdateConfig"),
                    rollback_config=spec.get("RollbackConfig"),
                    endpoint_spec=spec.get("EndpointSpec"),
                )
            break
        except DockerFailed:
            capture(fleet).require()
            with engine_errors(endpoint, command):
                now = _inspect(endpoint, service.id, name)
            # "update out of sequence": known by its cause, a version that has moved.
            if now["Version"]["Index"] == version or attempt == _RETRIES - 1:
                raise
            time.sleep(0.05 * (attempt + 1))
    return _watch(fleet, name, service.id, timeout, on_progress, seen)


def _inspect(endpoint: Endpoint, service_id: str, name: str) -> dict[str, Any]:
    try:
        raw: dict[str, Any] = read(
            endpoint,
            lambda api: api.inspect_service(service_id),
        )
    except NotFound as error:
        raise NoSuchService(
            f"Le service « {name} » n’existe plus.",
            remedy="Quelqu’un l’a supprimé : regardez « docker service ls ».",
        ) from error
    return raw


def _check_replicas(replicas: int) -> None:
    if replicas < 0:
        raise SettingError(
            f"{replicas} replicas : un service ne peut pas en avoir moins de zéro.",
            remedy="Donnez un nombre entier positif ou nul.",
        )


def not_scalable(name: str) -> DockerFailed:
    """Return the error of a service that has no number of replicas."""
    return DockerFailed(
        f"Le service « {name} » est global : il ne se met pas à l’échelle.",
        remedy="Un service global a une task par nœud : ajoutez ou retirez des nœuds.",
    )


def _tagged(image: str) -> str:
    """Return the image with ``:latest`` when it has neither tag nor digest, as the CLI does."""
    if "@" in image or ":" in image.rpartition("/")[2]:
        return image
    return f"{image}:latest"


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


# -- waiting --------------------------------------------------------------------------------


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
            service = _inspect(endpoint, service_id, name)
            tasks = read(
                endpoint,
                lambda api: api.tasks(filters={"service": service_id}),
            )
        except _NO_ANSWER:
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


def _watch(
    fleet: Fleet,
    name: str,
    service_id: str,
    timeout: float,
    on_progress: OnProgress | None,
    seen: Collection[str] = (),
) -> ClusterState:
    """Wait until the service is as wanted."""
    watch = _Watch(fleet, on_progress)
    good_since = hopeless_since = None
    progress: Progress | None = None
    while True:
        watch.refresh()
        answer = watch.ask(service_id, name)
        if answer is not None:
            service, tasks = answer
            elapsed = watch.elapsed
            progress = progress_of(service, tasks, watch.nodes, elapsed=elapsed, seen=seen)
            held = progress.done and (
                not progress.failed or (good_since is not None and elapsed - good_since >= _STABLE)
            )
            watch.tell(progress)
            if held and (state := watch.fresh()):
                return state
            if progress.done:
                good_since = elapsed if good_since is None else good_since
            else:
                good_since = None
                _raise_failures(fleet, service, progress, seen)
            if _hopeless(progress):
                hopeless_since = elapsed if hopeless_since is None else hopeless_since
                if elapsed - hopeless_since >= _HOPELESS:
                    raise _not_placed(progress, capture(fleet))
            else:
                hopeless_since = None
        if watch.elapsed >= timeout:
            raise _timeout(name, progress, watch.elapsed)
        time.sleep(_INTERVAL)


def _watch_removal(
    fleet: Fleet, service: Service, timeout: float, on_progress: OnProgress | None
) -> ClusterState:
    """Wait until no container of a removed service is left."""
    watch = _Watch(fleet, on_progress)
    while True:
        state = watch.fresh()
        down = {n.id for n in watch.state.nodes if n.state == "down"}
        left = tuple(
            t
            for t in watch.state.tasks
            if t.service_id == service.id and t.node_id not in down and not t.failed
        )
        progress = Progress(
            service=service.name,
            wanted=0,
            running=0,
            starting=0,
            failed=0,
            tasks=left,
            elapsed=watch.elapsed,
            message=_sentence(0, 0, 0, len(left), 0, 0),
            stopping=len(left),
            done=state is not None and not left,
        )
        watch.tell(progress)
        if state and progress.done:
            return state
        if watch.elapsed >= timeout:
            raise _timeout(service.name, progress, watch.elapsed)
        time.sleep(_INTERVAL)


def _hopeless(progress: Progress) -> bool:
    """Whether the only tasks missing are tasks that no node can take."""
    starting = [t for t in progress.tasks if t.starting]
    waiting = [t for t in starting if t.state == "pending" and t.error]
    return bool(waiting) and len(waiting) == len(starting) and not progress.stopping


def _raise_failures(
    fleet: Fleet, raw_service: Mapping[str, Any], progress: Progress, seen: Collection[str]
) -> None:
    """Raise for failures that more waiting will not mend."""
    update = raw_service.get("UpdateStatus") or {}
    image = raw_service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    fresh = [
        t for t in progress.tasks if t.failed and t.id not in seen and t.image == _plain(image)
    ]
    rejected = [t for t in fresh if t.state == "rejected"]
    lacking = sorted({t.node or t.node_id for t in rejected if _lacks_image(fleet, t, image)})
    if lacking:
        raise ImageNotFound(
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
        raise ConvergenceTimeout(
            f"Les tasks du service « {progress.service} » échouent"
            f"{', et ne sont pas relancées' if for_good else ' les unes après les autres'} : "
            f"{_reasons(fresh)}.",
            remedy=f"Lisez « docker service ps --no-trunc {progress.service} » et "
            f"« docker service logs {progress.service} ».",
        )


def _at_hand() -> str:
    names = images_at_hand()
    return f" (images à portée : {', '.join(names)})" if names else ""


def _plain(image: str) -> str:
    return image.partition("@")[0]


def _lacks_image(fleet: Fleet, task: Task, image: str) -> bool:
    """Whether the task's node has no such image; its engine is asked when it is ours."""
    for endpoint in fleet:
        if endpoint.name == task.node:
            try:
                read(
                    endpoint,
                    lambda api: api.inspect_image(image),
                )
            except NotFound:
                return True
            except _NO_ANSWER:
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
