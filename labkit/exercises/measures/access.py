"""Reaching what a service publishes: where, and which nodes answer."""

import http.client
import os
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape

from labkit.engine import Fleet, connect
from labkit.engine.endpoint import LOCAL, UDP
from labkit.polling import until
from labkit.text.tables import named_html

_TIMEOUT = 4.0  # seconds
_SOON = 5.0  # seconds in which what was published is forwarded, on a busy machine too
_REFUSED = "connexion refusée"
_IS_UDP = "port publié en UDP : HTTP passe par TCP"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a published port on this machine, one URL a node."""

    port: int  # the port as it was published
    urls: tuple[tuple[str, str], ...]  # ``(node, url)``, or ``(domain, url)``
    # paths through the notebook server, for a browser on another machine, one a node or one a
    # domain; none for what is not published
    proxied: tuple[str, ...]
    udp: bool = False  # whether it is a UDP port, which no browser opens

    def __repr__(self) -> str:
        rows = [f"{node} : {url}" for node, url in self.urls]
        return "\n".join([*rows, self._not_http()] if self.udp else rows)

    def _repr_html_(self) -> str:
        rows = ((escape(node), self._link(url)) for node, url in self.urls)
        table = named_html(rows, f"Le port {self.port} du cluster")
        if self.udp:
            return f"{table}<p>{self._not_http()}</p>"
        why = "Votre navigateur n’atteint pas ces adresses (Binder, JupyterHub, WSL, tunnel SSH) ?"
        return f"{table}<p>{why} {self._through()}</p>"

    def _link(self, url: str) -> str:
        if self.udp:
            return escape(url)
        return f"<a href='{escape(url)}' target='_blank' rel='noopener'>{escape(url)}</a>"

    def _not_http(self) -> str:
        return f"Le port {self.port} est publié en UDP : un navigateur ne peut pas l’ouvrir."

    def _through(self) -> str:
        if not self.proxied:
            return f"Relancez cette cellule une fois le port {self.port} publié : elle dira par où."
        links = (
            f"<a href='{escape(path)}' target='_blank' rel='noopener'>{escape(path)}</a>"
            for path in self.proxied
        )
        return "Passez par le serveur de notebooks : " + ", ".join(links)


def adresses(port: int, *domaines: str) -> Addresses:
    """Return where a published port is reached, one URL a node, or one a domain.

    Domains end in ``.localhost``, perhaps with a path: a browser asks this machine for them, and
    node1 answers.
    """
    fleet = connect()
    first = fleet.endpoints[0].name
    there = _forwarding(fleet, port)
    if not there and _is_udp(fleet, port):
        found = ((e.name, fleet.forwarded(e.name, port + UDP)) for e in fleet)
        return Addresses(port, tuple((n, f"udp://{d[0]}:{d[1]}") for n, d in found if d), (), True)
    prefix = os.environ.get("LABKIT_PREFIX") or os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or "/"
    if domaines:
        local = first if fleet.private or fleet.kind == "host" else LOCAL
        at = fleet.remapped.get((local, port), port)
        pages = [(name, *name.partition("/")[::2]) for name in domaines]
        urls = tuple((name, f"http://{host}:{at}/{path}") for name, host, path in pages)
        through = tuple(f"{prefix}domaines/{port}/{host}/{path}" for _, host, path in pages)
    else:
        doors = ((e.name, *fleet.published(e.name, port)) for e in fleet)
        urls = tuple((name, f"http://{host}:{at}/") for name, host, at in doors)
        through = tuple(f"{prefix}cluster/{name}/{port}/" for name in there)
    return Addresses(port, urls, through if there else ())  # labkit.domains passes these on


def _is_udp(fleet: Fleet, port: int) -> bool:
    if fleet.kind != "embedded":
        return False
    return any(fleet.forwarded(endpoint.name, port + UDP) for endpoint in fleet)


def _forwarding(fleet: Fleet, port: int) -> list[str]:
    """Return the nodes of which a TCP port is forwarded, or soon is: it is published just now."""
    return until(
        lambda: [e.name for e in fleet if fleet.forwarded(e.name, port)],
        lambda found: found or _is_udp(fleet, port),
        _SOON,
        0.1,
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """Which nodes answer at a published port."""

    port: int  # the port as it was published
    # ``(node, what happened)``; what happened is ``""`` for an HTTP answer, else the reason
    by_node: tuple[tuple[str, str], ...]

    @property
    def nombre(self) -> int:
        """How many nodes answered."""
        return sum(not problem for _, problem in self.by_node)

    def _rows(self) -> Sequence[tuple[str, str, str]]:
        return [(n, "✘" if p else "✔", p or "répond") for n, p in self.by_node]

    def __repr__(self) -> str:
        return "\n".join(f"{mark} {node}:{self.port} {text}" for node, mark, text in self._rows())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th scope='row' style='text-align:left'>{escape(node)}</th><td>{mark}</td>"
            f"<td style='text-align:left'>{escape(text)}</td></tr>"
            for node, mark, text in self._rows()
        )
        return (
            f"<table style='margin-left:0'><caption style='text-align:left'>Qui répond sur le "
            f"port {self.port} ?</caption><tbody>{rows}</tbody></table>"
        )


def qui_repond(port: int) -> Answers:
    """Ask every node for a page at a published port, at the same time."""
    fleet = connect()
    names = [endpoint.name for endpoint in fleet]
    if _is_udp(fleet, port) and not any(fleet.forwarded(name, port) for name in names):
        return Answers(port, tuple((name, _IS_UDP) for name in names))
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        problems = list(pool.map(lambda name: _ask(*fleet.published(name, port)), names))
    return Answers(port, tuple(zip(names, problems, strict=True)))


def _ask(host: str, port: int) -> str:
    try:
        status, _ = fetch(host, port)
    except (OSError, http.client.HTTPException) as error:
        return problem_of(error)
    return "" if status < 400 else f"réponse HTTP {status}"


def fetch(
    host: str,
    port: int,
    method: str = "GET",
    path: str = "/",
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Ask on a connection of its own, so that the mesh chooses anew; return status and body.

    A page that is silent is asked for once more: a busy host loses a packet now and then. Raises
    ``OSError`` or ``http.client.HTTPException`` when there is no whole answer;
    :func:`problem_of` says it in French.
    """
    headers = {**(headers or {}), "Connection": "close"}
    try:
        return _fetch_once(host, port, method, path, body, headers)
    except TimeoutError:
        if method != "GET":
            raise
        return _fetch_once(host, port, method, path, body, headers)


def _fetch_once(
    host: str, port: int, method: str, path: str, body: str | None, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def problem_of(error: Exception) -> str:
    """Return in French why there was no answer."""
    if isinstance(error, TimeoutError):
        return "pas de réponse"
    if isinstance(error, ConnectionError | socket.gaierror | http.client.HTTPException):
        return _REFUSED
    return str(getattr(error, "strerror", None) or error)
