"""The embedded cluster of a user: built once, restored in seconds, one at a time."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import APIError, DockerException
from docker.models.images import Image as DockerImage
from requests.exceptions import RequestException

from labkit.engine.contexts import (
    add_context,
    environment,
    remove_context,
    runs,
    update_context,
    write_contexts,
)
from labkit.engine.embedded import egress, identity, images, lifetime, upkeep
from labkit.engine.embedded.build.guest import DISK, Guest, build_guest, prune, remove_half_made
from labkit.engine.embedded.build.sealed import disk_error, need_room, verify
from labkit.engine.embedded.build.shared_cache import damaged_error, find_guest, is_shared
from labkit.engine.embedded.images.making import STAND_INS, repository
from labkit.engine.embedded.limits import MIB, gibibytes, limits
from labkit.engine.embedded.machine import (
    Machine,
    Snapshot,
    alive,
    endpoints_of,
    free_network,
    note_process,
    process_of,
    refuse_elsewhere,
    snapshot_of,
    stop_process,
    wait_for_engine,
    waits_for_room,
)
from labkit.engine.embedded.ownership import no_link, trusted
from labkit.engine.embedded.qemu import Qemu, engine_forward, find_qemu, split_network
from labkit.engine.embedded.qemu import qmp as control
from labkit.engine.embedded.settings import (
    MAX_NODES,
    MOST_MEMORY,
    NODES,
    STATE,
    Settings,
    limit_sentence,
    writable,
)
from labkit.engine.embedded.tls import worn
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report
from labkit.errors import EngineNotRunning, MachineFailed, NotEnoughMemory, SettingError

__all__ = [
    "ImageStatus",
    "NodeStatus",
    "Status",
    "add",
    "build",
    "down",
    "join",
    "remove",
    "reset",
    "status",
    "up",
]

ADD_SECONDS = 60.0
HUB_SECONDS = 3.0
NODE_MEMORY = 128  # MiB of the machine's, twice what a node of a swarm takes with two tasks
REGISTRY = "registry:5000"  # as the engines name it
REPOSITORIES = "/var/lib/registry/docker/registry/v2/repositories"
_PAUSED = (
    "Le disque est plein : la machine est en pause, rien n’est perdu. Faites de la place, puis "
    "« labkit up »."
)
_WAITS = (
    "Faites de la place sur ce disque, puis relancez « labkit up » : la machine est en pause, rien "
    "n’est perdu."
)
_ORIGINS = {
    "hub": "Docker Hub",
    "stand-in": "remplaçante, construite sur place",
    "course": "du cours",
    "missing": "manque",
}
PULL_SECONDS = 120
PREPARE_SECONDS = 120
KEEPER_SECONDS = 30.0
WARM_SECONDS = 240
RUN = 100_000_000  # bytes of disk that a cluster takes to start
FREE = f"Faites de la place sur ce disque, ou placez l’état du cluster ailleurs avec {STATE}"
SNAPSHOT = 1_200_000_000  # bytes of disk that a snapshot takes at its largest, while it is made


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node: where published ports are reached, and what its engine says.

    ``swarm`` is what ``docker info`` says (``inactive``, ``active``…), or ``unreachable``.
    """

    name: str
    address: str
    swarm_address: str | None
    engine_version: str
    swarm: str


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """One image of the course and where it came from: ``hub``, ``stand-in`` or ``course``.

    ``loaded`` when every engine has it; otherwise nodes pull it from the machine's registry. What
    is ``missing`` could not be had when the machine was built: ``why`` says it in French.
    ``loaded`` when every engine was given it; otherwise nodes pull it from the machine's
    registry. ``missing`` names the nodes that were given it and have it no more.
    """

    name: str
    origin: str
    loaded: bool = True
    why: str = ""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """What ``labkit status`` says.

    Attributes
    ----------
    engine
        ``embedded``, ``host``, or ``none`` when nothing runs.
    detail
        A French sentence, for example when QEMU was killed.
    memory
        Resident memory of the machine, in MB; 0 for engines that are not labkit's.
    disk
        What the machine has written on this host's disk, in MB; 0 for engines that are not
        labkit's.
    """

    engine: str
    nodes: tuple[NodeStatus, ...] = ()
    images: tuple[ImageStatus, ...] = ()
    detail: str = ""
    accel: str = ""
    memory: int = 0
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
            lines.append(
                f"  machine : {self.memory} Mo de mémoire, {self.disk} Mo écrits sur le disque "
                f"({DISK / 1e9:.1f} Go au plus)".replace(".", ",")
            )
        return "\n".join(lines)


