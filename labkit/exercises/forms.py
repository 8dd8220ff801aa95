"""Forms with boxes to tick: what one reads in a compose file, before labkit says it.

Each form is a widget, and the same in plain Python (:func:`repondre`), so that it works in a
saved notebook, in a run of all cells and without a mouse.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from html import escape
from typing import Any

import ipywidgets as widgets

from labkit.compose import Architecture, ComposeFile, ComposeNetwork, Fate, draw, explain
from labkit.errors import SettingError
from labkit.text.french import enumerate_fr
from labkit.text.tables import table_html, table_text
from labkit.verdict import Row, Verdict
from labkit.views.live import bundle

Answer = Mapping[str, Iterable[str]]
"""The columns ticked, by row."""

OWN = "propre à Swarm"


class Form:
    """Boxes to tick, a row for each thing asked; shown as a table without a kernel.

    Rows that the ``truth`` leaves out have nothing to tick; ``hints`` say what to try where a row
    is wrong, and ``file`` is the file that is asked about, when there is one. Texts are French.
    """

    def __init__(
        self,
        title: str,
        question: str,
        rows: Iterable[str],
        columns: Iterable[str],
        truth: Answer,
        hints: Mapping[str, str],
        file: ComposeFile | None = None,
    ) -> None:
        self.title = title
        self.question = question
        self.rows = tuple(rows)
        self.columns = tuple(columns)
        self.truth = {row: frozenset(truth.get(row, ())) for row in self.rows}
        self.hints = dict(hints)
        self.file = file
        self._boxes: dict[tuple[str, str], Any] = {}
        lines = [self._line(row) for row in self.rows]
        self._view = widgets.VBox([widgets.HTML(f"<strong>{escape(question)}</strong>"), *lines])

    def _line(self, row: str) -> Any:
        """Make what is shown and clicked for a row."""
        layout = {"width": "170px"}
        boxes = {
            (row, column): widgets.Checkbox(description=column, indent=False, layout=layout)
            for column in self.columns
        }
        self._boxes |= boxes
        name = widgets.HTML(f"<code>{escape(row)}</code>", layout={"width": "220px"})
        return widgets.HBox([name, *boxes.values()])

    @property
    def answer(self) -> dict[str, frozenset[str]]:
        """The columns ticked, by row."""
        return {
            row: frozenset(c for c in self.columns if self._boxes[row, c].value)
            for row in self.rows
        }

    def tick(self, answer: Answer) -> None:
        """Tick exactly these boxes, as clicks do.

        Raises ``SettingError`` when there is no such row or column.
        """
        wanted = {
            row: frozenset([ticked] if isinstance(ticked, str) else ticked)
            for row, ticked in answer.items()
        }
        unknown = [r for r in wanted if r not in self.rows]
        unknown += sorted(frozenset().union(*wanted.values()) - set(self.columns))
        if unknown:
            raise SettingError(
                f"Le formulaire n’a pas de case {enumerate_fr(unknown)}.",
                remedy=f"Lignes : {', '.join(self.rows)}. Colonnes : {', '.join(self.columns)}.",
            )
        self._set(wanted)

    def _set(self, wanted: Mapping[str, frozenset[str]]) -> None:
        for (row, column), box in self._boxes.items():
            box.value = column in wanted.get(row, ())

    def correction(self) -> Verdict:
        """Return the answer set against the truth, row by row; pure."""
        rows = []
        for row, given in self.answer.items():
            hint, ok = self.hints.get(row, ""), given == self.truth[row]
            expected = self._said(self.truth[row])
            rows.append(Row.whether(row, expected, ok, self._said(given), hint))
        return Verdict.of(self.title, rows)

    def python(self, name: str) -> str:
        """Return the right answer as the student would write it in a cell."""
        lines = [
            f"    {row!r}: {[c for c in self.columns if c in ticked]!r},"
            for row, ticked in self.truth.items()
            if ticked
        ]
        return "\n".join([f"repondre({name!r}, {{", *lines, "})"]).replace("'", '"')

    def _said(self, ticked: frozenset[str]) -> str:
        return enumerate_fr([c for c in self.columns if c in ticked]) or "rien"

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        return ("", *self.columns), [(row, *("☐" for _ in self.columns)) for row in self.rows]

    def __repr__(self) -> str:
        return f"{self.question}\n\n{table_text(*self._table())}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        table = table_html(f"<strong>{escape(self.question)}</strong>", *self._table())
        return bundle(self._view, repr(self), table, **kwargs)


class Matching(Form):
    """One answer for each row, chosen in a list; parameters as those of :class:`Form`."""

    def _line(self, row: str) -> Any:
        box = self._boxes[row, ""] = widgets.Dropdown(
            options=["", *self.columns],
            description=row,  # a label of its own, for those who hear the page
            style={"description_width": "200px"},
            layout={"width": "560px", "max_width": "95%"},
        )
        return box

    @property
    def answer(self) -> dict[str, frozenset[str]]:
        """The choices, by row."""
        return {
            row: frozenset([v] if (v := self._boxes[row, ""].value) else []) for row in self.rows
        }

    def _set(self, wanted: Mapping[str, frozenset[str]]) -> None:
        several = [row for row, chosen in wanted.items() if len(chosen) > 1]
        if several:
            raise SettingError(
                f"Une seule réponse par ligne ; il y en a plusieurs pour {enumerate_fr(several)}."
            )
        for row in self.rows:
            self._boxes[row, ""].value = next(iter(wanted.get(row, ())), "")

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        rows = [(row, "…") for row in self.rows]
        return ("", "Votre réponse"), [*rows, ("à choisir parmi", " ; ".join(self.columns))]


# -- what can be asked ----------------------------------------------------------------------


def option_form(files: Iterable[ComposeFile]) -> Form:
    """Ask which of the options that some files use are Swarm's own."""
    files = tuple(files)
    used: set[str] = set()
    why: dict[str, str] = {}
    own: dict[str, str] = {}
    for file in files:
        for service in file.services:
            used |= set(service.options) - {"deploy"}
            used |= {f"deploy.{key}" for key in service.options.get("deploy") or ()}
        findings = explain(file)
        why |= {f.option: f.why for f in findings.findings}
        own |= {f.option: f.why for f in findings.of(Fate.SWARM)}
    rows = sorted(used)
    both = "docker compose, sur une seule machine, s’en sert aussi."
    question = "Cochez les options qui sont propres à Swarm."
    truth = {row: [OWN] for row in rows if row in own}
    hints = {row: own.get(row) or why.get(row) or both for row in rows}
    return Form("Les options propres à Swarm", question, rows, [OWN], truth, hints)


