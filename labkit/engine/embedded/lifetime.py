"""Start the keeper's process, which ends its cluster with its JupyterHub server, or unused.

In use means: a cell of a notebook that has the cluster runs or ran, a ``labkit`` command was
given, or a service was created, changed or removed. A look at the engines (``docker ps``, a live
view left open) is no use: it would never end.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from labkit.engine.embedded import identity
from labkit.engine.embedded.driver import instance
from labkit.engine.embedded.lock import lock, lock_of
from labkit.engine.embedded.ownership import no_link, ours
from labkit.engine.embedded.processes import detach, note_process, process_of
from labkit.engine.embedded.settings import Settings
from labkit.engine.progress import Report
from labkit.files import text_of
from labkit.polling import until

PREFIX = "JUPYTERHUB_SERVICE_PREFIX"
KEEPER_SECONDS = 30.0
UNKEPT = "Les ports publiés ne sont pas suivis"
_watched: set[Path] = set()


def tie_to_server(run: Path) -> None:
    """Record the JupyterHub server process whose end stops this cluster, if there is one."""
    server = _server()
    if server is not None:
        with suppress(OSError):  # it is ending, and what it started with it
            (run / "server").write_text(identity.stamp(server.pid))


def server_gone(run: Path) -> bool:
    """Tell whether the server that a cluster ends with is gone."""
    try:
        return identity.find((run / "server").read_text()) is None
    except (OSError, ValueError):
        return False  # of no server


def _server() -> psutil.Process | None:
    """Return the oldest process above this one that is of the same JupyterHub server."""
    prefix = os.environ.get(PREFIX)
    found = None
    if prefix:
        with suppress(psutil.Error):  # the Hub's own process is not ours to read
            for process in psutil.Process().parents():
                if process.environ().get(PREFIX) != prefix:
                    break
                found = process
    return found


def mark_used(run: Path) -> None:
    """Note that a cluster is used now; nothing where it does not run."""
    if not ours(run):
        return
    with suppress(OSError), open(run / "used", "w", opener=no_link) as file:
        file.write(f"{time.monotonic()}")


def idle_seconds(run: Path) -> float:
    """Return for how long a cluster has not been used, in seconds; no clock that is set counts."""
    for file in run.glob("busy-*"):
        with suppress(OSError, ValueError):
            if identity.find(file.read_text()):
                return 0.0
    try:
        return time.monotonic() - float((run / "used").read_text())
    except (OSError, ValueError):
        mark_used(run)
        return 0.0


def track_cells(run: Path) -> None:
    """In a notebook: note from now on when its cells run, and say why a cluster has ended."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or run in _watched:
        return
    _watched.add(run)
    busy = run / f"busy-{os.getpid()}"

    def before(_: object) -> None:
        with suppress(OSError):
            busy.write_text(identity.stamp())
        if said := reason_left(run):
            print(said)

    def after(_: object) -> None:
        busy.unlink(missing_ok=True)
        mark_used(run)

    shell.events.register("pre_run_cell", before)
    shell.events.register("post_run_cell", after)


def leave_reason(run: Path, why: str) -> None:
    """Leave, in place of a cluster, the French sentence that says why it ended."""
    run.mkdir(mode=0o700)
    (run / "ended").write_text(why, encoding="utf-8")


def reason_left(run: Path) -> str:
    """Return why a cluster ended by itself, in French; "" when it did not."""
    return text_of(run / "ended")


def start_keeper(run: Path, report: Report) -> None:
    """Start the process that looks after the cluster, unless it lives; say if it ends at once."""
    tie_to_server(run)
    mark_used(run)
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
            leave_reason(run, why)
        else:
            file.unlink(missing_ok=True)
            Settings.read().unsettle()
        return True
