"""Measurements side by side: a picture with an alternative text, and its table."""

from __future__ import annotations

from html import escape

from labkit.traffic import Sample
from labkit.views import distribution_figure, distribution_html
from labkit.views.picture import png_text

__all__ = ["Comparison", "comparer"]


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
        picture = png_text(distribution_figure(self.samples))
        return (
            f"<img alt='{escape(self.alternative, quote=True)}' style='max-width:100%' "
            f"src='data:image/png;base64,{picture}'>{distribution_html(self.samples)}"
        )


def comparer(*mesures: Sample) -> Comparison:
    """Show measurements side by side.

    Parameters
    ----------
    mesures
        One sample or more, such as new connections beside keep-alive.
    """
    return Comparison(*mesures)
