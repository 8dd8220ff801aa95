"""Link each word of the glossary where a notebook first uses it.

    python tests/notebooks/glossary.py [notebook …]

A first use stands in the text that everybody reads: not in a heading, code, a folded part, or the
text of another link. Running this again changes nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).parent))
from regenerate import NOTEBOOKS, write

from labkit.demo import unfolded

PAGE = "glossaire.md"
# how prose says a word, where that is more than the word and its plural
FORMS = {
    "contrainte de placement": r"contraintes?(?: de placement| par label)?",
    "état voulu": r"états? voulus?",
    "ingress": r"(?-i:ingress)",  # Kubernetes has an Ingress of its own
    "jeton d’adhésion": r"jetons?(?: d’adhésion)?",
    "node": r"nœuds?|nodes?",
    "préférence de placement": r"préférences?(?: de placement)?",
    "routing mesh": r"(?:routing )?mesh",
    "update": r"mises? à jour(?: progressives?)?",
}
_HIDDEN = re.compile(
    r"```.*?```|`[^`]*`|<[^>]+>|^#+ [^\n]*$|!?\[[^\]]*\]\([^)]*\)",
    re.DOTALL | re.MULTILINE,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of them if none is named")
    for path in parser.parse_args().notebooks or sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if link(notebook):
            write(notebook, path)
            print(f"{path.name} : fait")
    return 0


def words() -> list[str]:
    """Return the words that the glossary explains: its headings."""
    page = (NOTEBOOKS / PAGE).read_text(encoding="utf-8")
    return re.findall(r"^## (.+)$", page, re.MULTILINE)


def anchor(word: str) -> str:
    """Return the target of a link to a word, as JupyterLab names headings."""
    return f"{PAGE}#{word.replace(' ', '-')}"


def pattern(word: str) -> re.Pattern[str]:
    form = FORMS.get(word, rf"{re.escape(word)}s?")
    return re.compile(rf"(?<![\w\-/.])(?:{form})(?![\w\-/])", re.IGNORECASE)


def first_use(notebook: Mapping[str, Any], word: str) -> tuple[Any, int, int] | None:
    """Return the cell of a word's first use, and where in its source it begins and ends."""
    searched = pattern(word)
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        prose = unfolded(cell["source"], "\0")
        prose = _HIDDEN.sub(lambda m: "\0" * len(m[0]), prose)
        if found := searched.search(prose):
            return cell, found.start(), found.end()
    return None


def unlinked(notebook: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words that a notebook uses before it links them, or links twice; pure."""
    prose = [c for c in notebook["cells"] if c["cell_type"] == "markdown"]
    for word in words():
        target = f"]({anchor(word)})"
        linked = [c for c in prose for _ in range(c["source"].count(target))]
        use = first_use(notebook, word)
        if len(linked) > 1:
            yield f"{word} is linked {len(linked)} times"
        if use is None:
            continue
        cell, start, _ = use
        if not linked:
            yield f"cell {cell['id']} uses {word}, which nothing links"
        elif (prose.index(linked[0]), linked[0]["source"].index(target)) > (
            prose.index(cell),
            start,
        ):
            yield f"cell {cell['id']} uses {word} before cell {linked[0]['id']} links it"


def link(notebook: Mapping[str, Any]) -> bool:
    """Link the first uses; return whether that changed anything."""
    before = [cell["source"] for cell in notebook["cells"]]
    for word in words():
        target = f"]({anchor(word)})"
        for cell in notebook["cells"]:  # a link that is no longer the first goes
            if cell["cell_type"] == "markdown" and target in cell["source"]:
                plain = re.compile(r"\[([^\]]*)" + re.escape(target))
                cell["source"] = plain.sub(r"\1", cell["source"])
        if use := first_use(notebook, word):
            cell, start, end = use
            text = cell["source"]
            cell["source"] = f"{text[:start]}[{text[start:end]}{target}{text[end:]}"
    return before != [cell["source"] for cell in notebook["cells"]]


if __name__ == "__main__":
    sys.exit(main())
