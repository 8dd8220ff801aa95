"""French as it is written."""

from collections.abc import Sequence

NARROW = "\u202f"  # the no-break space inside numbers and before « ; ? ! »


def enumerate_fr(parts: Sequence[str]) -> str:
    """Join texts as French does: ``a, b et c``."""
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " et " + parts[-1]


def number(value: float, digits: int = 0) -> str:
    """Return a number as French writes it."""
    if digits == 0 and value != int(value):
        return f"{value:g}".replace(".", ",")
    return f"{value:,.{digits}f}".replace(",", NARROW).replace(".", ",")


def percent(share: float) -> str:
    """Return a share as a percentage."""
    if share < 0.001:
        return "moins de 0,1\u00a0%"
    if share > 0.999:
        return "plus de 99,9\u00a0%"
    return f"{number(100 * share, 1)}\u00a0%"


def plural(count: int, word: str) -> str:
    """Return a number with its word, such as ``3 requêtes``."""
    return f"{number(count)}\u00a0{word}{'s' if count > 1 else ''}"
