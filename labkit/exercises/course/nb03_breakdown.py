"""The broken stack of the course: its file, a working copy that students repair."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.exercises.copies import write_copy
from labkit.exercises.course.nb02_voting import BROKEN, FILE
from labkit.stacks import services_of
from labkit.state import capture

COPY = "stack-a-debugger.yml"


def stale(text: str) -> str:
    """Return a stack file with the images of before the voting app sent a password."""
    return re.sub(r"(image: examplevotingapp_(?:worker|result)):\S+", r"\1:before", text)


def preparer_panne() -> str:
    """Write the file of the stack to debug beside the notebook; return what was done, in French."""
    text = stale(Path(FILE).read_text(encoding="utf-8"))
    return write_copy(Path(COPY), text, deployed=bool(services_of(capture(), BROKEN)))
