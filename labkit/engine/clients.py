"""Talking to engines: borrowed connections, and docker's errors turned into labkit's.

A new TLS connection is slow under emulation, so clients are kept in a small pool, one list an
endpoint. A client is never shared by two threads, and one that failed is thrown away, so the
pool survives an engine that restarts.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import requests
from docker import APIClient
from docker.errors import APIError, DockerException

from labkit.engine.endpoint import Endpoint
from labkit.engine.ssh import SSHFailed
from labkit.errors import DockerFailed, EngineUnreachable, LabkitError
from labkit.polling import until

NO_ANSWER = (requests.RequestException, DockerException, OSError)  # what read() may raise

_REASONS: Mapping[type[BaseException], str] = {
    FileNotFoundError: "sa socket n’existe pas : docker est-il démarré ?",
    PermissionError: "vous n’avez pas le droit d’ouvrir sa socket : groupe docker ?",
    ssl.SSLError: "TLS : certificats refusés, ou absents",
    socket.gaierror: "nom de machine inconnu",
}

# of an engine that took the question: it lives, and has too much to do
SLOW = "pas de réponse dans le délai"
_IN_SEQUENCE = 10.0  # s to try an update that others come before

_T = TypeVar("_T")
_Key = tuple[str, Path | None, int]

_MAX_IDLE = 4  # clients kept an endpoint
_idle: dict[_Key, list[APIClient]] = {}
_lock = threading.Lock()


def _key(endpoint: Endpoint) -> _Key:
    """Return what makes two clients interchangeable; new certificates make a new key."""
    stamp = 0
    if endpoint.tls is not None:
        try:
            stamp = (endpoint.tls / "cert.pem").stat().st_mtime_ns
        except OSError:
            stamp = -1
    return endpoint.url, endpoint.tls, stamp


def _forget(endpoint: Endpoint) -> None:
    with _lock:
        old = [_idle.pop(key) for key in list(_idle) if key[:2] == (endpoint.url, endpoint.tls)]
    for client in (client for clients in old for client in clients):
        client.close()


@contextmanager
def talk(endpoint: Endpoint, timeout: float = 30.0) -> Iterator[APIClient]:
    """Borrow a low-level client of ``endpoint``; ``timeout`` is in seconds a request.

    The client goes back to the pool unless the connection is in doubt. Errors of the docker
    SDK and of the connection pass through unchanged: see :func:`engine_errors`.
    """
    key = _key(endpoint)
    with _lock:
        clients = _idle.get(key)
        client = clients.pop() if clients else None
    if client is None:
        client = endpoint.client(timeout).api
    client.timeout = timeout  # requests takes fractions too
    try:
        yield client
    except (APIError, LabkitError):
        _give_back(key, client)  # a whole answer was read: the connection is sound
        raise
    except requests.RequestException:
        client.close()
        _forget(endpoint)
        raise
    except BaseException:
        client.close()
        raise
    else:
        _give_back(key, client)


def _give_back(key: _Key, client: APIClient) -> None:
    with _lock:
        clients = _idle.setdefault(key, [])
        if len(clients) < _MAX_IDLE:
            clients.append(client)
            return
    client.close()


def read(endpoint: Endpoint, question: Callable[[APIClient], _T], timeout: float = 30.0) -> _T:
    """Ask a question that changes nothing, once more if a kept connection had died.

    Raises ``APIError`` when the engine refuses, and one of :data:`NO_ANSWER` when it does not
    answer within ``timeout`` seconds.
    """
    try:
        with talk(endpoint, timeout) as client:
            return question(client)
    except requests.Timeout:
        raise
    except requests.ConnectionError:
        with talk(endpoint, timeout) as client:
            return question(client)


def explain(error: BaseException) -> str:
    """Return what an engine or a connection said, on one line."""
    if isinstance(error, APIError):
        said = str(error.explanation or error)
    elif isinstance(error, requests.ConnectTimeout):
        said = "connexion impossible dans le délai"
    elif isinstance(error, requests.Timeout):
        said = SLOW
    elif isinstance(error, requests.ConnectionError):
        said = _reason(error)
    else:
        said = str(error) or type(error).__name__
    return " ".join(said.split())


def _reason(error: requests.ConnectionError) -> str:
    """Return why a connection failed, which is inside of what urllib3 and requests say of it."""
    for inner in causes(error):
        if isinstance(inner, SSHFailed):
            return f"ssh : {inner}"
        for kind, text in _REASONS.items():
            if isinstance(inner, kind):
                return text
    return "connexion refusée ou coupée"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that are inside of it."""
    while error is not None:
        yield error
        inner = (*error.args, getattr(error, "reason", None), error.__cause__, error.__context__)
        error = next((c for c in inner if isinstance(c, BaseException)), None)


@contextmanager
def engine_errors(endpoint: Endpoint, doing: str) -> Iterator[None]:
    """Turn what the docker SDK raises into labkit's errors.

    ``doing`` is the docker command that does the same, such as ``docker service rm web``. Raises
    ``EngineUnreachable`` when the engine does not answer, ``DockerFailed`` when it refuses; callers
    that know more raise a better name.
    """
    try:
        yield
    except APIError as error:
        raise DockerFailed(
            f"Le moteur de « {endpoint.name} » a refusé « {doing} » : {explain(error)}",
            remedy="Relisez la commande et l’état du cluster (« docker service ls », "
            "« docker node ls »).",
        ) from error
    except (requests.RequestException, DockerException, OSError) as error:
        raise EngineUnreachable(
            f"Le moteur de « {endpoint.name} » ne répond pas ({explain(error)}).",
            remedy="Vérifiez le cluster avec « labkit status », puis « labkit up ».",
        ) from error


def update_spec(
    manager: Callable[[], Endpoint],
    doing: str,
    inspect: Callable[[Endpoint], Mapping[str, Any]],
    edit: Callable[[dict[str, Any]], bool],
    send: Callable[[APIClient, int, dict[str, Any]], object],
) -> None:
    """Edit the whole spec of a node or a service and send it, again if somebody was faster.

    ``manager`` returns one that answers, or raises; ``edit`` changes the spec of what ``inspect``
    asks for, and is false if there is nothing to send.
    """
    refused: DockerFailed | None = None

    def sent() -> bool:
        nonlocal refused
        endpoint = manager()
        with engine_errors(endpoint, doing):
            raw = inspect(endpoint)
        spec, version = deepcopy(raw["Spec"]), raw["Version"]["Index"]
        if not edit(spec):
            return True
        try:
            with engine_errors(endpoint, doing), talk(endpoint) as api:
                send(api, version, spec)
        except DockerFailed as error:
            endpoint = manager()  # a lost quorum has a better name
            with engine_errors(endpoint, doing):
                now = inspect(endpoint)
            # "update out of sequence": known by its cause, a version that has moved
            if now["Version"]["Index"] == version:
                raise
            refused = error
            return False
        return True

    if not until(sent, seconds=_IN_SEQUENCE, every=0.1) and refused:
        raise refused