class _Remapped(Mapping[tuple[str, int], int]):
    """Where published ports are, as the forwarder has them now."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self) -> dict[tuple[str, int], int]:
        try:
            rows = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return {(r["node"], r["port"]): r["at"] for r in rows}

    def __getitem__(self, key: tuple[str, int]) -> int:
        return self._read()[key]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


@dataclass(frozen=True, slots=True)
class _Record:
    """What ``cluster.json`` in the run directory says of a running cluster.

    ``nodes`` is how many it was started with, ``numbers`` are those of the nodes it has now.
    ``kills`` is how many programs the kernel had ended for want of memory until then.
    With ``private``, nothing is opened beside the addresses of its network.
    """

    network: str
    nodes: int
    numbers: list[int]
    accel: str
    images: list[dict[str, Any]] = field(default_factory=list)
    kills: int = 0
    private: bool = False

    @classmethod
    def read(cls, run: Path) -> _Record | None:
        """Return the record, or None where there is none that can be read."""
        try:
            record = cls(**json.loads((run / "cluster.json").read_text()))
            ipaddress.ip_address(f"{split_network(str(record.network))[0]}.{record.nodes}")
            fits = isinstance(record.accel, str) and record.numbers[0] == 1
            fits = fits and isinstance(record.kills, int)
            fits = fits and all(1 <= n <= MAX_NODES for n in (record.nodes, *record.numbers))
            for image in record.images:
                ImageStatus(**image)
        except (OSError, ValueError, TypeError, LookupError):
            return None
        return record if fits else None

    def write(self, run: Path) -> None:
        part = run / "cluster.json.part"
        part.write_text(json.dumps(asdict(self)))
        part.replace(run / "cluster.json")

    def fleet(self, run: Path) -> Fleet:
        return Fleet(
            kind="embedded",
            endpoints=endpoints_of(self.network, self.numbers, run),
            docker_config=run / "docker",
            remapped=_Remapped(run / "forwards.json"),
            private=self.private,
        )


def build(
    settings: Settings, report: Report, *, remove_old: bool = False, thorough: bool = False
) -> Snapshot:
    """Build the guest and its snapshot unless they are there already, whole.

    Parameters
    ----------
    remove_old
        Also remove what other versions of labkit left in the cache.
    thorough
        Read every file of what is there: one that changed is made again.
    """
    settings.check()
    ready = _ready(settings, thorough=thorough)
    if ready and not remove_old:
        return ready  # without a lock: the cache may be shared read-only
    if settings.shared and not ready:
        report.step(
            f"Le cache partagé {settings.shared} n’a pas tout : le reste est fait dans "
            f"{settings.cache}"
        )
    writable(settings.cache, "LABKIT_CACHE")
    with _lock(settings.cache / "build.lock", report):
        try:
            remove_half_made(settings)
            guest = find_guest(settings)
            if not is_shared(settings, guest.directory):
                with _safe_path():
                    guest = build_guest(
                        settings, step=report.step, progress=report.bytes, thorough=thorough
                    )
            qemu = find_qemu(guest, settings)
            snapshot = snapshot_of(guest, qemu, settings)
            if not snapshot.verify(thorough=thorough):
                _save(snapshot, Machine(settings.build_run, guest, qemu, settings), report)
        except OSError as error:
            raise disk_error(settings.cache, SNAPSHOT, error) from error
        if remove_old:
            kept = replace(settings, max_nodes=MAX_NODES, max_memory=MOST_MEMORY)
            sizes = (replace(kept, nodes=n) for n in range(1, MAX_NODES + 1))
            snapshots = {snapshot_of(guest, qemu, s).directory.name for s in sizes}
            prune(settings, {guest.directory.name, *snapshots})
        report.done()
        return snapshot


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Keep every Python that is started from importing what lies in the current directory."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


def _ready(settings: Settings, *, thorough: bool) -> Snapshot | None:
    """Return the snapshot if it and its guest are there, whole."""
    guest = find_guest(settings)
    if not verify(guest.directory, thorough=thorough):
        if is_shared(settings, guest.directory):
            raise damaged_error(settings)
        return None
    snapshot = snapshot_of(guest, find_qemu(guest, settings), settings)
    if snapshot.verify(thorough=thorough):
        return snapshot
    if is_shared(settings, snapshot.directory):
        raise damaged_error(settings)
    return None


def built(settings: Settings) -> bool:
    """Tell whether the guest and its snapshot are there.

    Raises
    ------
    MachineFailed
        When they are, but damaged.
    """
    guest = find_guest(settings)
    if not guest.directory.exists():
        return False
    what, where = "La machine construite est abîmée.", guest.directory
    if verify(guest.directory, thorough=True):
        snapshot = snapshot_of(guest, find_qemu(guest, settings), settings)
        if not snapshot.directory.exists():
            return False
        if snapshot.verify(thorough=True):
            return True
        what, where = "L’instantané est abîmé.", snapshot.directory
    if is_shared(settings, where):
        raise damaged_error(settings)
    raise MachineFailed(what, remedy="Lancez « labkit build », qui le refait.")


def _save(snapshot: Snapshot, machine: Machine, report: Report) -> None:
    """Boot a machine, prepare its engines and freeze it into a snapshot."""
    if snapshot.directory.exists():
        report.step("L’instantané est abîmé : il est refait")
    need_room(snapshot.directory.parent, SNAPSHOT)
    try:
        machine.boot(report.step)
        report.step("Chargement des images du cours")
        origins = _load_images(machine)
        report.step("Échauffement des moteurs")
        _warm(machine)
        report.step("Enregistrement de l’instantané")
        machine.save(snapshot, origins)
    except (DockerException, RequestException) as error:  # the latter are OSErrors, too
        raise MachineFailed(
            f"Un moteur a refusé ou s’est tu : {error}", remedy="Relancez."
        ) from error
    finally:
        machine.stop()


def up(settings: Settings, report: Report) -> Fleet:
    """Start the cluster, or rejoin the one that runs.

    Raises
    ------
    SettingError
        When a cluster with another number of nodes is running.
    """
    settings.check()
    with _lock(_lock_path(settings), report):
        record = _record(settings)
        if record is None and _unreadable(settings.run):
            raise MachineFailed(_LOST, remedy=_FRESH)
        if record and alive(settings.run):
            if settings.nodes not in (record.nodes, len(record.numbers)):
                raise SettingError(
                    f"Un cluster de {len(record.numbers)} nœuds est déjà démarré.",
                    remedy="« labkit node add » et « labkit node rm » changent leur nombre ; avec "
                    "« labkit down » d’abord, ce qu’il contient serait perdu.",
                )
            if waits_for_room(settings.run):
                need_room(settings.run, RUN, _WAITS)
                control.qmp(settings.run / "qmp", ("cont", {}))
            if worn(settings.run / "tls"):
                report.step("Les certificats du cluster sont renouvelés")
                _renew(settings, record)
            with contextlib.suppress(MachineFailed):
                upkeep.mend_clock(settings.run)
            _keeper(settings, report)
            return record.fleet(settings.run)
        _stop(settings)
        return _start(settings, report)


def _renew(settings: Settings, record: _Record) -> None:
    """Give the engines of a machine that runs, and all who speak to them, new keys."""
    guest = find_guest(settings)
    machine = Machine(settings.run, guest, Qemu((), "", record.accel), settings)
    machine.network = record.network
    machine.secure()
    for endpoint in record.fleet(settings.run):
        update_context(endpoint, settings.run / "docker", docker_cli(guest))


def join(settings: Settings) -> Fleet:
    """Return the fleet of the cluster that runs.

    Raises
    ------
    EngineNotRunning
        When none does.
    """
    record = _record(settings)
    if record is None and _unreadable(settings.run):
        raise EngineNotRunning(_LOST, remedy=_FRESH)
    if record is None or not alive(settings.run):
        what = "Aucun cluster n’est démarré."
        if record:
            what = _ended("Le cluster s’est arrêté.", record)
        what = lifetime.reason_left(settings.run) or what
        raise EngineNotRunning(
            what, remedy="Lancez « labkit up » (dans un notebook : labkit.up())."
        )
    return record.fleet(settings.run)


def _record(settings: Settings) -> _Record | None:
    """Return the record of the cluster of this host, or None where there is none to be read.

    Raises
    ------
    EngineNotRunning
        When it runs on another host.
    SettingError
        When others could have written it.
    """
    for directory in (settings.state, settings.run):
        trusted(directory, "Le répertoire", f"Ou choisissez un autre répertoire avec {STATE}.")
    refuse_elsewhere(settings.run)
    return _Record.read(settings.run)


def variables(settings: Settings) -> dict[str, str]:
    """Return the environment that gives a shell the CLI and the contexts of the cluster.

    It can be known before the cluster is up.
    """
    cli = docker_cli(find_guest(settings))
    record = _Record.read(settings.run)
    network = record.network if record else free_network(settings)
    nodes = endpoints_of(network, range(1, MAX_NODES + 1), settings.run)
    addresses = [node.address for node in nodes]
    return environment(settings.run / "docker", cli, os.environ.get("PATH", os.defpath), addresses)


def docker_cli(guest: Guest) -> Path:
    """Return the user's ``docker`` command, or the guest's where there is none that is usable."""
    theirs = shutil.which("docker")
    return Path(theirs if theirs and not refused(theirs) else guest.cli)


def which_docker() -> str:
    """Return in French which ``docker`` command is used, and why not the user's own if so."""
    theirs = shutil.which("docker")
    if theirs is None:
        return "celle de labkit"
    why = refused(theirs)
    return f"celle de labkit, car {theirs} ne convient pas : {why}" if why else theirs


