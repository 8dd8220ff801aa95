"""The keeper's forwards on a real QEMU, which has no machine to run: that needs none."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from labkit.engine.embedded import cluster, keeper
from labkit.engine.embedded.addresses import Forward as Way
from labkit.engine.embedded.addresses import can_bind
from labkit.engine.embedded.build.shared_cache import find_guest
from labkit.engine.embedded.keeper import MOST, Forward, Keeper
from labkit.engine.embedded.qemu import qmp as control
from labkit.engine.embedded.qemu.finding import find_qemu
from labkit.engine.embedded.record import Record, Remapped
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import UDP, Fleet
from labkit.engine.progress import Report
from labkit.exercises.measures import access

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

NODES = ("node1", "node2", "node3")


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Keeper]:
    """A keeper, and the QEMU that it tells what to forward."""
    cluster.build(Settings.read(), Report(quiet=True))
    qemu = find_qemu(find_guest(Settings.read()), Settings.read())
    process = subprocess.Popen(
        [*qemu.command, "-M", "none", "-nodefaults", "-display", "none", "-S",
         "-netdev", "user,id=in,net=192.168.77.0/24",
         "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off"]
    )  # fmt: skip
    try:
        limit = time.monotonic() + 30
        while not (tmp_path / "qmp").exists():
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.05)
        (tmp_path / "pid").write_text(str(process.pid))
        network = f"127.{random.randrange(64, 127)}.{random.randrange(256)}"
        yield Keeper(tmp_path, Record(network, 3, [1, 2, 3], "tcg"))
    finally:
        process.kill()
        process.wait()


def listeners(kept: Keeper) -> int:
    process = psutil.Process(int((kept.run / "pid").read_text()))
    return sum(c.status == psutil.CONN_LISTEN for c in process.net_connections("tcp"))


def on_all_nodes(*ports: int) -> set[Forward]:
    return {(name, port) for name in NODES for port in ports}


def settle(kept: Keeper, wanted: set[Forward]) -> None:
    kept._apply(wanted)
    while not kept.changes.empty():
        kept.changes.get()
        kept._apply(wanted)


def fleet_of(kept: Keeper) -> Fleet:
    return Fleet("embedded", tuple(kept.endpoints.values()),
                 remapped=Remapped(kept.run / "forwards.json"))  # fmt: skip


def test_hundreds_of_ports_are_bounded_and_keep_nobody_waiting(
    kept: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations: list[int] = []
    execute = control.execute

    def counted(*arguments: object, **options: object) -> list[object]:
        conversations.append(len(arguments) - 1)
        return execute(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(control, "execute", counted)
    many = on_all_nodes(*range(20_001, 20_301))
    kept._apply(many)
    assert listeners(kept) == keeper.AT_ONCE and not kept.changes.empty()
    # what is published now is open with the next look, before what still waits
    kept._apply(many | on_all_nodes(20_500))
    assert all(fleet_of(kept).forwarded(name, 20_500) for name in NODES)
    settle(kept, many | on_all_nodes(20_500))
    assert listeners(kept) == len(kept.forwards) == MOST
    assert len(conversations) <= MOST // keeper.AT_ONCE + 3
    said = (kept.run / "ports").read_text()
    assert "900 portes au plus" in said and f"{4 * 301 - MOST} restent fermées" in said

    settle(kept, set())
    assert listeners(kept) == 0 and (kept.run / "ports").read_text() == ""
    assert json.loads((kept.run / "forwards.json").read_text()) == []


def test_nobody_is_sent_to_a_place_that_is_being_closed(
    kept: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(kept, on_all_nodes(20_001))
    told: list[bool] = []
    forward = kept.instance.forward

    def watched(opened: Sequence[Way] = (), closed: Sequence[Way] = ()) -> list[str]:
        told.append(fleet_of(kept).forwarded("node1", 20_001) is None)
        return forward(opened, closed)

    monkeypatch.setattr(kept.instance, "forward", watched)
    settle(kept, set())
    assert told and all(told)


def test_udp_is_forwarded_and_said(kept: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(kept, on_all_nodes(20_053 + UDP))
    fleet = fleet_of(kept)
    host, at = fleet.published("node2", 20_053 + UDP)
    assert not can_bind(host, at, socket.SOCK_DGRAM) and can_bind(host, at)
    assert fleet.forwarded("node2", 20_053) is None
    monkeypatch.setattr(access, "connect", lambda: fleet)
    shown = access.adresses(20_053)
    assert dict(shown.urls)["node2"] == f"udp://{host}:{at}"
    assert "est publié en UDP" in repr(shown) and "<a " not in shown._repr_html_()
    said = access.qui_repond(20_053)
    assert said.nombre == 0 and "UDP" in repr(said)
