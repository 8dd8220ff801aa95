"""Measurements side by side: a picture with an alternative text, and its table."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from labkit.traffic import Sample
from labkit.views import (
    curves_figure,
    distribution_figure,
    distribution_html,
    doors,
    doors_figure,
    doors_html,
)
from labkit.views.picture import png_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class TrafficComparison:
    """Samples side by side; the table says what the picture shows."""

    def __init__(self, *samples: Sample) -> None:
        self.samples = samples

    @property
    def alternative(self) -> str:
        """The picture in French words, for those who do not see it."""
        said = (
            f"{'connexion gardée' if s.keep_alive else 'connexions neuves'}"
            f"{', cookies gardés' * s.cookies} : "
            f"{len(s.frame)} requêtes, {s.frame['replica'].nunique()} replica(s)"
            for s in self.samples
        )
        return "Réponses de chaque replica, en barres ; " + " ; ".join(said) + "."

    def __repr__(self) -> str:
        return self.alternative

    def _repr_html_(self) -> str:
        picture = distribution_figure(self.samples)
        return _shown(picture, self.alternative, distribution_html(self.samples))


class Doors:
    """Which replica answered at which node's door; the table says what the picture shows."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self.table = doors(sample)

    @property
    def sans_replica(self) -> tuple[str, ...]:
        """Names of the doors behind which no replica answered from its own node."""
        here = {t.node for t in self._sample.replicas}
        return tuple(n for n in self.table.index if n not in here)

    @property
    def alternative(self) -> str:
        """The picture in French words, for those who do not see it."""
        said = (f"{n} : {sum(hits > 0 for hits in row)}" for n, row in self.table.iterrows())
        return "Replicas qui ont répondu à chaque porte ; " + " ; ".join(said) + "."

    def __repr__(self) -> str:
        return self.alternative

    def _repr_html_(self) -> str:
        return _shown(doors_figure(self._sample), self.alternative, doors_html(self._sample))


def _shown(figure: Figure, alternative: str, table: str = "") -> str:
    return (
        f"<img alt='{escape(alternative, quote=True)}' style='max-width:100%' "
        f"src='data:image/png;base64,{png_text(figure)}'>{table}"
    )


class Curves:
    """Measures over time, one panel each; the text says how far each curve goes."""

    def __init__(
        self, panels: Mapping[str, pd.DataFrame], during: tuple[float, float] | None = None
    ) -> None:
        self.panels = dict(panels)
        self.during = during

    @property
    def alternative(self) -> str:
        """The picture in French words, for those who do not see it."""
        said = []
        for title, frame in self.panels.items():
            ends = {name: (frame[name].min(), frame[name].max()) for name in frame.columns}
            spans = (f"{n} de {_number(low)} à {_number(high)}" for n, (low, high) in ends.items())
            said.append(f"{title} : {', '.join(spans) or 'aucune mesure'}")
        return "Courbes dans le temps ; " + " ; ".join(said) + "."

    def __repr__(self) -> str:
        return self.alternative

    def _repr_html_(self) -> str:
        figure = curves_figure(self.panels, during=self.during)
        return _shown(figure, self.alternative)


def _number(value: float) -> str:
    return f"{value:.3g}".replace(".", ",") if abs(value) < 100 else f"{value:.0f}"


def comparer(*mesures: Sample) -> TrafficComparison:
    """Show measurements side by side."""
    return TrafficComparison(*mesures)


def portes(mesure: Sample) -> Doors:
    """Show which replica answered at each node that was asked."""
    return Doors(mesure)


def courbes(
    mesures: Mapping[str, pd.DataFrame], trafic: tuple[float, float] | None = None
) -> Curves:
    """Show measures over time, one panel each.

    ``trafic`` is when requests were sent, to shade it: begin and end, in seconds since the epoch.
    """
    return Curves(mesures, trafic)
