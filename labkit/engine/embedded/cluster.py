"""The embedded cluster of a user: built once, restored in seconds, one at a time."""

import contextlib
import os
import shutil
from dataclasses import replace

from labkit.engine.contexts import environment, remove_context, write_context, write_contexts
from labkit.engine.embedded import lifetime, upkeep
from labkit.engine.embedded.addresses import endpoints_of, engine_forward, free_network
from labkit.engine.embedded.build.sealed import disk_error, need_room
from labkit.engine.embedded.build.shared_cache import find_guest
from labkit.engine.embedded.directories import writable
from labkit.engine.embedded.docker_cli import docker_cli
from labkit.engine.embedded.driver import instance
from labkit.engine.embedded.headroom import ROOM, RUN, ended, roomy, within_limits
from labkit.engine.embedded.lifetime import start_keeper
from labkit.engine.embedded.lock import lock, lock_of
from labkit.engine.embedded.machine import Machine, secure, wait_for_engine, waits_for_room
from labkit.engine.embedded.processes import alive, stop_process
from labkit.engine.embedded.record import FRESH, LOST, Record, read_record, unreadable
from labkit.engine.embedded.settings import MAX_NODES, NODES, STATE, Settings, limit_sentence
from labkit.engine.embedded.snapshot import build
from labkit.engine.embedded.tls import worn
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report
from labkit.errors import EngineNotRunning, MachineFailed, SettingError

ADD_SECONDS = 60.0
NODE_MEMORY = 128  # MiB of the machine's, twice what a node of a swarm takes with two tasks
_WAITS = (
    "Faites de la place sur ce disque, puis relancez « labkit up » : la machine est en pause, rien "
    "n’est perdu."
)


def up(settings: Settings, report: Report) -> Fleet:
    """Start the cluster, or rejoin the one that runs, unless it has another number of nodes."""
    settings.check()
    with lock(lock_of(settings.run), report):
        record = read_record(settings)
        if record is None and unreadable(settings.run):
            raise MachineFailed(LOST, remedy=FRESH)
        if record and alive(settings.run):
            if settings.nodes not in (record.nodes, len(record.numbers)):
                raise SettingError(
                    f"Un cluster de {len(record.numbers)} nœuds est déjà démarré.",
                    remedy="« labkit node add » et « labkit node rm » changent leur nombre ; avec "
                    "« labkit down » d’abord, ce qu’il contient serait perdu.",
                )
            if waits_for_room(settings.run):
                need_room(settings.run, RUN, _WAITS)
                instance(settings.run).resume()
            if worn(settings.run / "tls"):
                report.step("Les certificats du cluster sont renouvelés")
                renew(settings, record)
            with contextlib.suppress(MachineFailed):
                upkeep.mend_clock(settings.run)
            start_keeper(settings.run, report)
            return record.fleet(settings.run)
        _stop(settings)
        return _start(settings, report)


def renew(settings: Settings, record: Record) -> None:
    """Give the engines of a machine that runs, and all who speak to them, new keys."""
    secure(settings.run, record.network, settings)
    cli = docker_cli(find_guest(settings))
    for endpoint in record.fleet(settings.run):
        write_context(endpoint, settings.run / "docker", cli, "update")


def join(settings: Settings) -> Fleet:
    """Return the fleet of the cluster that runs; raise ``EngineNotRunning`` when none does."""
    return _joined(settings).fleet(settings.run)


def _joined(settings: Settings) -> Record:
    record = read_record(settings)
    if record is None and unreadable(settings.run):
        raise EngineNotRunning(LOST, remedy=FRESH)
    if record is None or not alive(settings.run):
        what = "Aucun cluster n’est démarré."
        if record:
            what = ended("Le cluster s’est arrêté.", record)
        what = lifetime.reason_left(settings.run) or what
        raise EngineNotRunning(
            what, remedy="Lancez « labkit up » (dans un notebook : labkit.up())."
        )
    return record


def variables(settings: Settings) -> dict[str, str]:
    """Return the environment that gives a shell the CLI and contexts of a cluster, up or not."""
    cli = docker_cli(find_guest(settings))
    record = Record.read(settings.run)
    network = record.network if record else free_network(settings)
    nodes = endpoints_of(network, range(1, MAX_NODES + 1), settings.run)
    addresses = [known for node in nodes for known in (node.name, node.address)]
    return environment(settings.run / "docker", cli, os.environ.get("PATH", os.defpath), addresses)


