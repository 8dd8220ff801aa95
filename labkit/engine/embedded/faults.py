"""The nodes of the embedded machine as machines: their power and their cable.

The guest's own ``node`` command does it (``guest/node``); it is reached past the network,
so that a node that is dead or cut off obeys, too.
"""

from dataclasses import dataclass

from labkit.engine import connect
from labkit.engine.embedded.driver import instance
from labkit.engine.embedded.machine import wait_for_engine
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report
from labkit.errors import SettingError

STOP_SECONDS = 90  # dockerd gives its containers 10 s each, and has many under emulation
KILL_SECONDS = 30
START_SECONDS = 120.0  # without a quorum, a manager alone takes 20 s before it answers


@dataclass(frozen=True, slots=True)
class Power:
    """A node as the machine sees it, whatever the swarm believes."""

    name: str
    # ``up`` while the engine's process lives; ``stopped`` when it ended, in good order or not;
    # ``killed`` when the node has no power
    engine: str
    cut: bool  # its cable to the other nodes is cut


def power(fleet: Fleet | None = None) -> tuple[Power, ...]:
    """Return every node as the machine sees it, or raise ``SettingError`` for other engines."""
    fleet = embedded(fleet, "docker node ls")
    said = in_guest("".join(f"node state {number(e)}\n" for e in fleet)).split()
    states = zip(fleet, said[::2], said[1::2], strict=True)
    return tuple(Power(endpoint.name, engine, link == "cut") for endpoint, engine, link in states)


def stop(name: str, fleet: Fleet | None = None, *, quiet: bool = False) -> None:
    """Stop a node's engine in good order, as ``systemctl stop docker`` does.

    Its containers end, the node stays on the network. Nothing happens if it is stopped. Without
    ``fleet``, it is a node of :func:`labkit.engine.connect`; ``quiet`` shows no progress. Raises
    ``NoSuchNode``, ``MachineFailed``, or ``SettingError`` for engines that are not the embedded
    cluster's.
    """
    endpoint = embedded(fleet, "sudo systemctl stop docker.socket docker")[name]
    with Report(quiet=quiet) as report:
        report.step(f"{name} : le moteur s’arrête, ses conteneurs avec lui")
        in_guest(f"node stop {number(endpoint)}", STOP_SECONDS)


def kill(name: str, fleet: Fleet | None = None, *, quiet: bool = False) -> None:
    """Pull a node's plug: engine, containers and network are gone at once, without a goodbye.

    Its disk stays; :func:`start` gives it power again. Parameters and errors are those of
    :func:`stop`.
    """
    endpoint = embedded(fleet, "éteignez la machine de force, depuis son hyperviseur")[name]
    with Report(quiet=quiet) as report:
        report.step(f"{name} : plus de courant")
        in_guest(f"node kill {number(endpoint)}", KILL_SECONDS)


def start(name: str, fleet: Fleet | None = None, *, quiet: bool = False) -> None:
    """Start a stopped or killed node again, as the same node; returns when its engine answers.

    Nothing happens if it is up. Parameters and errors are those of :func:`stop`.
    """
    endpoint = embedded(fleet, "sudo systemctl start docker")[name]
    with Report(quiet=quiet) as report:
        report.step(f"{name} : le moteur démarre")
        in_guest(f"node start {number(endpoint)}", KILL_SECONDS)
        wait_for_engine(
            endpoint, START_SECONDS, f"Lisez son journal : « labkit node logs {name} »."
        )


def cut(name: str, fleet: Fleet | None = None, *, quiet: bool = False) -> None:
    """Cut a node off from the others: its engine and containers go on, nobody reaches them.

    labkit and the ``docker`` CLI still reach its engine, by another way. Parameters and errors
    are those of :func:`stop`.
    """
    _cable("cut", name, fleet, "sudo ip link set eth0 down", quiet)


def heal(name: str, fleet: Fleet | None = None, *, quiet: bool = False) -> None:
    """Undo :func:`cut`. Parameters and errors are those of :func:`stop`."""
    _cable("heal", name, fleet, "sudo ip link set eth0 up", quiet)


def _cable(verb: str, name: str, fleet: Fleet | None, instead: str, quiet: bool) -> None:
    endpoint = embedded(fleet, instead)[name]
    with Report(quiet=quiet) as report:
        report.step(f"{name} : câble réseau {'coupé' if verb == 'cut' else 'rebranché'}")
        in_guest(f"node {verb} {number(endpoint)}")


def embedded(fleet: Fleet | None, instead: str) -> Fleet:
    """Return the fleet if it is the embedded cluster's; else say what to type instead."""
    fleet = connect() if fleet is None else fleet
    if fleet.kind != "embedded":
        raise SettingError(
            "labkit n’agit sur le courant, le câble et le journal d’un nœud que dans son propre "
            "cluster ; ces moteurs-ci sont les vôtres.",
            remedy=f"Sur la machine elle-même : {instead}",
        )
    return fleet


def number(endpoint: Endpoint) -> int:
    """Return the number of an embedded node."""
    return int(endpoint.name.removeprefix("node"))


def in_guest(script: str, timeout: float = 20) -> str:
    """Run a shell script as root in the machine of the current cluster."""
    return instance(Settings.read().run).shell(script, timeout)
