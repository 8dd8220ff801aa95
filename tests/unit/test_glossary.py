"""A word of Swarm leads to the glossary where a notebook first uses it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "notebooks"))

import glossary  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
V4 = nbformat.v4


def notebook(*texts: str) -> Any:
    return V4.new_notebook(cells=[V4.new_markdown_cell(text) for text in texts])


def test_the_glossary_has_words_in_order() -> None:
    words = glossary.words()
    assert len(words) > 25
    assert sorted(words, key=lambda w: w.casefold().replace("é", "e")) == words
    assert set(glossary.FORMS) <= set(words)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_first_uses_are_linked(path: Path) -> None:
    course = nbformat.read(path, as_version=4)
    assert list(glossary.unlinked(course)) == []
    assert not glossary.link(course)


def test_links_stand_at_the_first_use_that_everybody_reads() -> None:
    page = notebook(
        "## Le quorum",
        "`quorum` <details><summary>x</summary>quorum</details> [le quorum](a.md)",
        "Le **quorum**, puis des nœuds et un quorum.",
    )
    assert glossary.link(page)
    assert page.cells[2].source == (
        "Le **[quorum](glossaire.md#quorum)**, puis des [nœuds](glossaire.md#node) et un quorum."
    )
    assert list(glossary.unlinked(page)) == []
    assert not glossary.link(page)  # again changes nothing


def test_a_link_follows_the_first_use() -> None:
    page = notebook("Rien.", "Un [quorum](glossaire.md#quorum).")
    page.cells[0].source = "Un quorum."
    assert list(glossary.unlinked(page)) == [
        f"cell {page.cells[0].id} uses quorum before cell {page.cells[1].id} links it"
    ]
    glossary.link(page)
    assert [c.source for c in page.cells] == ["Un [quorum](glossaire.md#quorum).", "Un quorum."]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Un quorum.", "uses quorum, which nothing links"),
        ("[quorum](glossaire.md#quorum) [quorum](glossaire.md#quorum)", "quorum is linked 2 times"),
    ],
)
def test_what_is_not_linked_once_is_seen(text: str, said: str) -> None:
    (problem,) = glossary.unlinked(notebook(text))
    assert problem.endswith(said)


@pytest.mark.parametrize("text", ["L’objet Ingress", "sous-réseau x/service", "docker-stack.yml"])
def test_what_is_another_word_is_left_alone(text: str) -> None:
    assert list(glossary.unlinked(notebook(text))) == []
