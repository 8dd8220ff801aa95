"""Send requests to a published port.

:func:`send` is one loop over non-blocking sockets in the calling thread: no thread, no event
loop, so it works in a running kernel, stops on Ctrl-C and leaves no socket behind.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

from labkit import elections
from labkit.engine import connect
from labkit.engine.endpoint import Fleet
from labkit.errors import EngineError, SettingError, SwarmError, TrafficError
from labkit.state import ClusterState, Task, capture
from labkit.traffic.client import Run, Target
from labkit.traffic.sample import Sample, sample_so_far

_MAX_CONCURRENCY = 256


def send(
    port: int,
    *,
    requests: int = 200,
    concurrency: int = 8,
    nodes: str | Sequence[str] | None = None,
    keep_alive: bool = False,
    path: str = "/api",
    host: str = "",
    services: str | Sequence[str] = (),
    cookies: bool = False,
    fleet: Fleet | None = None,
    state: ClusterState | None = None,
    timeout: float = 5.0,
    limit: float = 60.0,
    on_batch: Callable[[Sample], None] | None = None,
) -> Sample:
    """Send requests to a published port and say which replica answered each.

    ``concurrency`` clients, 1 to 256, ask at the same time; with ``keep_alive`` each keeps one
    connection, as a browser does, and with it its replica, for the mesh distributes connections;
    with ``cookies`` each keeps those that it is given. They ask ``nodes`` in turn; None takes all
    nodes that publish the port: those that are ready for the mesh, those with a task for mode host.
    ``/api`` and ``/`` of whoami, and ``/`` of the voting app's vote, name the replica.

    ``host`` is the domain in the ``Host`` header, for a proxy that routes by it, request by
    request; the tasks of ``services`` are then expected to answer, not those of the port.
    ``timeout`` is in seconds for one request, ``limit`` for all: none begins after that, and those
    never begun are not in the frame. ``on_batch`` is called in this thread with the sample so far,
    about five times a second and once at the end, while no request is under way that does not take
    long already. None takes the current ``fleet`` and its ``state``.

    Raises ``TrafficError`` when nothing publishes the port or an address is unknown,
    ``NoSuchNode`` or ``NoSuchService`` for a name that is not there, ``SettingError`` when a number
    makes no sense, and as :meth:`labkit.state.ClusterState.require` without a cluster to ask.
    """
    import pandas as pd

    if not 1 <= port <= 65535:
        raise SettingError(f"{port} n’est pas un port.", remedy="Un port va de 1 à 65535.")
    if requests < 1:
        raise SettingError(
            f"On ne peut pas envoyer {requests} requête.", remedy="Demandez-en au moins une."
        )
    if not 1 <= concurrency <= _MAX_CONCURRENCY:
        why = f"{concurrency} clients simultanés : ce n’est pas possible."
        raise SettingError(why, remedy=f"Choisissez de 1 à {_MAX_CONCURRENCY} clients.")
    if not path.startswith("/") or not path.isascii() or re.search(r"[\s\x00-\x1f]", path):
        why = f"Le chemin « {path} » n’est pas utilisable."
        raise SettingError(why, remedy="Il commence par « / », sans espace ni accent : « /api ».")
    if not re.fullmatch(r"[A-Za-z0-9.-]{,253}", host):
        raise SettingError(f"« {host} » n’est pas un domaine.", remedy='Par exemple "a.localhost".')
    if not timeout > 0 or not limit > 0:
        raise SettingError("Une durée doit être positive.", remedy="Par exemple timeout=5.")
    fleet = connect() if fleet is None else fleet
    cluster = (elections.led(fleet) if state is None else state).require()
    asked, replicas = targets_of(port, nodes, fleet, cluster)
    if services:
        names = [services] if isinstance(services, str) else services
        behind = {cluster.service(name).id for name in names}
        replicas = tuple(t for t in cluster.tasks if t.running and t.service_id in behind)
    clients = min(concurrency, requests)
    targets = [
        target_of(name, *fleet.published(name, port), path, keep_alive, host) for name in asked
    ]
    run = Run(targets, requests, clients, keep_alive, timeout, limit, cookies)
    empty = Sample(
        frame=pd.DataFrame(),
        port=port,
        path=path,
        nodes=tuple(asked),
        concurrency=clients,
        keep_alive=keep_alive,
        requested=requests,
        elapsed_s=0.0,
        replicas=replicas,
        connections=0,
        host=host,
        cookies=cookies,
    )
    sample = partial(sample_so_far, empty, run)
    run.go(None if on_batch is None else lambda: on_batch(sample(cluster)))
    known = {t.container_id[:12] for t in cluster.tasks}
    if any(row.replica and row.replica not in known for row in run.rows):
        try:  # tasks that came up since
            later = capture(fleet)
        except (EngineError, SwarmError):
            pass
        else:
            cluster = replace(cluster, tasks=(*cluster.tasks, *later.tasks))
    whole = sample(cluster)
    if on_batch is not None:
        on_batch(whole)
    return whole


def targets_of(
    port: int, nodes: str | Sequence[str] | None, fleet: Fleet, state: ClusterState
) -> tuple[list[str], tuple[Task, ...]]:
    """Return the endpoints to ask and the tasks that should answer."""
    ingress: set[str] = set()
    host: set[str] = set()
    for service in state.services:
        for published in service.ports:
            if published.published == port and published.protocol == "tcp":
                (host if published.mode == "host" else ingress).add(service.id)
    running = [t for t in state.tasks if t.running]
    here = [t for t in running if port in t.host_ports]  # also ports that docker chose
    if not ingress and not host and not here:
        raise TrafficError(
            f"Aucun service ne publie le port {port}.",
            remedy=_published(state)
            or f"Créez-en un : « docker service create --publish {port}:80 … ».",
        )
    ready = {n.id for n in state.nodes if n.state == "ready"}
    by_name = {e.name: e.node_id for e in state.engines}
    if nodes is None:
        if not ingress:
            ready &= {t.node_id for t in here}
        asked = [e.name for e in fleet if by_name.get(e.name) in ready]
        if not asked:
            raise TrafficError(
                f"Aucun nœud ne répond encore sur le port {port} : aucune task n’y tourne.",
                remedy="Attendez que le service démarre : « docker service ps … ».",
            )
    else:
        wanted = [nodes] if isinstance(nodes, str) else list(nodes)
        if not wanted:
            raise SettingError("Aucun nœud n’est choisi.", remedy='Par exemple nodes="node1".')
        asked = [_endpoint(name, fleet, state) for name in wanted]
    if ingress:
        return asked, tuple(t for t in running if t.service_id in ingress and t.container_id)
    on = {by_name.get(name) for name in asked}
    return asked, tuple(t for t in here if t.node_id in on)


def _endpoint(name: str, fleet: Fleet, state: ClusterState) -> str:
    """Return the endpoint of that name, or of the node with that hostname."""
    if all(e.name != name for e in fleet):
        node_id = next((n.id for n in state.nodes if name in (n.name, n.id)), None)
        for engine in state.engines:
            if node_id and engine.node_id == node_id:
                return engine.name
    return fleet[name].name


def _published(state: ClusterState) -> str:
    ports = [
        f"{p.published} ({s.name})"
        for s in state.services
        for p in s.ports
        if p.published and p.protocol == "tcp"
    ]
    return f"Ports publiés : {', '.join(ports)}." if ports else ""


def target_of(
    node: str, place: str, port: int, path: str, keep_alive: bool, host: str = ""
) -> Target:
    """Resolve an address once and build the request that is sent to it."""
    try:
        found = socket.getaddrinfo(place, port, type=socket.SOCK_STREAM)
    except OSError as error:
        remedy = "Vérifiez LABKIT_ENGINE, ou choisissez un autre nœud."
        raise TrafficError(f"L’adresse de {node} est inconnue : {place}.", remedy=remedy) from error
    # IPv4 first: ::1 of a published port connects and never answers before Engine 29.8
    family, _, _, _, address = min(found, key=lambda f: f[0] != socket.AF_INET)
    name = host or (f"[{place}]" if ":" in place else place)
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nUser-Agent: labkit\r\nAccept: */*\r\n"
        f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
    )
    local = ip_address(str(address[0]).partition("%")[0]).is_loopback
    return Target(node, family, address, local, request.encode())
