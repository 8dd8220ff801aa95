"""Catch-up: enter a notebook at any section, with the cluster that the section starts from.

The corrected edition of the notebook is the recipe: the given steps and the solutions that stand
before a section are what brings the cluster there. A cell tagged ``rattrapage`` is run too (a file
that is read, a measure that a later figure needs); one tagged ``sans-suite`` is left out (an
experiment that ends as it began).
"""

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from IPython.core.getipython import get_ipython
from IPython.display import display

from labkit import engine
from labkit.errors import LabkitError, SettingError
from labkit.exercises.catalogue import EXERCISES
from labkit.exercises.notebook import checked, solve
from labkit.verdict import Row, Verdict

KEEP, SKIP = "rattrapage", "sans-suite"
# the course's notebooks that were one with another: older copies name the other
_ONCE_ONE = {"05-clustering-avec-la-stack.ipynb": "05b-clustering-noeuds-et-quorum.ipynb"}
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_STEP = re.compile(r"%%(?:solution|etape) (\S+)\n")
_AGAIN = (
    "Repartez de trois moteurs neufs : cochez la case, ou ajoutez « neufs=True ». Tout ce que "
    "contient le cluster est alors effacé."
)


@dataclass(frozen=True, slots=True)
class CatchupStep:
    """A cell to run on the way to a section."""

    cell: str  # its id
    source: str  # what it runs
    # the exercise whose solution it is; None for a cell that only prepares
    exercise: str | None = None


def sections(notebook: Any) -> tuple[str, ...]:
    """Return the titles of the sections that can be entered, in order; pure.

    Those are the level-2 headings that have a step somewhere before them, and something to run
    after them.
    """
    found: list[str] = []
    last = max((i for i, c in enumerate(notebook.cells) if c.cell_type == "code"), default=0)
    for cell in notebook.cells[:last]:
        if cell.cell_type == "markdown":
            found += headings(cell)
    return tuple(t for t in found if any(s.exercise for s in steps_before(notebook, t)))


def steps_before(notebook: Any, section: str) -> tuple[CatchupStep, ...]:
    """Return the cells that a section builds on, in order; pure.

    A section is the title of a level-2 heading; an unknown one has no steps.
    """
    steps: list[CatchupStep] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if section in headings(cell):
                return tuple(steps)
            continue
        tags = cell.metadata.get("tags", ())
        exercise = _STEP.match(cell.source)
        imports = cell.source.startswith(("import ", "from "))
        if SKIP not in tags and (exercise or imports or KEEP in tags):
            steps.append(CatchupStep(cell["id"], cell.source, exercise[1] if exercise else None))
    return ()


def headings(cell: Any) -> list[str]:
    """Return the level-2 headings of a Markdown cell, with plain spaces and without backticks."""
    return [" ".join(title.replace("`", "").split()) for title in _HEADING.findall(cell.source)]


def rattraper(notebook: str, section: str, *, neufs: bool = False) -> Verdict:
    """Bring the cluster to where a section of a notebook starts; what is done stays done.

    A row is an exercise on the way: it ends at the first that does not come out, and leaves out one
    that cannot be done here. With ``neufs`` it starts from new engines: everything that the cluster
    holds is erased. Raises ``SettingError`` when there is no such notebook or section, or this is
    no notebook.
    """
    from labkit import course  # which imports nbformat: that takes a second

    shell: Any = get_ipython()
    if shell is None:
        remedy = f"Ouvrez « {notebook} » et lancez-y la cellule du rattrapage."
        raise SettingError("Le rattrapage se fait dans un notebook.", remedy=remedy)
    document = _read(notebook)
    if section not in sections(document) and notebook in _ONCE_ONE:
        moved = _read(_ONCE_ONE[notebook])
        document = moved if section in sections(moved) else document
    if section not in sections(document):
        known = " ; ".join(f"« {title} »" for title in sections(document))
        raise SettingError(
            f"« {section} » n’est pas une section où l’on peut entrer.", remedy=f"Il y a : {known}."
        )
    title = f"Vous voilà à « {section} »"
    try:
        if neufs:
            engine.reset()
        engine.up()
    except LabkitError as error:
        return Verdict.of(title, [Row.fault("Cluster", "répond", error.message, error.remedy)])
    steps = steps_before(document, section)
    rows: list[Row] = []
    for number, step in enumerate(steps, 1):
        exercise = EXERCISES.get(step.exercise or "")
        if exercise:
            print(f"[{number}/{len(steps)}] {exercise.title}", flush=True)
        course.provide(step.source, Path.cwd())
        if not exercise:
            if not shell.run_cell(step.source, store_history=False).success:
                rows.append(Row.fault(f"Cellule {step.cell}", "lancée", "en erreur", _AGAIN))
                break
            continue
        commands = step.source.partition("\n")[2]
        verdict = solve(exercise.name, commands) or checked(exercise.name)
        fine = verdict.ok or bool(verdict.skipped)
        if not fine:
            display(verdict)  # type: ignore[no-untyped-call]
        found = "sauté" if verdict.skipped else "fait" if verdict.ok else "pas abouti"
        rows.append(Row(exercise.title, "fait", found, fine, _AGAIN))
        if not fine:
            break
    return Verdict.of(title, rows)


def _read(notebook: str) -> Any:
    """Return a notebook with its solutions: the course's own, or the file of that name."""
    import nbformat

    from labkit import course

    if (known := course.corrected(notebook)) is not None:
        return known
    path = Path(notebook)
    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, nbformat.reader.NotJSONError) as error:
        raise SettingError(
            f"« {notebook} » ne peut pas être lu dans ce dossier ({type(error).__name__}).",
            remedy="Donnez le nom du notebook tel qu’il paraît dans l’onglet : s’il a été "
            "renommé, changez-le aussi dans la cellule.",
        ) from None


class Rattrapage(widgets.VBox):  # type: ignore[misc]
    """Choose a section of a notebook, and have the cluster brought to where it starts.

    Raises ``SettingError`` when there is no such notebook.
    """

    def __init__(self, notebook: str) -> None:
        self._notebook = notebook
        titles = sections(_read(notebook))
        style = {"description_width": "initial"}
        self._section = widgets.Dropdown(
            options=titles, description="Section", layout={"width": "min(620px, 90%)"}, style=style
        )
        description = "Repartir de trois moteurs neufs : tout ce que contient le cluster est effacé"
        self._new = widgets.Checkbox(
            value=False, indent=False, description=description, layout={"width": "auto"}
        )
        description = "Amener le cluster à cette section"
        layout = {"width": "auto"}
        self._go = widgets.Button(description=description, button_style="primary", layout=layout)
        self._command = widgets.HTML()
        self._output = widgets.Output()
        super().__init__([self._section, self._new, self._go, self._command, self._output])
        for widget in (self._section, self._new):
            widget.observe(lambda _: self._say(), names="value")
        self._go.on_click(lambda _: self._run())
        self._say()

    def _say(self) -> None:
        new = ", neufs=True" if self._new.value else ""
        call = f'rattraper("{self._notebook}", "{self._section.value}"{new})'
        self._command.value = f"Le même, dans une cellule : <code>{escape(call)}</code>"

    def _run(self) -> None:
        self._go.disabled = True
        self._output.clear_output()
        try:
            with self._output:
                display(  # type: ignore[no-untyped-call]
                    rattraper(self._notebook, self._section.value, neufs=self._new.value)
                )
        finally:
            self._go.disabled = False

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        # ipywidgets would shorten the text that stays in a saved notebook
        return {**super()._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return "\n".join(["Entrer à la section :", *(f"  ○ {t}" for t in self._section.options)])
