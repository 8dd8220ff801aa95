"""Keep a machine on one processor: its kernel and what runs in it wake one another all the time.

On one processor that costs half. Which one is chosen by load, and changed when others need it.
"""

import contextlib
import os
import random
import time
from collections.abc import Mapping

import psutil

LOOK = 0.1  # seconds over which a first look is taken
EVERY = 5.0  # seconds between later ones
ALIKE = 0.15  # of a processor: loads that differ by less are the same
CROWDED = 0.35  # of a processor, taken by others, from which a move is worth it


def freest(load: Mapping[int, float]) -> int:
    """Return one of the processors with the least load, by lot: neighbours choose, too."""
    least = min(load.values())
    return random.choice([core for core, taken in load.items() if taken <= least + ALIKE])


def choose() -> int:
    """Return the processor on which a machine best starts."""
    taken = psutil.cpu_percent(LOOK, percpu=True)
    return freest({core: _share(taken, core) for core in os.sched_getaffinity(0)})


def better(load: Mapping[int, float], core: int, ours: float) -> int | None:
    """Return the processor that a machine should move to; None where it is well placed.

    ``load`` is how much of each processor that may be used was taken, 0 to 1; ``core`` is where the
    machine is, ``ours`` how much of that it took itself.
    """
    elsewhere = {other: taken for other, taken in load.items() if other != core}
    others = load.get(core, 1.0) - ours
    if not elsewhere or others < CROWDED or min(elsewhere.values()) + ALIKE > others:
        return None
    return freest(elsewhere)


def _share(taken: list[float], core: int) -> float:
    """Return the load of a processor, 0 to 1; a container may not be shown all of them."""
    return taken[core] / 100 if core < len(taken) else 0.0


class Pin:
    """Moves a machine that is crowded from one look to the next to a freer processor."""

    def __init__(self) -> None:
        self._next = self._spent = 0.0

    def look(self, process: psutil.Process) -> None:
        """Move a machine to another processor where others crowd it, and one is freer."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        taken = psutil.cpu_percent(percpu=True)  # since the last look
        load = {core: _share(taken, core) for core in os.sched_getaffinity(0)}
        cores = process.cpu_affinity() or []
        if len(cores) != 1 or better(load, cores[0], 0) is None:  # even if all was others'
            self._spent = 0.0
            return
        family = [process, *process.children(recursive=True)]
        before, self._spent = self._spent, _spent(family)
        to = better(load, cores[0], (self._spent - before) / EVERY) if before else None
        if to is None:
            return
        for thread in [t for member in family for t in member.threads()]:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread.id, {to})


def _spent(family: list[psutil.Process]) -> float:
    """Return the processor time of processes, in seconds."""
    spent = 0.0
    for member in family:
        with contextlib.suppress(psutil.Error):
            spent += sum(member.cpu_times()[:2])
    return spent
