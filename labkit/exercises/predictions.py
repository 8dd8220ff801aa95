"""Predictions: a learner answers first, then the measurement is set against the answer."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
from IPython.display import display

from labkit.errors import SettingError
from labkit.exercises.exercise import Measure
from labkit.exercises.progress import record_reason
from labkit.state import ClusterState
from labkit.text.tables import french_html, named_html
from labkit.views.live import bundle

FRESH = "LABKIT_FRESH"
"""Variable with which the corrected edition is made and tested: on a new cluster, and whole."""

_LATER = "elle se montre une fois votre prédiction faite"
_NOTHING = "Vous n’aviez rien prédit : choisissez plus haut, puis relancez cette cellule."
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#777777"


class Prediction:
    """A question with its choices; shown as radio buttons, or as a list without a kernel."""

    def __init__(self, question: str, choices: Sequence[str], answer: str | None = None) -> None:
        self.question = question
        self.choices = tuple(choices)
        self._radio = widgets.RadioButtons(
            options=list(self.choices),
            value=answer if answer in self.choices else None,
            layout=widgets.Layout(width="max-content", max_width="100%"),
        )
        self._radio.add_class("labkit-prediction")
        self._asked = f"<strong>Votre prédiction.</strong> {french_html(question)}"
        self._view = widgets.VBox([widgets.HTML(self._asked), self._radio])

    @property
    def answer(self) -> str | None:
        """The choice made, or None."""
        value: str | None = self._radio.value
        return value

    def choose(self, answer: str) -> None:
        """Choose an answer, as a click does.

        Raises ``ValueError`` when it is not among the choices.
        """
        if answer not in self.choices:
            raise ValueError(f"Choix possibles : {', '.join(self.choices)}.")
        self._radio.value = answer

    def __repr__(self) -> str:
        return "\n".join([self.question, *(f"  ○ {choice}" for choice in self.choices)])

    def _html(self) -> str:
        items = "".join(f"<li>{french_html(choice)}</li>" for choice in self.choices)
        return f"<p>{self._asked}</p><ul>{items}</ul>"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return bundle(self._view, repr(self), self._html(), **kwargs)


@dataclass(frozen=True, slots=True)
class Confrontation:
    """A prediction against what was measured."""

    # question, measured: French text
    question: str
    predicted: str | None  # the learner's answer; None when none was given
    measured: str
    # whether the measurement is shown though nothing was predicted: in the corrected edition
    told: bool = False

    @property
    def right(self) -> bool:
        """Whether the prediction was what was measured."""
        return self.predicted == self.measured

    @property
    def comment(self) -> str:
        """One sentence for the learner, in French."""
        if self.predicted is None:
            return "" if self.told else _NOTHING
        if self.right:
            return "Bien vu !"
        return "Surprise ! Qu’est-ce qui explique l’écart ?"

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "Question", self.question
        if self.predicted or not self.told:
            yield "Votre prédiction", self.predicted or "—"
        yield "Mesure", self.measured if self.predicted or self.told else _LATER

    def __repr__(self) -> str:
        lines = [f"{name} : {value}" for name, value in self._rows()]
        return "\n".join([*lines, self.comment] if self.comment else lines)

    def _repr_html_(self) -> str:
        colour = _GREY if self.predicted is None else _BLUE if self.right else _ORANGE
        table = named_html((name, french_html(value)) for name, value in self._rows())
        comment = f"<strong>{french_html(self.comment)}</strong>" if self.comment else ""
        style = f"border-left:5px solid {colour};padding:2px 10px"
        return f"<div style='{style}'>{table}{comment}</div>"

    def expliquer(self, texte: str) -> str:
        """Keep in the student's own progress why the measure differs; return how that went.

        An empty explanation is not kept.
        """
        if self.predicted is None or not (why := " ".join(texte.split())):
            return "Écrivez d’abord votre explication, en une phrase."
        try:
            record_reason(self.question, self.predicted, self.measured, why)
        except (OSError, SettingError):
            return "Votre explication n’a pas pu être gardée : notez-la ailleurs."
        return "Gardé : « progression() » vous la rappellera."

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # Where the prediction was wrong, room to say why; the table stays in the saved notebook.
        wrong = self.predicted is not None and not self.right
        view = self._ask_why() if wrong else None
        return bundle(view, repr(self), self._repr_html_(), **kwargs)

    def _ask_why(self) -> Any:
        text = widgets.Textarea(
            placeholder="Votre explication, en une phrase",
            layout=widgets.Layout(width="min(560px, 95%)", height="60px"),
        )
        keep = widgets.Button(description="Garder mon explication", layout={"width": "auto"})
        said = widgets.Label()

        def kept(_: Any) -> None:
            said.value = self.expliquer(text.value)

        keep.on_click(kept)
        return widgets.VBox([widgets.HTML(self._repr_html_()), text, keep, said])


_predictions: dict[str, Prediction] = {}


def predire(
    nom: str, question: str, choix: Sequence[str], reponse: str | None = None
) -> Prediction:
    """Ask for a prediction; running the cell again keeps the answer already given.

    :func:`confronter` finds it under ``nom``; ``reponse`` answers in code instead of by a click.
    """
    before = _predictions.get(nom)
    kept = before.answer if before is not None and before.choices == tuple(choix) else None
    _predictions[nom] = prediction = Prediction(question, choix, reponse or kept)
    return prediction


def confronter(nom: str, mesure: object) -> Confrontation:
    """Set a measurement against the prediction of that name.

    Without a prediction the measurement is not shown, but where the corrected edition is made.
    """
    told = os.environ.get(FRESH) == "1"
    prediction = _predictions.get(nom)
    if prediction is None:
        return Confrontation(nom, None, str(mesure), told)
    return Confrontation(prediction.question, prediction.answer, str(mesure), told)


def set_against(measures: Iterable[Measure], state: ClusterState, said: Any = None) -> None:
    """Show measures beside what was predicted of them; nothing of what was not asked here."""
    for measure in measures:
        if measure.prediction not in _predictions:
            continue
        if (value := measure.of(state, said)) is not None:
            found = confronter(measure.prediction, value)
            if found.predicted or found.told:
                display(found)  # type: ignore[no-untyped-call]
