"""Read the limits of this process's control groups, and what is left below them."""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from labkit.files import text_of

MIB = 1 << 20
_UNLIMITED = 1 << 60  # version 1 writes a number that no machine has


@dataclass(frozen=True, slots=True)
class Limits:
    """Memory and processors that the control groups of this process allow, up to the root."""

    memory: int | None  # bytes that all its programs may take together; None where no group says
    # bytes still to be had: of the tightest group, and of the whole machine. What files left in
    # memory counts as free, since the kernel takes it back.
    free: int
    cpus: float | None = None  # processors' worth of time; None where no group says
    kills: int = 0  # how often the kernel ended a program of these groups for want of memory

    def __str__(self) -> str:
        memory = f"{gibibytes(self.memory)} de mémoire" if self.memory is not None else ""
        cpus = ""
        if self.cpus is not None:
            number = f"{self.cpus:.2g}".replace(".", ",")
            cpus = f"{number} processeur{'s' if self.cpus >= 2 else ''}"
        return " et ".join(part for part in (memory, cpus) if part)


def gibibytes(size: float) -> str:
    """Return a size in bytes as French text, such as ``1,5 Gio``; rounded down."""
    return f"{math.floor(size / (1 << 30) * 10) / 10:.1f} Gio".replace(".", ",")


def limits(root: Path = Path("/")) -> Limits:
    """Read the limits of this process, of control groups version 2 and 1, below a directory."""
    whole = psutil.virtual_memory()
    memory, free, kills = None, whole.available, 0
    for group in _groups(root, "memory"):
        limit = _number(group / "memory.max", group / "memory.limit_in_bytes")
        kills = max(kills, _kills(group))
        if limit is None or limit >= min(whole.total, _UNLIMITED):
            continue
        used = _number(group / "memory.current", group / "memory.usage_in_bytes") or 0
        memory = limit if memory is None else min(memory, limit)
        free = min(free, max(0, limit - used + _files(group)))
    cpus = None
    for group in _groups(root, "cpu"):
        share = _cpus(group)
        if share is not None and share < (os.cpu_count() or 1):
            cpus = share if cpus is None else min(cpus, share)
    return Limits(memory, free, cpus, kills)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the directories of this process's groups that have a controller, innermost first."""
    paths = dict[str, str]()  # controller, or "" for version 2 -> path of the group
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        paths |= dict.fromkeys(names.split(","), path)
    for line in text_of(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        (kind, _, options), (top, at) = after.split(" ")[:3], before.split(" ")[3:5]
        named = "" if kind == "cgroup2" else controller
        if not kind.startswith("cgroup") or (named and named not in options.split(",")):
            continue
        if named not in paths:
            continue
        path = paths[named]
        # a container may see a path of the machine's, and only its own part mounted
        within = path.removeprefix(top) if path.startswith(top) else "/"
        mount = root / at.lstrip("/")
        group = mount / within.strip("/")
        if not group.is_relative_to(mount) or ".." in group.parts:
            group = mount
        yield group
        yield from (p for p in group.parents if p.is_relative_to(mount))


def _number(*paths: Path) -> int | None:
    """Return the number in the first file that there is; None for ``max``, or without a file."""
    text = next((t for t in map(text_of, paths) if t), "").strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _files(group: Path) -> int:
    """Return the bytes of a group that hold files, which the kernel takes back when it has to."""
    stat = text_of(group / "memory.stat")
    found: dict[str, int] = {}
    for name, size in re.findall(r"^(?:total_)?((?:in)?active_file) (\d+)$", stat, re.MULTILINE):
        found[name] = int(size)  # version 1 gives the group's own first, then the total
    return sum(found.values())


def _kills(group: Path) -> int:
    for name in ("memory.events", "memory.oom_control"):
        if found := re.search(r"^oom_kill (\d+)$", text_of(group / name), re.MULTILINE):
            return int(found[1])
    return 0


def _cpus(group: Path) -> float | None:
    quota, _, period = text_of(group / "cpu.max").strip().partition(" ")
    if not quota:
        quota = text_of(group / "cpu.cfs_quota_us").strip()
        period = text_of(group / "cpu.cfs_period_us").strip()
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None  # "max", or -1
    return int(quota) / int(period)
