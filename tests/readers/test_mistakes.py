"""The likeliest mistakes: each gets a message that says what mends it, and that does mend it.

Typed on a real cluster, as in a cell. What is said is docker's answer, and the check's « à
essayer ». The mending commands have to be in it, and afterwards the check has to pass.
The rows of README.md's table are left in ``artefacts/mistakes``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mistakes import MISTAKES, Mistake, commit, row, said_to_mend
from student import new_account

import labkit

ROWS = Path(__file__).parents[2] / "artefacts/mistakes"

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with new_account() as environment:
        labkit.up(quiet=True)
        yield Path(environment["HOME"]) / "notebooks"
        labkit.down()


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.notebook}-{m.exercise}")
def test_the_message_names_what_mends_it(
    mistake: Mistake, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    met = commit(mistake)
    ROWS.mkdir(parents=True, exist_ok=True)
    (ROWS / f"{MISTAKES.index(mistake):02}").write_text(f"{row(mistake, met)}\n")
    assert not met.before.ok, "it is a mistake"
    assert said_to_mend(mistake, met) == [], met.message
    assert met.after.ok, f"{met.message}\n---\n{met.after!r}"
