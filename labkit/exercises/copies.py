"""Stack files that students edit: working copies beside the notebook, which are never lost."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_copy"]


def write_copy(copy: Path, text: str, *, deployed: bool) -> str:
    """Write a working copy; say in French what was done.

    Parameters
    ----------
    copy
        Where it goes.
    text
        What is in a new one.
    deployed
        Whether its stack is: then a copy that is there is the student's work, and stays. Without
        its stack, a copy that was edited is put aside, under a name of its own.
    """
    if copy.exists() and deployed:
        return f"{copy.name} est là, et sa stack est déployée : votre travail est conservé."
    aside = ""
    if copy.exists() and (before := copy.read_text(encoding="utf-8")) != text:
        kept = _aside(copy, before)
        copy.replace(kept)
        aside = f" L’ancien fichier s’appelle maintenant {kept.name}."
    copy.write_text(text, encoding="utf-8")
    return f"{copy.name} est écrit.{aside}"


def _aside(copy: Path, text: str) -> Path:
    """Return the first name that is free, or that holds the same text already."""
    number = 1
    while True:
        last = f"-{number}" if number > 1 else ""
        kept = copy.with_name(f"{copy.stem}.precedente{last}{copy.suffix}")
        if not kept.exists() or kept.read_text(encoding="utf-8") == text:
            return kept
        number += 1
