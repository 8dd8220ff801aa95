"""Write directories whole or not at all, with a manifest to verify them before use."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labkit.errors import BuildError, DiskFull

SEAL = "seal.json"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
BLOCK = 1 << 20
ROOM = "Faites de la place, « labkit build --prune », ou placez le cache ailleurs avec LABKIT_CACHE"


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Give a directory beside ``target`` that is sealed and becomes it only if all goes well."""
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    old = work.with_name(f"{work.name}.old")
    try:
        yield work
        _write_seal(work)
        work.chmod(0o755)
        if target.exists():
            target.rename(old)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def verify(directory: Path, *, thorough: bool = False) -> bool:
    """Tell whether a sealed directory still holds its files, by their sizes or by all they hold."""
    try:
        seal = json.loads((directory / SEAL).read_text())
        for name, (size, digest) in seal.items():
            path = directory / name
            if path.stat().st_size != size or (thorough and _digest(path) != digest):
                return False
    except (OSError, ValueError, TypeError, AttributeError):
        return False
    return True


def sealed_files(directory: Path) -> list[str]:
    """Return the names of the files of a sealed directory; none where its seal cannot be read."""
    try:
        return [SEAL, *json.loads((directory / SEAL).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def fingerprint(directory: Path) -> str:
    """Return what names the very files of a sealed directory."""
    return hashlib.sha256((directory / SEAL).read_bytes()).hexdigest()


def invalidate(directory: Path) -> None:
    """Break the seal of a directory that turned out not to be usable."""
    with suppress(OSError):  # shared read-only: its owner has to
        (directory / SEAL).unlink()


def need_room(where: Path, needed: int, remedy: str = f"{ROOM}, puis relancez.") -> None:
    """Raise :class:`DiskFull` when a directory's disk has less than ``needed`` bytes free."""
    free = shutil.disk_usage(where).free
    if free < needed:
        raise DiskFull(
            f"Le disque de {where} est trop plein : {free / 1e6:.0f} Mo libres, "
            f"{needed / 1e6:.0f} Mo nécessaires.",
            remedy=remedy,
        )


def disk_error(
    where: Path, needed: int, error: OSError, *, room: str = ROOM, variable: str = "LABKIT_CACHE"
) -> BuildError:
    """Describe an :class:`OSError`: a full disk, with the room that is needed, or another.

    ``room`` is how to make room there, in French; ``variable`` is what chooses another directory.
    """
    if error.errno in FULL:
        free = shutil.disk_usage(where).free
        kept = " : ce qui est téléchargé est gardé" if room == ROOM else ""
        return DiskFull(
            f"Disque plein : plus de place dans {where} ({error.strerror} ; "
            f"{free / 1e6:.0f} Mo libres, {needed / 1e6:.0f} Mo nécessaires en tout).",
            remedy=f"{room}, puis relancez{kept}.",
        )
    return BuildError(
        f"Le système a refusé une opération sur {error.filename or where} : "
        f"{error.strerror or error}.",
        remedy=f"Vérifiez les droits de ce répertoire, ou choisissez-en un autre avec {variable}.",
    )


def _write_seal(directory: Path) -> None:
    files = (p for p in sorted(directory.rglob("*")) if p.is_file() and not p.is_symlink())
    seal = {str(p.relative_to(directory)): [p.stat().st_size, _digest(p)] for p in files}
    (directory / SEAL).write_text(json.dumps(seal, indent=0))


def _digest(path: Path) -> str:
    """Return a digest of a file's blocks that are not all zero: a sparse disk is read fast."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError:
                break  # only a hole is left
            block = os.pread(file.fileno(), BLOCK, at)
            if block.count(0) != len(block):
                digest.update(at.to_bytes(8, "big") + block)
            at += BLOCK
    return digest.hexdigest()
