"""Refuse paths that other accounts could change, there or through a directory above."""

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from labkit.errors import SettingError
from labkit.files import account

LINKS = 40  # that Linux follows on the way to one file


def trusted(path: Path, what: str, remedy: str) -> None:
    """Check that nobody but root and this user could change what lies at a path, there or not.

    Raises ``SettingError`` when somebody could: it says ``what`` it is, in French, such as ``Le
    cache``, and a ``remedy`` after the command that mends it.
    """
    try:
        last = path.stat()
    except OSError:
        last = None
    for step, info in _way(path):
        whole = last is not None and os.path.samestat(info, last)
        _check(step, info, f"{what} {path}", remedy, whole=whole)


def trusted_tree(directory: Path, names: Iterable[str], what: str, remedy: str) -> None:
    """Check the same of files below a directory, and of the directories in between."""
    below = set[str]()
    for name in names:
        while name and name not in below:  # texts: as paths, hundreds of them take their time
            below.add(name)
            name = name.rpartition("/")[0]
    for name in ["", *below]:
        path = f"{directory}/{name}".rstrip("/")
        with contextlib.suppress(OSError):
            _check(path, os.lstat(path), f"{what} {directory}", remedy, whole=True)


def ours(directory: Path) -> bool:
    """Tell whether a directory is there, and nobody but root and this user could change it."""
    try:
        trusted(directory, "", "")
    except SettingError:
        return False
    return directory.is_dir()


def no_link(path: str, flags: int) -> int:
    """Open a file of this user alone, and never through a link: an ``opener`` for :func:`open`."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what the kernel passes on its way to a path, as far as that is there."""
    at, links = Path("/"), 0
    rest = list(reversed(path.absolute().parts[1:]))
    yield at, at.lstat()
    while rest:
        name = rest.pop()
        step = at.parent if name == ".." else at / name
        try:
            info = step.lstat()
        except OSError:
            return
        yield step, info
        if not stat.S_ISLNK(info.st_mode):
            at = step
            continue
        links += 1
        if links > LINKS:
            return
        target = step.readlink()
        if target.is_absolute():
            at = Path("/")
        rest += reversed([part for part in target.parts if part != "/"])


def _check(path: Path | str, info: os.stat_result, what: str, remedy: str, *, whole: bool) -> None:
    """Raise when somebody else may change this.

    If ``whole``, it is not enough that what lies in it belongs to somebody, as in ``/tmp``.
    """
    stranger, mode = info.st_uid not in _own(), info.st_mode
    if stranger:
        why = f"{path} appartient à {account(info.st_uid)}"
    elif stat.S_ISLNK(mode) or (mode & stat.S_ISVTX and not whole):
        return
    elif mode & stat.S_IWOTH or (mode & stat.S_IWGRP and _others(info.st_gid)):
        why = f"d’autres comptes peuvent écrire dans {path}"
    else:
        return
    owner = f"chown {account(os.geteuid())} {path} ; " if stranger else ""
    raise SettingError(
        f"{what} n’est pas utilisé : {why}.",
        remedy=f"Que la personne qui l’administre lance : {owner}chmod go-w {path}. {remedy}",
    )


@cache
def _own() -> set[int]:
    """Return the accounts that may: this one, root, and what root is called in a namespace."""
    own = {0, os.geteuid()}
    if len(Path("/proc/self/uid_map").read_text().split()) == 3:
        first, _, count = map(int, Path("/proc/self/uid_map").read_text().split())
        if (first, count) == (0, 0xFFFFFFFF):
            return own
    return own | {int(Path("/proc/sys/kernel/overflowuid").read_text())}


def _others(group: int) -> bool:
    """Tell whether a group has members beside this user and root, as far as can be told."""
    allowed = {account(uid) for uid in _own()}
    try:
        members = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        members = set()
    members |= {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == group}
    return bool(members - allowed)
