"""What the embedded cluster costs, beside a native dockerd in the same run. ::

    sudo python tests/benchmarks/bench_cluster.py [--rounds N] [--no-cold] [DRIVER…]

A driver is ``tcg``, ``tcg:1`` (on one virtual processor), ``uml:seccomp``, ``uml:ptrace`` or
``kvm``; each is measured after the other. Without any, what labkit chooses is.

Starting it (cold, restored), what students do (init, create x5, scale, drain), memory and idle
processor time. The yardstick is one native Docker Engine of this machine (Debian: docker.io),
started here in directories of its own, as root; without it, its column is empty. It has one
node and no routing mesh, so both sides are measured without a published port as well.
Prints a table in Markdown: medians, with the extremes where there are several rounds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import docker
import psutil
import requests

import labkit
from labkit.engine.embedded import cluster, faults
from labkit.engine.embedded.build.guest import guest_of
from labkit.engine.embedded.machine import Machine, installation_of
from labkit.engine.embedded.processes import process_of
from labkit.engine.embedded.settings import Settings
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report
from labkit.services import Scale

IMAGE = "traefik/whoami:latest"
Rows = dict[str, list[float]]


def clock(rows: Rows, name: str, work: Callable[[], object]) -> None:
    start = time.monotonic()
    work()
    rows.setdefault(name, []).append(time.monotonic() - start)


class Side:
    """A swarm under measurement: its engines, and a client for each; the first is a manager."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.clients = [e.client(timeout=60) for e in fleet]
        self.manager = self.clients[0]
        self.rows: Rows = {}

    def running(self, service: str) -> list[dict]:
        tasks = self.manager.api.tasks({"service": service, "desired-state": "running"})
        return [t for t in tasks if t["Status"]["State"] == "running"]

    def until(self, reached: Callable[[], bool]) -> None:
        limit = time.monotonic() + 180
        while not reached():
            assert time.monotonic() < limit, "not reached within 180 s"
            time.sleep(0.1)

    def containers(self) -> int:
        return sum(len(c.api.containers(filters={"name": "bench"})) for c in self.clients)

    def create(self, ports: dict[int, int] | None) -> None:
        self.manager.services.create(
            IMAGE,
            name="bench",
            mode=docker.types.ServiceMode("replicated", replicas=5),
            endpoint_spec=docker.types.EndpointSpec(ports=ports or {}),
        )
        self.until(lambda: len(self.running("bench")) == 5)

    def scale(self, replicas: int) -> None:
        # not docker-py's scale: it sends a task template of its own, and every task starts anew
        Scale("bench", replicas).apply(self.fleet)
        self.until(lambda: self.containers() == replicas)

    def remove(self) -> None:
        self.manager.services.get("bench").remove()
        self.until(lambda: self.containers() == 0)

    def drain(self, name: str) -> None:
        (node,) = self.manager.nodes.list(filters={"name": name})

        def away() -> bool:
            tasks = self.running("bench")
            return len(tasks) == 8 and all(t["NodeID"] != node.id for t in tasks)

        self.until(lambda: len(self.running("bench")) == 8)
        node.update({"Role": "worker", "Availability": "drain"})
        self.until(away)

    def measure(self, *, mesh: bool, last: str | None) -> None:
        """Create, scale up and down, and drain; ``last`` names the node to drain."""
        word = ", published" if mesh else ""
        clock(self.rows, f"create ×5{word}", lambda: self.create({9999: 80} if mesh else None))
        time.sleep(3)
        clock(self.rows, f"scale 5→8{word}", lambda: self.scale(8))
        time.sleep(3)
        if last:
            clock(self.rows, f"drain a node{word}", lambda: self.drain(last))
            time.sleep(3)
        clock(self.rows, f"scale 8→2{word}, containers gone", lambda: self.scale(2))
        self.remove()
        time.sleep(2)


