"""What may leave the machine: frames, and what is read and passed on over real sockets."""

from __future__ import annotations

import os
import socket
import threading
from ipaddress import IPv4Address
from pathlib import Path

import psutil
import pytest

from labkit.engine.embedded.egress import PRIVATE, Rule, routes
from labkit.engine.embedded.qemu.network import GATEWAY, RESOLVER, pass_on
from labkit.engine.embedded.settings import Settings
from labkit.errors import SettingError

INTERNET = "9.9.9.9"


def of(egress: str) -> Rule:
    return Rule(egress, GATEWAY, RESOLVER)


def frame(to: str, *, protocol: int = 6, port: int = 80, kind: bytes = b"\x08\x00", at: int = 0,
          options: bytes = b"") -> bytes:  # fmt: skip
    """Return an Ethernet frame with an IPv4 packet; ``at`` is its flags and fragment offset."""
    head = bytes([0x45 + len(options) // 4, 0, 0, 60, 0, 0]) + at.to_bytes(2, "big")
    head += bytes([64, protocol, 0, 0]) + IPv4Address("192.168.77.11").packed
    ports = (40000).to_bytes(2, "big") + port.to_bytes(2, "big")
    return bytes(12) + kind + head + IPv4Address(to).packed + options + ports + bytes(20)


def arp(to: str) -> bytes:
    return bytes(12) + b"\x08\x06" + bytes(24) + IPv4Address(to).packed


def mine() -> list[str]:
    cards = psutil.net_if_addrs().values()
    return [a.address for card in cards for a in card if a.family == socket.AF_INET]


@pytest.mark.parametrize(
    "to",
    ["127.0.0.1", "192.168.77.2", "192.168.77.4", "192.168.77.99", "10.0.0.1", "172.31.255.1",
     "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"],
)  # fmt: skip
def test_neither_this_host_nor_a_private_network_is_reached(to: str) -> None:
    rule = of("")
    assert not any(rule.lets(frame(to, protocol=p)) for p in (1, 6, 17, 132))
    assert not of("none").lets(frame(to))
    assert of("open").lets(frame(to))


def test_the_addresses_of_this_host_are_not_reached_whatever_they_are() -> None:
    assert mine()
    assert not any(of("").lets(frame(to)) for to in mine())
    assert not any(of("0.0.0.0/0").lets(frame(to)) for to in mine())
    assert of(mine()[-1]).lets(frame(mine()[-1]))


def test_the_internet_is_reached() -> None:
    assert of("").lets(frame(INTERNET))
    assert of("").lets(frame(INTERNET, protocol=17, port=53))
    assert not of("none").lets(frame(INTERNET))


def test_what_is_listed_is_reached_too_but_never_the_loopback_behind_the_gateway() -> None:
    rule = of("10.1.2.3, 192.168.0.0/16")
    assert rule.lets(frame("10.1.2.3"))
    assert rule.lets(frame("192.168.1.1"))
    assert rule.lets(frame(INTERNET))
    assert not rule.lets(frame("10.1.2.4"))
    assert not rule.lets(frame("192.168.77.4"))
    assert not rule.lets(frame("192.168.77.200"))


def test_the_resolver_is_asked_for_names_alone() -> None:
    """It may be at 127.0.0.53 of this host, where more listens."""
    rule, to = of(""), str(RESOLVER)
    assert rule.lets(frame(to, protocol=17, port=53))
    assert rule.lets(frame(to, protocol=6, port=53))
    assert rule.lets(frame(to, protocol=17, port=53, at=0x4000))  # « do not fragment »
    assert rule.lets(frame(to, protocol=17, port=53, options=bytes(8)))
    assert not rule.lets(frame(to, port=22))
    assert not rule.lets(frame(to, port=22, options=b"\x01\x01\x00\x35"))
    assert not rule.lets(frame(to, protocol=1, port=53))
    assert not rule.lets(frame(to, protocol=17, port=53, at=0x2000))
    assert not rule.lets(frame(to, protocol=17, port=53, at=0x0003))


def test_other_frames_stay() -> None:
    rule = of("")
    assert rule.lets(arp(str(GATEWAY)))
    assert rule.lets(arp(str(RESOLVER)))
    assert not rule.lets(arp("192.168.77.11"))
    assert not rule.lets(frame(INTERNET, kind=b"\x86\xdd"))
    assert not rule.lets(frame(INTERNET, kind=b"\x81\x00"))
    assert not rule.lets(frame(INTERNET)[:30])
    assert not rule.lets(b"")


def test_what_falls_outside_is_refused_inside_at_once() -> None:
    closed = [str(n) for n in PRIVATE[:-1]]
    assert routes("") == "".join(f"route add unreachable {n} table 77\n" for n in closed)
    assert routes("open") == ""
    assert "route add throw 10.1.2.3/32 table 77\n" in routes("10.1.2.3")
    assert "10.0.0.0/8" not in routes("10.0.0.0/8").replace("throw 10.0.0.0/8", "")
    assert routes("none").endswith("unreachable 0.0.0.0/0 table 77\n")


@pytest.mark.parametrize("value", ["closed", "10.0.0.1/8", "::1", "10.1.2.3;reboot", ","])
def test_a_value_that_means_nothing_is_refused(value: str) -> None:
    with pytest.raises(SettingError, match="LABKIT_EGRESS"):
        Settings(egress=value)


def test_frames_are_passed_on_whole_and_reading_never_waits(tmp_path: Path) -> None:
    """The other side, like QEMU, may not read until all it has sent was taken."""
    pipe = tmp_path / "pass"
    os.mkfifo(pipe)

    def sized(frame: bytes) -> bytes:
        return len(frame).to_bytes(4, "big") + frame

    good = [frame(INTERNET, port=n) + bytes(1400) for n in range(1, 1500)]
    stream = b"".join(sized(g) + sized(frame("127.0.0.1")) for g in good)
    with socket.socket(socket.AF_UNIX) as sent, pipe.open("r+b", buffering=0) as taker:
        sent.bind(str(tmp_path / "sent"))
        sent.listen()
        for _ in range(2):  # the second goes on where the first ended
            thread = threading.Thread(target=pass_on, args=(tmp_path, of("").lets))
            thread.start()
            sender, _ = sent.accept()
            with sender:
                sender.settimeout(20)
                sender.sendall(stream)  # 2 MB, more than sockets and pipes hold
                expected, got = b"".join(map(sized, good)), b""
                while len(got) < len(expected):
                    got += taker.read(1 << 20)
                assert got == expected
            thread.join(20)
            assert not thread.is_alive()
