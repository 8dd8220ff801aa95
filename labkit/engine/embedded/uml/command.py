"""The kernel's command line, and what it may reach of this host."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from labkit.engine.embedded.driver import MACS, Plan
from labkit.engine.embedded.limits import MIB
from labkit.engine.embedded.uml import confined

SHARED_MEMORY = Path("/dev/shm")
ROOM = 64 * MIB  # that others keep of it


def arguments(
    kernel: Path, plan: Plan, disk: str, cards: Sequence[int], pipes: Sequence[int], mode: str
) -> list[str]:
    """Return the command line of a kernel.

    ``disk`` is the data disk in the kernel's words: a file, or a file for what is written and one
    that is only read. ``cards`` are open sockets, the other ends of the network's two ways;
    ``pipes`` those of the guest agent: what it reads, what it writes.
    """
    way_in, way_out = (
        f"vec{n}:transport=fd,fd={card},mac={mac}"
        for n, (card, mac) in enumerate(zip(cards, MACS, strict=True))
    )
    return [
        str(kernel), f"mem={plan.settings.guest_memory}M", "umid=machine",
        f"uml_dir={plan.run / 'uml'}/", mode_option(mode),
        f"ubd0r={plan.guest.directory / 'root.ext4'}", f"ubd1={disk}",
        "root=/dev/ubda", "ro", "rootfstype=ext4", "init=/usr/sbin/init",
        way_in, way_out, "con=null", "con0=null,fd:1", "ssl=null",
        f"ssl0=fd:{pipes[0]},fd:{pipes[1]}",
        "quiet", "loglevel=4", "panic=-1", "random.trust_cpu=on", "transparent_hugepage=never",
        f"lab.nodes={plan.settings.nodes}", "lab.disk=ubdb", "lab.in=vec0", "lab.out=vec1",
        "lab.agent=ttyS0",
    ]  # fmt: skip


def mode_option(mode: str) -> str:
    """Return the option that chooses ``ptrace`` or ``seccomp``."""
    return f"seccomp={'on' if mode == 'seccomp' else 'off'}"


def confinement(core: int, read: Sequence[Path], write: Sequence[Path]) -> list[str]:
    """Return what comes before a program's command line, so that it reaches no more than it needs.

    It runs on the processor ``core``, reads some files and directories, and writes in others.
    """
    seen = [*read, Path("/proc/cpuinfo"), Path("/dev/random")], [*write, Path("/dev/null")]
    places = (":".join(str(path.resolve()) for path in paths) for paths in seen)
    return [sys.executable, "-I", "-S", confined.__file__, str(core), *places]


@contextmanager
def memory_directory(needed: int, otherwise: Path) -> Iterator[Path]:
    """Give a directory for a machine's memory, a file of so many bytes: in memory if it has room.

    Else, it is the other directory, on a disk. The file has no name, and the directory goes when
    the file is made.
    """
    made: Path | None = None
    with suppress(OSError):
        executable = not os.statvfs(SHARED_MEMORY).f_flag & os.ST_NOEXEC
        if executable and shutil.disk_usage(SHARED_MEMORY).free >= needed + ROOM:
            made = Path(tempfile.mkdtemp(prefix="labkit-", dir=SHARED_MEMORY))
    try:
        yield made or otherwise
    finally:
        if made:
            made.rmdir()
