"""End unused clusters: with the student's JupyterHub server, or after minutes without use.

In use means: a cell of a notebook that has the cluster runs or ran, a ``labkit`` command was
given, or a service was created, changed or removed. A look at the engines (``docker ps``, a live
view left open) is no use: it would never end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import psutil

from labkit.engine.embedded import identity
from labkit.engine.embedded.ownership import no_link, ours
from labkit.files import text_of

PREFIX = "JUPYTERHUB_SERVICE_PREFIX"
_watched: set[Path] = set()


def tie_to_server(run: Path) -> None:
    """Record the JupyterHub server process whose end stops this cluster, if there is one."""
    server = _server()
    if server is not None:
        with contextlib.suppress(OSError):  # it is ending, and what it started with it
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
        with contextlib.suppress(psutil.Error):  # the Hub's own process is not ours to read
            for process in psutil.Process().parents():
                if process.environ().get(PREFIX) != prefix:
                    break
                found = process
    return found


def mark_used(run: Path) -> None:
    """Note that a cluster is used now; nothing where it does not run."""
    if not ours(run):
        return
    with contextlib.suppress(OSError), open(run / "used", "w", opener=no_link) as file:
        file.write(f"{time.monotonic()}")


def idle_seconds(run: Path) -> float:
    """Return for how long a cluster has not been used, in seconds; no clock that is set counts."""
    for file in run.glob("busy-*"):
        with contextlib.suppress(OSError, ValueError):
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
        with contextlib.suppress(OSError):
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
