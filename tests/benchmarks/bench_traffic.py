"""Requests a second of labkit.traffic beside wrk and ab, on the same target in the same run. ::

    python tests/benchmarks/bench_traffic.py [PORT]

Two targets: whoami compiled here, on the loopback (the client's own limit), and PORT (9999) of
one node of the running cluster, if a service publishes it. The tools take turns, three rounds
each; the best is kept. Tools that are not installed are left out (Debian: wrk, apache2-utils).
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from labkit.engine import connect
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import LabkitError
from labkit.state import ClusterState, capture, from_raw
from labkit.traffic import send

ROOT = Path(__file__).parents[2]
CLIENTS = 8
ROUNDS = 3
SECONDS = 3  # of each round of wrk


def by_labkit(fleet: Fleet, state: ClusterState, port: int, node: str, requests: int, keep: bool):
    """Return answers a second, failures and the share of one core that the client took."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    sample = send(
        port,
        requests=requests,
        concurrency=CLIENTS,
        nodes=node,
        keep_alive=keep,
        fleet=fleet,
        state=state,
    )
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    slow = int((sample.frame["latency_ms"] > 900).sum())
    return sample.rate, sample.failures, slow, cpu / sample.elapsed_s


def by_wrk(url: str, keep: bool) -> float:
    header = [] if keep else ["-H", "Connection: close"]
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}", *header, url]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec:\s*([\d.]+)", said)
    return float(found[1]) if found else 0.0


def by_ab(url: str, keep: bool, requests: int) -> float:
    command = ["ab", "-q", "-l", f"-n{requests}", f"-c{CLIENTS}", *["-k"] * keep, url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    found = re.search(r"Requests per second:\s*([\d.]+)", said)
    return float(found[1]) if found else 0.0


def measure(title: str, fleet: Fleet, state: ClusterState, port: int, requests: int) -> None:
    node = fleet.endpoints[0].name
    host, at = fleet.published(node, port)
    url = f"http://{host}:{at}/api"
    print(f"\n{title}: {CLIENTS} clients, load average {os.getloadavg()[0]:.1f}")
    for keep in (False, True):
        tools: dict[str, Callable[[], float]] = {}
        if shutil.which("wrk"):
            tools["wrk"] = lambda keep=keep: by_wrk(url, keep)
        if shutil.which("ab"):
            tools["ab"] = lambda keep=keep: by_ab(url, keep, requests)
        best = dict.fromkeys(["labkit", *tools], 0.0)
        notes = ""
        for _ in range(ROUNDS):
            rate, failed, slow, cpu = by_labkit(fleet, state, port, node, requests, keep)
            if rate > best["labkit"]:
                best["labkit"] = rate
                notes = f"{failed} failed, {slow} over 0.9 s, {cpu:.0%} of a core"
            for name, tool in tools.items():
                best[name] = max(best[name], tool())
        print(f"  {'kept connections' if keep else 'new connections '}", end="")
        for name, rate in best.items():
            print(f"  {name} {rate:7.0f}/s", end="")
            if name != "labkit" and rate:
                print(f" (ratio {best['labkit'] / rate:.2f})", end="")
        print(f"  [labkit: {notes}]")


def native() -> None:
    cc = shutil.which("cc")
    if cc is None:
        print("no C compiler: the native target is left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "whoami"
        source = ROOT / "labkit/engine/embedded/images/whoami.c"
        subprocess.run([cc, "-O2", "-o", binary, source], check=True)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = int(s.getsockname()[1])
        server = subprocess.Popen([binary, "-port", str(port)], stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.3)
            # a state recorded from a real cluster stands for the one that is not needed here
            recorded = ROOT / "tests" / "unit" / "recorded" / "three_nodes_whoami_5.json"
            state = from_raw(json.loads(recorded.read_text()))
            fleet = Fleet(
                "host",
                (Endpoint("node1", "tcp://127.0.0.1:9", "127.0.0.1"),),
                remapped={("node1", 9999): port},
            )
            measure("whoami on the loopback", fleet, state, 9999, 20_000)  # about a second
        finally:
            server.kill()
            server.wait()


def cluster(port: int) -> None:
    try:
        fleet = connect()
        state = capture(fleet).require()
        send(port, requests=10, fleet=fleet, state=state)
    except LabkitError as error:
        print(f"\nno cluster: {error.message}")
        return
    measure(f"port {port} of {fleet.endpoints[0].name}, through the mesh", fleet, state, port, 1000)


if __name__ == "__main__":
    native()
    cluster(int(sys.argv[1]) if len(sys.argv) > 1 else 9999)
