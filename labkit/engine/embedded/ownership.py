"""Refuse paths that other accounts could change, there or through a directory above."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from labkit.errors import SettingError

LINKS = 40  # that Linux follows on the way to one file


def trusted(path: Path, what: str, remedy: str) -> None:
    """Check that nobody but root and this user could change what lies at a path, there or not.

    Parameters
    ----------
    what
        What it is, in French, such as ``Le cache``.
    remedy
        In French, beside the command that mends it.

    Raises
    ------
    SettingError
        When somebody could.
    """
    try:
        last = path.stat()
    except OSError:
        last = None
    for step, info in _way(path):
        why = _reason(step, info, whole=last is not None and os.path.samestat(info, last))
        if why:
            raise SettingError(
                f"{what} {path} n’est pas utilisé : {why}.",
                remedy=f"{_mend(step, info)}{remedy}",
            )


def trusted_tree(directory: Path, names: Iterable[str], what: str, remedy: str) -> None:
    """See the same of files below a directory, and of the directories in between.

    Raises
    ------
    SettingError
        When somebody else could change one.
    """
    below = set[str]()
    for name in names:
        while name and name not in below:  # texts: as paths, hundreds of them take their time
            below.add(name)
            name = name.rpartition("/")[0]
    for name in ["", *below]:
        path = f"{directory}/{name}".rstrip("/")
        try:
            info = os.lstat(path)
        except OSError:
            continue
        why = _reason(path, info, whole=True)
        if why:
            raise SettingError(
                f"{what} {directory} n’est pas utilisé : {why}.",
                remedy=f"{_mend(path, info)}{remedy}",
            )


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


def _reason(path: Path | str, info: os.stat_result, *, whole: bool) -> str:
    """Say in French who else may change this; "" when nobody may.

    Parameters
    ----------
    whole
        It is not enough that what lies in it belongs to somebody, as in ``/tmp``.
    """
    if info.st_uid not in _own():
        return f"{path} appartient à {_name(info.st_uid)}"
    mode = info.st_mode
    if stat.S_ISLNK(mode) or (mode & stat.S_ISVTX and not whole):
        return ""
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and _others(info.st_gid)):
        return f"d’autres comptes peuvent écrire dans {path}"
    return ""


def _mend(path: Path | str, info: os.stat_result) -> str:
    owner = "" if info.st_uid in _own() else f"chown {_name(os.geteuid())} {path} ; "
    return f"Que la personne qui l’administre lance : {owner}chmod go-w {path}. "


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
    allowed = {_name(uid) for uid in _own()}
    try:
        members = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        members = set()
    members |= {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == group}
    return bool(members - allowed)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
