"""A student's progress: every check leaves a line in a file of the student's own.

So does what a student wrote on a prediction that the measure contradicted; that is never shared.

Nothing leaves the account by itself. Where the instructor has named a shared folder
(``LABKIT_CLASS``), a student who agrees has the file copied there, and the instructor reads the
folder as a table. There are no marks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from labkit.errors import SettingError
from labkit.files import account, append_line, guarded, read_file, replacing
from labkit.terminal import plain
from labkit.text.tables import table_html, table_text
from labkit.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "LABKIT_CLASS"
"""Variable that names the class's shared folder; the instructor sets it."""

FILE = "LABKIT_PROGRESS"
"""Variable that names the student's file, where it is not the user's data directory."""

_BIGGEST = 2_000_000  # bytes of one student's file that a table reads
_YEARS = range(2020, 2200)
_LONGEST, _MOST = 300, 30  # characters of a text, wrong rows of a check
# what a spreadsheet would compute, at the start of a cell, or of what it takes for one
_FORMULA = re.compile('(^|[;,|"])( *)(?=[=+@\uff1d\uff0b\uff20\uff0d-])')


@dataclass(frozen=True, slots=True)
class Attempt:
    """One check."""

    at: datetime  # when, in UTC
    # exercise, title: its name, and what students see
    exercise: str
    title: str
    ok: bool  # whether it passed
    # what was not as expected: the first column of the verdict's red rows
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a measure was not what a student had predicted, in the student's words."""

    at: datetime  # when, in UTC
    # question, predicted, measured: as the student saw them
    question: str
    predicted: str
    measured: str
    why: str  # what the student wrote


def _line(entry: Attempt | Reason) -> str:
    """Return an entry as a line of JSON."""
    return json.dumps({**asdict(entry), "at": entry.at.isoformat()}, ensure_ascii=False)


def _file() -> Path:
    if named := os.environ.get(FILE):
        return Path(named)
    place = Path()
    with contextlib.suppress(RuntimeError):  # as newer versions say it
        place = platformdirs.user_data_path("labkit")
    if not place.is_absolute():  # « ~ » stands for nothing
        why = "Votre compte n’a pas de dossier personnel : où garder votre progression ?"
        raise SettingError(why, remedy=f"Réglez la variable HOME, ou nommez un fichier par {FILE}.")
    return place / "progression.jsonl"


def _text(text: object) -> str:
    """Return what a file says, fit for a terminal and for a spreadsheet."""
    return _FORMULA.sub(r"\1\2'", plain(" ".join(str(text).split()))[:_LONGEST])


def record(name: str, verdict: Verdict) -> None:
    """Add a check to the student's file, and to the class's folder if the student agreed.

    A check matters more than its trace: a file that cannot be written (a full disk, a folder that
    is gone) is left as it is.
    """
    wrong = tuple(row.what for row in verdict.rows if not row.ok)
    attempt = Attempt(datetime.now(UTC), name, verdict.title, verdict.ok, wrong)
    with contextlib.suppress(OSError, SettingError):
        append_line(_file(), _line(attempt))
    with contextlib.suppress(OSError, SettingError):
        _share()


def read(path: Path | None = None) -> tuple[Attempt, ...]:
    """Return the checks of a file in their order; none if there is no such file.

    Without a path, it is the student's own. Lines that are no checks are left out, such as one that
    a full disk cut short.
    """
    try:
        text, _ = read_file(path or _file(), _BIGGEST)
    except OSError:
        return ()
    return _attempts(text)


def _attempts(text: str) -> tuple[Attempt, ...]:
    return tuple(a for a in map(_attempt, text.split("\n")) if a is not None)


def _attempt(line: str) -> Attempt | None:
    try:
        data = json.loads(line)
        at = datetime.fromisoformat(data["at"])
        if at.tzinfo is None or at.year not in _YEARS:
            return None
        exercise, title = _text(data["exercise"]), _text(data["title"])
        wrong = tuple(map(_text, data["wrong"][:_MOST]))
        return Attempt(at.astimezone(UTC), exercise, title, data["ok"] is True, wrong)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def record_reason(question: str, predicted: str, measured: str, why: str) -> None:
    """Add to the student's own file why a prediction was wrong.

    Raises ``OSError`` or ``SettingError`` when the file cannot be written.
    """
    reason = Reason(datetime.now(UTC), question, predicted, measured, why[:_LONGEST])
    append_line(_file(), _line(reason))


