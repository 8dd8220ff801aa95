"""Choose the machine's addresses on this host, and name those that it has inside.

Those inside are set by the guest's own ``init`` and ``node``, whatever drives the machine.
"""

import hashlib
import os
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.engine.embedded.egress import CLUSTER
from labkit.engine.embedded.settings import MAX_NODES, Settings
from labkit.engine.endpoint import API_VERSION, Endpoint
from labkit.errors import MachineFailed

MACHINE = CLUSTER[9]  # the machine itself, with its registry and the TLS side of its engines
API_PORT = 2376
PLACES = 64  # that are tried for the addresses of the engines
_NETWORKS = 63 * 256  # from 127.64.0 to 127.126.255


@dataclass(frozen=True, slots=True)
class Forward:
    """A way from a port of this host to one inside the machine."""

    kind: str  # ``tcp`` or ``udp``
    address: str  # where this host listens
    port: int
    to: str  # where that leads, inside
    to_port: int


def engine_port(number: int) -> int:
    """Return the port of the machine at which a node's engine is reached with TLS."""
    return API_PORT + number


def split_network(network: str) -> tuple[str, int]:
    """Return the first three numbers of a cluster's addresses, and the port of its engines."""
    numbers, _, port = network.partition(":")
    return numbers, int(port or API_PORT)


def engine_forward(network: str, number: int) -> Forward:
    """Return the way from a node's loopback address to its engine."""
    numbers, port = split_network(network)
    return Forward("tcp", f"{numbers}.{number}", port, str(MACHINE), engine_port(number))


def endpoints_of(network: str, numbers: Iterable[int], run: Path) -> tuple[Endpoint, ...]:
    """Return the engines of a machine that runs, by its network, its nodes' numbers, its directory.

    The network is the first three numbers of its loopback addresses, and perhaps a port.
    """
    first, port = split_network(network)
    return tuple(
        Endpoint(
            name=f"node{n}",
            url=f"tcp://{first}.{n}:{port}",
            address=f"{first}.{n}",
            swarm_address=str(CLUSTER[10 + n]),
            tls=run / "tls",
            api_version=API_VERSION,
        )
        for n in numbers
    )


def free_network(settings: Settings) -> str:
    """Return a loopback /24, and perhaps a port, on which no engine listens yet.

    Usual places come first; then places that no neighbour can foresee and take beforehand.
    """
    seed = hashlib.sha256(f"{os.getuid()} {settings.cluster}".encode()).digest()
    usual = int.from_bytes(seed[:4], "big") % _NETWORKS
    strange = random.SystemRandom()
    for attempt in range(PLACES):
        number = strange.randrange(_NETWORKS) if attempt else usual
        network = settings.network or f"127.{64 + number // 256}.{number % 256}"
        if attempt >= (1 if settings.network else PLACES // 2):
            network = f"{network}:{strange.randrange(10_240, 32_000)}"
        first, port = split_network(network)
        if all(can_bind(f"{first}.{n}", port) for n in range(1, MAX_NODES + 1)):
            return network
    if settings.network:
        raise MachineFailed(
            f"Les adresses {settings.network}.x ne sont pas libres ; LABKIT_NETWORK n’en permet "
            "pas d’autres.",
            remedy="Prévenez la personne qui administre ce serveur.",
        )
    raise MachineFailed("Aucune adresse de bouclage n’est libre.", remedy="Lancez labkit doctor.")


def can_bind(address: str, port: int, kind: int = socket.SOCK_STREAM) -> bool:
    """Tell whether this user may listen on an address, and nobody does."""
    with socket.socket(type=kind) as probe:
        if kind == socket.SOCK_STREAM:  # for datagrams, it would share the place
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
