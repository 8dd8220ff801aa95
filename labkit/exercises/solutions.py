"""Solutions in the student's edition: shown when asked a second time, never run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

from labkit.errors import SettingError
from labkit.exercises import forms

_STEP = re.compile(r"%%(?:solution|etape|reponse) (\S+)\n")
_EDITS = re.compile(r"(?:sed|grep|cp|diff) ")
_asked: set[str] = set()


@dataclass(frozen=True, slots=True)
class Solution:
    """A solution as it is shown to the student who asked for it."""

    commands: str  # the commands, or the answers of a form; "" at the first demand

    def __repr__(self) -> str:
        return self.commands or _FIRST

    def _repr_html_(self) -> str:
        if not self.commands:
            return f"<p>{_FIRST}</p>"
        return f"<p>{_THEN}</p><pre>{escape(self.commands)}</pre>"


_FIRST = (
    "Avez-vous déplié tous les indices, et essayé une commande\u00a0? Si vous ne trouvez toujours "
    "pas, relancez cette cellule\u00a0: elle montrera la solution."
)
_THEN = "Lisez la solution, puis tapez-la vous-même dans votre cellule ou dans un terminal."


def solution(*noms: str) -> Solution:
    """Show the solutions of exercises at the second demand; nothing is run.

    Raises ``SettingError`` when the course has no solution of that name.
    """
    found = {nom: _commands(nom) for nom in noms}
    if not _asked.issuperset(noms):
        _asked.update(noms)
        return Solution("")
    from labkit import course

    for commands in found.values():
        course.provide(commands, Path.cwd())
    return Solution("\n".join(found.values()))


def shown(commands: str) -> str:
    """Return commands as a student reads them; pure.

    Where comments say what changes in a file, as a difference, these stand in the place of the
    commands that edit it.
    """
    lines = commands.splitlines()
    changes = [line[2:] for line in lines if re.match("# (?!À vous)", line)]
    if not changes:
        return commands
    kept = [line for line in lines if not line.startswith("# ") and not _EDITS.match(line)]
    return "\n".join([*changes, *([""] if kept else []), *kept])


def _commands(name: str) -> str:
    if name not in (known := _all()):
        raise SettingError(
            f"Le cours n’a pas de solution nommée « {name} ».",
            remedy="Reprenez le nom qui se trouve dans la cellule « solution » de l’exercice.",
        )
    return known[name] or forms.expected(name)


@cache
def _all() -> dict[str, str]:
    """Return the commands of each solution, given step and answer; "" for a form's."""
    from labkit import course  # which imports nbformat: that takes a second

    found: dict[str, str] = {}
    for path in sorted(course.source().glob("*.ipynb")):
        for cell in course.corrected(path.name).cells:
            if cell.cell_type == "code" and "a-vous" not in cell.metadata.get("tags", ()):
                commands = shown(cell.source.partition("\n")[2].strip())
                if step := _STEP.match(cell.source):
                    found.setdefault(step[1], commands)
                else:
                    found |= dict.fromkeys(course.solved(cell), "")
    return found
