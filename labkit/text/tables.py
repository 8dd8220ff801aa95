"""Tables, for the terminal and for the notebook."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from itertools import zip_longest

_WIDTH = 110  # characters of a line in a terminal
_WORD = 38  # characters of a word that is not broken if that can be helped
_LEAST = 8  # characters of a column


def table_text(head: Sequence[str], rows: Sequence[Sequence[str]], width: int = _WIDTH) -> str:
    """Return a table for a terminal; cells are wrapped so that it fits in ``width``."""
    cells = [[_plain(c) for c in row] for row in (head, *rows)]
    widths = [max(1, *map(len, column)) for column in zip(*cells, strict=True)]
    room = width - 2 * (len(widths) - 1)
    # words are kept whole while there is a column that can do with less
    words = [max((len(w) for c in column for w in re.split(r"[ /→]", c)), default=0)
             for column in zip(*cells, strict=True)]  # fmt: skip
    for floors in ([min(word, _WORD) for word in words], [_LEAST] * len(widths)):
        while sum(widths) > room:
            spare = [w if w > floor else 0 for w, floor in zip(widths, floors, strict=True)]
            if not any(spare):
                break
            widths[spare.index(max(spare))] -= 1
    lines = [*_lines(cells[0], widths), "  ".join("─" * w for w in widths)]
    for row in cells[1:]:
        lines += _lines(row, widths)
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return text without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\u00a0" else " " for c in text)


def _lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    wrapped = [
        textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
        for cell, width in zip(row, widths, strict=True)
    ]
    return [
        "  ".join(map(str.ljust, line, widths)).rstrip()
        for line in zip_longest(*wrapped, fillvalue="")
    ]


def french_html(text: str) -> str:
    """Return a French sentence as HTML; no line of it begins with its ``?`` or ``:``."""
    return re.sub(r" (?=[?:](?:\s|$))", "\u00a0", escape(text))


def table_html(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a notebook; ``caption`` is HTML, the rest is escaped."""
    cells = "".join(f"<th scope='col' style='text-align:left'>{escape(h)}</th>" for h in head)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{escape(c)}</td>" for c in row) + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption style='text-align:left'>{caption}</caption>"
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
    )


def numbers_html(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of named rows of numbers, which ``.n`` styles; all but ``caption`` is text."""
    first, *others = map(escape, head)
    columns = "".join(f"<th scope='col' class='n'>{name}</th>" for name in others)
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>"
        + "".join(f"<td class='n'>{escape(number)}</td>" for number in numbers)
        + "</tr>"
        for name, *numbers in rows
    )
    return (
        f"<table><caption>{caption}</caption><thead><tr><th scope='col'>{first}</th>{columns}</tr>"
        f"</thead><tbody>{body}</tbody></table>"
    )


def named_html(rows: Iterable[tuple[str, str]], caption: str = "") -> str:
    """Return a table of names and values for a notebook; all is HTML already."""
    body = "".join(
        f"<tr><th scope='row' style='text-align:left'>{name}</th>"
        f"<td style='text-align:left'>{value}</td></tr>"
        for name, value in rows
    )
    head = f"<caption style='text-align:left'>{caption}</caption>" if caption else ""
    return f"<table style='margin-left:0'>{head}<tbody>{body}</tbody></table>"