@cache
def refused(cli: str) -> str:
    """Say in French why a ``docker`` command is not usable, once tried; "" when it is."""
    state = Settings.read().state
    writable(state, STATE)
    return runs(cli, state / f"try-{secrets.token_hex(4)}")


def reset(settings: Settings, report: Report) -> Fleet:
    """Return to fresh engines, with no swarm, no service and no container."""
    settings.check()
    with _lock(_lock_path(settings), report):
        _record(settings)
        _stop(settings)
        return _start(settings, report)


def down(settings: Settings) -> None:
    """Stop the cluster; no process, port or file of its run is left."""
    writable(settings.state, STATE)
    if not settings.run.parent.exists():  # what clears /tmp has been there
        settings.unsettle()
    with _lock(_lock_path(settings)):
        _record(settings)
        _stop(settings)
        with contextlib.suppress(OSError):
            _lock_path(settings).unlink()
        settings.unsettle()


def status(settings: Settings) -> Status:
    """Say what runs."""
    try:
        record = _record(settings)
    except EngineNotRunning as error:
        return Status("none", detail=f"{error.message} {error.remedy}")
    if record is None and _unreadable(settings.run):
        return Status("none", detail=f"{_LOST} {_FRESH}")
    if record is None:
        ended = lifetime.reason_left(settings.run)
        why = f"{ended} « labkit up »." if ended else "Aucun cluster n’est démarré : « labkit up »."
        return Status("none", detail=why)
    process = process_of(settings.run)
    if process is None:
        return Status(
            "none", detail=_ended("La machine s’est arrêtée : « labkit up » en refait une.", record)
        )
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
        memory=process.memory_info().rss // 1_000_000,
        disk=upkeep.written(settings.run, process.pid) // 1_000_000,
    )


