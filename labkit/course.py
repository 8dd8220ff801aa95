"""The course's two editions: the corrected one is the source, the student's is made from it.

The corrected edition has been run: it holds every output and every solution, for instructors and
for the tests. The student's has the same cells, in the same order, with nothing to read before it
is earned: no output, :func:`labkit.exercises.solution` in the place of a solution's commands, and
only the request in a cell tagged ``a-taper``, whose command the student types.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from labkit.errors import SettingError
from labkit.files import replacing, text_of

# folder, in a student's edition, of what was written last: by it a change is told from ours
BASE = ".labkit"

_PACKAGE = Path(__file__).resolve().parent
_SOLUTION = re.compile(r"%%solution (\S+)\n")
_REQUEST = re.compile(r"^(?:%%(?:reponse|etape) .*|# .*)$", re.MULTILINE)
_CHECK = re.compile(r"verifier\(\"(\S+)\"\)")
_FORM = re.compile(r"^souffler\(\"(\S+)\"\)$", re.MULTILINE)
_FOLDED = re.compile(
    r"^(?:import |from |(?:predire|rappel|ClusterView|Scaler|Repartition|Rattrapage)\()"
    r"|(?:confronter|cocher_\w+|associer_\w+|preparer_\w+)\("
    # measures and figures, for what they show
    r"|(?:capture|comparer|cote_a_cote|dessiner|domaine|hub_repond|lire_pages|portes|qui_suis_je|routes"
    r"|sans_equivalent|serveurs|tableau|targets|without_equivalent)\(|PORTES\["
)
_READ = 2  # lines of Python that a student of Docker reads; more are folded
_OWN, _TYPED = "a-vous", "a-taper"  # tags of cells to fill in, and of those that ask for a command
_INTRODUCED = "-solution-mot"  # the end of the ids of the cells before solutions
_ANSWERS = "solution-"  # how the names of files begin that are solutions
# what students make in the notebooks' folder, and .gitignore has
_WORK = re.compile(
    r"ma-stack|mon-compose|mes-alertes|stack-a-debugger.*\.yml|kube-a-vous|mon-travail\.zip|mot-de-passe|.*\.htpasswd|drill-"
)
_NOT_COPIED = {"__pycache__", ".ipynb_checkpoints", BASE}
_ASK = "**Solution**\u00a0:"


def source() -> Path:
    """Return the corrected edition, the checkout's or the package's, or raise ``SettingError``."""
    for place in (_PACKAGE.parent / "notebooks", _PACKAGE / "notebooks"):
        if (place / "00-demarrer.ipynb").is_file():
            return place
    raise SettingError(
        "Les notebooks du cours sont introuvables.", remedy="Réinstallez labkit, notebooks compris."
    )


def corrected(name: str) -> Any:
    """Return the corrected edition of a notebook of the course, or None if it has none so named."""
    path = source() / Path(name).name
    if path.suffix != ".ipynb" or not path.is_file():
        return None
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def student(notebook: Any) -> Any:
    """Return a notebook's student's edition; pure."""
    from nbconvert.preprocessors import ClearOutputPreprocessor

    blank, _ = ClearOutputPreprocessor().preprocess(nbformat.from_dict(notebook), {})  # type: ignore[no-untyped-call]
    for cell in blank.cells:
        if cell.id.endswith(_INTRODUCED):
            cell.source = _ASK
        if cell.cell_type != "code":
            continue
        if asked := solved(cell):
            cell.source = "solution(" + ", ".join(json.dumps(name) for name in asked) + ")"
            cell.metadata.pop("jupyter", None)
            cell.metadata.tags = [t for t in cell.metadata.get("tags", []) if t != "hide-cell"]
        elif _TYPED in cell.metadata.get("tags", []):
            asked_for = "\n".join(_REQUEST.findall(cell.source))
            cell.source = asked_for.replace("%%etape ", "%%reponse ")
            cell.metadata.tags = [*cell.metadata.tags, _OWN]
        elif _OWN not in cell.metadata.get("tags", []) and _folded(cell.source):
            cell.metadata.setdefault("jupyter", {})["source_hidden"] = True
    return blank


def _folded(source: str) -> bool:
    """Tell whether students need not read a cell: it imports, asks, compares or computes; pure."""
    python = not source.startswith(("%%", "!"))
    long = len(source.splitlines()) > _READ
    return bool(_FOLDED.search(source)) or (python and long)


def solved(cell: Any) -> list[str]:
    """Return the names of the exercises and forms that a cell holds the solution of; pure."""
    if asked := _SOLUTION.match(cell.source):
        return [asked[1]]
    return _FORM.findall(cell.source) if "hide-cell" in cell.metadata.get("tags", []) else []


def provide(commands: str, folder: Path) -> None:
    """Copy the files of solutions that commands name from the course into a student's folder."""
    for name in re.findall(rf"[\w./-]*{_ANSWERS}[\w.-]+", commands):
        path, target = source() / name, folder / name
        if path.is_file() and path.resolve().is_relative_to(source()) and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


# -- writing a folder -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one file of the course."""

    name: str  # path below the folder
    # ``créé``, ``mis à jour``, ``inchangé``, or ``gardé`` for one that the student changed
    what: str
    kept: int = 0  # how many cells of a notebook were kept because the student had changed them

    def __str__(self) -> str:
        if self.kept:
            plural = "s" if self.kept > 1 else ""
            return (
                f"{self.name}\u00a0: {self.what}, sauf {self.kept} cellule{plural} que vous avez "
                f"modifiée{plural}"
            )
        own = "\u00a0: vous l’avez modifié" if self.what == "gardé" else ""
        return f"{self.name}\u00a0: {self.what}{own}"


