"""The map from each line of the TP to the cells that do it: whole, and every cell is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest

from labkit import course

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "notebooks"))

import counting  # noqa: E402

NOTEBOOKS = ROOT / "notebooks"
MAP = NOTEBOOKS / "README.md"
HOW = ("fait", "donné", "lu", "cité")
MAIN = range(8, 80)  # the lines of the TP's main parts
OPTIONAL = {34, 46, 48}  # comments, in these


def tp_lines() -> dict[int, str]:
    """Return the first words of each line of the TP, without backticks, by its number."""
    text = Path(__file__).with_name("tp_lines.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("# "))
    return {int(number): words.replace("`", "").strip() or "…" for number, words in rows}


def rows(text: str) -> dict[int, tuple[str, str, list[tuple[str, str]]]]:
    """Return what a map has for each line: the words, how, notebook and cell of each link."""
    found: dict[int, tuple[str, str, list[tuple[str, str]]]] = {}
    row = re.compile(r"^\| (\d+) \| (.*) \| (\w*) \| (.*) \|$", re.MULTILINE)
    for number, words, how, links in row.findall(text):
        assert int(number) not in found, f"line {number} is there twice"
        cells = re.findall(r"\[`[\w-]+`\]\(([^)#]+\.ipynb)#cell-id=([\w-]+)\)", links)
        found[int(number)] = (words.strip("`"), how, cells)
    return found


def problems(text: str) -> list[str]:
    """Return what is wrong with a map."""
    lines, mapped = tp_lines(), rows(text)
    said = [f"line {n} is not mapped" for n in lines if n not in mapped]
    said += [f"the TP has no line {n}" for n in set(mapped) - set(lines)]
    for number, (words, how, cells) in mapped.items():
        if how not in HOW:
            said.append(f"line {number} does not say how it is done")
        if words != lines.get(number):
            said.append(f"line {number} does not begin with {words!r}")
        if not cells:
            said.append(f"line {number} leads nowhere")
        for name, cell in cells:
            path = NOTEBOOKS / name
            if not path.exists():
                said.append(f"line {number}: there is no {name}")
            elif cell not in {c["id"] for c in nbformat.read(path, as_version=4).cells}:
                said.append(f"line {number}: {name} has no cell {cell}")
    return said


def test_every_line_of_the_tp_has_its_cells() -> None:
    assert problems(MAP.read_text(encoding="utf-8")) == []


def test_a_line_that_is_done_leads_to_what_the_student_does() -> None:
    cells = {
        (path.name, cell.id): cell
        for path in NOTEBOOKS.glob("*.ipynb")
        for cell in course.student(nbformat.read(path, as_version=4)).cells
    }
    for number, (_, how, links) in rows(MAP.read_text(encoding="utf-8")).items():
        if how == "fait":
            asked = [cells[link] for link in links]
            assert any(
                counting.own(c) or re.search(r"\w+\(", c.source) or "mission" in c.source
                for c in asked
            ), f"line {number}"


def test_the_core_path_has_every_line_of_the_main_parts() -> None:
    basic = {
        (path.name, cell.id)
        for path in NOTEBOOKS.glob("*.ipynb")
        for cell, marked in counting.marked(nbformat.read(path, as_version=4).cells)
        if marked or cell.id == "titre" or path.name.startswith("00")
    }
    mapped = rows(MAP.read_text(encoding="utf-8"))
    main = [n for n in mapped if n in MAIN and n not in OPTIONAL]
    assert [n for n in main if not basic & set(mapped[n][2])] == []


def test_the_lines_are_those_of_the_tp() -> None:
    lines = tp_lines()
    assert len(lines) == 87 and list(lines) == sorted(lines) and max(lines) == 147
    assert all(0 < len(words.split()) <= 4 for words in lines.values())


def test_every_notebook_is_named() -> None:
    text = MAP.read_text(encoding="utf-8")
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert f"]({path.name})" in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r"^\| 10 \|.*\n", "", "line 10 is not mapped"),
        (r"#cell-id=init-essai\)", "#cell-id=nowhere)", "has no cell nowhere"),
        (r"01-introduction-a-swarm\.ipynb#", "99-absent.ipynb#", "there is no 99-absent.ipynb"),
        (r"Initialisez Swarm", "Initialiser Swarm", "line 10 does not begin"),
        (r"^(\| 10 \| .* \|) .* \|$", r"\1 — |", "line 10 leads nowhere"),
        (r"^\| 10 \|", "| 11 |", "the TP has no line 11"),
        (r"\| fait \|", "| vu |", "does not say how"),
    ],
)
def test_a_map_that_is_wrong_is_seen(old: str, new: str, said: str) -> None:
    text = MAP.read_text(encoding="utf-8")
    spoiled = re.sub(old, new, text, flags=re.MULTILINE)
    assert spoiled != text
    assert any(said in problem for problem in problems(spoiled))
