"""The broken stack of the course: its file, a working copy that students may edit."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.exercises.voting import BROKEN, FILE
from labkit.stacks import services_of
from labkit.state import capture

__all__ = ["COPY", "preparer_panne", "stale", "write_copy"]

COPY = "stack-a-debugger.yml"
_KEPT = "stack-a-debugger.precedente.yml"


def stale(text: str) -> str:
    """Return a stack file with the images of before the voting app sent a password."""
    return re.sub(r"(image: examplevotingapp_(?:worker|result)):\S+", r"\1:before", text)


def write_copy(folder: Path, *, deployed: bool) -> str:
    """Write the working copy into a folder that holds the app; say in French what was done.

    Parameters
    ----------
    folder
        Where the copy goes.
    deployed
        Whether the stack is: then a copy that is there is the student's work, and stays. Without
        its stack, a copy that was edited is put aside.
    """
    copy = folder / COPY
    text = stale((folder / FILE).read_text(encoding="utf-8"))
    if copy.exists() and deployed:
        return f"{COPY} est là, et sa stack est déployée : votre travail est conservé."
    aside = ""
    if copy.exists() and copy.read_text(encoding="utf-8") != text:
        copy.replace(folder / _KEPT)
        aside = f" L’ancien fichier s’appelle maintenant {_KEPT}."
    copy.write_text(text, encoding="utf-8")
    return f"{COPY} est écrit.{aside}"


def preparer_panne() -> str:
    """Write the file of the stack to debug beside the notebook; return what was done, in French.

    Raises
    ------
    EngineNotRunning
    """
    return write_copy(Path(), deployed=bool(services_of(capture(), BROKEN)))