def _said_of_ports(run: Path, kept: bool) -> str:
    if not kept:
        return f"{_UNKEPT} : « labkit up » y remédie."
    try:
        return (run / "ports").read_text()  # the keeper's
    except OSError:
        return ""


def node_status(endpoint: Endpoint) -> NodeStatus:
    """Ask one engine who it is; one that does not answer within 5 s is unreachable."""
    version, swarm = "", "unreachable"
    try:
        client = endpoint.client(timeout=5)
        try:
            info = client.info()
        finally:
            client.close()
        version, swarm = info["ServerVersion"], info["Swarm"]["LocalNodeState"]
    except (DockerException, OSError):
        pass
    return NodeStatus(endpoint.name, endpoint.address, endpoint.swarm_address, version, swarm)


def _tags(endpoint: Endpoint) -> frozenset[str] | None:
    """Return the names of the images that an engine has; None when it does not answer."""
    try:
        client = endpoint.client(timeout=5)
        try:
            return frozenset(t for i in client.api.images() for t in i.get("RepoTags") or ())
        finally:
            client.close()
    except (DockerException, OSError):
        return None


def _missing(image: ImageStatus, tags: Mapping[str, frozenset[str] | None]) -> tuple[str, ...]:
    """Return the nodes that answered without an image that they were given."""
    if not image.loaded or image.origin == "missing":
        return ()
    return tuple(name for name, held in tags.items() if held is not None and image.name not in held)


