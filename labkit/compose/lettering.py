"""How wide a line of text is in DejaVu Sans, letter by letter and on the safe side.

A drawing's boxes are as wide as what is in them, and names of services and images are whatever
somebody wrote: a common width for all letters would let capitals leave their box.
"""

import unicodedata

_WIDTHS = {  # in parts of the size, for plain and for bold type
    "ijlIJ|' ’\u00a0.,:;·": (0.34, 0.40),
    '!ftr()[]/\\-"': (0.47, 0.53),
    "scz_?*`": (0.56, 0.66),
    "EFLT": (0.64, 0.69),
    "ABCKPRSVXYZ": (0.70, 0.78),
    "DGHNOQU&~+=<>#^→": (0.84, 0.88),
    "w": (0.82, 0.93),
    "mM": (0.98, 1.05),
    "W%@…": (1.01, 1.12),
}
_PLAIN = {letter: plain for letters, (plain, _) in _WIDTHS.items() for letter in letters}
_BOLD = {letter: bold for letters, (_, bold) in _WIDTHS.items() for letter in letters}


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return how wide a text is, a little more rather than less."""
    known, usual = (_BOLD, 0.73) if bold else (_PLAIN, 0.64)
    return size * sum(known.get(c) or (usual if c.isascii() else _foreign(c, usual)) for c in text)


def _foreign(letter: str, usual: float) -> float:
    base = unicodedata.normalize("NFD", letter)[0]
    if base.isascii():  # é is no wider than other letters, É no wider than capitals
        return usual if base.islower() else 0.88
    return 1.2


def fit(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """Return a text, cut before its end with an ellipsis if it is wider than its room."""
    if width(text, size, bold=bold) <= room:
        return text
    low, high = 0, len(text) - 1
    while low < high:  # the most letters that fit
        keep = (low + high + 1) // 2
        if width(_cut(text, keep), size, bold=bold) <= room:
            low = keep
        else:
            high = keep - 1
    return _cut(text, low)


def _cut(text: str, keep: int) -> str:
    """Return ``keep`` letters of a text, the last ones among them: numbers are at the end."""
    tail = min(5, keep // 3)
    return f"{text[: keep - tail].rstrip('…')}…{text[len(text) - tail :].lstrip('…')}"
