"""Catch-up: what stands before a section is enough to work in it."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from labkit.errors import SettingError
from labkit.exercises import EXERCISES, Rattrapage, catchup, rattraper
from labkit.exercises.catchup import CatchupStep, headings, sections, steps_before
from labkit.verdict import Row, Verdict

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("0[1-9]*.ipynb"))
OWN = {"get_ipython", "display", "__builtins__", *dir(__import__("builtins"))}


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def names(source: str) -> tuple[set[str], set[str]]:
    """Return the names that a cell uses before it sets them, and those that it sets."""
    if source.startswith("%%"):
        return set(), set()
    used: set[str] = set()
    made: set[str] = set()
    for statement in ast.parse(TransformerManager().transform_cell(source)).body:
        nodes = [n for n in ast.walk(statement) if isinstance(n, ast.Name)]
        inner = {n.id for n in nodes if isinstance(n.ctx, ast.Store)}
        inner |= {n.arg for n in ast.walk(statement) if isinstance(n, ast.arg)}
        loaded = {n.id for n in nodes if isinstance(n.ctx, ast.Load)}
        used |= loaded - made - inner
        made |= inner
        if isinstance(statement, ast.Import | ast.ImportFrom):
            made |= {(a.asname or a.name).partition(".")[0] for a in statement.names}
        if isinstance(statement, ast.FunctionDef):
            made.add(statement.name)
    return used - OWN, made


def missing(notebook: Any, section: str) -> set[str]:
    """Return the names that cells from a section on use and that a catch-up does not set."""
    have: set[str] = set()
    for step in steps_before(notebook, section):
        used, made = names(step.source)
        assert used <= have, f"{step.cell} uses {used - have}"
        have |= made
    wanted: set[str] = set()
    inside = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            inside = inside or section in headings(cell)
        elif inside:
            used, made = names(cell.source)
            wanted |= used - have
            have |= made
    return wanted


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_section_finds_every_name_that_it_uses(path: Path) -> None:
    notebook = read(path)
    titles = sections(notebook)
    assert len(titles) >= 3
    assert {title: missing(notebook, title) for title in titles} == {
        title: set() for title in titles
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_every_notebook_offers_it_and_says_what_it_needs(path: Path) -> None:
    cells = read(path).cells
    at = next(i for i, c in enumerate(cells) if c["id"] == "rattrapage")
    assert cells[at].source == f'Rattrapage("{path.name}")'
    assert "**Ce notebook demande**" in cells[at - 1].source


def test_steps_are_exercises_of_the_course() -> None:
    for path in NOTEBOOKS:
        notebook = read(path)
        steps = steps_before(notebook, sections(notebook)[-1])
        assert {s.exercise for s in steps} - {None} <= set(EXERCISES)


def _notebook() -> Any:
    new = nbformat.v4
    cells = [
        new.new_markdown_cell("# Title\n\n## Before everything"),
        new.new_code_cell("import os", id="imports"),
        new.new_code_cell("%%etape initialiser\ndocker swarm init", id="init"),
        new.new_markdown_cell("## Measure `it`"),
        new.new_code_cell("1 + 1", id="plain"),
        new.new_code_cell("measure = 1", id="kept", metadata={"tags": ["rattrapage"]}),
        new.new_code_cell(
            "%%solution supprimer\ntrue", id="left", metadata={"tags": ["sans-suite"]}
        ),
        new.new_markdown_cell("### Not a section\n\n## Use it"),
        new.new_code_cell("measure", id="use"),
        new.new_markdown_cell("## Nothing to run"),
    ]
    return new.new_notebook(cells=cells)


def test_sections_have_steps_before_and_cells_after() -> None:
    assert sections(_notebook()) == ("Measure it", "Use it")
    assert sections(new_notebook := nbformat.v4.new_notebook()) == ()
    assert steps_before(new_notebook, "Use it") == ()


def test_steps_keep_their_order_and_leave_experiments_out() -> None:
    assert steps_before(_notebook(), "Use it") == (
        CatchupStep("imports", "import os"),
        CatchupStep("init", "%%etape initialiser\ndocker swarm init", "initialiser"),
        CatchupStep("kept", "measure = 1"),
    )
    assert steps_before(_notebook(), "unknown") == ()


def test_a_missing_name_is_seen() -> None:
    notebook = _notebook()
    assert missing(notebook, "Use it") == set()
    notebook.cells[5].metadata["tags"] = []
    assert missing(notebook, "Use it") == {"measure"}


def test_wrong_names_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="ne peut pas être lu") as raised:
        Rattrapage("absent.ipynb")
    assert "renommé" in raised.value.remedy
    Path("text.ipynb").write_text("no notebook", encoding="utf-8")
    with pytest.raises(SettingError, match="ne peut pas être lu"):
        Rattrapage("text.ipynb")
    with pytest.raises(SettingError, match="dans un notebook"):
        rattraper("absent.ipynb", "Use it")


def test_an_older_copy_enters_a_section_that_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    shell = SimpleNamespace(run_cell=lambda *_, **__: SimpleNamespace(success=True))
    monkeypatch.setattr(catchup, "get_ipython", lambda: shell)
    monkeypatch.setattr(catchup.engine, "up", lambda: None)
    right = Row("a", "b", "b", True)
    checked = lambda name, *_: ran.append(name) or Verdict.of(name, [right])  # noqa: E731
    monkeypatch.setattr(catchup, "solve", checked)
    assert rattraper("05-clustering-avec-la-stack.ipynb", "Perdre le quorum").ok
    assert "attacher-donnees" in ran
    ran.clear()
    assert rattraper("05-clustering-avec-la-stack.ipynb", "Deux salles").ok
    assert ran and "attacher-donnees" not in ran
    with pytest.raises(SettingError, match="n’est pas une section"):
        rattraper("05-clustering-avec-la-stack.ipynb", "Nulle part")


def test_the_widget_says_the_same_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nbformat.write(_notebook(), "one.ipynb")
    widget = Rattrapage("one.ipynb")
    section, new, _, command, _ = widget.children
    assert section.options == ("Measure it", "Use it")
    assert "rattraper(&quot;one.ipynb&quot;, &quot;Measure it&quot;)" in command.value
    section.value, new.value = "Use it", True
    assert "&quot;Use it&quot;, neufs=True)" in command.value
    assert repr(widget) == "Entrer à la section :\n  ○ Measure it\n  ○ Use it"