def reset(settings: Settings, report: Report) -> Fleet:
    """Return to fresh engines, with no swarm, no service and no container."""
    settings.check()
    with lock(lock_of(settings.run), report):
        read_record(settings)
        _stop(settings)
        return _start(settings, report)


def down(settings: Settings) -> None:
    """Stop the cluster; no process, port or file of its run is left."""
    writable(settings.state, STATE)
    if not settings.run.parent.exists():  # what clears /tmp has been there
        settings.unsettle()
    with lock(lock_of(settings.run)):
        read_record(settings)
        _stop(settings)
        with contextlib.suppress(OSError):
            lock_of(settings.run).unlink()
        settings.unsettle()


def _start(settings: Settings, report: Report) -> Fleet:
    if settings.nodes == settings.max_nodes < NODES:
        report.step(limit_sentence("LABKIT_MAX_NODES", settings.max_nodes))
    made_of = build(settings, report)
    guest, machine = made_of.guest, Machine(settings.run, made_of)
    kills = within_limits(settings, report)
    roomy(settings)
    try:
        machine.restore()
        numbers = list(range(1, settings.nodes + 1))
        record = Record(
            machine.network, settings.nodes, numbers, made_of.driver.name,
            made_of.images, kills, private=bool(settings.network),
            package=made_of.driver.package,
        )  # fmt: skip
        fleet = record.fleet(settings.run)
        write_contexts(fleet, settings.run / "docker", docker_cli(guest), guest.plugins)
        record.write(settings.run)
    except BaseException as error:
        machine.stop()
        if isinstance(error, OSError):
            raise disk_error(settings.run.parent, RUN, error, room=ROOM, variable=STATE) from error
        raise
    start_keeper(settings.run, report)
    return fleet


def add(settings: Settings, report: Report) -> Endpoint:
    """Add a node to the cluster that runs: a fresh engine with the course's images, in no swarm.

    Raises ``SettingError`` when there are ``MAX_NODES`` already, or too little memory is left.
    """
    with lock(lock_of(settings.run), report):
        record = _joined(settings)
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
        machine = instance(settings.run)
        free = int(machine.shell("awk '/MemAvailable/{print $2}' /proc/meminfo"))
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
            machine.shell(f"node start {number}", 60)
            (said,) = machine.forward([engine_forward(record.network, number)])
            if said:
                raise MachineFailed(f"La machine n’ouvre pas {endpoint.address} : {said}")
            wait_for_engine(
                endpoint, ADD_SECONDS, "Relancez ; si cela recommence : « labkit reset »."
            )
            write_context(endpoint, settings.run / "docker", docker_cli(find_guest(settings)))
        except BaseException:
            _forget(settings, record, endpoint)
            raise
        wider.write(settings.run)  # the keeper reads it again
        return endpoint


def remove(settings: Settings, name: str, report: Report) -> None:
    """Remove a node but the first from a cluster that runs, its disk too; no swarm is asked."""
    with lock(lock_of(settings.run), report):
        record = _joined(settings)
        endpoint = record.fleet(settings.run)[name]
        if endpoint.name == "node1":
            raise SettingError(
                "node1 ne se retire pas : la commande docker s’adresse d’abord à lui.",
                remedy="Retirez un autre nœud, ou videz tout : « labkit reset ».",
            )
        report.step(f"{name} : retiré, son disque aussi")
        left = [n for n in record.numbers if f"node{n}" != name]
        _forget(settings, replace(record, numbers=left), endpoint)


def _forget(settings: Settings, left: Record, endpoint: Endpoint) -> None:
    """Take away all that a node has, in the machine and around it."""
    left.write(settings.run)
    remove_context(endpoint.name, settings.run / "docker", docker_cli(find_guest(settings)))
    number = int(endpoint.name.removeprefix("node"))
    machine = instance(settings.run)
    machine.forward(closed=[engine_forward(left.network, number)])
    machine.shell(f"node remove {number}", 60)


def _stop(settings: Settings) -> None:
    stop_process(settings.run, "keeper.pid")
    instance(settings.run).stop()
    shutil.rmtree(settings.run, ignore_errors=True)
