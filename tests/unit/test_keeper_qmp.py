"""What the keeper asks of QEMU, told by a real socket with a script instead of a machine."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.engine.embedded.keeper import Keeper
from labkit.engine.embedded.record import Record
from labkit.engine.endpoint import UDP

GREETING = {"QMP": {"version": {"qemu": {}, "package": ""}, "capabilities": []}}
NODES = ("node1", "node2")


class Monitor:
    """Answers QMP at a socket: "" to each command of the human monitor, or a complaint."""

    def __init__(self, path: Path) -> None:
        self.lines: list[str] = []
        self.complaints: dict[str, str] = {}
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self.server.getsockname())
            last.sendall(b"null")
            self.thread.join()
        self.server.close()

    def _serve(self) -> None:
        request: Any = {}
        while request is not None:
            connection, _ = self.server.accept()
            with connection:
                connection.sendall(json.dumps(GREETING).encode() + b"\r\n")
                while asked := connection.recv(1 << 16):  # the client waits for each answer
                    request = json.loads(asked)
                    if request is None:
                        break
                    line = request.get("arguments", {}).get("command-line", "")
                    self.lines += [line] * bool(line)
                    said = self.complaints.pop(line.split("-")[0], "")
                    answer = {"return": said if line else {}, "id": request.get("id")}
                    connection.sendall(json.dumps(answer).encode() + b"\r\n")

    def told(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    monitor = Monitor(tmp_path / "qmp")
    yield monitor
    monitor.close()


@pytest.fixture
def keeper(monitor: Monitor, tmp_path: Path) -> Keeper:
    (tmp_path / "pid").write_text("1")
    network = f"127.{random.randrange(64, 127)}.{random.randrange(256)}"
    return Keeper(tmp_path, Record(network, 2, [1, 2], "tcg", private=True))


def forwards(keeper: Keeper) -> list[tuple[str, int, int]]:
    rows = json.loads((keeper.run / "forwards.json").read_text())
    return [(row["node"], row["port"], row["at"]) for row in rows]


def test_a_port_is_opened_at_each_node_and_closed(keeper: Keeper, monitor: Monitor) -> None:
    first, second = (keeper.endpoints[n].address for n in NODES)
    keeper._apply({("node1", 20_080), ("node2", 20_053 + UDP)})
    assert sorted(monitor.told()) == [
        f"hostfwd_add in tcp:{first}:20080-192.168.77.11:20080",
        f"hostfwd_add in udp:{second}:20053-192.168.77.12:20053",
    ]
    assert forwards(keeper) == [("node1", 20_080, 20_080), ("node2", 20_053 + UDP, 20_053)]
    keeper._apply({("node2", 20_053 + UDP)})
    assert monitor.told() == [f"hostfwd_remove in tcp:{first}:20080"]
    keeper._apply({("node2", 20_053 + UDP)})
    assert monitor.told() == []


def test_a_port_that_another_has_is_opened_higher(keeper: Keeper, monitor: Monitor) -> None:
    address = keeper.endpoints["node1"].address
    with socket.create_server((address, 20_080)):
        keeper._apply({("node1", 20_080)})
    assert monitor.told() == [f"hostfwd_add in tcp:{address}:28080-192.168.77.11:20080"]
    assert forwards(keeper) == [("node1", 20_080, 28_080)]


def test_what_qemu_refuses_is_tried_again_and_not_promised(
    keeper: Keeper, monitor: Monitor
) -> None:
    address = keeper.endpoints["node1"].address
    asked = f"hostfwd_add in tcp:{address}:20080"
    monitor.complaints[asked] = "could not set up host forwarding rule"
    keeper._apply({("node1", 20_080), ("node2", 20_080)})
    told = monitor.told()
    assert len(told) == 3 and told[-1].startswith(asked), "the refused one, once more"
    assert len(forwards(keeper)) == 2


def test_the_ways_to_a_node_that_is_gone_are_closed(keeper: Keeper, monitor: Monitor) -> None:
    address = keeper.endpoints["node2"].address
    keeper._apply({("node2", 20_080)})
    monitor.told()
    del keeper.endpoints["node2"]
    keeper._apply(set())
    assert monitor.told() == [f"hostfwd_remove in tcp:{address}:20080"]
    assert forwards(keeper) == []
