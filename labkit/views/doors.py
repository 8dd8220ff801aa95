"""Which replica answered at which node's door, as a heat map and as a table; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.text.tables import numbers_html
from labkit.traffic import Sample
from labkit.views.palette import LIGHT, palette

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_INCHES = 12.0
_FAILURES = "échecs"


def doors(sample: Sample) -> pd.DataFrame:
    """Count the answers by the node asked and the replica that answered.

    One row a node asked, by name; one column a replica, such as ``whoami.1 · node3``, by service
    and slot, and those without an answer are there; last ``échecs``, if there are any.
    """
    import pandas as pd

    known = sample.counts()
    labels = {}
    for replica, row in known.iterrows():
        name = str(replica) if pd.isna(row.task) else str(row.task)
        labels[replica] = name if pd.isna(row.replica_node) else f"{name} · {row.replica_node}"
    frame = sample.frame
    good = frame["error"].isna() & frame["replica"].notna()
    answer = frame["replica"].map(labels).where(good, _FAILURES)
    columns = [*labels.values(), *([_FAILURES] if (~good).any() else [])]
    table = pd.crosstab(frame["node"], answer)
    return table.reindex(index=sorted(sample.nodes), columns=columns, fill_value=0)


def doors_figure(sample: Sample) -> Figure:
    """Draw :func:`doors` as a heat map: nodes asked × replicas, each number in its cell.

    The figure is 12 inches wide, drawn without pyplot.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    table = doors(sample)
    rows, columns = table.shape
    figure = Figure(figsize=(_INCHES, 1.7 + 0.62 * rows), layout="constrained")
    figure.set_facecolor(LIGHT.paper)
    ax = figure.subplots()
    numbers = table.to_numpy(dtype=int)
    most = max(1, int(numbers.max(initial=0)))
    shades = LinearSegmentedColormap.from_list("doors", [LIGHT.paper, palette()[0]])
    ax.imshow(numbers, cmap=shades, vmin=0, vmax=most, aspect="auto")
    for y in range(rows):
        for x in range(columns):
            hits = int(numbers[y, x])
            deep = hits > 0.55 * most
            colour = "#ffffff" if deep else LIGHT.ink
            ax.text(x, y, str(hits), ha="center", va="center", fontsize=17, color=colour)
    small = 14 if columns <= 6 else 10
    ax.set_xticks(range(columns), [c.replace(" · ", "\n") for c in table.columns], fontsize=small)
    ax.set_yticks(range(rows), [f"porte de {n}" for n in table.index], fontsize=15)
    ax.set_title(
        f"{len(sample.frame)} requêtes : qui a répondu, à quelle porte",
        fontsize=17, color=LIGHT.ink, loc="left", pad=12,
    )  # fmt: skip
    ax.set_xticks([x - 0.5 for x in range(1, columns)], minor=True)
    ax.set_yticks([y - 0.5 for y in range(1, rows)], minor=True)
    ax.grid(which="minor", color=LIGHT.line, linewidth=1.5)
    ax.tick_params(which="both", colors=LIGHT.ink, length=0, pad=8)
    for spine in ax.spines.values():
        spine.set_color(LIGHT.line)
    return figure


def doors_html(sample: Sample) -> str:
    """Return :func:`doors` as a table; every text is escaped."""
    table = doors(sample)
    caption = "Réponses de chaque replica, à chaque porte"
    rows = [[str(cell) for cell in row] for row in table.astype(int).itertuples()]
    return numbers_html(caption, ("Porte", *table.columns), rows)
