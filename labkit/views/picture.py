"""A picture as data: boxes and lines of text, written as SVG or drawn by matplotlib.

One layout gives both the live view (SVG, sharp at any size, readable by screen readers) and
the static one (PNG, shown where no kernel and no widgets are).
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # only the static picture needs it: the voting app's visualizer shows SVG
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

_SANS = "'DejaVu Sans', Verdana, 'Segoe UI', sans-serif"
_DASHES = {"dashed": (7, 5), "dotted": (2, 4)}
_NARROW = dict.fromkeys(map(ord, "iIjl.,:;'|!()[]’ \u00a0"))  # letters, as translate drops them
_NARROW_WIDTH = 0.55  # of another letter's
_HATCH = 9  # distance of hatching lines


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; ``x`` and ``y`` are its upper left corner, in the picture's units."""

    x: float
    y: float
    width: float
    height: float
    fill: str  # colour
    stroke: str = ""  # colour; empty draws no border
    border: str = "solid"  # solid | dashed | dotted | thick
    hatch: str = ""  # colour of slanted lines over the box; empty for none
    radius: float = 6  # of the corners
    tip: str = ""  # what a pointer resting on it, or a screen reader, is told
    opacity: float = 1.0  # from 0 to 1, of the fill


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text; ``y`` is the baseline, ``size`` the height of the type."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    bold: bool = False
    anchor: str = "start"  # start | middle | end


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes in the order in which they are painted, on ``width`` × ``height`` units."""

    width: float
    height: float
    background: str
    shapes: tuple[Box | Text, ...]
    title: str
    description: str = ""

    def svg(self) -> str:
        """Return the picture as SVG that fills the width it is given; all text is escaped."""
        hatches = sorted({s.hatch for s in self.shapes if isinstance(s, Box) and s.hatch})
        defs = "".join(_svg_hatch(colour) for colour in hatches)
        body = "".join(_svg_box(s) if isinstance(s, Box) else _svg_text(s) for s in self.shapes)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
            f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" '
            f'style="width:100%;height:auto;display:block" font-family="{_SANS}">'
            f"<title>{_xml(self.title)}</title><desc>{_xml(self.description)}</desc>"
            f"<defs>{defs}</defs>"
            f'<rect width="100%" height="100%" fill="{self.background}"/>{body}</svg>'
        )

    def figure(self, *, inches: float = 12.0) -> Figure:
        """Draw the picture; ``inches`` is the width of the figure."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(inches, inches * self.height / self.width))
        figure.set_facecolor(self.background)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        axes.set_axis_off()
        point = 72 * inches / self.width  # points in one unit
        for order, shape in enumerate(self.shapes):
            if isinstance(shape, Box):
                for patch in _patches(shape, point):
                    patch.set_zorder(order)
                    axes.add_patch(patch)
            else:
                anchor = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
                axes.text(
                    shape.x, shape.y, shape.text.replace("$", r"\$"), family="DejaVu Sans",
                    fontsize=shape.size * point, weight="bold" if shape.bold else "normal",
                    color=shape.colour, ha=anchor, va="baseline", zorder=order,
                )  # fmt: skip
        return figure


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Estimate the width of a line of text, on the safe side."""
    wide = len(text.translate(_NARROW))
    return size * (0.68 if bold else 0.62) * (wide + _NARROW_WIDTH * (len(text) - wide))


def fit(text: str, size: float, width: float, *, bold: bool = False) -> str:
    """Return the text, cut in the middle with an ellipsis if it is wider than ``width``.

    The end is kept, because that is where a task has its number.
    """
    if text_width(text, size, bold=bold) <= width:
        return text
    letter = text_width("m", size, bold=bold)
    keep = min(len(text) - 1, int(width / (letter * _NARROW_WIDTH)))  # no more can fit
    while keep > 2:
        tail = min(5, keep // 3)
        short = f"{text[: keep - tail]}…{text[len(text) - tail :]}"
        if text_width(short, size, bold=bold) <= width:
            return short
        keep -= 1
    return text[:1] + "…"


def wrap(text: str, size: float, width: float, lines: int, *, bold: bool = False) -> list[str]:
    """Break text into at most ``lines`` lines; the last ends in an ellipsis if some is left."""
    result: list[str] = []
    line = ""
    words = text.split(" ")
    for i, word in enumerate(words):
        longer = f"{line} {word}".strip()
        if text_width(longer, size, bold=bold) <= width or not line:
            line = longer
            continue
        if len(result) == lines - 1:
            return [*result, _end(" ".join([line, *words[i:]]), size, width, bold)]
        result.append(_end(line, size, width, bold))
        line = word
    return [*result, _end(line, size, width, bold)] if line else result


def _end(text: str, size: float, width: float, bold: bool) -> str:
    if text_width(text, size, bold=bold) <= width:
        return text
    while text and text_width(text + "…", size, bold=bold) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def join(parts: Iterable[str]) -> str:
    """Join the parts that are not empty with a middle dot."""
    return " · ".join(p for p in parts if p)


# -- SVG ------------------------------------------------------------------------------------


def _n(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def _xml(text: str) -> str:
    """Escape text, and drop the control characters that XML forbids."""
    return escape(re.sub(r"[\x00-\x1f\x7f]", " ", text))


def _hatch_id(colour: str) -> str:
    return f"labkit-hatch-{colour.lstrip('#')}"


def _svg_hatch(colour: str) -> str:
    return (
        f'<pattern id="{_hatch_id(colour)}" width="{_HATCH}" height="{_HATCH}" '
        f'patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<line x1="0" y1="0" x2="0" y2="{_HATCH}" stroke="{colour}" stroke-width="3" '
        f'stroke-opacity="0.35"/></pattern>'
    )


def _svg_box(box: Box) -> str:
    place = (
        f'x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}" '
        f'rx="{_n(box.radius)}"'
    )
    stroke = ""
    if box.stroke:
        stroke = f' stroke="{box.stroke}" stroke-width="{3.5 if box.border == "thick" else 2}"'
        if box.border in _DASHES:
            on, off = _DASHES[box.border]
            stroke += f' stroke-dasharray="{on} {off}"'
    tip = f"<title>{_xml(box.tip)}</title>" if box.tip else ""
    opacity = f' fill-opacity="{_n(box.opacity, 2)}"' if box.opacity < 1 else ""
    svg = f'<rect {place} fill="{box.fill}"{opacity}{stroke}>{tip}</rect>'
    if box.hatch:
        svg += f'<rect {place} fill="url(#{_hatch_id(box.hatch)})" pointer-events="none"/>'
    return svg


def _svg_text(text: Text) -> str:
    weight = ' font-weight="bold"' if text.bold else ""
    anchor = f' text-anchor="{text.anchor}"' if text.anchor != "start" else ""
    return (
        f'<text x="{_n(text.x)}" y="{_n(text.y)}" font-size="{_n(text.size)}" '
        f'fill="{text.colour}"{weight}{anchor} pointer-events="none">{_xml(text.text)}</text>'
    )


# -- matplotlib -----------------------------------------------------------------------------


def _patches(box: Box, point: float) -> list[FancyBboxPatch]:
    from matplotlib.patches import FancyBboxPatch

    line = (3.5 if box.border == "thick" else 2) * point

    def patch(**options: Any) -> FancyBboxPatch:
        style = f"round,pad=0,rounding_size={box.radius}"
        return FancyBboxPatch((box.x, box.y), box.width, box.height, boxstyle=style, **options)

    patches = [patch(facecolor=box.fill, alpha=box.opacity, linewidth=0)]
    if box.hatch:
        patches.append(
            patch(facecolor="none", edgecolor=box.hatch, hatch="//", linewidth=0, alpha=0.5)
        )
    if box.stroke:
        style: Any = "solid"
        if box.border in _DASHES:
            on, off = _DASHES[box.border]
            style = (0, (on * point / line, off * point / line))
        patches.append(
            patch(facecolor="none", edgecolor=box.stroke, linewidth=line, linestyle=style)
        )
    return patches


def png_text(figure: Figure, *, dpi: int = 80) -> str:
    """Return a figure as PNG in base64, for where no widget can be shown."""
    return base64.b64encode(png(figure, dpi=dpi)).decode()


def png(figure: Figure, *, dpi: int) -> bytes:
    """Return a figure as PNG that is the same for the same picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