def reasons() -> tuple[Reason, ...]:
    """Return what the student wrote on wrong predictions: the last word on each question."""
    found: dict[str, Reason] = {}
    with contextlib.suppress(OSError):
        for line in read_file(_file(), _BIGGEST)[0].split("\n"):
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                data = json.loads(line)
                said = [_text(data[key]) for key in ("question", "predicted", "measured", "why")]
                found[said[0]] = Reason(datetime.fromisoformat(data["at"]), *said)
    return tuple(found.values())


def standing(attempts: Iterable[Attempt]) -> pd.DataFrame:
    """Return one row an exercise, in the order of first attempts; pure.

    Columns: ``exercise``, ``title``, ``ok`` (at the last check), ``attempts``, ``last`` (UTC),
    ``stuck_since`` (UTC; the first failed check since it last passed, NaT where it passes) and
    ``wrong`` (text).
    """
    import pandas as pd

    rows: dict[str, dict[str, Any]] = {}
    for attempt in attempts:
        before = rows.get(attempt.exercise, {"attempts": 0, "stuck_since": pd.NaT})
        since = before["stuck_since"]
        if attempt.ok:
            since = pd.NaT
        elif since is pd.NaT:
            since = attempt.at
        rows[attempt.exercise] = {
            "exercise": attempt.exercise,
            "title": attempt.title,
            "ok": attempt.ok,
            "attempts": before["attempts"] + 1,
            "last": attempt.at,
            "stuck_since": since,
            "wrong": ", ".join(attempt.wrong),
        }
    columns = ["exercise", "title", "ok", "attempts", "last", "stuck_since", "wrong"]
    frame = pd.DataFrame(list(rows.values()), columns=columns)
    for column in ("last", "stuck_since"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame


class Progress:
    """The exercises of a student and their state; shown as a table."""

    HEAD = ("Exercice", "Dernière vérification", "Essais", "À revoir")
    WHY = ("Question", "Votre prédiction", "Mesure", "Votre explication")

    def __init__(
        self, attempts: Iterable[Attempt], total: int, reasons: Iterable[Reason] = ()
    ) -> None:
        self.frame = standing(attempts)
        self.total = total
        self._why = [(r.question, r.predicted, r.measured, r.why) for r in reasons]

    @property
    def summary(self) -> str:
        """One line, in French."""
        done = int(self.frame["ok"].sum())
        s = "s" if done > 1 else ""
        return f"{done} exercice{s} sur {self.total} réussi{s}"

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (str(row.title), "réussi" if row.ok else "à revoir", str(row.attempts), str(row.wrong))
            for row in self.frame.itertuples()
        ]

    def __repr__(self) -> str:
        tables = ((self.HEAD, self._rows()), (self.WHY, self._why))
        return "\n".join([self.summary, *(table_text(head, rows) for head, rows in tables if rows)])

    def _repr_html_(self) -> str:
        rows, said = self._rows(), f"<strong>{self.summary}</strong>"
        page = table_html(said, self.HEAD, rows) if rows else f"<p>{said}</p>"
        return page + (table_html("Vos explications", self.WHY, self._why) if self._why else "")


def progression() -> Progress:
    """Return where the student stands, over all notebooks."""
    from labkit.exercises.catalogue import EXERCISES, QUESTIONS

    names = EXERCISES.keys() | QUESTIONS.keys()
    return Progress([a for a in read() if a.exercise in names], len(names), reasons())


# -- the class ------------------------------------------------------------------------------


def partager(nom: str) -> str:
    """Agree to be seen in the class's table, under this name; return what is shared, in French.

    Raises ``SettingError`` when the instructor has named no shared folder, or it cannot be written,
    or others could take away what is in it.
    """
    folder, shown = _folder(), _text(nom)[:60]
    if not shown:
        raise SettingError(
            "Sous quel nom voulez-vous paraître ?", remedy='Par exemple : partager("Ada L.").'
        )
    try:
        consent = _consent()
        consent.parent.mkdir(parents=True, exist_ok=True)
        agreed = {"name": shown, "file": (_agreed() or {}).get("file", secrets.token_hex(16))}
        with replacing(consent) as file:
            file.write(json.dumps(agreed, ensure_ascii=False).encode())
        _share()
        owner = account(folder.stat().st_uid)
    except OSError as error:
        why = f"Le dossier de la classe, « {folder} », ne peut pas être écrit ({error.strerror})."
        raise SettingError(why, remedy="Parlez-en à la personne qui encadre le cours.") from None
    return (
        f"Vous paraissez sous le nom « {shown} » : exercices vérifiés, heures et points à revoir, "
        f"rien d’autre, dans un dossier de « {owner} ». « ne_plus_partager() » l’efface."
    )


