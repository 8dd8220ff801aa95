"""The doors to a cluster's pages: their paths, and the ports where they lead."""

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from typing import Any

from tornado.web import HTTPError

from labkit.engine import external
from labkit.engine.embedded import cluster
from labkit.engine.embedded.keeper import published, wanted
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import UDP, Endpoint, Fleet
from labkit.errors import LabkitError

_PLACE = r"(cluster|domaines)/(?:~([\w-]+)/)?(?:(node\d+)/(\d{1,5})|(\d{1,5})/(NAME\.localhost))"
_PATH = re.compile(_PLACE.replace("NAME", r"[\w-]+(?:\.[\w-]+)*") + r"(?:/(.*))?")
_RECENT = 3.0  # seconds for which what other engines publish is remembered


@dataclass
class Door:
    """A page of the cluster that one browser reaches under one number.

    ``where`` is the path without the number, below the server's own. ``asks`` once a page asked
    for a password; ``login`` is what the browser answered.
    """

    browser: str
    where: str
    node: str
    port: int
    domain: str
    cookies: CookieJar = field(default_factory=CookieJar)
    asks: bool = False
    login: str = ""


def parse(handler: Any) -> tuple[str, Door, str] | None:
    """Return the number, where it leads, and the path there; None for no path of ours."""
    base = handler.settings["base_url"]
    found = _PATH.fullmatch(handler.request.path.removeprefix(base))
    if not found:
        return None
    kind, number, node, port, at, domain, path = found.groups()
    if (kind == "cluster") != (node is not None):
        return None
    if int(port or at) > 65535:
        return None
    where = f"cluster/{node}/{port}/" if node else f"domaines/{at}/{domain}/"
    return number or "", Door("", where, node or "", int(port or at), domain or ""), path or ""


def numbered(door: Door, number: str) -> str:
    """Return the path of a door, its number in it."""
    kind, _, rest = door.where.partition("/")
    return f"{kind}/~{number}/{rest}"


async def find(door: Door) -> tuple[str, int]:
    """Return where a door leads now; what stands in the way is an answer for the browser."""
    try:
        found = await asyncio.to_thread(_published_at, door.node, door.port)
    except LabkitError as error:
        raise HTTPError(503, str(error)) from None
    if not found:
        raise HTTPError(404, f"Le cluster ne publie pas le port {door.port}.")
    return found


def _published_at(node: str, port: int) -> tuple[str, int] | None:
    """Return where a port of a node, or of the first, is reached; None if it is not published."""
    fleet = external.named() or cluster.join(Settings.read())
    name = node or fleet.endpoints[0].name
    if fleet.kind == "host" and (name, port) not in _told(fleet):
        return None
    return fleet.forwarded(name, port)


_TOLD: dict[tuple[Endpoint, ...], tuple[float, set[tuple[str, int]]]] = {}


def _told(fleet: Fleet) -> set[tuple[str, int]]:
    """Return what engines that labkit did not make publish, as of a moment ago."""
    when, known = _TOLD.get(fleet.endpoints, (-_RECENT, set()))
    if time.monotonic() - when > _RECENT:
        known = wanted({endpoint.name: published(endpoint) for endpoint in fleet}, ())
        _TOLD.clear()
        _TOLD[fleet.endpoints] = time.monotonic(), known
    return known


def reached_at(at: int) -> int | None:
    """Return which port of the embedded cluster is reached at a port of this machine."""
    with contextlib.suppress(LabkitError):
        if external.named() is None:
            remapped = cluster.join(Settings.read()).remapped
            return next((p for (_, p), its in remapped.items() if its == at and p < UDP), None)
    return None
