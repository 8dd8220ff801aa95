"""Count what the course asks of its students: what they type, read and need.

    python tests/notebooks/counting.py

Durations are estimates: a reading speed, and a time for each kind of cell.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from labkit import course

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WORDS = 180.0  # read in a minute, by somebody who looks at the commands, too
# minutes a cell: what is to be found out has a solution, what is asked for in a word has none
FOUND, TYPED, PREDICTED, CHECKED, RUN = 3.0, 1.0, 0.7, 0.5, 0.5
BASIC, MORE = "*Parcours de base*", "*Pour aller plus loin*"
_LEFT_OUT = re.compile(r"```.*?```|<[^>]+>|\]\([^)]*\)", re.DOTALL)
_WORD = re.compile(r"\w[\w’'-]*")
_PREDICTION = re.compile(r"predire\(|confronter\(")
_WIDGET = re.compile(
    r"\b(?:predire|confronter|verifier|corriger|rappel|cocher_\w+|associer_\w+|ClusterView|Scaler"
    r"|Repartition|Rattrapage)\("
)
_IMPORT = re.compile(r"^from labkit[\w.]* import (?:\(([^)]*)\)|(.+)$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Counted:
    """What one notebook asks, in the student's edition.

    Attributes
    ----------
    name
        Its file.
    words
        Of its text, what is folded included.
    code, own, widgets
        Its cells of code; those that students fill in; widgets, predictions and checks.
    minutes, basic
        An estimate for the whole, and for the sections of the core path.
    helpers
        What it imports from labkit, and has in a cell that is not folded.
    """

    name: str
    words: int
    code: int
    own: int
    widgets: int
    minutes: float
    basic: float
    helpers: frozenset[str]


def count(path: Path) -> Counted:
    """Return the numbers of one notebook."""
    notebook = course.student(nbformat.read(path, as_version=4))
    code = [c for c in notebook.cells if c.cell_type == "code"]
    shown = "\n".join(
        re.sub(r"^#.*$", "", c.source, flags=re.MULTILINE)
        for c in code
        if not c.metadata.get("jupyter", {}).get("source_hidden")
    )
    imported = ",".join(map("".join, _IMPORT.findall("\n".join(c.source for c in code))))
    return Counted(
        path.name,
        sum(words(c.source) for c in notebook.cells if c.cell_type == "markdown"),
        len(code),
        sum(map(own, code)),
        sum(bool(_WIDGET.search(c.source)) for c in code),
        minutes(notebook.cells),
        minutes(c for c, basic in marked(notebook.cells) if basic),
        frozenset(n for n in re.findall(r"\w+", imported) if re.search(rf"\b{n}[.(\[]", shown)),
    )


def own(cell: Any) -> bool:
    """Tell whether a cell of the student's edition is the student's to fill in."""
    return "a-vous" in cell.metadata.get("tags", ())


def words(markdown: str) -> int:
    return len(_WORD.findall(_LEFT_OUT.sub(" ", markdown)))


def minutes(cells: Iterable[Any]) -> float:
    """Estimate how long a student is busy with some cells."""
    total, typed = 0.0, 0.0
    for cell in cells:
        if cell.cell_type == "markdown":
            total += words(cell.source) / WORDS
        elif cell.source.startswith("# Facultatif"):
            continue
        elif own(cell):
            total += TYPED
            typed = TYPED
        elif _PREDICTION.search(cell.source):
            total += PREDICTED / 2  # asked, and set against the measure
        elif cell.source.startswith("solution("):
            total, typed = total + (FOUND - typed + CHECKED if typed else 0), 0.0
        else:
            total += CHECKED if "verifier(" in cell.source else RUN
    return total


def marked(cells: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield each cell, and whether the core path has it: as the last mark before it says."""
    basic = False
    for cell in cells:
        if cell.cell_type == "markdown":
            marks = re.findall(rf"^(?:{re.escape(BASIC)}|{re.escape(MORE)})", cell.source, re.M)
            basic = marks[-1] == BASIC if marks else basic
        yield cell, basic


def main() -> int:
    found = [count(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    print("notebook                               words  code   own  widgets  min  core path")
    for c in found:
        print(
            f"{c.name:38} {c.words:5} {c.code:5} {c.own:5} {c.widgets:8} {c.minutes:4.0f} "
            f"{c.basic:9.0f}"
        )
    code = sum(c.code for c in found)
    helpers = frozenset[str]().union(*(c.helpers for c in found))
    print(f"words: {sum(c.words for c in found)}")
    print(f"cells of code that the student fills in: {sum(c.own for c in found) / code:.0%}")
    print(f"widgets and checks: {sum(c.widgets for c in found) / code:.0%}")
    names = ", ".join(sorted(helpers))
    print(f"names of labkit in cells that are not folded: {len(helpers)} ({names})")
    print(
        f"minutes: {sum(c.minutes for c in found):.0f}, core path {sum(c.basic for c in found):.0f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
