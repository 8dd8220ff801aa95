"""Every notebook can be shown as slides; and the rule that says so can fail."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "notebooks"))

import slides  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
INTRO = ROOT / "notebooks" / "01-introduction-a-swarm.ipynb"
V4 = nbformat.v4


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def cell(notebook: Any, name: str) -> Any:
    return next(c for c in notebook.cells if c["id"] == name)


def kinds(*cells: Any) -> list[str]:
    return slides.slide_types(V4.new_notebook(cells=list(cells)))


text, code = V4.new_markdown_cell, V4.new_code_cell


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_can_be_shown(path: Path) -> None:
    notebook = read(path)
    assert list(slides.problems(notebook)) == []
    assert len(slides.slides(notebook)) > 5


def test_titles_begin_slides_and_what_follows_comes_one_by_one() -> None:
    assert kinds(
        text("# Titre"), text("## Partie"), code("predire()"), text("### Suite"), code("x"),
        text("Texte"),
    ) == ["slide", "slide", "fragment", "subslide", "fragment", "fragment"]  # fmt: skip


def test_hints_are_notes_and_preparations_are_left_out() -> None:
    assert kinds(
        text("# Titre"), code("import time"), code("Rattrapage('x')"), code("# À vous"),
        text("<details><summary>Un indice (1/2)</summary>x</details>"),
        text("**Solution**\u00a0: la barre"), code("%%solution x\ny"),
    ) == ["slide", "skip", "skip", "fragment", "notes", "skip", "fragment"]  # fmt: skip


def test_what_does_not_fit_begins_a_slide() -> None:
    long = "\n\n".join(["Une ligne."] * 9)
    assert kinds(text("# Titre"), text(long), text(long)) == ["slide", "fragment", "subslide"]
    assert kinds(text("# Titre"), *[code("x") for _ in range(8)])[6:] == [
        "fragment",
        "subslide",
        "fragment",
    ]


def test_cells_and_outputs_have_a_height() -> None:
    def out(printed: str) -> Any:
        output = V4.new_output("stream", name="stdout", text=printed)
        return code("x", outputs=[output])

    assert slides.lines(out("a\nb\nc\n")) - slides.lines(code("x")) == pytest.approx(3)
    assert slides.lines(text("mot " * 100)) > slides.lines(text("mot"))
    assert slides.lines(code("ClusterView()")) > 10
    assert slides.lines(code("%%solution x\n" + "y\n" * 30)) < 3  # folded


def _type(name: str, kind: str) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        cell(notebook, name)["metadata"]["slideshow"] = {"slide_type": kind}

    change.__name__ = f"{name}-{kind or 'none'}"
    return change


def _one_slide(notebook: Any) -> None:
    for c in notebook.cells[1:]:
        c["metadata"]["slideshow"] = {"slide_type": "fragment"}


def _long(notebook: Any) -> None:
    cell(notebook, "orchestrer")["source"] += "\n\nEncore." * 60


@pytest.mark.parametrize(
    "spoil",
    [
        _type("vue", ""),
        _type("titre", "-"),
        _type("creer", "fragment"),
        _type("ps", "fragment"),
        _type("init-indices", "fragment"),
        _one_slide,
        _long,
    ],
    ids=lambda f: f.__name__,
)
def test_what_could_not_be_shown_is_seen(spoil: Callable[[Any], None]) -> None:
    notebook = copy.deepcopy(read(INTRO))
    spoil(notebook)
    assert list(slides.problems(notebook)) != []
