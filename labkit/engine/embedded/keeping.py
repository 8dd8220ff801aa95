"""The keeper's process: how it starts, and how it may end its cluster."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from labkit.engine.embedded import identity, lifetime
from labkit.engine.embedded.driver import instance
from labkit.engine.embedded.lock import lock, lock_of
from labkit.engine.embedded.processes import detach, note_process, process_of
from labkit.engine.embedded.settings import Settings
from labkit.engine.progress import Report
from labkit.polling import until

KEEPER_SECONDS = 30.0
UNKEPT = "Les ports publiés ne sont pas suivis"


def start_keeper(run: Path, report: Report) -> None:
    """Start the process that looks after the cluster, unless it lives; say if it ends at once."""
    lifetime.tie_to_server(run)
    lifetime.mark_used(run)
    if process_of(run, "keeper.pid"):
        return
    if machine := process_of(run):  # an older labkit wrote its id alone
        note_process(run, machine.pid)
    # neither what lies in the directory where a student works, nor where that is, is its business
    command = [sys.executable, "-P", "-m", "labkit.engine.embedded.keeper", str(run)]
    pid = detach(command, run / "keeper.log", {"PYTHONIOENCODING": "utf-8"})

    def begun() -> bool:
        try:
            identity.stamp(pid)
        except OSError:  # it ended
            return True
        return process_of(run, "keeper.pid") is not None

    until(begun, bool, KEEPER_SECONDS, 0.02)
    if not process_of(run, "keeper.pid"):
        said = (run / "keeper.log").read_text("utf-8", "replace").strip().splitlines()
        report.step(f"{UNKEPT} : leur gardien s’est arrêté ({said[-1] if said else 'sans un mot'})")


def end(run: Path, gone: Callable[[], bool], why: str) -> bool:
    """End a cluster unless it is in use again; tell whether it ended.

    ``gone`` tells whether nobody uses it, once no other labkit is at work on it. ``why`` is the
    French sentence to leave in its place; "" leaves nothing at all.
    """
    file = lock_of(run)
    with lock(file):
        if not gone():
            return False
        instance(run).stop()
        shutil.rmtree(run, ignore_errors=True)
        if why:
            lifetime.leave_reason(run, why)
        else:
            file.unlink(missing_ok=True)
            Settings.read().unsettle()
        return True