def _start(settings: Settings, report: Report) -> Fleet:
    if settings.nodes == settings.max_nodes < NODES:
        report.step(limit_sentence("LABKIT_MAX_NODES", settings.max_nodes))
    snapshot = build(settings, report)
    guest = find_guest(settings)
    qemu = find_qemu(guest, settings)
    machine = Machine(settings.run, guest, qemu, settings)
    kills = _within_limits(settings, report)
    roomy(settings)
    try:
        machine.restore(snapshot)
        numbers = list(range(1, settings.nodes + 1))
        record = _Record(
            machine.network, settings.nodes, numbers, qemu.accel, snapshot.images, kills,
            private=bool(settings.network),
        )  # fmt: skip
        fleet = record.fleet(settings.run)
        write_contexts(fleet, settings.run / "docker", docker_cli(guest), guest.plugins)
        record.write(settings.run)
    except BaseException as error:
        machine.stop()
        if isinstance(error, OSError):
            raise disk_error(settings.run.parent, RUN, error, room=FREE, variable=STATE) from error
        raise
    _keeper(settings, report)
    return fleet


def roomy(settings: Settings) -> None:
    """Raise :class:`DiskFull` when a cluster has no room to start."""
    there = next(p for p in (settings.state, *settings.state.parents) if p.exists())
    need_room(there, RUN, f"{FREE}, puis relancez.")


def _within_limits(settings: Settings, report: Report) -> int:
    """Say what this server allows, and that the machine fits; return the kernel's kills so far.

    Raises
    ------
    NotEnoughMemory
        When other programs hold what the machine may need.
    """
    found = limits()
    if found.memory is not None:
        report.step(
            f"Ce serveur est limité à {found} : cluster de {settings.nodes} "
            f"nœud{'s' if settings.nodes > 1 else ''}, machine de {settings.guest_memory} Mio"
        )
        if settings.footprint * MIB > found.free:
            raise NotEnoughMemory(
                f"Il reste {gibibytes(found.free)} des {gibibytes(found.memory)} de mémoire de ce "
                f"serveur, et la machine peut en demander {gibibytes(settings.footprint * MIB)}.",
                remedy=f"{_CLOSE}, puis relancez.",
            )
    return found.kills


_CLOSE = "Fermez les notebooks dont vous ne vous servez plus, et leurs noyaux avec eux"


def crowded(settings: Settings) -> str:
    """Say in French that the machine may soon lack memory; "" where it has enough."""
    found, process = limits(), process_of(settings.run)
    if found.memory is None or process is None:
        return ""
    growth = settings.footprint * MIB - process.memory_info().rss
    if growth <= found.free:
        return ""
    return (
        f"⚠ Mémoire : il reste {gibibytes(found.free)} des {gibibytes(found.memory)} de ce "
        f"serveur, et le cluster peut encore en demander {gibibytes(growth)}. {_CLOSE} (menu "
        "Noyau)."
    )


def _ended(what: str, record: _Record) -> str:
    """Add to what is said of a machine that ended whether the kernel may have ended it."""
    found = limits()
    if found.kills <= record.kills:
        return what
    return f"{what} La mémoire de ce serveur ({found}) a été dépassée. {_CLOSE}."


