"""Text fit for a terminal: no control characters, which could move and hide it; any encoding."""

import codecs
import contextlib
import io
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

# C0 and C1 but tabs and ends of lines, lines of Unicode's own, directions, halves of characters
_CONTROL = "\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
_NEAREST = {
    "’": "'", "‘": "'", "“": "'", "”": "'", "«": "<<", "»": ">>", "…": "...", "→": "->",
    "←": "<-", "–": "-", "—": "-", "−": "-", "×": "x", "œ": "oe", "Œ": "OE", "æ": "ae",
    "✔": "v", "✘": "x", "⚠": "!", "·": "-", "•": "*", "°": "o", "█": "#",
}  # fmt: skip
_PLAIN = re.compile(_CONTROL)
_COLOURED = re.compile(rf"(\x1b\[[0-9;]*m)|{_CONTROL}")


def plain(text: str, *, colours: bool = False) -> str:
    r"""Return a text that somebody else may have written, "?" for each control character.

    With ``colours``, sequences that do nothing but colour are kept.

    >>> plain("a\x1b]0;title\x07b\n")
    'a?]0;title?b\n'
    """
    if colours:
        return _COLOURED.sub(lambda found: found[1] or "?", text)
    return _PLAIN.sub("?", text)


@contextlib.contextmanager
def plain_stdout() -> Iterator[None]:
    """Make all that is printed plain, whoever wrote it."""
    stream: Any = _Plain(sys.stdout)
    with contextlib.redirect_stdout(stream):
        yield


class _Plain:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(plain(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tolerate() -> None:
    """Let what this process says be shown in any encoding, such as ISO-8859-1."""
    codecs.register_error("labkit", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="labkit")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(map(_shown, error.object[error.start : error.end]))
    return text, error.end


def _shown(character: str) -> str:
    if character in _NEAREST:
        return _NEAREST[character]
    parts = unicodedata.normalize("NFKD", character)
    return parts.encode("ascii", "ignore").decode() or "?"
