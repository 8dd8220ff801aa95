"""Report the nodes, the images, and the memory and disk that the machine takes."""

from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from docker.errors import DockerException

from labkit.engine.embedded import lifetime, upkeep
from labkit.engine.embedded.build.recipe import DISK
from labkit.engine.embedded.headroom import ended
from labkit.engine.embedded.lifetime import UNKEPT
from labkit.engine.embedded.machine import waits_for_room
from labkit.engine.embedded.processes import process_of
from labkit.engine.embedded.record import FRESH, LOST, ImageStatus, read_record, unreadable
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import Endpoint
from labkit.errors import EngineNotRunning
from labkit.files import text_of

_PAUSED = (
    "Le disque est plein : la machine est en pause, rien n’est perdu. Faites de la place, puis "
    "« labkit up »."
)
_ORIGINS = {
    "hub": "Docker Hub",
    "stand-in": "remplaçante, construite sur place",
    "course": "du cours",
    "missing": "manque",
}


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node: where published ports are reached, and what its engine says."""

    name: str
    address: str
    swarm_address: str | None
    engine_version: str
    swarm: str  # what ``docker info`` says (``inactive``, ``active``…), or ``unreachable``


@dataclass(frozen=True, slots=True)
class Status:
    """The answer of ``labkit status``."""

    engine: str  # ``embedded``, ``host``, or ``none`` when nothing runs
    nodes: tuple[NodeStatus, ...] = ()
    images: tuple[ImageStatus, ...] = ()
    detail: str = ""  # a French sentence, for example when QEMU was killed
    accel: str = ""
    package: str = ""  # installed one that the machine's driver came from; "" for none
    memory: int = 0  # resident memory of the machine, in MB; 0 for engines that are not labkit's
    # what the machine has written on this host's disk, in MB; 0 for engines that are not labkit's
    disk: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return what ``labkit status --json`` prints."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"Moteur : {self.engine}. {self.detail}".strip()]
        for node in self.nodes:
            lines.append(
                f"  {node.name}  {node.address}  Docker {node.engine_version or '?'}  "
                f"swarm : {node.swarm}"
            )
        for image in self.images:
            where = "" if image.loaded else " (dans le registre de la machine)"
            if image.origin == "missing":
                where = f" : {image.why} « labkit build » essaie de nouveau."
            elif image.missing:
                where = f" (n’est plus sur {', '.join(image.missing)} : une task l’y reprend)"
            lines.append(f"  image {image.name} : {_ORIGINS[image.origin]}{where}")
        if self.memory:
            package = f", paquet {self.package}" if self.package else ""
            most = f"{DISK / 1e9:.1f}".replace(".", ",")
            lines.append(
                f"  machine ({self.accel}{package}) : {self.memory} Mo de mémoire, "
                f"{self.disk} Mo écrits sur le disque ({most} Go au plus)"
            )
        return "\n".join(lines)


def status(settings: Settings) -> Status:
    """Return the status of the embedded cluster."""
    try:
        record = read_record(settings)
    except EngineNotRunning as error:
        return Status("none", detail=f"{error.message} {error.remedy}")
    if record is None and unreadable(settings.run):
        return Status("none", detail=f"{LOST} {FRESH}")
    if record is None:
        why = lifetime.reason_left(settings.run)
        why = f"{why} « labkit up »." if why else "Aucun cluster n’est démarré : « labkit up »."
        return Status("none", detail=why)
    process = process_of(settings.run)
    if process is None:
        what = "La machine s’est arrêtée : « labkit up » en refait une."
        return Status("none", detail=ended(what, record))
    kept = process_of(settings.run, "keeper.pid")
    waiting = waits_for_room(settings.run)  # no engine answers then: do not wait for them
    fleet = record.fleet(settings.run)
    nodes = tuple(
        NodeStatus(e.name, e.address, e.swarm_address, "", "unreachable")
        if waiting
        else node_status(e)
        for e in fleet
    )
    tags = {e.name: None if waiting else _tags(e) for e in fleet}
    images = [ImageStatus(**i) for i in record.images]
    return Status(
        engine="embedded",
        nodes=nodes,
        detail=_PAUSED if waiting else _said_of_ports(settings.run, bool(kept)),
        images=tuple(replace(i, missing=_missing(i, tags)) for i in images),
        accel=record.accel,
        package=record.package,
        memory=process.memory_info().rss // 1_000_000,
        disk=upkeep.written(settings.run, process.pid) // 1_000_000,
    )


def _said_of_ports(run: Path, kept: bool) -> str:
    return text_of(run / "ports") if kept else f"{UNKEPT} : « labkit up » y remédie."


def node_status(endpoint: Endpoint) -> NodeStatus:
    """Ask one engine who it is; one that does not answer within 5 s is unreachable."""
    version, swarm = "", "unreachable"
    with suppress(DockerException, OSError), closing(endpoint.client(timeout=5)) as client:
        info = client.info()
        version, swarm = info["ServerVersion"], info["Swarm"]["LocalNodeState"]
    return NodeStatus(endpoint.name, endpoint.address, endpoint.swarm_address, version, swarm)


def _tags(endpoint: Endpoint) -> frozenset[str] | None:
    """Return the names of the images that an engine has; None when it does not answer."""
    with suppress(DockerException, OSError), closing(endpoint.client(timeout=5)) as client:
        return frozenset(t for i in client.api.images() for t in i.get("RepoTags") or ())
    return None


def _missing(image: ImageStatus, tags: Mapping[str, frozenset[str] | None]) -> tuple[str, ...]:
    """Return the nodes that answered without an image that they were given."""
    if not image.loaded or image.origin == "missing":
        return ()
    return tuple(name for name, held in tags.items() if held is not None and image.name not in held)