def chosen(driver: str) -> Settings:
    """Return the settings for a driver as the command line names it; ``labkit`` changes none."""
    accel, _, how = driver.partition(":")
    if driver != "labkit":
        os.environ["LABKIT_ACCEL"] = accel
        os.environ["LABKIT_CPUS"] = how if accel == "tcg" and how else "2"
        os.environ["LABKIT_UML"] = how if accel == "uml" and how else "auto"
    return Settings.read()


def embedded(settings: Settings, rounds: int, cold: bool) -> Rows:
    rows: Rows = {}
    if cold:
        machine = Machine(
            settings.run.with_name("bench.cold"), installation_of(settings, guest_of(settings))
        )
        try:
            clock(rows, "start, cold", lambda: machine.boot(lambda text: None))
        finally:
            machine.stop()
    for _ in range(rounds):
        one_round(settings, rows)
    cluster.down(settings)
    return rows


def side_join(client: docker.DockerClient, address: str, *, first: str, token: str) -> None:
    client.swarm.join([first], token, advertise_addr=address)


def one_round(settings: Settings, rows: Rows) -> None:
    cluster.down(settings)
    clock(rows, "start, restored", lambda: labkit.up(quiet=True))
    fleet = labkit.connect()
    side = Side(fleet)
    side.rows = rows
    addresses = [str(e.swarm_address) for e in fleet]
    clock(rows, "swarm init", lambda: side.manager.swarm.init(advertise_addr=addresses[0]))
    side.manager.swarm.reload()
    token = side.manager.swarm.attrs["JoinTokens"]["Manager"]
    join = partial(side_join, first=addresses[0], token=token)
    for client, address in zip(side.clients[1:], addresses[1:], strict=True):
        clock(rows, "join as manager", partial(join, client, address))
    for client in side.clients[1:]:  # three managers for memory and idle time only
        side.until(lambda c=client: c.info()["Swarm"]["ControlAvailable"])
    side.manager.services.create(
        IMAGE,
        name="bench",
        mode=docker.types.ServiceMode("replicated", replicas=10),
        endpoint_spec=docker.types.EndpointSpec(ports={9999: 80}),
    )
    side.until(lambda: len(side.running("bench")) == 10)
    rest(rows, settings.run, "3 managers, 10 tasks")
    side.remove()
    for node in side.manager.nodes.list()[1:]:
        if not node.attrs.get("ManagerStatus", {}).get("Leader"):
            side.until(partial(demoted, side, node.id))
    others = [n for n in side.manager.nodes.list() if n.attrs["Spec"]["Role"] == "worker"]
    rest(rows, settings.run, f"{3 - len(others)} manager(s), no task")
    last = others[-1].attrs["Description"]["Hostname"]
    side.measure(mesh=True, last=last)
    (node,) = side.manager.nodes.list(filters={"name": last})
    node.update({"Role": "worker", "Availability": "active"})
    time.sleep(2)
    side.measure(mesh=False, last=None)
    another_leader(side)


def demoted(side: Side, node: str) -> bool:
    """Demote a manager; False while the swarm is not sure of the others."""
    with suppress(docker.errors.APIError):
        return bool(
            side.manager.nodes.get(node).update({"Role": "worker", "Availability": "active"})
        )
    return False


def another_leader(side: Side) -> None:
    """Make all nodes managers and kill the leader's, until another manager leads."""
    for node in side.manager.nodes.list():
        if node.attrs["Spec"]["Role"] == "worker":
            node.update({"Role": "manager", "Availability": "active"})
    for client in side.clients:
        side.until(lambda c=client: c.info()["Swarm"]["ControlAvailable"])
    old = leader(side.manager)
    # Briefly asked, again and again: what is passed on to a dead leader hangs for twenty seconds.
    survivor = next(e.client(timeout=2) for e in side.fleet if e.name != old)
    time.sleep(3)

    def elect() -> None:
        faults.kill(str(old), side.fleet, quiet=True)
        side.until(lambda: leader(survivor) not in (old, None))

    clock(side.rows, "leader killed, until another leads", elect)