def add(settings: Settings, report: Report) -> Endpoint:
    """Add a node to the cluster that runs: a fresh engine with the course's images, in no swarm.

    Raises
    ------
    EngineNotRunning
    SettingError
        When there are ``MAX_NODES`` already, or too little memory is left for another.
    """
    with _lock(_lock_path(settings), report):
        join(settings)
        record = _Record.read(settings.run)
        assert record is not None  # join found it
        missing = set(range(1, MAX_NODES + 1)) - set(record.numbers)
        if not missing:
            raise SettingError(
                f"Il y a déjà {MAX_NODES} nœuds, le plus que la machine puisse tenir.",
                remedy="Retirez-en un : « labkit node rm NŒUD ».",
            )
        if len(record.numbers) >= settings.max_nodes:
            raise SettingError(
                f"Il y a déjà {len(record.numbers)} nœuds. "
                + limit_sentence("LABKIT_MAX_NODES", settings.max_nodes),
                remedy="Retirez-en un : « labkit node rm NŒUD ».",
            )
        number = min(missing)
        agent = settings.run / "agent"
        free = int(control.guest_shell(agent, "awk '/MemAvailable/{print $2}' /proc/meminfo"))
        if free < 1024 * NODE_MEMORY:
            raise SettingError(
                f"La machine n’a plus que {free // 1024} Mio de mémoire libre ; un nœud de plus "
                f"en demande {NODE_MEMORY}.",
                remedy="Retirez un service ou un nœud ; ou, pour une machine plus grande, mais "
                f"neuve : LABKIT_MEMORY={settings.guest_memory + 512} labkit reset.",
            )
        wider = replace(record, numbers=sorted([*record.numbers, number]))
        endpoint = wider.fleet(settings.run)[f"node{number}"]
        report.step(f"{endpoint.name} : un moteur neuf démarre")
        try:
            control.guest_shell(agent, f"node start {number}", 60)
            said = control.hmp(
                settings.run / "qmp", f"hostfwd_add u {engine_forward(record.network, number)}"
            )
            if said:
                raise MachineFailed(f"QEMU n’ouvre pas {endpoint.address} : {said}")
            wait_for_engine(
                endpoint, ADD_SECONDS, "Relancez ; si cela recommence : « labkit reset »."
            )
            add_context(endpoint, settings.run / "docker", docker_cli(find_guest(settings)))
        except BaseException:
            _forget(settings, record, endpoint)
            raise
        wider.write(settings.run)  # the keeper reads it again
        return endpoint


def remove(settings: Settings, name: str, report: Report) -> None:
    """Remove a node from the cluster that runs, its disk too; the swarm is not asked.

    Raises
    ------
    EngineNotRunning, NoSuchNode
    SettingError
        For the first node, which stays.
    """
    with _lock(_lock_path(settings), report):
        endpoint = join(settings)[name]
        record = _Record.read(settings.run)
        assert record is not None  # join found it
        if endpoint.name == "node1":
            raise SettingError(
                "node1 ne se retire pas : la commande docker s’adresse d’abord à lui.",
                remedy="Retirez un autre nœud, ou videz tout : « labkit reset ».",
            )
        report.step(f"{name} : retiré, son disque aussi")
        left = [n for n in record.numbers if f"node{n}" != name]
        _forget(settings, replace(record, numbers=left), endpoint)


def _forget(settings: Settings, left: _Record, endpoint: Endpoint) -> None:
    """Take away all that a node has, in the machine and around it."""
    left.write(settings.run)
    remove_context(endpoint.name, settings.run / "docker", docker_cli(find_guest(settings)))
    number = int(endpoint.name.removeprefix("node"))
    place, _, _ = engine_forward(left.network, number).partition("-")
    control.hmp(settings.run / "qmp", f"hostfwd_remove u {place}")
    control.guest_shell(settings.run / "agent", f"node remove {number}", 60)


_LOST = "Une machine tourne, mais son fichier cluster.json est illisible."
_FRESH = "Lancez « labkit reset » : elle sera refaite, et ce qu’elle contient sera perdu."


def _unreadable(run: Path) -> bool:
    """Tell whether a machine lives whose record, though there, cannot be read."""
    return (run / "cluster.json").exists() and _Record.read(run) is None and alive(run)


def _stop(settings: Settings) -> None:
    stop_process(settings.run, "keeper.pid")
    stop_process(settings.run)
    shutil.rmtree(settings.run, ignore_errors=True)


def end(run: Path, gone: Callable[[], bool], why: str) -> bool:
    """Let the keeper end its cluster, unless it is in use again; tell whether it did.

    Parameters
    ----------
    run
        The cluster's run directory.
    gone
        Whether nobody uses it; asked once no other labkit is at work on it.
    why
        The French sentence to leave in its place; "" leaves nothing at all.
    """
    lock = run.with_name(f"{run.name}.lock")
    with _lock(lock):
        if not gone():
            return False
        stop_process(run)
        shutil.rmtree(run, ignore_errors=True)
        if why:
            lifetime.leave_reason(run, why)
        else:
            lock.unlink(missing_ok=True)
            Settings.read().unsettle()
        return True


