"""The verdict of a check: rows of expected, found, and what to try; shown as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labkit.text.french import enumerate_fr
from labkit.text.tables import french_html

_GREEN, _RED = "#0072b2", "#d55e00"  # blue and vermilion: told apart by colour-blind people
_GREY = "#777777"
_MARK = {True: "✔", False: "✘"}
_SKIPPED = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was checked."""

    # what, expected, found: French text for students; no ids, addresses or durations, so that two
    # runs say the same
    what: str
    expected: str
    found: str
    ok: bool  # whether what was found is what was expected
    hint: str = ""  # what to try when it is not

    @classmethod
    def equal(cls, what: str, expected: object, found: object, hint: str = "") -> Row:
        """Make a row that is good when both read the same."""
        return cls(what, str(expected), str(found), str(expected) == str(found), hint)

    @classmethod
    def whether(cls, what: str, expected: str, ok: object, otherwise: str, hint: str = "") -> Row:
        """Make a row that finds what is expected, or else what is the case ``otherwise``."""
        return cls(what, expected, expected if ok else otherwise, bool(ok), hint)

    @classmethod
    def among(
        cls, what: str, expected: str, found: Iterable[str], hint: str = "", none: str = "aucun"
    ) -> Row:
        """Make a row that is good when what is expected is one of the texts that were found."""
        texts = list(found)
        return cls(what, expected, enumerate_fr(texts) or none, expected in texts, hint)

    @classmethod
    def fault(cls, what: str, expected: str, found: str, hint: str = "") -> Row:
        """Make a row of something that is wrong."""
        return cls(what, expected, found, False, hint)

    @classmethod
    def fine(cls, what: str, expected: str, found: str) -> Row:
        """Make a row of something that is good, said in other words than what is expected."""
        return cls(what, expected, found, True)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rows of one check; it shows itself as text or as a table.

    ``skipped`` says in French why nothing could be checked here; that is no success.
    """

    title: str
    rows: tuple[Row, ...] = ()
    skipped: str = ""

    @classmethod
    def of(cls, title: str, rows: Iterable[Row]) -> Verdict:
        """Make a verdict of any iterable of rows."""
        return cls(title, tuple(rows))

    @property
    def ok(self) -> bool:
        """Whether something was checked and all of it is as expected."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def summary(self) -> str:
        """One line, in French."""
        if self.skipped:
            return f"{self.title} : sauté"
        if self.ok:
            return f"{self.title} : réussi"
        wrong = sum(not row.ok for row in self.rows)
        return f"{self.title} : {wrong} point{'s' if wrong > 1 else ''} à revoir"

    def __repr__(self) -> str:
        if self.skipped:
            return f"{_SKIPPED} {self.summary}\n  {self.skipped}"
        lines = [f"{_MARK[self.ok]} {self.summary}"]
        for row in self.rows:
            lines.append(f"  {_MARK[row.ok]} {row.what} : {row.found}")
            if not row.ok:
                lines.append(f"      attendu : {row.expected}")
                if row.hint:
                    lines.append(f"      à essayer : {row.hint}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if self.skipped:
            return (
                f"<div style='border-left:5px solid {_GREY};padding:2px 10px'>"
                f"<strong>{_SKIPPED} {french_html(self.summary)}</strong>"
                f"<p>{french_html(self.skipped)}</p></div>"
            )
        colour = _GREEN if self.ok else _RED
        head = ["", "", "Attendu", "Trouvé"] + ([] if self.ok else ["À essayer"])
        body = []
        for row in self.rows:
            mark = (
                f"<td style='color:{_GREEN if row.ok else _RED};font-weight:bold'>"
                f"{_MARK[row.ok]}</td>"
            )
            texts = [row.what, row.expected, row.found]
            if not self.ok:
                texts.append("" if row.ok else row.hint)
            cells = "".join(f"<td style='text-align:left'>{french_html(t)}</td>" for t in texts)
            body.append(f"<tr>{mark}{cells}</tr>")
        columns = "".join(f"<th scope='col' style='text-align:left'>{h}</th>" for h in head)
        return (
            f"<div style='border-left:5px solid {colour};padding:2px 10px'>"
            f"<strong><span style='color:{colour}'>{_MARK[self.ok]}</span> "
            f"{french_html(self.summary)}</strong>"
            f"<table style='margin-left:0'><thead><tr>{columns}</tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )
