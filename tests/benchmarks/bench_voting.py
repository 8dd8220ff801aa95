"""What the voting app's stack costs on the embedded cluster. ::

    python tests/benchmarks/bench_voting.py [--seconds N] [--threads N] [DRIVER…]

From `docker stack deploy` until its six services run and a first vote is counted; memory with the
whole stack on three nodes; votes a second, accepted and counted. Prints a table in Markdown, with a
column for each driver, named as in bench_cluster.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from actions import deploy, remove_stack
from bench_cluster import chosen, memory
from swarms import make_clean
from voters import FILE, STACK, Voters, message, remove_volumes, scores, told, until

import labkit
from labkit.engine.embedded import cluster
from labkit.engine.embedded.settings import Settings
from labkit.engine.progress import Report
from labkit.exercises.measures.access import qui_repond
from labkit.exercises.measures.ballots import cast

PORTS = (5000, 5001, 8080)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30, help="of voting")
    parser.add_argument("--threads", type=int, default=4, help="voters at the same time")
    parser.add_argument("drivers", nargs="*", default=["labkit"])
    options = parser.parse_args()
    os.environ.setdefault("LABKIT_CLUSTER", "bench")
    columns = {}
    for driver in options.drivers:
        settings = chosen(driver)
        columns[driver] = measured(settings, options)
        cluster.down(settings)
    print("| | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in next(iter(columns.values())):
        print(f"| {name} | " + " | ".join(rows[name] for rows in columns.values()) + " |")


def measured(settings: Settings, options: argparse.Namespace) -> dict[str, str]:
    cluster.build(settings, Report())
    labkit.up(quiet=True)
    labkit.reset(quiet=True)
    fleet = labkit.connect()
    make_clean(fleet)
    rows: dict[str, str] = {}

    start = time.monotonic()
    deploy(STACK, FILE, fleet)
    rows["stack deploy until six services run (s)"] = f"{time.monotonic() - start:.1f}"
    until("pages", lambda: all(qui_repond(p).nombre == len(fleet) for p in PORTS), 120)
    rows["… and all pages answer at each node (s)"] = f"{time.monotonic() - start:.1f}"
    until("a count", lambda: "Aucun vote" in message(fleet), 120)
    begin = time.monotonic()
    ballot = cast(fleet=fleet, limit=60)
    assert ballot.counted, ballot
    rows["one vote, until the page of results shows it (s)"] = f"{time.monotonic() - begin:.1f}"
    time.sleep(15)
    rows["memory on the host, stack at rest (MB)"] = f"{memory(settings.run):.0f}"

    before = scores(fleet)
    assert before
    voters = Voters(fleet, options.threads)
    begin = time.monotonic()
    voters.start()
    time.sleep(options.seconds)
    voters.end()
    rows["votes accepted a second"] = f"{voters.count / (time.monotonic() - begin):.1f}"
    wanted = before.a + before.b + voters.count
    until("all counted", lambda: sum(told(fleet) or ()) >= wanted, 300)
    rows["votes counted a second"] = f"{voters.count / (time.monotonic() - begin):.1f}"
    rows["memory after that (MB)"] = f"{memory(settings.run):.0f}"

    begin = time.monotonic()
    remove_stack(STACK, fleet)
    rows["stack rm until nothing is left (s)"] = f"{time.monotonic() - begin:.1f}"
    remove_volumes(fleet)
    return rows


if __name__ == "__main__":
    main()