def edition(folder: Path) -> str | None:
    """Return which edition a folder holds, ``étudiant`` or ``corrigé``; None for neither."""
    return text_of(folder / BASE / "edition").strip() or None


def write(folder: Path, *, answers: bool = False) -> tuple[Written, ...]:
    """Write an edition into a folder, or bring the one that is there up to date.

    What the student changed or added is never touched: a cell of a notebook, or a whole file.
    Raises ``SettingError`` when the folder cannot be written, is the course's own source, or holds
    the other edition. Returns what became of each file, in the order of their names.
    """
    folder = folder.absolute()
    course = source()
    if folder.resolve() == course.resolve():
        raise SettingError(
            f"« {folder} » est la source du cours.", remedy="Choisissez un autre dossier."
        )
    wanted = "corrigé" if answers else "étudiant"
    if (held := edition(folder) or wanted) != wanted:
        raise SettingError(
            f"« {folder} » contient déjà l’édition « {held} » du cours.",
            remedy="Choisissez un autre dossier.",
        )
    try:
        _replace(folder / BASE / "edition", f"{wanted}\n".encode())
        return tuple(_write(path, folder, answers) for path in _files(course, answers))
    except OSError as error:
        raise SettingError(
            f"Impossible d’écrire dans {folder}\u00a0: {error.strerror}.",
            remedy="Faites de la place, vérifiez ses droits, ou choisissez un autre dossier.",
        ) from error


def _files(course: Path, answers: bool) -> Iterator[Path]:
    for path in sorted(course.rglob("*")):
        name = path.relative_to(course)
        own = _WORK.match(name.name) or _NOT_COPIED & set(name.parts)
        solved = name.name.startswith(_ANSWERS) and not answers
        if path.is_file() and not path.is_symlink() and not own and not solved:
            yield name


def _write(name: Path, folder: Path, answers: bool) -> Written:
    target, base = folder / name, folder / BASE / name
    fresh = (source() / name).read_bytes()
    kept = 0
    if name.suffix == ".ipynb":
        new = nbformat.reads(fresh.decode(), as_version=4)  # type: ignore[no-untyped-call]
        new = new if answers else student(new)
        fresh = _text(new)
        theirs, before = _notebook(target), _notebook(base)
        if theirs is not None and before is not None:
            merged, kept = merge(before, new, theirs)
            return _put(name, target, _text(merged), base, fresh, kept)
    if target.exists() and not _same(target, base) and not _same(target, fresh):
        return Written(str(name), "gardé")
    return _put(name, target, fresh, base, fresh, 0)


def _put(name: Path, target: Path, text: bytes, base: Path, fresh: bytes, kept: int) -> Written:
    what = "mis à jour" if target.exists() else "créé"
    if _same(target, text):
        what = "inchangé"
    else:
        _replace(target, text)
    _replace(base, fresh)
    return Written(str(name), what, kept)


def _replace(path: Path, text: bytes) -> None:
    """Write a file in one step: a full disk leaves the one that was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    umask = os.umask(0)
    os.umask(umask)
    with replacing(path, 0o666 & ~umask) as file:
        file.write(text)


def _same(path: Path, other: Path | bytes) -> bool:
    try:
        content = other if isinstance(other, bytes) else other.read_bytes()
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def _notebook(path: Path) -> Any:
    """Return a notebook that is there and can be read, else None."""
    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, nbformat.ValidationError):
        return None


def _text(notebook: Any) -> bytes:
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return f"{text}\n".encode()


def merge(base: Any, new: Any, theirs: Any) -> tuple[Any, int]:
    """Bring a student's notebook up to date, cell by cell; pure.

    ``base`` was written last, ``new`` is to be written now, ``theirs`` is what the student has. A
    cell whose text the student changed, added or deleted stays so; any other is as in ``new``, and
    keeps its outputs where its text stayed the same. New cells follow those that they follow in
    ``new``. A check that ``new`` makes elsewhere stays where the student's cell does not make it.
    Returns the notebook, and how many changed cells were kept that ``new`` has otherwise.
    """
    was = {c.id: c for c in base.cells}
    coming = {c.id: c for c in new.cells}
    kept = 0
    cells: list[Any] = []
    for cell in theirs.cells:
        before, after = was.get(cell.id), coming.get(cell.id)
        if before is None and after is None:
            cells.append(cell)  # the student's own
        elif before is None or cell.source != before.source:
            cells.append(cell)
            kept += after is None or after.source not in (cell.source, before and before.source)
        elif after is not None:
            cells.append(cell if after.source == cell.source else after)
        elif (check := _CHECK.fullmatch(cell.source)) and not any(
            re.match(f"%%(?:reponse|etape) {check[1]}\n", c.source) for c in cells
        ):
            cells.append(cell)
    place: Callable[[str], int] = lambda wanted: next(  # noqa: E731
        (i for i, c in enumerate(cells) if c.id == wanted), -1
    )
    for number, cell in enumerate(new.cells):
        if cell.id in was or place(cell.id) >= 0:
            continue  # there already, or the student deleted it
        earlier = (place(c.id) for c in reversed(new.cells[:number]))
        cells.insert(next((i for i in earlier if i >= 0), -1) + 1, cell)
    metadata = {**theirs.metadata, **new.metadata}
    merged = {**new, "cells": cells, "metadata": metadata}
    return nbformat.from_dict(merged), kept  # type: ignore[no-untyped-call]
