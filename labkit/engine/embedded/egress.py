"""Decide which of the machine's frames may leave it.

The driver hands over each frame that the machine sends, and lets out those that come back. So the
rule holds whatever a container does to the machine's kernel; and where labkit does not listen,
nothing leaves.
"""

import socket
import time
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import psutil

from labkit.errors import SettingError

CLUSTER = IPv4Network("192.168.77.0/24")  # the machine and its nodes; its driver, too, is in it
OPEN, NONE = "open", "none"
PRIVATE = tuple(
    IPv4Network(text)
    for text in """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12
    192.0.0.0/24 192.168.0.0/16 198.18.0.0/15 224.0.0.0/3""".split()
)  # the last: groups and broadcast, which stay among the nodes, and what is nobody's
ARP, IP, TCP, UDP, DNS = b"\x08\x06", b"\x08\x00", 6, 17, b"\x00\x35"
FRESH = 10.0  # seconds for which the host's addresses are not read again


def _networks(egress: str) -> tuple[IPv4Network, ...]:
    """Return the networks that a value of ``LABKIT_EGRESS`` lists, or raise ``SettingError``."""
    if egress in {"", OPEN, NONE}:
        return ()
    try:
        return tuple(IPv4Network(part.strip()) for part in egress.split(","))
    except ValueError:
        raise SettingError(
            f"LABKIT_EGRESS={egress} n’est pas possible.",
            remedy="Valeurs : open (les conteneurs joignent tout ce que vous joignez), none "
            "(rien hors du cluster), ou les adresses et réseaux à joindre en plus d’Internet : "
            "10.1.2.3,10.8.0.0/16.",
        ) from None


def routes(egress: str) -> str:
    """Return what refuses in a node, at once, what this module would let fall: lines of ip."""
    listed = _networks(egress)
    closed: Iterable[IPv4Network] = () if egress == OPEN else PRIVATE[:-1]
    lines = [f"unreachable {n}" for n in closed if n not in listed]
    lines += [f"throw {n}" for n in listed]
    lines += ["unreachable 0.0.0.0/0"] * (egress == NONE)
    return "".join(f"route add {line} table 77\n" for line in lines)


def _own() -> list[IPv4Interface]:
    """Return the addresses of this host, each with its network."""
    return [
        IPv4Interface(f"{a.address}/{a.netmask or 32}")
        for card in psutil.net_if_addrs().values()
        for a in card
        if a.family == socket.AF_INET
    ]


class Rule:
    """Judges by ``LABKIT_EGRESS`` whether a frame may leave the machine."""

    def __init__(self, egress: str, gateway: IPv4Address, resolver: IPv4Address) -> None:
        self.egress = egress
        self.gateway, self.resolver = gateway, resolver
        self.listed = _networks(egress)
        self._known: dict[bytes, bool] = {}
        self._read = float("-inf")

    def lets(self, frame: bytes) -> bool:
        """Tell whether a frame may leave; pure but for the host's addresses."""
        if self.egress in {OPEN, NONE}:
            return self.egress == OPEN
        kind, to = frame[12:14], frame[30:34]
        if kind == ARP:
            return frame[38:42] in {self.gateway.packed, self.resolver.packed}
        if kind != IP or len(frame) < 34 or frame[14] >> 4 != 4:
            return False
        if to == self.resolver.packed:
            return _asks_for_a_name(frame)
        if time.monotonic() > self._read + FRESH:
            self._known.clear()
            self._own, self._read = _own(), time.monotonic()
        if to not in self._known:
            self._known[to] = self._may(IPv4Address(to))
        return self._known[to]

    def _may(self, to: IPv4Address) -> bool:
        """Tell whether the machine may send to an address that is not its resolver's."""
        if to in CLUSTER:
            return False
        if any(to == own.ip for own in self._own):
            return IPv4Network(to) in self.listed
        if any(to in network for network in self.listed):
            return True
        return not any(to in network for network in (*PRIVATE, *(o.network for o in self._own)))


def _asks_for_a_name(frame: bytes) -> bool:
    """Tell whether a frame to the resolver is for its port, and whole: it may be at 127.0.0.53."""
    whole = not (int.from_bytes(frame[20:22], "big") & 0x3FFF)
    port = 14 + 4 * (frame[14] & 15) + 2
    return whole and frame[23] in {TCP, UDP} and frame[port : port + 2] == DNS
