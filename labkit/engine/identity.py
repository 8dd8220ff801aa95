"""Who a process is, whatever the clock does and whoever has its number afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

__all__ = ["boot", "find", "stamp"]


def boot() -> str:
    """Return what names the present run of this machine's kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def stamp(pid: int | None = None) -> str:
    """Name a process for good: its id, the boot, and its start in ticks since then.

    Parameters
    ----------
    pid
        Its id; None for this process.

    Raises
    ------
    OSError
        When it does not live.
    """
    pid = os.getpid() if pid is None else pid
    line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    state, *more = line[line.rindex(")") + 1 :].split()  # a program's name may hold anything
    if state in "ZX":
        raise ProcessLookupError(pid)
    return f"{pid} {boot()} {more[18]}"


def find(text: str) -> psutil.Process | None:
    """Return the process that a stamp names; None once it has ended.

    Raises
    ------
    ValueError
        When the text is no stamp.
    """
    pid, of_boot, ticks = text.split()
    number, _ = int(pid), int(ticks)
    try:
        return psutil.Process(number) if stamp(number) == f"{pid} {of_boot} {ticks}" else None
    except (OSError, psutil.Error):
        return None