def ne_plus_partager() -> str:
    """Leave the class's table; return what was done, in French. Twice is harmless."""
    if os.environ.get(FOLDER) and (agreed := _agreed()):
        with contextlib.suppress(OSError):
            (_folder() / f"{agreed['file']}.jsonl").unlink()
    with contextlib.suppress(FileNotFoundError):
        _consent().unlink()
    return "Vous ne paraissez plus dans le tableau de la classe."


def _consent() -> Path:
    return _file().with_suffix(".partage.json")


def _agreed() -> dict[str, str] | None:
    """Return the name that the student agreed to be seen under, and that of the shared file."""
    try:
        agreed = json.loads(read_file(_consent(), 10_000)[0])
        return {"name": agreed["name"], "file": f"{int(agreed['file'], 16):032x}"}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _share() -> None:
    """Copy the student's file into the class's folder, in one step, if the student agreed.

    The name of the copy cannot be guessed, so that nobody can take it before; whose it is, its
    owner says.
    """
    if not os.environ.get(FOLDER) or not (agreed := _agreed()):
        return
    folder = _folder()
    if not guarded(folder):
        raise SettingError(
            f"Dans le dossier de la classe, « {folder} », chacun peut effacer les fichiers des "
            "autres : rien n’y est copié.",
            remedy=f"La personne qui encadre le cours le protège : chmod +t {folder}",
        )
    lines = [json.dumps({"name": agreed["name"]}, ensure_ascii=False)]
    lines += map(_line, read())
    with replacing(folder / f"{agreed['file']}.jsonl", 0o644) as file:
        file.write("".join(f"{line}\n" for line in lines).encode(errors="replace"))


def _folder() -> Path:
    named = os.environ.get(FOLDER)
    if not named:
        remedy = f"La personne qui encadre le cours le nomme par la variable {FOLDER}."
        raise SettingError("Aucun dossier de classe n’est réglé.", remedy=remedy)
    return Path(named)


@dataclass(frozen=True, slots=True)
class Student:
    """A student who agreed to be seen."""

    name: str  # as the student wrote it
    account: str  # who owns the file, which nobody can feign
    attempts: tuple[Attempt, ...]  # every check


def classe(dossier: str | Path | None = None) -> pd.DataFrame:
    """Return the class's table, for the instructor; those stuck the longest come first.

    Without a folder, it is ``LABKIT_CLASS``. One row a student who agreed, columns in French:
    ``Nom`` (as the student wrote it), ``Compte`` (who owns the file), ``Section`` (the exercise
    last checked), ``Dernière vérification`` (UTC), ``Résultat``, ``Essais``, ``Bloqué depuis``
    (minutes, NaN where nobody is stuck), ``À revoir``, ``Réussis`` (exercises). Its ``to_csv``
    writes a CSV, in which nothing is a formula. Files that are no student's progress are left out.
    Raises ``SettingError`` when there is no such folder, or it cannot be read.
    """
    folder = Path(dossier) if dossier else _folder()
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".jsonl")
    except (NotADirectoryError, FileNotFoundError):
        raise SettingError(
            f"« {folder} » n’est pas un dossier.", remedy=f"Vérifiez la variable {FOLDER}."
        ) from None
    except OSError as error:
        why = f"Le dossier « {folder} » ne peut pas être lu ({error.strerror})."
        raise SettingError(why, remedy="Lisez-le avec le compte auquel il appartient.") from None
    students = []
    for path in found:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            text, owner = read_file(path, _BIGGEST, own=False)
            head, _, rest = text.partition("\n")
            name = _text(json.loads(head)["name"])[:60]
            students.append(Student(name, _text(account(owner)), _attempts(rest)))
    students.sort(key=lambda student: student.name.casefold())
    return class_table(students, datetime.now(UTC))


def class_table(students: Iterable[Student], now: datetime) -> pd.DataFrame:
    """Return the class's table as :func:`classe` describes it; pure."""
    import pandas as pd

    rows = []
    for student in students:
        frame = standing(student.attempts)
        row: dict[str, Any] = {
            "Nom": student.name,
            "Compte": student.account,
            "Réussis": int(frame["ok"].sum()),
        }
        if len(frame):
            last = frame.sort_values("last", kind="stable").iloc[-1]
            row |= {
                "Section": last["title"],
                "Dernière vérification": last["last"],
                "Résultat": "réussi" if last["ok"] else "à revoir",
                "Essais": int(last["attempts"]),
                "Bloqué depuis": (now - last["stuck_since"]).total_seconds() / 60,
                "À revoir": last["wrong"],
            }
        rows.append(row)
    columns = ["Nom", "Compte", "Section", "Dernière vérification", "Résultat", "Essais"]
    columns += ["Bloqué depuis", "À revoir", "Réussis"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("Bloqué depuis", ascending=False, na_position="last", kind="stable")
