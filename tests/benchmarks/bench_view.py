"""How long the cluster view takes for a state of 50 nodes and 1,000 tasks. ::

    python tests/benchmarks/bench_view.py [--nodes 50] [--tasks 1000] [--rounds 20] [--profile]

The state is a recorded one, multiplied (tests/unit/large.py). Timed are the steps of one look
from the engine's answers, already parsed, to what goes to the browser: the state, the picture,
its SVG, and the whole widget's refresh with the messages that it sends. Needs no cluster.
Prints a table in Markdown: medians and worst of the rounds, in milliseconds.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from large import large

from labkit.engine.endpoint import Endpoint, Fleet
from labkit.state import from_raw
from labkit.views import ClusterView, cluster_picture

NOBODY = Fleet("host", (Endpoint("node1", "tcp://127.0.0.1:9", "127.0.0.1"),))


def clock(work: Callable[[], object], rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()

    raws = [large(options.nodes, options.tasks, m) for m in ("scaling_up", "scaling_down")]
    states = [from_raw(raw) for raw in raws]
    view = ClusterView(NOBODY)  # nobody answers: what it shows is given to it below
    sent: list[int] = []
    view._html.observe(lambda change: sent.append(len(change["new"])), names="value")
    turn = 0

    def refresh() -> None:  # two states in turn: an equal one would send nothing
        nonlocal turn
        turn += 1
        view.show(from_raw(raws[turn % 2]))

    picture = cluster_picture(states[0])
    rows = {
        "state from the answers": lambda: from_raw(raws[0]),
        "picture from the state": lambda: cluster_picture(states[0]),
        "SVG from the picture": picture.svg,
        "**all, in the widget, until sent**": refresh,
    }
    if options.profile:
        with cProfile.Profile() as profile:
            clock(refresh, options.rounds)
        pstats.Stats(profile).sort_stats("cumulative").print_stats(30)
    print(f"\n{options.nodes} nodes, {options.tasks} tasks; load {os.getloadavg()[0]:.1f}\n")
    print("| ms | median | worst |\n|---|---|---|")
    for name, work in rows.items():
        taken = clock(work, options.rounds)
        print(f"| {name} | {statistics.median(taken):.0f} | {max(taken):.0f} |")
    print(f"| size sent (kB) | {max(sent) / 1000:.0f} | |")


if __name__ == "__main__":
    main()
