"""The locks under which one process at a time builds, starts or stops."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from labkit.engine.embedded.ownership import no_link
from labkit.engine.progress import Report
from labkit.errors import SettingError


def lock_of(run: Path) -> Path:
    """Return the lock of the cluster of a run directory."""
    return run.with_name(f"{run.name}.lock")


@contextlib.contextmanager
def lock(path: Path, report: Report | None = None) -> Iterator[None]:
    """Let one process at a time build, start or stop; say so to one that has to wait."""
    while True:
        try:
            file = open(path, "w", opener=no_link)  # noqa: SIM115
        except OSError as error:
            raise SettingError(
                f"Impossible d’ouvrir {path} : {error.strerror}.",
                remedy="Vérifiez ses droits, et supprimez-le si c’est un lien.",
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if report:
                    report.step("Un autre labkit y travaille déjà : attente")
                fcntl.flock(file, fcntl.LOCK_EX)
            # whoever held it may have removed it: then it locks nothing any more
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield
                return
