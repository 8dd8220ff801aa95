"""The machine that an administrator built once for everybody: looked for first, never written.

``labkit build --shared`` makes it. Where the shared directory lacks something, the user's own
cache is used and filled. A damaged shared cache is an error: otherwise each of thirty students
would rebuild it.
"""

import contextlib
import os
from pathlib import Path

from labkit.engine.embedded.build.guest import Guest, guest_of
from labkit.engine.embedded.build.sealed import sealed_files, verify
from labkit.engine.embedded.ownership import trusted, trusted_tree
from labkit.engine.embedded.settings import SHARED, Settings
from labkit.errors import MachineFailed


def find_directory(settings: Settings, name: str) -> Path:
    """Return where a sealed directory is, or is to be made: shared where whole, or one's own.

    Raises ``MachineFailed`` when the shared one is damaged and the user has none, ``SettingError``
    when others than root and this user could change it: programs are run from there.
    """
    own = settings.cache / name
    if settings.shared is not None:
        theirs = settings.shared / name
        if os.path.exists(theirs):  # noqa: PTH110 (False, too, where one may not look)
            _trust(
                theirs, "Le cache partagé", f"En attendant, pour construire le vôtre : {SHARED}="
            )
            if verify(theirs):
                return theirs
            if not verify(own):
                raise damaged_error(settings)
    _trust(own, "Le cache", "Ou choisissez un autre répertoire avec LABKIT_CACHE.")
    return own


def find_guest(settings: Settings) -> Guest:
    """Return the guest of these settings, built or not, as :func:`find_directory` finds it."""
    own = guest_of(settings)
    return Guest(find_directory(settings, own.directory.name), own.key)


def is_shared(settings: Settings, directory: Path) -> bool:
    """Tell whether a directory is in the shared cache."""
    return directory.parent == settings.shared


def damaged_error(settings: Settings) -> MachineFailed:
    """Say that the shared cache is damaged, and who can mend it."""
    return MachineFailed(
        f"Le cache partagé {settings.shared} est abîmé ou incomplet.",
        remedy="Demandez à la personne qui administre cette machine de relancer « labkit build "
        f"--shared ». Pour construire le vôtre en attendant : {SHARED}= labkit build, puis "
        f"{SHARED}= devant vos commandes.",
    )


def _trust(directory: Path, what: str, remedy: str) -> None:
    cache = directory.parent
    trusted(cache, what, remedy)
    with contextlib.suppress(OSError):  # it is not there yet, or one may not look
        for entry in cache.iterdir():
            trusted(entry, what, remedy)
    trusted_tree(directory, sealed_files(directory), what, remedy)
