"""Take one's work away: the notebooks and the files beside them, in one archive to download."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from labkit.errors import FileError
from labkit.files import replacing

ARCHIVE = "mon-travail.zip"
_BIGGEST = 5_000_000  # bytes of a file that is taken along


@dataclass(frozen=True, slots=True)
class Saved:
    """An archive in the notebooks' folder; in a notebook it shows itself as a link."""

    path: Path  # from the folder of the notebook
    names: tuple[str, ...]  # of the files in it, from there

    def __repr__(self) -> str:
        return f"{self.path.name} est prêt, à côté de ce notebook : téléchargez-le."

    def _repr_html_(self) -> str:
        # with « download », JupyterLab lets the browser fetch the file instead of opening it
        name = escape(self.path.name, quote=True)
        return (
            f"<p><a href='{name}' download='{name}'><strong>Télécharger {name}</strong></a> : vos "
            "notebooks, tels qu’enregistrés, et les fichiers que vous avez modifiés.</p>"
        )


def sauvegarder(dossier: str | Path = ".") -> Saved:
    """Put the notebooks and the files beside them into an archive to download, made anew.

    Hidden files, links and files over 5 MB are left out. Raises ``FileError`` when it cannot be
    written.
    """
    folder = Path(dossier)
    archive = folder / ARCHIVE
    try:
        files = [p for p in sorted(folder.rglob("*")) if p != archive and _taken(p, folder)]
        with (
            replacing(archive) as new,
            ZipFile(new, "w", ZIP_DEFLATED, strict_timestamps=False) as out,
        ):
            for path in files:
                out.write(path, path.relative_to(folder))
    except OSError as error:
        why = f"impossible à écrire, {error.strerror}."
        remedy = "Dans le navigateur de fichiers, à gauche : clic droit sur chaque notebook, "
        remedy += "« Télécharger »."
        raise FileError(ARCHIVE, None, why, remedy=remedy) from error
    return Saved(archive, tuple(str(p.relative_to(folder)) for p in files))


def _taken(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    return not hidden and not path.is_symlink() and path.is_file() \
        and path.stat().st_size <= _BIGGEST  # fmt: skip
