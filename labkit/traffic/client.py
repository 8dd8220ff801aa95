"""The client: one loop that keeps requests under way over non-blocking sockets."""

import errno
import math
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from labkit.text.french import number
from labkit.traffic.answers import error_in_french, parse

_BATCH_S = 0.2  # between two calls of on_batch
_SETTLE_S = 0.05  # how long on_batch may wait for the answers under way
_KNOCK_S = 0.002  # before knocking again at a full queue, see Run._open
# Source ports, see _source_port: all of them in 125 s, when IPVS has forgotten the first
_FIRST_PORT, _PORTS, _PORTS_A_SECOND = 10_000, 55_000, 440


@dataclass(frozen=True, slots=True)
class Target:
    """A door: the address to connect to, and the request to send."""

    node: str
    family: socket.AddressFamily
    address: tuple[object, ...]
    local: bool  # a loopback address
    request: bytes


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that has ended."""

    time: float
    node: str
    replica: str | None
    latency: float  # seconds
    status: int | None
    error: str | None


@dataclass(slots=True, eq=False)
class Client:
    """One of the concurrent clients, with the request that it is making, if any."""

    target: Target
    sock: socket.socket | None = None
    source: int = 0  # port to connect from; 0 takes the next one
    connecting: bool = False
    began: float = 0.0
    data: bytes = b""
    fresh: bool = True  # the connection has carried no answer yet
    cookies: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def request(self) -> bytes:
        """The request, with its cookies."""
        if not self.cookies:
            return self.target.request
        jar = b"; ".join(name + b"=" + value for name, value in self.cookies.items())
        return self.target.request.removesuffix(b"\r\n") + b"Cookie: " + jar + b"\r\n\r\n"


@dataclass(slots=True)
class Run:
    """The loop that keeps ``clients`` requests under way until ``requests`` have ended."""

    targets: list[Target]
    requests: int
    clients: int
    keep_alive: bool
    timeout: float
    limit: float
    cookies: bool = False
    rows: list[RequestRecord] = field(default_factory=list)
    connections: int = 0
    _begun: int = 0
    _start: float = 0.0
    _paused: float = 0.0
    _end: float = 0.0
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _busy: dict[Client, None] = field(default_factory=dict)  # in the order of their beginnings
    _knocking: deque[tuple[float, float, Client]] = field(default_factory=deque)

    @property
    def elapsed(self) -> float:
        """Seconds of sending so far."""
        return max(0.0, (self._end or time.perf_counter()) - self._start - self._paused)

    def go(self, on_batch: Callable[[], None] | None) -> None:
        """Send everything; every socket is closed when this returns or raises."""
        clients = [Client(self.targets[i % len(self.targets)]) for i in range(self.clients)]
        with ExitStack() as stack:
            stack.callback(self._selector.close)
            for client in clients:
                stack.callback(self._drop, client)
            self._start = time.perf_counter()
            self._loop(deque(clients), on_batch)
            self._end = time.perf_counter()

    def _loop(self, free: deque[Client], on_batch: Callable[[], None] | None) -> None:
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

    def _wait(self, due: float, free: deque[Client]) -> None:
        """Wait for what comes first: an answer, a request out of time, a knock, a batch."""
        now = time.perf_counter()
        oldest = next(iter(self._busy))
        until = min(oldest.began + self.timeout, due if due > now else due + _SETTLE_S)
        if self._knocking:
            until = min(until, self._knocking[0][0])
        for key, _ in self._selector.select(max(0.0, until - now)):
            client: Client = key.data
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
            self._fail(oldest, f"pas de réponse en {number(self.timeout)} s")
            free.append(oldest)

    def _begin(self, client: Client) -> None:
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

    def _open(self, client: Client) -> None:
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
            self._fail(client, error_in_french(cause))
        else:
            client.source = 0
            self._selector.register(sock, selectors.EVENT_READ, client)

    def _sent(self, client: Client) -> None:
        """Send the request: the connection is there, or has failed."""
        assert client.sock is not None
        cause = client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if cause:
            self._fail(client, error_in_french(cause))
            return
        client.connecting = False
        self._selector.modify(client.sock, selectors.EVENT_READ, client)
        self._write(client)

    def _write(self, client: Client) -> None:
        assert client.sock is not None
        try:  # a few hundred bytes into an empty buffer: all or nothing
            client.sock.send(client.request)
        except OSError as error:
            self._fail(client, error_in_french(error.errno or 0))

    def _read(self, client: Client) -> None:
        assert client.sock is not None
        try:
            chunk = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(client, error_in_french(error.errno or 0))
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

    def _fail(self, client: Client, error: str) -> None:
        self._note(client, None, None, error)
        self._drop(client)

    def _note(
        self, client: Client, replica: str | None, status: int | None, error: str | None
    ) -> None:
        now = time.perf_counter()
        del self._busy[client]
        row = RequestRecord(
            now - self._start, client.target.node, replica, now - client.began, status, error
        )
        self.rows.append(row)

    def _drop(self, client: Client) -> None:
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


def _connect(sock: socket.socket, client: Client) -> None:
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
