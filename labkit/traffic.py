"""Requests sent to a published port, and who answered them.

:func:`send` is one loop over non-blocking sockets in the calling thread: no thread, no event
loop, so it works in a running kernel, stops on Ctrl-C and leaves no socket behind.
"""

from __future__ import annotations

import errno
import math
import re
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from ipaddress import ip_address
from typing import TYPE_CHECKING

from labkit import elections
from labkit.engine import connect
from labkit.engine.endpoint import Fleet
from labkit.errors import EngineError, SettingError, SwarmError, TrafficError
from labkit.state import ClusterState, Task, capture

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sample", "Uniformity", "send"]

_MAX_CONCURRENCY = 256
_BATCH_S = 0.2  # between two calls of on_batch
_SETTLE_S = 0.05  # how long on_batch may wait for the answers under way
_KNOCK_S = 0.002  # before knocking again at a full queue, see _Exchange.open
# Source ports, see _source_port: all of them in 125 s, when IPVS has forgotten the first
_FIRST_PORT, _PORTS, _PORTS_A_SECOND = 10_000, 55_000, 440
_RARE = 0.01
_TOO_FEW = 5  # answers expected from each replica for a chi-square test to mean anything
_NARROW = "\u202f"  # the no-break space inside numbers and before « ; ? ! »