def _keeper(settings: Settings, report: Report) -> None:
    """Start the process that looks after the cluster, unless it lives; say if it ends at once."""
    run = settings.run
    lifetime.tie_to_server(run)
    lifetime.mark_used(run)
    if process_of(run, "keeper.pid"):
        return
    if machine := process_of(run):  # an older labkit wrote its id alone
        note_process(run, machine.pid)
    # neither what lies in the directory where a student works, nor where that is, is its business
    command = [sys.executable, "-P", "-m", "labkit.engine.embedded.keeper", str(run)]
    detached = subprocess.run(  # the shell ends at once: the keeper is nobody's child
        ["sh", "-c", 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!', "sh",
         run / "keeper.log", *command],
        stdout=subprocess.PIPE, text=True, start_new_session=True, check=True, cwd="/",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    deadline = time.monotonic() + KEEPER_SECONDS
    with contextlib.suppress(OSError):  # it ended
        while not process_of(run, "keeper.pid") and time.monotonic() < deadline:
            identity.stamp(int(detached.stdout))
            time.sleep(0.02)
    if not process_of(run, "keeper.pid"):
        said = (run / "keeper.log").read_text("utf-8", "replace").strip().splitlines()
        report.step(
            f"{_UNKEPT} : leur gardien s’est arrêté ({said[-1] if said else 'sans un mot'})"
        )


_UNKEPT = "Les ports publiés ne sont pas suivis"


def hub_answers(client: docker.DockerClient) -> bool:
    """Tell whether the registry that an engine pulls from can be reached from here."""
    address = urlsplit(client.info().get("IndexServerAddress", ""))
    if not address.hostname:
        return False
    try:
        with socket.create_connection((address.hostname, address.port or 443), HUB_SECONDS):
            return True
    except OSError:
        return False


ON_LINE = f"echo nameserver {egress.RESOLVER} >/etc/resolv.conf"
OFF_LINE = ": >/etc/resolv.conf"


def _load_images(machine: Machine) -> list[dict[str, Any]]:
    """Give the images of the course to every engine, or to the registry for what is rarely used.

    Returns where each came from.
    """
    client = machine.endpoints[0].client(timeout=PULL_SECONDS)
    try:
        online = hub_answers(client)
        egress.watch(machine.run, "")
        if online:
            machine.shell(ON_LINE)
        origins = []
        missing = machine.guest.missing
        for image in images.catalogue():
            origin, loaded, why = image.origin, image.loaded, ""
            real = origin == "hub" and online and _pull(client, image.name)
            if not real and image.name in missing:
                origin, loaded, why = "missing", False, missing[image.name]
            elif origin == "hub" and not real:
                origin = "stand-in"
            if not image.loaded and origin != "missing":
                _shelve(machine, client, image, real)
            elif loaded and not real:
                _take(client, image)
            origins.append({"name": image.name, "origin": origin, "loaded": loaded, "why": why})
        machine.shell(f"{OFF_LINE}; fstrim /var")  # what was shelved is not saved twice
    finally:
        client.close()
    machine.share_images()
    machine.shell("sync; echo 1 >/proc/sys/vm/drop_caches")  # of all that, little is read again
    return origins


def _pull(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.pull(name)
    except (DockerException, OSError):
        return False
    return True


def _shelve(machine: Machine, client: docker.DockerClient, image: images.Image, real: bool) -> None:
    """Put an image into the registry under its own name, and onto no engine.

    A stand-in is in the registry already, aside: it is moved there, which takes no time.
    """
    path, tag = repository(image)
    public = path.removeprefix(f"{STAND_INS}/")
    if real:
        client.images.get(image.name).tag(f"{REGISTRY}/{public}", tag)
        client.images.push(f"{REGISTRY}/{public}", tag=tag)
        for name in (f"{REGISTRY}/{public}:{tag}", image.name):
            client.images.remove(name)
    else:
        machine.shell(
            f"cd {REPOSITORIES} && mkdir -p {PurePosixPath(public).parent} && mv {path} {public}"
        )


def _take(client: docker.DockerClient, image: images.Image) -> None:
    """Take an image from the machine's registry, and make its short name found there.

    Others are pulled under the registry's name first: the engine then knows that the registry
    has their layers, and what students build upon them is pushed without these.
    """
    if image.origin == "course":
        client.images.pull(image.name)
        return
    path, tag = repository(image)
    made = client.images.pull(f"{REGISTRY}/{path}", tag=tag)
    names = [f"{REGISTRY}/{path}:{tag}"]
    if image.prepare:
        made = _prepared(client, image, made)
    if image.origin == "hub":
        public = f"{REGISTRY}/{path.removeprefix(f'{STAND_INS}/')}"
        made.tag(public, tag)
        client.images.push(public, tag=tag)
        names.append(f"{public}:{tag}")
    client.images.pull(image.name)
    for name in names:
        client.images.remove(name)


def _prepared(client: docker.DockerClient, image: images.Image, made: DockerImage) -> DockerImage:
    """Return an image after the command that prepares it."""
    container = client.containers.run(
        made, image.prepare, entrypoint=[], detach=True, network_mode="none"
    )
    try:
        if container.wait(timeout=PREPARE_SECONDS)["StatusCode"]:
            said = container.logs(tail=5).decode(errors="replace")
            raise MachineFailed(f"La préparation de {image.name} a échoué : {said}")
        return container.commit(conf=dict(image.config))
    finally:
        container.remove(force=True, v=True)  # a volume that nobody asked for is not left


def _warm(machine: Machine) -> None:
    """Do once what students will do, so that the first of everything is not slow.

    The first task on a node costs three times the second: bridges, iptables chains, pages of
    the programs, translated code.
    """
    clients = [e.client(timeout=60) for e in machine.endpoints]
    try:
        first, others = clients[0], clients[1:]
        first.swarm.init(advertise_addr=machine.endpoints[0].swarm_address)
        first.swarm.reload()
        token = first.swarm.attrs["JoinTokens"]["Worker"]
        for client, endpoint in zip(others, machine.endpoints[1:], strict=True):
            client.swarm.join([str(machine.endpoints[0].swarm_address)], token,
                              advertise_addr=endpoint.swarm_address)  # fmt: skip
        service = first.services.create(
            images.WHOAMI.name,
            name="warm",
            mode=docker.types.ServiceMode("replicated", replicas=2 * len(clients)),
            endpoint_spec=docker.types.EndpointSpec(ports={9999: 80}),
        )

        def tasks_run() -> bool:
            running = service.tasks({"desired-state": "running"})
            up = [t for t in running if t["Status"]["State"] == "running"]
            return len(up) == 2 * len(clients)

        def out_of_swarm(client: docker.DockerClient) -> bool:
            return bool(client.info()["Swarm"]["LocalNodeState"] == "inactive")

        deadline = time.monotonic() + WARM_SECONDS
        _until(tasks_run, deadline, "les premières tasks n’ont pas démarré")
        service.remove()
        _until(
            lambda: not any(client.containers.list() for client in clients),
            deadline,
            "les premières tasks ne se sont pas arrêtées",
        )
        for client in [*others, first]:
            client.swarm.leave(force=True)
        for client in clients:
            _until(partial(out_of_swarm, client), deadline, "un moteur reste dans le swarm")
            client.containers.prune()
        machine.end_gossip()
    except APIError as error:
        raise MachineFailed(f"L’échauffement a échoué : {error.explanation}") from error
    finally:
        for client in clients:
            client.close()


def _until(reached: Callable[[], bool], deadline: float, otherwise: str) -> None:
    """Wait for a state of the machine, but not beyond ``deadline`` (monotonic seconds)."""
    while not reached():
        if time.monotonic() > deadline:
            raise MachineFailed(f"L’échauffement a échoué : {otherwise}.", remedy="Relancez.")
        time.sleep(0.2)


def _lock_path(settings: Settings) -> Path:
    return settings.run.with_name(f"{settings.cluster}.lock")


@contextlib.contextmanager
def _lock(path: Path, report: Report | None = None) -> Iterator[None]:
    """Let one process at a time build, start or stop; say so to one that has to wait."""
    while True:
        try:
            file = open(path, "w", opener=no_link)  # noqa: SIM115
        except OSError as error:
            raise SettingError(
                f"Impossible d’ouvrir {path} : {error.strerror}.",
                remedy="Vérifiez ses droits, et supprimez-le si c’est un lien.",
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if report:
                    report.step("Un autre labkit y travaille déjà : attente")
                fcntl.flock(file, fcntl.LOCK_EX)
            # whoever held it may have removed it: then it locks nothing any more
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield
                return
