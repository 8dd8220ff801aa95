"""Identify processes for good, and their host: clocks jump, and process ids are used again.

A home may be that of several hosts, or of containers that follow one another.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil


def boot() -> str:
    """Return what names the present run of this machine's kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def once_a_boot(memory: Path, what: str, ask: Callable[[], str]) -> str:
    """Return an answer that holds until this machine boots again, and is kept in a file."""
    this = f"{boot()} {what}".strip()
    with contextlib.suppress(OSError):
        known, _, answer = memory.read_text().strip().rpartition(" ")
        if known == this:
            return answer
    answer = ask()
    with contextlib.suppress(OSError):  # a cache may be shared read-only
        memory.write_text(f"{this} {answer}\n")
    return answer


def stamp(pid: int | None = None) -> str:
    """Name a process for good, or this one: its id, the boot, its start in ticks since then.

    Raises ``OSError`` when it does not live.
    """
    pid = os.getpid() if pid is None else pid
    line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    state, *more = line[line.rindex(")") + 1 :].split()  # a program's name may hold anything
    if state in "ZX":
        raise ProcessLookupError(pid)
    return f"{pid} {boot()} {more[18]}"


def find(text: str) -> psutil.Process | None:
    """Return the process that a stamp names; None once it has ended.

    Raises ``ValueError`` when the text is no stamp.
    """
    pid, of_boot, ticks = text.split()
    number, _ = int(pid), int(ticks)
    try:
        return psutil.Process(number) if stamp(number) == f"{pid} {of_boot} {ticks}" else None
    except (OSError, psutil.Error):
        return None


def _host() -> dict[str, str]:
    pids = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (it is no path)
    return {"name": os.uname().nodename, "boot": boot(), "pids": pids}


def note_host(run: Path) -> None:
    """Write into a run directory that its processes are on this host, in this container."""
    (run / "host").write_text(json.dumps(_host()))


@contextlib.contextmanager
def hold(run: Path) -> Iterator[int]:
    """Give a file to be inherited: what it locks is locked until the last that has it ends."""
    with (run / "held").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file.fileno()


def elsewhere(run: Path) -> str:
    """Return the host on which the processes of a run directory live, or may; "" for this one."""
    try:
        there = json.loads((run / "host").read_text())
        name, of_boot, pids = str(there["name"]), there["boot"], there["pids"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    here = _host()
    if (of_boot, pids) == (here["boot"], here["pids"]):
        return ""
    if of_boot != here["boot"] and name != here["name"]:
        return name
    # another container, or what was here before the last boot: over, unless the lock is held
    try:
        with (run / "held").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return name
    except OSError:
        pass
    return ""