def leader(client: docker.DockerClient) -> str | None:
    """Return the leader's name; None where there is none, and no manager lists nodes."""
    with suppress(docker.errors.APIError, requests.Timeout):
        for node in client.nodes.list():
            if node.attrs.get("ManagerStatus", {}).get("Leader"):
                return str(node.attrs["Description"]["Hostname"])
    return None


def family(run: Path) -> list[psutil.Process]:
    """What runs a machine: its driver's processes, and what those started."""
    heads = [p for p in (process_of(run), process_of(run, "switch.pid")) if p]
    return [*heads, *(child for head in heads for child in head.children(recursive=True))]


def spent(run: Path) -> float:
    """The processor time of a machine in seconds, with that of its processes that ended."""
    total = 0.0
    for process in family(run):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def rest(rows: Rows, run: Path, what: str, seconds: float = 30) -> None:
    """Let it settle, then measure its processor time and its memory (PSS)."""
    time.sleep(15)
    before, start = spent(run), time.monotonic()
    time.sleep(seconds)
    percent = 100 * (spent(run) - before) / (time.monotonic() - start)
    rows.setdefault(f"idle, {what}: % of one core", []).append(percent)
    rows.setdefault(f"memory, {what}: MB", []).append(memory(run))


def memory(run: Path) -> float:
    """Return the memory of a machine's processes in MB: PSS, for some of it is shared."""
    total = 0.0
    for process in family(run):
        with suppress(psutil.Error):
            total += process.memory_full_info().pss / 1e6
    return total


@contextmanager
def native() -> Iterator[Side | None]:
    """Run a dockerd of this machine aside, with the course's image in it."""
    program = shutil.which("dockerd", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if program is None or os.geteuid() != 0:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        here = Path(directory)
        with (here / "log").open("wb") as log:
            daemon = subprocess.Popen(
                [program, "-H", f"unix://{here}/sock", "--data-root", f"{here}/data",
                 "--exec-root", f"{here}/exec", "-p", f"{here}/pid"],
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            for _ in range(300):
                if (here / "sock").exists() or daemon.poll() is not None:
                    break
                time.sleep(0.1)
            engine = Endpoint("native", f"unix://{here}/sock", "127.0.0.1")
            side = Side(Fleet("host", (engine,)))
            client = side.manager
            embedded = labkit.connect().endpoints[0].client()
            for image in client.images.load(b"".join(embedded.images.get(IMAGE).save())):
                image.tag(IMAGE)
            embedded.close()
            clock(side.rows, "swarm init", lambda: client.swarm.init(advertise_addr="127.0.0.1"))
            yield side
            client.swarm.leave(force=True)
        except Exception:
            print((here / "log").read_text(errors="replace")[-1500:])
            raise
        finally:
            daemon.terminate()
            daemon.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--no-cold", action="store_true")
    parser.add_argument("drivers", nargs="*")
    options = parser.parse_args()
    os.environ.setdefault("LABKIT_CLUSTER", "bench")
    ours: dict[str, Rows] = {}
    beside: Rows = {}
    for driver in options.drivers or ["labkit"]:
        settings = chosen(driver)
        cluster.build(settings, Report())
        if not ours:
            labkit.up(quiet=True)
            with native() as side:
                if side:
                    for _ in range(options.rounds):
                        side.measure(mesh=False, last=None)
                    beside = side.rows
        ours[driver] = embedded(settings, options.rounds, not options.no_cold)
        print(driver, ours[driver], file=sys.stderr, flush=True)  # should a later one fail

    def text(values: list[float] | None) -> str:
        if not values:
            return ""
        middle = f"{statistics.median(values):.1f}"
        return middle if len(values) == 1 else f"{middle} ({min(values):.1f}-{max(values):.1f})"

    columns = {**ours, "native dockerd": beside}
    print("| seconds unless said | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in {name: None for rows in columns.values() for name in rows}:
        cells = (text(rows.get(name)) for rows in columns.values())
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
