"""Measures over time, as curves; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.views.palette import LIGHT, node_colours

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_INCHES, _PANEL = 12.0, 2.7
_STYLES = ("solid", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 2, 2)))
_MARKS = "os^D"


def curves_figure(
    panels: Mapping[str, pd.DataFrame], *, during: tuple[float, float] | None = None
) -> Figure:
    """Draw panels one above the other, on the same axis of time, in seconds from the first moment.

    Curves have the colour of the node that their column names, and a dash and a mark of their own;
    a gap is where nothing was measured. ``during`` is when requests were sent, to shade it, in
    seconds since the epoch. The figure is 12 inches wide, drawn without pyplot.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_INCHES, 0.6 + _PANEL * len(panels)), layout="constrained")
    figure.set_facecolor(LIGHT.paper)
    moments = [frame.index[0].timestamp() for frame in panels.values() if len(frame)]
    zero = min(moments, default=0.0)
    colours = node_colours({str(c) for frame in panels.values() for c in frame.columns})
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for ax, (title, frame) in zip(axes, panels.items(), strict=True):
        ax.set_title(title, fontsize=15, color=LIGHT.ink, loc="left")
        _panel(ax, frame, zero, colours)
        if during:
            ax.axvspan(during[0] - zero, during[1] - zero, color=LIGHT.line, alpha=0.25, lw=0)
    if during:
        axes[0].annotate(
            "trafic",
            (sum(during) / 2 - zero, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -4),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=13,
            color=LIGHT.ink,
        )
    axes[-1].set_xlabel("secondes", fontsize=14, color=LIGHT.ink)
    return figure


def _panel(ax: Any, frame: pd.DataFrame, zero: float, colours: Mapping[str, str]) -> None:
    ax.set_facecolor(LIGHT.paper)
    seconds = [moment.timestamp() - zero for moment in frame.index]
    for i, name in enumerate(frame.columns):
        ax.plot(
            seconds,
            frame[name],
            label=str(name),
            color=colours[str(name)],
            linestyle=_STYLES[i % len(_STYLES)],
            marker=_MARKS[i % len(_MARKS)],
            markersize=5,
            linewidth=2,
        )
    if len(frame.columns):
        ax.legend(fontsize=13, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False,
                  labelcolor=LIGHT.ink)  # fmt: skip
    else:
        ax.text(0.5, 0.5, "aucune mesure", transform=ax.transAxes, ha="center", fontsize=15,
                color=LIGHT.ink)  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.tick_params(labelsize=13, colors=LIGHT.ink)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(LIGHT.line)
