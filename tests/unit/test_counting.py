"""What the course asks of its students stays within bounds; these only ever get tighter."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "notebooks"))

import counting  # noqa: E402

README = counting.NOTEBOOKS / "README.md"

MOST_WORDS = 15_000  # of the whole course
LEAST_OWN = 0.38  # of the cells of code: the student types them
MOST_WIDGETS = 0.25  # of the cells of code: widgets, predictions and checks
CORE_PATH = 200  # minutes, of notebooks 01, 02, 04, 05 and 05b
MOST_HELPERS = 15  # names that a student reads beside docker's


def test_what_the_course_asks(capsys: pytest.CaptureFixture[str]) -> None:
    counting.main()
    with capsys.disabled():
        print("\n" + capsys.readouterr().out)
    found = [counting.count(path) for path in sorted(counting.NOTEBOOKS.glob("*.ipynb"))]
    code = sum(c.code for c in found)
    assert sum(c.words for c in found) <= MOST_WORDS
    assert sum(c.own for c in found) >= LEAST_OWN * code
    assert sum(c.widgets for c in found) <= MOST_WIDGETS * code
    assert len(frozenset[str]().union(*(c.helpers for c in found))) <= MOST_HELPERS
    assert sum(c.basic for c in found) <= CORE_PATH


@pytest.mark.parametrize("path", sorted(counting.NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.name)
def test_a_notebook_says_how_long_it_takes(path: Path) -> None:
    counted = counting.count(path)
    head = nbformat.read(path, as_version=4).cells[0].source
    said = [int(n) for n in re.findall(r"(\d+)\smin\b", head)]
    wanted = [counted.basic, counted.minutes] if counted.basic else [counted.minutes]
    assert said == [pytest.approx(minutes, abs=6) for minutes in wanted]
    listed = re.search(rf"\({re.escape(path.name)}\)(.*)$", README.read_text(), re.MULTILINE)
    assert listed and [int(n) for n in re.findall(r"(\d+)\smin\b", listed[1])] == said


def test_a_mark_holds_until_the_next() -> None:
    texts = ["# Titre", "## A\n\n*Parcours de base*", "…", "### B\n\n*Pour aller plus loin*", "…"]
    cells = [nbformat.v4.new_markdown_cell(text) for text in texts]
    assert [basic for _, basic in counting.marked(cells)] == [False, True, True, False, False]


def test_words_are_those_that_are_read() -> None:
    text = "L’état [voulu](glossaire.md#état-voulu)\n\n```yaml\na: b\n```\n<details>fin</details>"
    assert counting.words(text) == 3
