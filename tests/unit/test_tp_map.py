"""The map from each line of the TP to the cells that do it: whole, and every cell is there."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
MAP = NOTEBOOKS / "README.md"


def tp_lines() -> dict[int, str]:
    """Return the first words of each line of the TP, without backticks, by its number."""
    text = Path(__file__).with_name("tp_lines.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("# "))
    return {int(number): words.replace("`", "").strip() or "…" for number, words in rows}


def rows(text: str) -> dict[int, tuple[str, list[tuple[str, str]]]]:
    """Return what a map has for each line: the words, and notebook and cell of each link."""
    found: dict[int, tuple[str, list[tuple[str, str]]]] = {}
    for number, words, links in re.findall(r"^\| (\d+) \| (.*) \| (.*) \|$", text, re.MULTILINE):
        assert int(number) not in found, f"line {number} is there twice"
        cells = re.findall(r"\[`[\w-]+`\]\(([^)#]+\.ipynb)#cell-id=([\w-]+)\)", links)
        found[int(number)] = (words.strip("`"), cells)
    return found


def problems(text: str) -> list[str]:
    """Return what is wrong with a map."""
    lines, mapped = tp_lines(), rows(text)
    said = [f"line {n} is not mapped" for n in lines if n not in mapped]
    said += [f"the TP has no line {n}" for n in set(mapped) - set(lines)]
    for number, (words, cells) in mapped.items():
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
    ],
)
def test_a_map_that_is_wrong_is_seen(old: str, new: str, said: str) -> None:
    text = MAP.read_text(encoding="utf-8")
    spoiled = re.sub(old, new, text, flags=re.MULTILINE)
    assert spoiled != text
    assert any(said in problem for problem in problems(spoiled))
