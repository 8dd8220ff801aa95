"""Ask whoami's page again and again: which lines change, and which client address it sees."""

import http.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from labkit.engine import Fleet, connect
from labkit.engine.clients import NO_ANSWER, read
from labkit.engine.endpoint import Endpoint
from labkit.errors import TrafficError
from labkit.exercises.measures.access import fetch, problem_of
from labkit.text.french import enumerate_fr
from labkit.text.tables import table_html, table_text

_REQUESTS = 10
_ADDRESS, _PORT = "RemoteAddr (adresse)", "RemoteAddr (port)"


def parse_page(text: str) -> dict[str, str]:
    """Return the lines of whoami's page by their label; pure.

    Lines of one label are joined, ``RemoteAddr`` is cut into address and port, and the line of
    the request itself is left out.
    """
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        label, colon, value = line.partition(": ")
        if not colon:
            continue
        if label == "RemoteAddr":
            address, _, port = value.rpartition(":")
            found.setdefault(_ADDRESS, []).append(address)
            found.setdefault(_PORT, []).append(port)
        else:
            found.setdefault(label, []).append(value)
    return {label: ", ".join(values) for label, values in found.items()}


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages of whoami, several from each door."""

    port: int  # the port as it was published
    # name of the node asked, and its pages, each as :func:`parse_page` returns it
    by_door: tuple[tuple[str, tuple[Mapping[str, str], ...]], ...]

    @property
    def varient(self) -> str:
        """The lines that change at one and the same door, as French lists them."""
        pages = self.by_door[0][1]
        changing = (
            label.partition(" (")[0] for label in self._labels() if _count(pages, label) > 1
        )
        return enumerate_fr(list(dict.fromkeys(changing))) or "aucune"

    def _labels(self) -> list[str]:
        return list(dict.fromkeys(k for _, pages in self.by_door for page in pages for k in page))

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        first = self.by_door[0][1]
        everything = [page for _, pages in self.by_door for page in pages]
        for label in self._labels():
            yield label, _said(first, label), _said(everything, label)

    def _head(self) -> tuple[str, str, str]:
        door, pages = self.by_door[0]
        return "Ligne", f"{len(pages)} pages de {door}", f"{len(self.by_door)} portes"

    def __repr__(self) -> str:
        return table_text(self._head(), list(self._rows()))

    def _repr_html_(self) -> str:
        return table_html("Valeurs différentes de chaque ligne", self._head(), list(self._rows()))


def _count(pages: Sequence[Mapping[str, str]], label: str) -> int:
    return len({page.get(label, "") for page in pages})


def _said(pages: Sequence[Mapping[str, str]], label: str) -> str:
    count = _count(pages, label)
    if count == 1:
        return "toujours la même"
    # a port may come again by chance: what is said does not depend on that
    return "une par page, ou presque" if 2 * count > len(pages) else str(count)


def lire_pages(port: int, requetes: int = _REQUESTS) -> Pages:
    """Ask each node for whoami's page several times, each time on a connection of its own.

    Raises ``TrafficError`` when a node does not answer, or when it is not whoami that does.
    """
    fleet = connect()
    doors = (
        (e.name, tuple(_page(fleet, e.name, port) for _ in range(max(1, requetes)))) for e in fleet
    )
    return Pages(port, tuple(doors))


def _page(fleet: Fleet, node: str, port: int) -> dict[str, str]:
    try:
        _, body = fetch(*fleet.published(node, port))
    except (OSError, http.client.HTTPException) as error:
        raise TrafficError(
            f"{node} ne répond pas sur le port {port} : {problem_of(error)}.",
            remedy="« docker service ls » dit si ses replicas sont en marche.",
        ) from None
    page = parse_page(body.decode(errors="replace"))
    if "Hostname" not in page or _ADDRESS not in page:
        why = f"Ce n’est pas whoami qui répond sur le port {port} de {node}."
        raise TrafficError(why, remedy="« docker service ls » montre qui publie ce port.")
    return page


@dataclass(frozen=True, slots=True)
class Visitor:
    """One request: at which door, and for whom whoami took its client."""

    door: str  # name of the node asked
    address: str  # what whoami calls ``RemoteAddr``, without the port
    owner: str  # the node whose own address in the ingress network that is; "" when it is none's


@dataclass(frozen=True, slots=True)
class Visitors:
    """For whom whoami took the client, door by door."""

    port: int
    seen: tuple[Visitor, ...]

    @property
    def reponse(self) -> str:
        """The owners of the addresses, in a few French words."""
        owners = {v.owner == v.door if v.owner else None for v in self.seen}
        return {
            frozenset({True}): "celle du nœud interrogé",
            frozenset({None}): "celle du client",
        }.get(frozenset(owners), "cela dépend de la porte")

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        for v in self.seen:
            whose = f"{v.owner}, dans le réseau ingress" if v.owner else "le client"
            yield f"porte de {v.door}", v.address, whose

    def __repr__(self) -> str:
        return "\n".join(f"{door} : {address} ({whose})" for door, address, whose in self._rows())

    def _repr_html_(self) -> str:
        head = ("Porte", "RemoteAddr", "C’est l’adresse de")
        return table_html(f"RemoteAddr, sur le port {self.port}", head, list(self._rows()))


def qui_suis_je(port: int) -> Visitors:
    """Ask each node once whom whoami takes the client for, and find whose address that is.

    Raises ``TrafficError`` when a node does not answer, or when it is not whoami that does.
    """
    fleet = connect()
    pages = [(e.name, _page(fleet, e.name, port)[_ADDRESS]) for e in fleet]
    owners = {address: e.name for e in fleet if (address := _ingress_address(e))}
    seen = (Visitor(door, address, owners.get(address, "")) for door, address in pages)
    return Visitors(port, tuple(seen))


def _ingress_address(endpoint: Endpoint) -> str:
    """Return a node's own address in the ingress network, from ``GET /networks/ingress``."""
    try:
        network = read(endpoint, lambda api: api.inspect_network("ingress"))
    except NO_ANSWER:
        return ""
    attached = network.get("Containers") or {}
    own = (attached.get("ingress-sbox") or {}).get("IPv4Address", "")
    return str(own).partition("/")[0]