# -- what comes back ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Uniformity:
    """How far the hits are from equal shares: Pearson's chi-square test of goodness of fit.

    Attributes
    ----------
    statistic
        Sum over the replicas of (hits - expected)² / expected; NaN when there is no test.
    dof
        Degrees of freedom: replicas - 1.
    p_value
        Chance of a statistic at least this large if each answer came from a replica drawn at
        random with equal shares; NaN when there is no test.
    answers
        Answers that the test counts: those whose replica is known.
    failures
        Requests that failed; they belong to no replica.
    verdict
        ``fair`` (as chance would), ``regular`` (closer to equal than chance would), ``uneven``,
        ``too-few``, ``single`` (one replica alone) or ``unknown`` (no answer named a replica).
    sentence
        The verdict in French, for a student.
    """

    statistic: float
    dof: int
    p_value: float
    answers: int
    failures: int
    verdict: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.sentence)}</p>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sample:
    """Requests sent to one published port, and who answered.

    Attributes
    ----------
    frame
        One row a request that ended, in the order of their ends:

        ``time_s``
            When the answer was whole or the failure known, in seconds since the start.
        ``node``
            Name of the node asked.
        ``replica``
            Host name in the answer: the first 12 characters of the container's id. None when
            the request failed or the answer names nobody.
        ``slot``
            Slot of the task, ``<NA>`` for a global service or an unknown replica.
        ``task``
            ``service.slot``, as docker names it; None for an unknown replica.
        ``replica_node``
            Name of the node that the task is on; None for an unknown replica.
        ``latency_ms``
            From opening the connection (or, on one kept open, from sending) to the end.
        ``status``
            HTTP status, ``<NA>`` without an answer.
        ``error``
            None, or a short French text; a status of 400 and more is an error too.
    port, path, nodes, concurrency, keep_alive, host, cookies
        What was asked; ``nodes`` are the names of the nodes asked.
    requested
        Requests asked for; the frame has fewer rows while it runs, or when time was up.
    elapsed_s
        Seconds of sending; time spent in ``on_batch`` is left out.
    replicas
        The tasks that were expected to answer.
    connections
        TCP connections that carried the answers.
    """

    frame: pd.DataFrame
    port: int
    path: str
    nodes: tuple[str, ...]
    concurrency: int
    keep_alive: bool
    requested: int
    elapsed_s: float
    replicas: tuple[Task, ...]
    connections: int
    host: str = ""
    cookies: bool = False

    @property
    def complete(self) -> bool:
        """Every request that was asked for has ended."""
        return len(self.frame) >= self.requested

    @property
    def failures(self) -> int:
        """Requests that failed."""
        return int(self.frame["error"].notna().sum())

    @property
    def rate(self) -> float:
        """Answers without error a second; 0.0 before the first."""
        return (len(self.frame) - self.failures) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def errors(self) -> pd.DataFrame:
        """Return the failures: columns ``node``, ``error`` and ``requests``, most first."""
        counted = self.frame.groupby(["node", "error"]).size().rename("requests").reset_index()
        return counted.sort_values("requests", ascending=False, ignore_index=True)

    def counts(self) -> pd.DataFrame:
        """Return the hits of each replica.

        Returns
        -------
        DataFrame
            Index ``replica`` (host name), by service and slot, then unknown replicas; columns
            ``task``, ``slot``, ``replica_node``, ``hits``, ``share`` (of the answers that name
            a replica, 0 to 1) and ``expected`` (equal share of the replicas that were running,
            0 for one that was not). Running replicas without hits are there, failures are not.
        """
        import pandas as pd

        good = self.frame[self.frame["error"].isna() & self.frame["replica"].notna()]
        hits = good["replica"].value_counts()
        first = good.drop_duplicates("replica").set_index("replica")
        rows: dict[str, tuple[object, ...]] = {}
        for task in self.replicas:
            name = task.container_id[:12]
            rows[name] = (task.label, task.slot, task.node, hits.get(name, 0), 1)
        for name in sorted(set(hits.index) - set(rows), key=lambda n: (not first.task[n], n)):
            at = first.loc[name]
            slot = None if pd.isna(at.slot) else int(at.slot)
            rows[name] = (at.task, slot, at.replica_node, hits[name], 0)
        columns = ["task", "slot", "replica_node", "hits", "expected"]
        index = pd.Index(list(rows), name="replica", dtype=object)
        table = pd.DataFrame(list(rows.values()), columns=columns, index=index, dtype=object)
        table = table.astype({"slot": "Int64", "hits": int, "expected": float})
        total = table["hits"].sum()
        table.insert(4, "share", table["hits"] / total if total else 0.0)
        if len(self.replicas):
            table["expected"] /= len(self.replicas)
        else:  # nothing is known of the service: all who answered count
            table["expected"] = 1 / len(table) if len(table) else 0.0
        return table

    def uniformity(self) -> Uniformity:
        """Test whether the replicas got equal shares, and say it in French."""
        hits = [int(h) for h in self.counts()["hits"]]
        return _judge(
            hits,
            failures=self.failures,
            connections=self.connections if self.keep_alive else None,
            proxied=bool(self.host),
        )

    def __repr__(self) -> str:
        """Return one line: what was asked, who answered, failures, rate."""
        return f"<Sample : {_title(self)}>"

    def _repr_html_(self) -> str:
        return _html(self)


