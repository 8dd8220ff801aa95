"""Make the slides of the notebooks: what each cell is on the projector.

    python tests/notebooks/slides.py [notebook …]

A section is a slide, a part of it a slide of its own, and so is what no longer fits. Hints are the
presenter's notes; a solution stays folded, and can be run. Running this again changes nothing;
``problems`` says what a presenter could not show.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).parent))
from regenerate import NOTEBOOKS, write

from labkit.demo import unfolded

LINES = 20.0  # of text, that fit on a slide
ALONE = 40.0  # of a cell that has a slide of its own, which then scrolls; outputs aside
CELLS = 7  # on a slide
_ACROSS, _CODE_ACROSS = 88, 104  # characters of a line
_WIDGETS = {"ClusterView": 17.0, "Repartition": 17.0, "Scaler": 6.0, "comparer": 15.0}
_LEFT_OUT = re.compile(r"\*\*Solution\*\*\s*:|### Ce qu’il faut, et où reprendre")
_NOT_SHOWN = re.compile(r"(?:import|from) |Rattrapage\(")

Cell = Mapping[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of them if none is named")
    for path in parser.parse_args().notebooks or sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        for cell, kind in zip(notebook.cells, slide_types(notebook), strict=True):
            cell.metadata["slideshow"] = {"slide_type": kind}
        write(notebook, path)
    return 0


def slide_types(notebook: Mapping[str, Any]) -> list[str]:
    """Return what each cell is: ``slide``, ``subslide``, ``fragment``, ``-``, ``notes``, ``skip``.

    Pure: of the cells alone, whatever their metadata says so far.
    """
    kinds: list[str] = []
    used, shown = 0.0, 0
    for cell in notebook["cells"]:
        kind = _kind(cell, first=not kinds, headed=shown == 1)
        if kind not in ("notes", "skip"):
            if kind in ("slide", "subslide"):
                used, shown = 0.0, 0
            elif used + lines(cell) > LINES or shown == CELLS:
                kind, used, shown = "subslide", 0.0, 0
            used += lines(cell)
            shown += 1
        kinds.append(kind)
    return kinds


def _kind(cell: Cell, *, first: bool, headed: bool) -> str:
    source = cell["source"]
    if cell["cell_type"] == "code":
        if _NOT_SHOWN.match(source):
            return "skip"
        return "-" if headed and re.match(r"[A-Z]\w+\(", source) else "fragment"
    if first or re.match(r"##? ", source):
        return "slide"
    if _LEFT_OUT.match(source):
        return "skip"
    if not unfolded(source).strip():
        return "notes" if "indice (" in source else "fragment"
    return "subslide" if source.startswith("### ") else "fragment"


def lines(cell: Cell) -> float:
    """Return the height of a cell on a slide, in lines of text; an estimate."""
    source = cell["source"]
    if cell["cell_type"] != "code":
        return _prose(unfolded(source)) + 1.5 * ("<details>" in source)
    folded = source.startswith("%%solution")
    height = 0.6 + (1.0 if folded else _height(source, _CODE_ACROSS))
    widget = re.match(r"(\w+)\(", source)
    if widget and widget[1] in _WIDGETS:
        return height + _WIDGETS[widget[1]]
    for output in cell["outputs"]:
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        height += _height(text.rstrip("\n"), _CODE_ACROSS)
    return height


def _prose(markdown: str) -> float:
    height = 0.0
    for line in re.sub(r"\]\([^)]*\)", "", markdown).splitlines():
        if line.startswith("#"):
            height += 2.0
        elif line.startswith("|"):
            widest = max(line.strip("|").split("|"), key=len)
            columns = line.strip("|").count("|") + 1
            height += 1.3 * max(1, ceil(len(widest) / (_ACROSS / columns * 1.5)))
        elif line.strip():
            height += ceil(len(line) / _ACROSS)
        else:
            height += 0.5
    return height


def _height(text: str, across: int) -> float:
    return float(sum(max(1, ceil(len(line) / across)) for line in text.split("\n")))


def slides(notebook: Mapping[str, Any]) -> list[list[Cell]]:
    """Return the cells that each slide shows, notes and what is left out aside."""
    found: list[list[Cell]] = []
    for cell in notebook["cells"]:
        kind = type_of(cell)
        if kind in ("slide", "subslide") or not found:
            found.append([])
        if kind not in ("notes", "skip"):
            found[-1].append(cell)
    return [cells for cells in found if cells]


def type_of(cell: Cell) -> str:
    return str(cell["metadata"].get("slideshow", {}).get("slide_type", ""))


def problems(notebook: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a presenter could not show; pure."""
    for number, cell in enumerate(notebook["cells"]):
        kind, source = type_of(cell), cell["source"]
        if kind not in ("slide", "subslide", "fragment", "-", "notes", "skip"):
            yield f"cell {cell['id']} has no slide type"
        heading = re.match(r"(#{1,3}) ", source) if cell["cell_type"] == "markdown" else None
        if (number == 0 or (heading and len(heading[1]) < 3)) and kind != "slide":
            yield f"cell {cell['id']} is a title that starts no slide"
        if heading and len(heading[1]) == 3 and kind not in ("slide", "subslide", "skip"):
            yield f"cell {cell['id']} is a title in the middle of a slide"
        if (
            source.startswith("<details>")
            and "indice (" in source
            and kind not in ("notes", "skip")
        ):
            yield f"cell {cell['id']} is a hint, and yet shown"
    for cells in slides(notebook):
        alone = len(cells) == 1
        high = sum(lines({**cell, "outputs": []} if alone else cell) for cell in cells)
        if len(cells) > CELLS:
            yield f"the slide of cell {cells[0]['id']} has {len(cells)} cells"
        if high > (ALONE if alone else LINES):
            yield f"the slide of cell {cells[0]['id']} has {high:.0f} lines"


if __name__ == "__main__":
    sys.exit(main())
