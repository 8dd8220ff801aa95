"""How time and memory grow: from 1 to 7 nodes, and from 5 to 100 tasks of whoami. ::

    python tests/benchmarks/bench_scale.py [--most-tasks 100] [--starts] [--write]

On a cluster of its own, in a machine with more memory than the course's (LABKIT_MEMORY, 2560
MiB unless set; its snapshot is built first, once). Nodes: three are restored and reduced to
one; each of the others is added, joins as a worker and runs its task of a global service.
Tasks: on three nodes, one service published on the mesh is scaled in steps. ``--starts`` also
times a restored start of 1 to 7 nodes, with the course's memory for each: seven snapshots are
built for it. Host memory is the resident memory of QEMU and of the process beside it, after ten
seconds at rest; "in the guest" is what its kernel calls used. A quarter of an hour on a quiet
machine without ``--starts``. Prints tables in Markdown; ``--write`` puts them into the README.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "drill"))

from actions import create
from drill import PORT, join, until, whoami, write

import labkit
from labkit import nodes
from labkit.engine.clients import talk
from labkit.engine.embedded import cluster
from labkit.engine.embedded.faults import in_guest
from labkit.engine.embedded.processes import process_of
from labkit.engine.embedded.settings import MAX_NODES, Settings
from labkit.engine.progress import Report
from labkit.errors import ConvergenceTimeout
from labkit.services import Scale
from labkit.state import capture

STEPS = (5, 10, 20, 40, 70, 100)
PATIENCE = 900.0  # s until the tasks of one step are given up
REST = 10.0  # s before memory is read
PAGE = Path(__file__).with_name("README.md")
MARK = "<!-- figures: python tests/benchmarks/bench_scale.py --write -->\n"


def clock(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def at_rest() -> tuple[float, float, float]:
    """Return host memory (MB), used memory in the guest (MB), and % of a core, at rest."""
    run = Settings.read().run
    ours = [p for p in (process_of(run), process_of(run, "keeper.pid")) if p]
    machine = ours[0]
    time.sleep(REST)
    before = machine.cpu_times()
    burnt = clock(lambda: time.sleep(REST))
    after = machine.cpu_times()
    used = float(
        in_guest("awk '/MemTotal/{t=$2} /MemAvailable/{a=$2} END{print t-a}' /proc/meminfo")
    )
    busy = (after.user + after.system - before.user - before.system) / burnt
    rss = sum(p.memory_info().rss for p in psutil.process_iter() if p in ours)
    return rss / 1e6, used * 1024 / 1e6, 100 * busy


def grow_nodes() -> str:
    """Go from one node to seven; return the table."""
    out = (
        "| nodes | added (s) | joined, Ready (s) | its first task runs (s) | host memory (MB) | "
        "in the guest (MB) | idle (% of a core) |\n|---|---|---|---|---|---|---|\n"
    )
    labkit.up(3, quiet=True)
    for name in ("node3", "node2"):
        nodes.rm(name, quiet=True)
    first = labkit.connect().endpoints[0]
    with talk(first, 60) as api:
        api.init_swarm(advertise_addr=first.swarm_address)
        token = api.inspect_swarm()["JoinTokens"]["Worker"]
    create("partout", "--mode", "global", "--publish", f"{PORT}:80", timeout=PATIENCE)
    for count in range(1, MAX_NODES + 1):
        cells = ["", "", ""]
        if count > 1:
            added = clock(lambda: nodes.add(quiet=True))
            endpoint = labkit.connect().endpoints[-1]
            start = time.monotonic()
            join(endpoint, first, token)
            until("a node Ready", lambda n=count: ready() == n)
            joined = time.monotonic() - start
            task = until("a first task", lambda n=count: len(running("partout")) == n)
            cells = [f"{added:.1f}", f"{joined:.1f}", f"{task:.1f}"]
        host, guest, idle = at_rest()
        out += f"| {count} | {' | '.join(cells)} | {host:.0f} | {guest:.0f} | {idle:.0f} |\n"
        print(out.splitlines()[-1], file=sys.stderr, flush=True)
    return out


def ready() -> int:
    return sum(n.state == "ready" for n in capture(timeout=5).require().nodes)


def running(service: str) -> tuple[object, ...]:
    return capture(timeout=5).require().running(service)


def grow_tasks(most: int) -> str:
    """Scale one service on three nodes up to ``most`` tasks; return the table."""
    out = (
        "| tasks | running (s) | for one task (s) | every door answers (s) | one look (ms) | "
        "host memory (MB) | in the guest (MB) | idle (% of a core) |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    labkit.down()
    fleet = labkit.up(3, quiet=True)
    first, *others = fleet.endpoints
    with talk(first, 60) as api:
        api.init_swarm(advertise_addr=first.swarm_address)
        token = api.inspect_swarm()["JoinTokens"]["Worker"]
    for endpoint in others:
        join(endpoint, first, token)
    until("three nodes", lambda: ready() == len(fleet))
    before = 0
    for count in [s for s in STEPS if s < most] + [most]:
        start = time.monotonic()
        try:
            if before:
                Scale("whoami", count).apply(fleet, timeout=PATIENCE)
            else:
                options = ("--replicas", str(count), "--publish", f"{PORT}:80")
                create("whoami", *options, fleet=fleet, timeout=PATIENCE)
        except ConvergenceTimeout as error:
            out += f"| {count} | not within {PATIENCE:.0f} s: {error.message} | | | | | | |\n"
            break
        taken = time.monotonic() - start
        doors = [fleet.published(e.name, PORT) for e in fleet]
        until("every door", lambda: all(whoami(door, 3) for door in doors))  # noqa: B023
        answered = time.monotonic() - start
        look = 1000 * clock(lambda: capture(fleet))
        host, guest, idle = at_rest()
        out += (
            f"| {count} | {taken:.1f} | {taken / (count - before):.1f} | {answered:.1f} | "
            f"{look:.0f} | {host:.0f} | {guest:.0f} | {idle:.0f} |\n"
        )
        print(out.splitlines()[-1], file=sys.stderr, flush=True)
        before = count
    return out


def starts() -> str:
    """Time restored starts of one to seven nodes; return the table."""
    out = (
        "| nodes at the start | machine (MiB) | start (s) | host memory (MB) |\n|---|---|---|---|\n"
    )
    for count in range(1, MAX_NODES + 1):
        labkit.down()
        with Report(quiet=True) as report:
            cluster.build(Settings.read(nodes=count), report)
        taken = clock(lambda n=count: labkit.up(n, quiet=True))
        memory = Settings.read(nodes=count).guest_memory
        out += f"| {count} | {memory} | {taken:.1f} | {at_rest()[0]:.0f} |\n"
        print(out.splitlines()[-1], file=sys.stderr, flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most-tasks", type=int, default=STEPS[-1])
    parser.add_argument("--starts", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster goes down
    os.environ["LABKIT_CLUSTER"] = "echelle"
    os.environ.setdefault("LABKIT_ACCEL", "tcg")
    before = os.getloadavg()[0]
    parts = []
    try:
        if options.starts:
            os.environ.pop("LABKIT_MEMORY", None)
            parts.append(starts())
        os.environ.setdefault("LABKIT_MEMORY", "2560")
        labkit.down()
        parts += [grow_nodes(), grow_tasks(options.most_tasks)]
    finally:
        labkit.down()
    cores = len(os.sched_getaffinity(0))
    made = (
        f"One run on {cores} cores, {os.environ['LABKIT_ACCEL']}, a machine of "
        f"{os.environ['LABKIT_MEMORY']} MiB; load average {before:.1f} before, "
        f"{os.getloadavg()[0]:.1f} at the end.\n\n" + "\n".join(parts)
    )
    print(made)
    if options.write:
        write(PAGE, MARK, made)


if __name__ == "__main__":
    main()
