"""Measurements side by side: a picture with an alternative text, and its table."""

from __future__ import annotations

from html import escape

from matplotlib.figure import Figure

from labkit.traffic import Sample
from labkit.views import distribution_figure, distribution_html, doors, doors_figure, doors_html
from labkit.views.picture import png_text

__all__ = ["Comparison", "Doors", "comparer", "portes"]


class Comparison:
    """Samples side by side; the table says what the picture shows."""

    def __init__(self, *samples: Sample) -> None:
        self.samples = samples

    @property
    def alternative(self) -> str:
        """What the picture shows, in French, for those who do not see it."""
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
    """Which replica answered at which node's door; the table says what the picture shows.

    Parameters
    ----------
    sample
        Requests sent to one node or more.
    """

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
        """What the picture shows, in French, for those who do not see it."""
        said = (f"{n} : {sum(hits > 0 for hits in row)}" for n, row in self.table.iterrows())
        return "Replicas qui ont répondu à chaque porte ; " + " ; ".join(said) + "."

    def __repr__(self) -> str:
        return self.alternative

    def _repr_html_(self) -> str:
        return _shown(doors_figure(self._sample), self.alternative, doors_html(self._sample))


def _shown(figure: Figure, alternative: str, table: str) -> str:
    return (
        f"<img alt='{escape(alternative, quote=True)}' style='max-width:100%' "
        f"src='data:image/png;base64,{png_text(figure)}'>{table}"
    )


def comparer(*mesures: Sample) -> Comparison:
    """Show measurements side by side.

    Parameters
    ----------
    mesures
        One sample or more, such as new connections beside keep-alive.
    """
    return Comparison(*mesures)


def portes(mesure: Sample) -> Doors:
    """Show which replica answered at each node that was asked.

    Parameters
    ----------
    mesure
        Requests sent to several nodes.
    """
    return Doors(mesure)