def network_form(file: ComposeFile, networks: Iterable[str]) -> Form:
    """Ask on which networks each service of a file is.

    Networks that the file does not use are there to mislead.
    """
    question = f"{file.name} : sur quels réseaux est chaque service ?"
    truth = {s.name: s.networks for s in file.services}
    hints = {
        s.name: f"Relisez {file.name}, à partir de la ligne {s.line}. Un service qui ne nomme "
        "aucun réseau est sur « default »."
        for s in file.services
    }
    return Form(f"Les réseaux de {file.name}", question, truth, networks, truth, hints, file)


_forms: dict[str, Form] = {}


def keep(name: str, form: Form) -> Form:
    """Remember a form; one that is asked again keeps the answer already given."""
    before = _forms.get(name)
    if before is not None and (before.rows, before.columns) == (form.rows, form.columns):
        form.tick(before.answer)
    _forms[name] = form
    return form


def _form(name: str) -> Form:
    if name not in _forms:
        why = f"Aucun formulaire « {name} » n’est affiché."
        raise SettingError(why, remedy="Lancez d’abord la cellule qui le montre.")
    return _forms[name]


def cocher_options(nom: str, *fichiers: ComposeFile) -> Form:
    """Ask which options of these files are Swarm's own."""
    return keep(nom, option_form(fichiers))


def cocher_reseaux(nom: str, fichier: ComposeFile, reseaux: Iterable[str]) -> Form:
    """Ask on which networks each service of a file is; parameters as :func:`cocher_options`."""
    return keep(nom, network_form(fichier, reseaux))


def repondre(nom: str, reponse: Answer) -> Form:
    """Fill in a form in plain Python, instead of by clicks.

    The boxes to tick are columns by row, such as ``{"vote": ["frontend"]}``. Raises
    ``SettingError`` when there is no such form, row or column.
    """
    form = _form(nom)
    form.tick(reponse)
    return form


def souffler(nom: str) -> None:
    """Print a form's right answer, and tick it unless something is ticked already.

    Raises ``SettingError`` when there is no such form.
    """
    form = _form(nom)
    if not any(form.answer.values()):
        form.tick(form.truth)
    print(expected(nom))


def expected(name: str) -> str:
    """Return a form's right answer as the call that gives it.

    Raises ``SettingError`` when there is no such form.
    """
    return _form(name).python(name)


def corriger(nom: str) -> Verdict:
    """Set the answer given in a form against the files.

    Raises ``SettingError`` when there is no such form.
    """
    return _form(nom).correction()


def dessiner(nom: str) -> Architecture:
    """Draw the architecture as the answer in a form of networks has it.

    Raises ``SettingError`` when there is no such form, or it is not about networks.
    """
    form = _form(nom)
    if form.file is None:
        remedy = "Nommez celui où vous avez placé les services sur les réseaux."
        raise SettingError(f"Le formulaire « {nom} » ne parle pas de réseaux.", remedy=remedy)
    return draw(as_answered(form.file, form.answer))


def as_answered(file: ComposeFile, answer: Answer) -> ComposeFile:
    """Return a file whose services are on the networks of an answer; pure."""
    services = tuple(
        replace(s, networks=tuple(sorted(answer.get(s.name, ())))) for s in file.services
    )
    used = sorted({n for s in services for n in s.networks})
    networks = tuple(file.network(n) or ComposeNetwork(n, n) for n in used)
    return replace(file, name=f"Votre dessin : {file.name}", services=services, networks=networks)
