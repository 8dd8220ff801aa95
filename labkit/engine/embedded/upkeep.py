"""Keep a running machine's clock right and its logs small."""

import logging
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from labkit.engine.embedded.driver import instance
from labkit.errors import LabkitError
from labkit.polling import until

log = logging.getLogger("labkit.upkeep")
LOOK = 5.0  # seconds between looks
PATIENCE = 10.0  # seconds for the machine's answer
LATE = 2.0  # seconds by which the machine's clock may be wrong
LONGEST, KEPT = 1_000_000, 100_000  # bytes of a log before it is cut, and after


def watch(run: Path) -> None:
    """Look after the machine of a run directory, in a thread, while it lives."""
    logs = (*instance(run).logs, "keeper.log")  # all are appended to

    def look() -> None:
        with suppress(LabkitError, OSError):
            mend_clock(run)
        for name in logs:
            with suppress(OSError):
                shorten(run / name)

    gone = partial(until, look, lambda _: not run.exists(), every=LOOK)
    for work in (gone, instance(run).watch):
        threading.Thread(target=work, daemon=True).start()


def lateness(run: Path, timeout: float = 60) -> float:
    """Return by how many seconds, at least, the machine's clock is late; negative if it is early.

    The answer may take its time on a busy host: what that could explain is no error of the clock.
    """
    before = time.time()
    there = instance(run).clock(timeout)
    return max(before - there, 0.0) or min(time.time() - there, 0.0)


def mend_clock(run: Path) -> None:
    """Set the machine's clock where it is wrong.

    It stands still while the machine does: this host slept, or somebody stopped it. Raises
    ``MachineFailed`` when the machine does not answer.
    """
    machine = instance(run)
    if machine.state() != "running":
        return
    late = lateness(run, PATIENCE)  # nobody else speaks to the agent meanwhile
    if abs(late) > LATE:  # by so much, however long the command waits for its turn
        moved = f"date -s @$(($(date +%s) + {late:.0f})) >/dev/null"
        machine.shell(moved)
        log.info("the machine's clock was %.0f s late", late)


def shorten(path: Path) -> None:
    """Keep only the end of a log that has grown long, while another process appends to it."""
    if path.stat().st_size <= LONGEST:
        return
    with path.open("r+b") as file:
        file.seek(-KEPT, 2)
        end = file.read().partition(b"\n")[2]
        file.truncate(0)
    with path.open("ab") as file:
        file.write(end)


def written(run: Path, pid: int) -> int:
    """Return how many bytes a machine has on this host's disk.

    Its written disk has no name in any directory: its process alone has it open.
    """
    place = f"{(run / 'tmp').resolve()}/"
    files = [p for p in run.rglob("*") if p.is_file()]
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if str(file.readlink()).startswith(place):
                files.append(file)
    found = {(s.st_dev, s.st_ino): 512 * s.st_blocks for s in (p.stat() for p in files)}
    return sum(found.values())