# -- sending --------------------------------------------------------------------------------


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

    Parameters
    ----------
    port
        The published port.
    requests
        How many requests to send, at least 1.
    concurrency
        How many clients send at the same time, 1 to 256.
    nodes
        Name of a node, or several; None takes all nodes that publish the port: all that are
        ready for the routing mesh, those with a task for mode host. They are asked in turn.
    keep_alive
        Each client opens one connection and keeps it, as a browser does, instead of one a
        request. The mesh distributes connections, so each client stays with its replica.
    path
        What to ask for; ``/api`` and ``/`` of whoami, and ``/`` of the voting app's vote, name
        the replica that answers.
    host
        Domain in the ``Host`` header, for a proxy behind the port that routes by it; "" sends
        the address. A proxy chooses for each request, not for each connection as the mesh does.
    services
        Names of the services behind that proxy: their tasks are expected to answer. None named,
        those that publish the port are.
    cookies
        Each client keeps the cookies that it is given, as a browser does.
    fleet
        The engines; None takes :func:`labkit.engine.connect`.
    state
        The cluster as it is; None captures it.
    timeout
        Seconds for one request.
    limit
        Seconds for all; no request begins after that, so a port that hangs costs at most
        ``limit + timeout``. Requests never begun are not in the frame.
    on_batch
        Called in this thread with the sample so far, about five times a second and once at the
        end. No request is under way meanwhile unless it takes long already.

    Raises
    ------
    TrafficError
        When nothing publishes the port, or an address is unknown.
    NoSuchNode, NoSuchService
        When a node asked for has no engine here, or a service is not there.
    SettingError
        When a number makes no sense.
    NoSwarm, QuorumLost, EngineUnreachable, EngineNotRunning
        When there is no cluster to ask.
    """
    import pandas as pd

    if not 1 <= port <= 65535:
        raise SettingError(f"{port} n’est pas un port.", remedy="Un port va de 1 à 65535.")
    if requests < 1:
        raise SettingError(
            f"On ne peut pas envoyer {requests} requête.", remedy="Demandez-en au moins une."
        )
    if not 1 <= concurrency <= _MAX_CONCURRENCY:
        raise SettingError(
            f"{concurrency} clients simultanés : ce n’est pas possible.",
            remedy=f"Choisissez de 1 à {_MAX_CONCURRENCY} clients.",
        )
    if not path.startswith("/") or not path.isascii() or re.search(r"[\s\x00-\x1f]", path):
        raise SettingError(
            f"Le chemin « {path} » n’est pas utilisable.",
            remedy="Il commence par « / », sans espace ni accent : « /api ».",
        )
    if not re.fullmatch(r"[A-Za-z0-9.-]{,253}", host):
        raise SettingError(f"« {host} » n’est pas un domaine.", remedy='Par exemple "a.localhost".')
    if not timeout > 0 or not limit > 0:
        raise SettingError("Une durée doit être positive.", remedy="Par exemple timeout=5.")
    fleet = connect() if fleet is None else fleet
    cluster = (elections.led(fleet) if state is None else state).require()
    asked, replicas = _targets(port, nodes, fleet, cluster)
    if services:
        names = [services] if isinstance(services, str) else services
        behind = {cluster.service(name).id for name in names}
        replicas = tuple(t for t in cluster.tasks if t.running and t.service_id in behind)
    clients = min(concurrency, requests)
    run = _Run(
        targets=[
            _target(name, *fleet.published(name, port), path, keep_alive, host) for name in asked
        ],
        requests=requests,
        clients=clients,
        keep_alive=keep_alive,
        cookies=cookies,
        timeout=timeout,
        limit=limit,
    )
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
    sample = partial(_sample, empty, run)
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


def _targets(
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


@dataclass(frozen=True, slots=True)
class _Target:
    node: str
    family: socket.AddressFamily
    address: tuple[object, ...]
    local: bool  # a loopback address
    request: bytes


def _target(
    node: str, place: str, port: int, path: str, keep_alive: bool, host: str = ""
) -> _Target:
    try:
        found = socket.getaddrinfo(place, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TrafficError(
            f"L’adresse de {node} est inconnue : {place}.",
            remedy="Vérifiez LABKIT_ENGINE, ou choisissez un autre nœud.",
        ) from error
    # IPv4 first: ::1 of a published port connects and never answers before Engine 29.8
    family, _, _, _, address = min(found, key=lambda f: f[0] != socket.AF_INET)
    name = host or (f"[{place}]" if ":" in place else place)
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nUser-Agent: labkit\r\nAccept: */*\r\n"
        f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
    )
    local = ip_address(str(address[0]).partition("%")[0]).is_loopback
    return _Target(node, family, address, local, request.encode())


@dataclass(frozen=True, slots=True)
class _Row:
    time: float
    node: str
    replica: str | None
    latency: float  # seconds
    status: int | None
    error: str | None


def _sample(empty: Sample, run: _Run, state: ClusterState) -> Sample:
    """Return the sample so far, its answers joined to the tasks of ``state``."""
    import pandas as pd

    tasks: dict[str, Task] = {}
    for task in state.tasks:
        if task.container_id:
            tasks.setdefault(task.container_id[:12], task)
    rows = run.rows
    who = [tasks.get(r.replica) if r.replica else None for r in rows]
    frame = pd.DataFrame(
        {
            "time_s": pd.Series([r.time for r in rows], dtype=float),
            "node": pd.Series([r.node for r in rows], dtype=object),
            "replica": pd.Series([r.replica for r in rows], dtype=object),
            "slot": pd.Series([t.slot if t else None for t in who], dtype="Int64"),
            "task": pd.Series([t.label if t else None for t in who], dtype=object),
            "replica_node": pd.Series([t.node if t else None for t in who], dtype=object),
            "latency_ms": pd.Series([r.latency * 1000 for r in rows], dtype=float),
            "status": pd.Series([r.status for r in rows], dtype="Int64"),
            "error": pd.Series([r.error for r in rows], dtype=object),
        }
    )
    return replace(empty, frame=frame, elapsed_s=run.elapsed, connections=run.connections)


# -- the loop -------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Client:
    """One of the concurrent clients, with the request that it is making, if any."""

    target: _Target
    sock: socket.socket | None = None
    source: int = 0  # port to connect from; 0 takes the next one
    connecting: bool = False
    began: float = 0.0
    data: bytes = b""
    fresh: bool = True  # the connection has carried no answer yet
    cookies: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def request(self) -> bytes:
        """What it sends."""
        if not self.cookies:
            return self.target.request
        jar = b"; ".join(name + b"=" + value for name, value in self.cookies.items())
        return self.target.request.removesuffix(b"\r\n") + b"Cookie: " + jar + b"\r\n\r\n"


@dataclass(slots=True)
class _Run:
    """The loop that keeps ``clients`` requests under way until ``requests`` have ended."""

    targets: list[_Target]
    requests: int
    clients: int
    keep_alive: bool
    timeout: float
    limit: float
    cookies: bool = False
    rows: list[_Row] = field(default_factory=list)
    connections: int = 0
    _begun: int = 0
    _start: float = 0.0
    _paused: float = 0.0
    _end: float = 0.0
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _busy: dict[_Client, None] = field(default_factory=dict)  # in the order of their beginnings
    _knocking: deque[tuple[float, float, _Client]] = field(default_factory=deque)

    @property
    def elapsed(self) -> float:
        """Seconds of sending so far."""
        return max(0.0, (self._end or time.perf_counter()) - self._start - self._paused)

    def go(self, on_batch: Callable[[], None] | None) -> None:
        """Send everything; every socket is closed when this returns or raises."""
        clients = [_Client(self.targets[i % len(self.targets)]) for i in range(self.clients)]
        with ExitStack() as stack:
            stack.callback(self._selector.close)
            for client in clients:
                stack.callback(self._drop, client)
            self._start = time.perf_counter()
            self._loop(deque(clients), on_batch)
            self._end = time.perf_counter()

    def _loop(self, free: deque[_Client], on_batch: Callable[[], None] | None) -> None:
        due = self._start + _BATCH_S if on_batch is not None else math.inf
        while self._busy or self._more():
            now = time.perf_counter()
            if on_batch is not None and now >= due and (not self._busy or now >= due + _SETTLE_S):
                on_batch()
                after = time.perf_counter()
                self._paused += after - now
                due = after + max(_BATCH_S, 3 * (after - now))
            while free and now < due and self._more():
                client = free.popleft()
                self._begin(client)
                if client not in self._busy:  # it failed at once
                    free.append(client)
            if self._busy:
                self._wait(due, free)

    def _more(self) -> bool:
        return self._begun < self.requests and time.perf_counter() < self._start + self.limit

    def _wait(self, due: float, free: deque[_Client]) -> None:
        """Wait for what comes first: an answer, a request out of time, a knock, a batch."""
        now = time.perf_counter()
        oldest = next(iter(self._busy))
        until = min(oldest.began + self.timeout, due if due > now else due + _SETTLE_S)
        if self._knocking:
            until = min(until, self._knocking[0][0])
        for key, _ in self._selector.select(max(0.0, until - now)):
            client: _Client = key.data
            if client not in self._busy:  # the server closed a connection that was kept open
                self._drop(client)
                continue
            if client.connecting:
                self._sent(client)
            else:
                self._read(client)
            if client not in self._busy:
                free.append(client)
        now = time.perf_counter()
        while self._knocking and self._knocking[0][0] <= now:
            _, began, client = self._knocking.popleft()
            if client in self._busy and client.began == began:
                self._open(client)
                if client not in self._busy:
                    free.append(client)
        while self._busy:
            oldest = next(iter(self._busy))
            if oldest.began + self.timeout > now:
                break
            self._fail(oldest, f"pas de réponse en {_number(self.timeout)} s")
            free.append(oldest)

    def _begin(self, client: _Client) -> None:
        if not self.keep_alive:
            client.target = self.targets[self._begun % len(self.targets)]
        self._begun += 1
        client.began = time.perf_counter()
        client.data = b""
        self._busy[client] = None
        if client.sock is None:
            self._open(client)
        else:
            self._write(client)

    def _open(self, client: _Client) -> None:
        """Connect and send.

        On the loopback a handshake takes no time: one that is not done when ``connect`` returns
        met a full queue (QEMU's port forwarding keeps two connections waiting), and the kernel
        would try again only after a second. Knocking again ourselves keeps that artefact of
        the emulation out of the measure; it is part of the request's latency and time limit.
        """
        sock = socket.socket(client.target.family, socket.SOCK_STREAM)
        client.sock, client.connecting, client.fresh = sock, False, True
        try:
            sock.setblocking(False)
            _connect(sock, client)
            sock.send(client.request)
        except BlockingIOError:
            if client.target.local:
                self._drop(client)
                self._knocking.append((time.perf_counter() + _KNOCK_S, client.began, client))
                return
            client.source = 0
            client.connecting = True
            self._selector.register(sock, selectors.EVENT_WRITE, client)
        except OSError as error:
            client.source = 0
            cause = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or error.errno or 0
            self._fail(client, _error(cause))
        else:
            client.source = 0
            self._selector.register(sock, selectors.EVENT_READ, client)

    def _sent(self, client: _Client) -> None:
        """Send the request: the connection is there, or has failed."""
        assert client.sock is not None
        cause = client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if cause:
            self._fail(client, _error(cause))
            return
        client.connecting = False
        self._selector.modify(client.sock, selectors.EVENT_READ, client)
        self._write(client)

    def _write(self, client: _Client) -> None:
        assert client.sock is not None
        try:  # a few hundred bytes into an empty buffer: all or nothing
            client.sock.send(client.request)
        except OSError as error:
            self._fail(client, _error(error.errno or 0))

    def _read(self, client: _Client) -> None:
        assert client.sock is not None
        try:
            chunk = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(client, _error(error.errno or 0))
            return
        client.data += chunk
        answer = parse(client.data, ended=not chunk)
        if answer is None:
            if not chunk:
                text = "réponse coupée" if client.data else "connexion fermée sans réponse"
                self._fail(client, text)
            elif len(client.data) > 1 << 24:
                self._fail(client, "réponse trop longue")
            return
        if client.fresh:
            client.fresh = False
            self.connections += 1
        if self.cookies:
            client.cookies |= answer.cookies
        problem = None
        if answer.status is None:
            problem = "réponse illisible"
        elif answer.status >= 400:
            problem = f"réponse HTTP {answer.status}"
        self._note(client, None if problem else answer.replica, answer.status, problem)
        if answer.closing or not self.keep_alive:
            self._drop(client)

    def _fail(self, client: _Client, error: str) -> None:
        self._note(client, None, None, error)
        self._drop(client)

    def _note(
        self, client: _Client, replica: str | None, status: int | None, error: str | None
    ) -> None:
        now = time.perf_counter()
        del self._busy[client]
        row = _Row(
            now - self._start, client.target.node, replica, now - client.began, status, error
        )
        self.rows.append(row)

    def _drop(self, client: _Client) -> None:
        sock, client.sock, client.connecting = client.sock, None, False
        if sock is not None:
            with suppress(KeyError, RuntimeError):  # never registered
                self._selector.unregister(sock)
            sock.close()


_last_port: dict[tuple[object, ...], int] = {}  # by address, counted without wrapping round


def _source_port(address: tuple[object, ...]) -> int:
    """Return a port to connect from that no connection to ``address`` had for two minutes.

    IPVS remembers a closed connection for two minutes, and a new one from the same port goes to
    the replica of the old one (conn_reuse_mode 0, as Docker sets it): after a scaling the old
    replicas would get more than their share, and removed ones would still be tried. The kernel
    alone picks a port again within seconds. So ports are taken in turn, and a clock says where
    the turn is, which another process that asks the same port reads too.
    """
    count = max(_last_port.get(address, 0) + 1, int(time.time() * _PORTS_A_SECOND))
    _last_port[address] = count
    return _FIRST_PORT + count % _PORTS


def _connect(sock: socket.socket, client: _Client) -> None:
    """Start to connect, from a port of our choice if one is free."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for _ in range(16):
        client.source = client.source or _source_port(client.target.address)
        try:
            sock.bind(("", client.source))
        except OSError:  # somebody listens there
            client.source = 0
            continue
        break
    if sock.connect_ex(client.target.address) == errno.EADDRNOTAVAIL:  # an old one lingers
        client.source = 0
        sock.connect_ex(client.target.address)


# -- answers --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int | None
    replica: str | None
    closing: bool
    cookies: Mapping[bytes, bytes] = field(default_factory=dict)


_WHO = re.compile(
    rb'"hostname"\s*:\s*"([^"\\]{1,255})"'  # whoami's /api
    rb"|^Hostname: ?(\S{1,255})"  # whoami's /
    rb"|container ID (?:<[^>]{1,40}>)?([0-9a-f]{12})\b",  # the voting app
    re.MULTILINE,
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_COOKIE = re.compile(rb"\r\nset-cookie:[ \t]*([^\s=;]{1,80})=([^\s;]{,4000})", re.IGNORECASE)
_CLOSING = re.compile(rb"\r\nconnection:[^\r\n]*close", re.IGNORECASE)


def parse(data: bytes, *, ended: bool = False) -> _Answer | None:
    """Read an HTTP answer to a GET; None while it is not whole.

    Parameters
    ----------
    data
        What has come.
    ended
        The server has closed the connection.
    """
    if data and not data.startswith(b"HTTP/"[: len(data)]):
        return _Answer(None, None, True)
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, at = data[: end + 2], end + 4
    if not data[9:12].isdigit():
        return _Answer(None, None, True)
    status = int(data[9:12])
    if 100 <= status < 200:  # something before the answer
        return parse(data[at:], ended=ended)
    closing = ended or data.startswith(b"HTTP/1.0") or _CLOSING.search(head) is not None
    cookies = dict(_COOKIE.findall(head))
    if status in (204, 304):
        return _Answer(status, None, closing, cookies)
    if length := _LENGTH.search(head):
        if len(data) - at < int(length[1]):
            return None
        body = data[at : at + int(length[1])]
    elif _CHUNKED.search(head):
        whole = _dechunk(data, at)
        if whole is None:
            return None
        body = whole
    elif not ended:
        return None
    else:
        body = data[at:]
    found = _WHO.search(body)
    who = (found[1] or found[2] or found[3]).decode("ascii", "replace") if found else None
    return _Answer(status, who, closing, cookies)


def _dechunk(data: bytes, at: int) -> bytes | None:
    """Return a chunked body; None while it is not whole. Nonsense ends it."""
    body: list[bytes] = []
    while (eol := data.find(b"\r\n", at)) >= 0:
        size = data[at:eol].partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", size):
            return b"".join(body)
        length = int(size, 16)
        if not length:
            last = data.find(b"\r\n\r\n", eol)  # right there, or after trailers
            return None if last < 0 else b"".join(body)
        if len(data) < eol + 2 + length + 2:
            return None
        body.append(data[eol + 2 : eol + 2 + length])
        at = eol + 2 + length + 2
    return None


_ERRORS: Mapping[str, str] = {
    "ECONNREFUSED": "connexion refusée",
    "ECONNRESET": "connexion coupée",
    "EPIPE": "connexion coupée",
    "ENOTCONN": "connexion coupée",
    "ECONNABORTED": "connexion coupée",
    "ETIMEDOUT": "pas de réponse",
    "EHOSTUNREACH": "nœud injoignable",
    "ENETUNREACH": "nœud injoignable",
    "EADDRNOTAVAIL": "plus de port libre sur cette machine",
    "EMFILE": "trop de connexions ouvertes",
}


def _error(number: int) -> str:
    name = errno.errorcode.get(number, str(number))
    return _ERRORS.get(name, f"erreur réseau ({name})")


# -- the test -------------------------------------------------------------------------------


def chi_square_p(statistic: float, dof: int) -> float:
    """Return the chance that a chi-square variable is at least ``statistic``.

    This is Q(dof/2, statistic/2), the regularised upper incomplete gamma function, which for a
    whole ``dof`` is a finite sum: Q(a + 1, x) = Q(a, x) + x^a e^-x / Γ(a + 1), from
    Q(1/2, x) = erfc(√x) or Q(1, x) = e^-x. Abramowitz and Stegun 26.4.4 and 26.4.5.
    """
    x = statistic / 2
    if x <= 0:
        return 1.0
    a, q = (1.0, math.exp(-x)) if dof % 2 == 0 else (0.5, math.erfc(math.sqrt(x)))
    while a < dof / 2:
        q += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(1.0, q)


def _judge(
    hits: Sequence[int], *, failures: int, connections: int | None, proxied: bool = False
) -> Uniformity:
    """Test hits a replica against equal shares.

    ``connections`` when they were kept open; ``proxied`` when no mesh chose the replicas.
    """
    answers, replicas = sum(hits), len(hits)
    dof = max(0, replicas - 1)
    statistic = p = math.nan
    if not answers:
        verdict = "unknown"
        text = "Aucune réponse ne dit quel replica l’a donnée : il n’y a rien à comparer."
    elif replicas == 1:
        verdict = "single"
        text = "Un seul replica : toutes les réponses viennent de lui."
    else:
        mean = answers / replicas
        statistic = sum((h - mean) ** 2 for h in hits) / mean
        p = chi_square_p(statistic, dof)
        figures = f"(χ² = {_number(statistic, 1)} ; {_plural(dof, 'degré')} de liberté)"
        if mean < _TOO_FEW:
            verdict = "too-few"
            text = (
                f"Trop peu de réponses pour conclure : {_number(answers)} pour {replicas} "
                f"replicas, il en faut au moins {_number(_TOO_FEW * replicas)}."
            )
        elif p < _RARE:
            verdict = "uneven"
            text = (
                "Répartition inégale : si chaque replica avait la même chance de répondre, un "
                f"tel écart n’arriverait que dans {_percent(p)} des cas {figures}."
            )
        elif p > 1 - _RARE:
            verdict = "regular"
            text = (
                "Répartition égale, et plus régulière que le hasard : un tirage au sort ferait "
                f"un écart plus grand dans {_percent(p)} des cas {figures}. C’est la marque "
                "d’un tour de rôle"
            )
            text += (
                "." if proxied else " : le routing mesh (IPVS, round-robin) ne tire pas au sort."
            )
        else:
            verdict = "fair"
            text = (
                "Rien n’indique une répartition inégale : avec un tirage au sort équitable, un "
                f"écart au moins aussi grand arrive dans {_percent(p)} des cas {figures}."
            )
    if connections is not None and replicas > 1 and answers and not proxied:
        text += (
            " Mais le mesh répartit des connexions, pas des requêtes : ici "
            f"{_plural(connections, 'connexion')} en tout, chacune restée sur son replica."
        )
    if failures:
        text += f" {_plural(failures, 'requête')} en échec ne compte{'nt' * (failures > 1)} ici "
        text += "pour aucun replica."
    return Uniformity(statistic, dof, p, answers, failures, verdict, text.replace(" ;", "\u202f;"))


# -- showing --------------------------------------------------------------------------------


def _number(value: float, digits: int = 0) -> str:
    """Return a number as French writes it."""
    if digits == 0 and value != int(value):
        return f"{value:g}".replace(".", ",")
    return f"{value:,.{digits}f}".replace(",", _NARROW).replace(".", ",")


def _percent(share: float) -> str:
    if share < 0.001:
        return "moins de 0,1\u00a0%"
    if share > 0.999:
        return "plus de 99,9\u00a0%"
    return f"{_number(100 * share, 1)}\u00a0%"


def _plural(count: int, word: str) -> str:
    return f"{_number(count)}\u00a0{word}{'s' if count > 1 else ''}"


def _title(sample: Sample) -> str:
    done, failures = len(sample.frame), sample.failures
    parts = [
        f"{_plural(done, 'requête')} au port {sample.port} de {', '.join(sample.nodes)}"
        + (f" pour {sample.host}" if sample.host else ""),
        f"{_plural(sample.concurrency, 'connexion')} gardée{'s' * (sample.concurrency > 1)}"
        if sample.keep_alive
        else "une connexion par requête",
        *["cookies gardés"] * sample.cookies,
        _plural(int(sample.frame["replica"].nunique()), "replica"),
        "aucun échec" if not failures else _plural(failures, "échec"),
        f"{_number(round(sample.rate))}\u00a0réponses/s",
    ]
    if not sample.complete:
        parts.insert(1, f"sur {_number(sample.requested)} demandées")
    return ", ".join(parts)


def _html(sample: Sample) -> str:
    """Return the counts as a table, then the failures and the test; every text is escaped."""
    rows = []
    for replica, row in sample.counts().iterrows():
        where = (row.task or "?", row.replica_node or "?", str(replica))
        cells = "".join(f"<td style='text-align:left'>{escape(str(w))}</td>" for w in where)
        rows.append(
            f"<tr>{cells}<td>{_number(int(row.hits))}</td><td>{_percent_cell(row.share)}</td>"
            f"<td>{_percent_cell(row.expected)}</td></tr>"
        )
    head = "".join(
        f"<th scope='col'>{h}</th>"
        for h in ("Task", "Nœud", "Replica", "Réponses", "Part", "Attendu")
    )
    parts = [
        f"<table><caption style='text-align:left'>{escape(_title(sample))}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    ]
    failed = [
        f"<li>{escape(node)} : {escape(error)} ({_number(requests)})</li>"
        for node, error, requests in sample.errors().itertuples(index=False)
    ]
    if failed:
        parts.append(f"<p>Échecs :</p><ul>{''.join(failed)}</ul>")
    parts.append(f"<p>{escape(sample.uniformity().sentence)}</p>")
    return "".join(parts)


def _percent_cell(share: float) -> str:
    return f"{_number(100 * share, 1)}\u00a0%"
