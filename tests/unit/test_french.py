"""French: what students read is spelled and set as in a printed book.

Words are looked up by hunspell with its French dictionary, and in ``french.txt``: the words of the
field, the names, and the few English words that the course quotes.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted((ROOT / "notebooks").glob("*.md"))
FIELD = Path(__file__).with_name("french.txt")

_CODE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|<kbd>.*?</kbd>|<[^>]+>|https?://\S+", re.DOTALL)
_QUOTED = re.compile(r"« [^»]*»")  # in messages: commands, names, what the student wrote
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*['’]?")
_TECHNICAL = re.compile(r"\S*(?:[\w]\.[\w]|[/_=]|\d|^--?\w)\S*")
_FRENCH = re.compile(r"[éèàçêâîôûù«]|\w’\w")
_ELIDED = re.compile(r"^(?:[cdjlmnst]|qu)'", re.IGNORECASE)
_SPACE = "\u00a0\u202f"


def prose(markdown: str) -> str:
    """Return what a reader reads: no code, no targets of links, no tags."""
    stand_ins = {"`": " x", "]": ""}
    return _CODE.sub(lambda m: stand_ins.get(m[0][0], " "), markdown)


def messages(path: Path) -> Iterator[str]:
    """Yield the French texts of a module that are not its docstrings, or of a table in YAML."""
    for text in strings(path):
        if _FRENCH.search(text):
            yield _QUOTED.sub(" ", prose(text))


def strings(path: Path) -> Iterator[str]:
    if path.suffix == ".yml":
        tokens = yaml.scan(path.read_text(encoding="utf-8"))
        yield from (token.value for token in tokens if isinstance(token, yaml.ScalarToken))
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text and id(node) not in docstrings:
            yield node.value


def misspelled(texts: Iterable[str]) -> set[str]:
    """Return the words that neither the dictionary nor the field's list knows."""
    words: set[str] = set()
    for text in texts:
        words.update(_WORD.findall(_TECHNICAL.sub(" ", text)))
    known = set(FIELD.read_text(encoding="utf-8").split())
    plain = {_ELIDED.sub("", word.replace("’", "'")) for word in words}
    said = subprocess.run(
        ["hunspell", "-d", "fr_FR", "-i", "utf-8", "-l"],
        input="\n".join(sorted(plain)),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return {word for word in said if not {word, word.lower()} & known}


def badly_set(markdown: str) -> list[str]:
    """Return the places where a French printer would shake his head."""
    text = re.sub(r"^\|?[\s:|-]+\|?$", "", prose(markdown), flags=re.MULTILINE)
    rules = (
        rf"[^\s{_SPACE}|:] [:;!?»]",  # a space that may break before a high sign
        r"[^\W\d_][;!?»](?=\s|$)",  # none at all
        rf"« (?=\S)|«(?=[^\s{_SPACE}])",
        r"\w'\w",
        r"\.\.\.",
    )
    return [
        text[max(0, m.start() - 20) : m.end() + 10].strip()
        for rule in rules
        for m in re.finditer(rule, text)
    ]


def cells(path: Path) -> dict[str, str]:
    """Return the Markdown of a notebook by cell, or that of a page."""
    if path.suffix == ".md":
        return {path.stem: path.read_text(encoding="utf-8")}
    notebook = nbformat.read(path, as_version=4)
    return {c["id"]: c.source for c in notebook.cells if c.cell_type == "markdown"}


needs_hunspell = pytest.mark.skipif(
    not shutil.which("hunspell"), reason="needs hunspell and its French dictionary"
)


@needs_hunspell
@pytest.mark.parametrize("path", NOTEBOOKS + PAGES, ids=lambda p: p.name)
def test_pages_are_spelled(path: Path) -> None:
    assert misspelled(map(prose, cells(path).values())) == set()


@needs_hunspell
def test_messages_are_spelled() -> None:
    files = [p for p in (ROOT / "labkit").rglob("*") if p.suffix in (".py", ".yml")]
    texts = [text for path in files for text in messages(path)]
    assert len(texts) > 500
    assert misspelled(texts) == set()


@needs_hunspell
def test_a_wrong_word_is_seen() -> None:
    assert misspelled(["Le managre décide, dans l’Swarm de node1."]) == {"managre"}
    assert misspelled([prose("`xyzzy` et [page](plugh.md)")]) == set()


@pytest.mark.parametrize("path", NOTEBOOKS + PAGES, ids=lambda p: p.name)
def test_pages_are_set_as_french_is(path: Path) -> None:
    wrong = {name: badly_set(text) for name, text in cells(path).items()}
    assert {name: places for name, places in wrong.items() if places} == {}


@pytest.mark.parametrize(
    "text", ["Ah !", "Ah!", "« ah\u00a0»", "«ah\u00a0»", "l'eau", "etc...", "un : deux"]
)
def test_bad_setting_is_seen(text: str) -> None:
    assert badly_set(text)


@pytest.mark.parametrize(
    "text",
    ["Ah\u00a0!", "«\u00a0ah\u00a0»", "l’eau", "`a ! b`", "| a | b |\n|:---|---|\n| : | c |"],
)
def test_good_setting_is_left_alone(text: str) -> None:
    assert badly_set(text) == []
