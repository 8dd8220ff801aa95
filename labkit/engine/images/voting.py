"""The voting app's images of before its repair, for the exercise where votes are not counted.

In February 2020 the official image of PostgreSQL began to want a password. The voting app's
stack file was changed, its programs too, but the published images of ``worker`` and ``result``
were not rebuilt: they sent no password, and no vote was counted any more. The course tells the
same story with images tagged ``before``, built from the same Dockerfiles and from sources that
lack one line. Students repair it as one had to: rebuild, and point the stack at the new images.
"""

from __future__ import annotations

from labkit.errors import BuildError

__all__ = ["BEFORE", "before"]

BEFORE = {"worker": "app.py", "worker-lua": "worker.lua", "result": "app.py"}
"""File that differs in the ``before`` image, by directory of ``notebooks/example-voting-app``."""


def before(source: str) -> str:
    """Return a program of the voting app as it was before it sent a password.

    Raises
    ------
    BuildError
        When not exactly one line speaks of the password.
    """
    lines = source.splitlines(keepends=True)
    kept = [line for line in lines if "password" not in line]
    if len(lines) - len(kept) != 1:
        raise BuildError("Le mot de passe n’est pas sur une seule ligne du programme.")
    return "".join(kept)
