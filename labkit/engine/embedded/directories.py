"""Check that directories can hold what labkit keeps there."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from labkit.engine.embedded.ownership import trusted
from labkit.errors import SettingError

LONGEST = "agent"  # name of a driver's socket
SOCKET_PATH = 107  # bytes that Linux takes


def of_user(path: Callable[[str], Path]) -> Path:
    """Return a directory of platformdirs' for labkit, of an account that has a home."""
    try:
        found = path("labkit")
    except RuntimeError:  # an older platformdirs says "~" instead
        found = Path("~")
    if not found.is_absolute():
        raise SettingError(
            "Ce compte n’a pas de répertoire personnel.",
            remedy="Donnez-lui-en un, où vous puissiez écrire : export HOME=/un/répertoire",
        )
    return found


def writable(path: Path, variable: str, *, mode: int = 0o700) -> None:
    """Make a directory with this mode, and see that a file can be made in it.

    Raises ``SettingError`` when not, or when others could change what lies there; it names the
    variable that chooses another directory.
    """
    what, remedy = "Le répertoire", f"Ou choisissez un autre répertoire avec {variable}."
    try:
        trusted(path, what, remedy)
        path.mkdir(parents=True, exist_ok=True, mode=mode)
        trusted(path, what, remedy)  # somebody may have been faster
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        file = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "ce n’est pas un répertoire" if file else error.strerror
        raise SettingError(
            f"Impossible d’écrire dans {path} : {reason}.",
            remedy=f"Vérifiez ses droits, ou choisissez un autre répertoire avec {variable}.",
        ) from error


def takes_sockets(run: Path) -> bool:
    """Tell whether the machine's sockets can be opened in a run directory, made or not."""
    if set(str(run)) & set(",\n") or len(os.fsencode(run / LONGEST)) > SOCKET_PATH:
        return False
    probe = run.with_name(f".{os.getpid()}")
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(probe))
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return True


def runnable(path: Path, variable: str) -> None:
    """Raise ``SettingError`` when a disk forbids to run programs from a directory, made or not."""
    there = next(p for p in (path, *path.parents) if os.path.exists(p))  # noqa: PTH110
    if os.statvfs(there).f_flag & os.ST_NOEXEC:
        raise SettingError(
            f"Aucun programme ne peut être lancé depuis {path} : son disque l’interdit (noexec).",
            remedy=f"Choisissez un répertoire d’un autre disque avec {variable}.",
        )
