"""Files in places that others may write to: no trap is opened, no name can be taken before."""

import contextlib
import errno
import hashlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def account(uid: int) -> str:
    """Return the name of an account; its number where it has no entry."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_of(path: Path) -> str:
    """Return the text of a file; "" where there is none that this user may read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


@contextmanager
def _regular(path: Path, flags: int, *, own: bool = True) -> Iterator[int]:
    """Open a regular file, one's own unless said otherwise; wait for nothing, follow no link."""
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "ce n’est pas un fichier ordinaire")
        if own and status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"le fichier est à « {account(status.st_uid)} »")
        yield handle
    finally:
        os.close(handle)


def read_file(path: Path, most: int, *, own: bool = True) -> tuple[str, int]:
    """Return the beginning of a file as text, and its owner's number.

    At most ``most`` bytes of a regular file are read; if ``own``, nothing of somebody else. Raises
    ``OSError`` also where there is something else under that name.
    """
    with (
        _regular(path, os.O_RDONLY, own=own) as handle,
        os.fdopen(handle, "rb", closefd=False) as file,
    ):
        return file.read(most).decode("utf-8", "replace"), os.fstat(handle).st_uid


def append_line(path: Path, line: str) -> None:
    """Add a line to a file of one's own; what is cut short at its end, stays on a line apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as handle:
        size = os.fstat(handle).st_size
        whole = not size or os.pread(handle, 1, size - 1) == b"\n"
        os.write(handle, f"{'' if whole else chr(10)}{line}\n".encode(errors="replace"))


@contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Give a new file beside ``path``, of a name nobody can guess, that replaces it at the end."""
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            yield file
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def guarded(folder: Path) -> bool:
    """Whether nobody but the folder's owner can take away what others put there."""
    place = folder.resolve(strict=True)
    mode, *around = (directory.stat().st_mode for directory in (place, *place.parents))
    alone = not mode & (stat.S_IWGRP | stat.S_IWOTH) or bool(mode & stat.S_ISVTX)
    return alone and all(not m & stat.S_IWOTH or m & stat.S_ISVTX for m in around)
