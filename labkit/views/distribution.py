"""Draw who answered, as bars and as a table; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.text.tables import numbers_html
from labkit.traffic import Sample
from labkit.views.palette import DARK, FAILURE, LIGHT, Theme, node_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES = 12.0
_TITLE = 17  # points, where that much fits
_PLENTY = 12  # bars above which they get thinner
_FAILURES = "échecs"


@dataclass(frozen=True, slots=True)
class _Bar:
    replica: str  # host name, "" for the failures
    label: str
    node: str | None
    hits: int
    share: float
    expected: float  # requests; 0 when none was expected


def _name(sample: Sample) -> str:
    name = "Keep-alive" if sample.keep_alive else "Nouvelle connexion"
    return f"{name}, cookies gardés" if sample.cookies else name


def _title(sample: Sample) -> str:
    done, asked = len(sample.frame), sample.requested
    count = f"{done} requêtes" if done == asked else f"{done} sur {asked} requêtes"
    kept = sample.concurrency
    name, how = "Nouvelle connexion", "une connexion chacune"
    if sample.keep_alive:
        name, how = "Keep-alive", f"{kept} connexion{'s gardées' * (kept > 1) or ' gardée'}"
    return f"{name} : {count},\n{'cookies gardés' if sample.cookies else how}"


def _bars(sample: Sample) -> list[_Bar]:
    """Return a bar a replica, then one of the failures if there are any.

    What is expected is the share of the requests asked for, so that the bars grow towards it.
    """
    import pandas as pd

    table = sample.counts()
    hits = int(table["hits"].sum())
    answers = hits if sample.complete else max(hits, sample.requested - sample.failures)
    bars = []
    for replica, row in table.iterrows():
        node = None if pd.isna(row.replica_node) else str(row.replica_node)
        label = str(replica)[:12] if pd.isna(row.task) else str(row.task)
        if node and not label.endswith(f".{node}"):
            label += f" · {node}"
        bars.append(
            _Bar(str(replica), label, node, int(row.hits), row.share, row.expected * answers)
        )
    if sample.failures:
        bars.append(_Bar("", _FAILURES, None, sample.failures, 0.0, 0.0))
    return bars


def distribution_figure(samples: Sequence[Sample], *, dark: bool = False) -> Figure:
    """Draw the hits of each replica as bars, one panel a sample, all on the same scale.

    Bars have the colour of the replica's node, which their label names too; a dashed line marks the
    expected share; failures have a hatched bar of their own. Two samples are shown side by side,
    for instance new connections beside keep-alive; they may still be growing. The figure is 12
    inches wide, drawn without pyplot: safe in threads and callbacks.
    """
    from matplotlib.figure import Figure

    theme = DARK if dark else LIGHT
    panels = [_bars(sample) for sample in samples]
    most = max(1, *(len(bars) for bars in panels))
    row = 0.42 if most <= _PLENTY else 0.28
    figure = Figure(figsize=(_INCHES, 1.75 + row * max(5, most)), layout="constrained")
    figure.set_facecolor(theme.paper)
    colours = node_colours(b.node for bars in panels for b in bars if b.node)
    end = max(1.0, *(max(b.hits * 1.14, b.expected * 1.35) for bars in panels for b in bars), 1.0)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    titles = []
    for ax, sample, bars in zip(axes, samples, panels, strict=True):
        _panel(ax, bars, colours, theme, rows=most)
        title = ax.set_title(_title(sample), fontsize=_TITLE, color=theme.ink, loc="left", pad=30)
        titles.append(title)
        ax.set_xlim(0, end)
    if len(panels) > 1:  # titles stay within their panels, which long labels make narrow
        figure.draw_without_rendering()
        room = min(
            ax.bbox.width / t.get_window_extent().width for ax, t in zip(axes, titles, strict=True)
        )
        for title in titles if room < 1 else ():
            title.set_fontsize(0.95 * _TITLE * room)
    return figure


def _panel(
    ax: Any, bars: Sequence[_Bar], colours: dict[str, str], theme: Theme, *, rows: int
) -> None:
    size = 15 if rows <= _PLENTY else 10
    ax.set_facecolor(theme.paper)
    for y, bar in enumerate(bars):
        failed = not bar.replica
        color = theme.paper if failed else colours.get(bar.node or "", theme.line)
        edgecolor = FAILURE if failed else theme.ink
        hatch = "//" if failed else None
        ax.barh(
            y, bar.hits, height=0.74, color=color, edgecolor=edgecolor, hatch=hatch, linewidth=1.2
        )
        near = 0.88 * bar.expected < bar.hits < bar.expected  # the mark would cross the number
        ax.annotate(
            str(bar.hits),
            (bar.expected if near else bar.hits, y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            fontweight="bold",
            color=theme.alarm if failed else theme.ink,
            bbox={"facecolor": theme.paper, "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
        if bar.expected:
            ax.plot([bar.expected] * 2, [y - 0.5, y + 0.5], color=theme.ink, lw=2, ls=(0, (4, 2)))
    marked = [bar for bar in bars if bar.expected]
    if marked:
        ax.annotate(
            f"part attendue : {_number(marked[0].expected)}",
            (marked[0].expected, -0.5),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=13,
            color=theme.ink,
        )
    ax.set_yticks(range(len(bars)), [b.label for b in bars], fontsize=size)
    ax.set_ylim(max(rows, 1) - 0.4, -0.6)
    ax.set_xlabel("requêtes", fontsize=14, color=theme.ink)
    ax.tick_params(axis="x", labelsize=13)
    ax.tick_params(colors=theme.ink)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(theme.line)
    if not bars:
        ax.text(0.5, 0.5, "aucun replica", transform=ax.transAxes, ha="center", fontsize=size)


def distribution_html(samples: Sequence[Sample]) -> str:
    """Return the same as a table, with the failures and the test in words; text is escaped."""
    panels = [{bar.replica or _FAILURES: bar for bar in _bars(s)} for s in samples]
    rows: dict[str, _Bar] = {}
    for panel in panels:
        rows |= {key: bar for key, bar in panel.items() if key not in rows}
    if _FAILURES in rows:  # last, whichever panel it came from
        rows[_FAILURES] = rows.pop(_FAILURES)
    head = ["Replica", *(name for s in samples for name in (_name(s), "attendu"))]
    table = (
        [bar.label, *(number for panel in panels for number in _numbers(panel.get(key)))]
        for key, bar in rows.items()
    )
    parts = [numbers_html("Qui a répondu", head, table)]
    for sample in samples:
        if len(sample.frame):
            said = escape(sample.uniformity().sentence)
            parts.append(f"<p><strong>{escape(_name(sample))}.</strong> {said}</p>")
        if sample.failures:
            failed = "".join(
                f"<li>✖ {escape(str(node))} : {escape(str(error))} ({requests} fois)</li>"
                for node, error, requests in sample.errors().itertuples(index=False)
            )
            parts.append(f"<div class='labkit-alarm'>Échecs<ul>{failed}</ul></div>")
    return "".join(parts)


def _numbers(bar: _Bar | None) -> tuple[str, str]:
    if bar is None:
        return "0", "—"
    expected = _number(bar.expected) if bar.expected else "—"
    share = f" ({100 * bar.share:.0f}\u00a0%)" if bar.replica else ""
    return f"{bar.hits}{share}", expected


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0").replace(".", ",")
