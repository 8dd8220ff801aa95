"""The student's edition: what it hides, what it keeps, and what an upgrade leaves alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit import course
from labkit.errors import SettingError
from labkit.exercises import EXERCISES, predictions, solutions

NAMES = sorted(p.name for p in course.source().glob("*.ipynb"))
# a shorter command stands in the text, too: docker's own vocabulary is no secret
SECRET = 25  # characters


def commands(notebook: Any) -> list[str]:
    """Return the lines of all solutions that are long enough to give an exercise away."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith("%%solution"):
            found += [line.strip() for line in cell.source.splitlines()[1:]]
    return [line for line in found if len(line) >= SECRET]


@pytest.mark.parametrize("name", NAMES)
def test_both_editions_have_the_same_cells(name: str) -> None:
    full = course.corrected(name)
    blank = course.student(full)
    nbformat.validate(blank)
    assert [(c.id, c.cell_type) for c in blank.cells] == [(c.id, c.cell_type) for c in full.cells]
    assert any(c.get("outputs") for c in full.cells), "the corrected edition has lost its outputs"


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_of_code_answers(name: str) -> None:
    full = course.corrected(name)
    blank = course.student(full)
    code = [c for c in blank.cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in code)
    text = "\n".join(c.source for c in code)
    assert "%%solution" not in text
    assert 'souffler("' not in text
    given = "\n".join(c.source for c in full.cells if not c.source.startswith("%%solution"))
    shown = [line for line in commands(full) if line in text and line not in given]
    assert not shown
    asked = re.findall(r"^solution\((.+)\)$", text, re.MULTILINE)
    wanted = [c for c in full.cells if c.cell_type == "code" and course.solved(c)]
    assert len(asked) == len(wanted)


@pytest.mark.parametrize("name", NAMES)
def test_a_question_keeps_its_name_and_its_words_alone(name: str) -> None:
    full = course.corrected(name)
    blank = course.student(full)
    text = "\n".join(c.source for c in blank.cells)
    for cell, left in zip(full.cells, blank.cells, strict=True):
        if cell.source.startswith("%%reponse") and "a-taper" in cell.metadata.tags:
            magic, *words = left.source.splitlines()
            assert cell.source.startswith(f"{magic}\n")
            assert words and all(line.startswith("# ") for line in words)
            typed = [line for line in cell.source.splitlines()[1:] if line[:2] != "# "]
            long = [line.removeprefix("!") for line in typed if len(line) >= SECRET]
            assert typed and not [line for line in long if line in text]


@pytest.mark.parametrize("name", NAMES)
def test_the_python_that_students_read_is_short(name: str) -> None:
    for cell in course.student(course.corrected(name)).cells:
        if cell.cell_type != "code" or cell.source.startswith(("%%", "!")):
            continue
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        own = "a-vous" in cell.metadata.get("tags", [])
        if own:
            assert not folded
        elif not folded:
            assert len(cell.source.splitlines()) <= 2
            assert not re.match("from |import ", cell.source)


def test_every_solution_is_found_and_shown_at_the_second_demand_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exercises = 0
    for name in NAMES:
        monkeypatch.setattr(solutions, "_asked", set())  # a kernel a notebook
        for cell in course.corrected(name).cells:
            if cell.cell_type == "code" and cell.source.startswith("%%solution"):
                (exercise,) = course.solved(cell)
                command = solutions.shown(cell.source.partition("\n")[2].strip())
                first, second = solutions.solution(exercise), solutions.solution(exercise)
                assert command not in repr(first)
                assert command not in first._repr_html_()
                assert repr(second) == command
                exercises += 1
    assert exercises > 50
    # a file that a solution names comes with it, and not before
    assert [p.name for p in tmp_path.rglob("*.*")] == ["solution-guetteur.yml"]
    with pytest.raises(SettingError, match="pas de solution nommée"):
        solutions.solution("inconnue")


def test_a_solution_that_edits_a_file_is_shown_as_a_difference() -> None:
    edits = "# dans ma-stack.yml, sous vote :\n# -  replicas: 2\n# +  replicas: 3\nsed -i s/2/3/ f"
    assert solutions.shown(f"{edits}\ndocker ps") == (
        "dans ma-stack.yml, sous vote :\n-  replicas: 2\n+  replicas: 3\n\ndocker ps"
    )
    for name in NAMES:
        for cell in course.corrected(name).cells:
            if cell.cell_type == "code" and cell.source.startswith("%%solution"):
                assert "sed " not in solutions.shown(cell.source)


def test_a_measure_waits_for_its_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(predictions.FRESH, raising=False)
    asked = predictions.predire("essai", "Combien ?", ["1", "2"])
    found = predictions.confronter("essai", 2)
    assert "2" not in repr(found).replace("Combien ?", "")
    assert "2" not in re.sub(r"padding:2px|#\d+", "", found._repr_html_())
    asked.choose("1")
    assert "Mesure : 2" in repr(predictions.confronter("essai", 2))
    monkeypatch.setenv(predictions.FRESH, "1")
    assert "Mesure : 3" in repr(predictions.confronter("jamais-predit", 3))


def notebook(**cells: str) -> Any:
    """Return a notebook whose cells have these ids and texts."""
    made = [nbformat.v4.new_code_cell(text, id=name) for name, text in cells.items()]
    return nbformat.v4.new_notebook(cells=made)


def texts(merged: Any) -> dict[str, str]:
    return {c.id: c.source for c in merged.cells}


def test_an_upgrade_keeps_what_the_student_did() -> None:
    base = notebook(a="1", b="2", c="3", gone="4", d="5")
    new = notebook(a="1", b="2 new", c="3 new", between="6", d="5")
    theirs = notebook(a="1 mine", b="2", own="mine", c="3 mine", gone="4", d="5")
    theirs.cells[-1].outputs = [nbformat.v4.new_output("stream", text="seen")]
    merged, kept = course.merge(base, new, theirs)
    assert texts(merged) == {
        "a": "1 mine", "b": "2 new", "own": "mine", "c": "3 mine", "between": "6", "d": "5",
    }  # fmt: skip
    assert list(texts(merged)) == ["a", "b", "own", "c", "between", "d"]
    assert kept == 1  # c: changed by both
    assert merged.cells[-1].outputs[0].text == "seen"


def test_an_upgrade_checks_the_questions_that_are_not_answered_yet() -> None:
    asked, checked = "# À vous : qui ?", "%%reponse qui\n# À vous : qui ?"
    base, new = notebook(a=asked, b=asked), notebook(a=checked, b=checked)
    merged, kept = course.merge(base, new, notebook(a=asked, b=f"{asked}\n!docker node ls"))
    assert (texts(merged), kept) == ({"a": checked, "b": f"{asked}\n!docker node ls"}, 1)


def test_an_upgrade_leaves_no_exercise_without_its_check() -> None:
    """An exercise had a cell for what is typed, and one for its check; now they are one."""
    typed, check = "# À vous : tapez ici", 'verifier("initialiser")'
    base = notebook(room=typed, check=check, compared='confronter("membres", 1)', next="2")
    new = notebook(room=f"%%reponse initialiser\n{typed}", next="2")
    blank = notebook(room=typed, check=check, compared='confronter("membres", 1)', next="2")
    merged, kept = course.merge(base, new, blank)
    assert (texts(merged), kept) == (texts(new), 0)
    mine = f"{typed}\n!docker swarm init"
    done = notebook(room=mine, check=check, compared='confronter("mon", 1)', next="2")
    merged, kept = course.merge(base, new, done)
    assert texts(merged) == {
        "room": mine, "check": check, "compared": 'confronter("mon", 1)', "next": "2",
    }  # fmt: skip
    assert list(texts(merged)) == ["room", "check", "compared", "next"]
    assert kept == 2  # the room, and the cell that is no more
    again, _ = course.merge(new, new, merged)
    assert texts(again) == texts(merged)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_typed_is_checked_where_it_is_typed(name: str) -> None:
    blank = course.student(course.corrected(name))
    sources = [c.source for c in blank.cells if c.cell_type == "code"]
    for asked in re.findall(r'^solution\("(.+)"\)$', "\n".join(sources), re.MULTILINE):
        if (exercise := EXERCISES.get(asked)) is None:
            continue  # a form
        room = [s for s in sources if s.startswith(f"%%reponse {asked}\n")]
        assert len(room) == 1 - exercise.apart
        assert exercise.apart == (f'verifier("{asked}")' in sources)


def test_an_upgrade_does_not_bring_back_what_the_student_deleted() -> None:
    base = notebook(a="1", b="2", c="3")
    merged, kept = course.merge(base, notebook(a="1", b="2 new", c="3"), notebook(a="1", c="3"))
    assert (texts(merged), kept) == ({"a": "1", "c": "3"}, 0)


@pytest.fixture
def upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course whose source is small and can be changed: its folder."""
    place = tmp_path / "source"
    place.mkdir()
    nbformat.write(notebook(a="un", b="deux"), place / "01.ipynb")
    (place / "fichier.yml").write_text("a: 1\n")
    (place / "solution-x.yml").write_text("s: 1\n")
    for work in ("mon-travail.zip", "ma-stack.yml", "mot-de-passe.txt", "tableau.htpasswd"):
        (place / work).write_text("of whoever ran the notebooks here")
    monkeypatch.setattr(course, "source", lambda: place)
    return place


def said(folder: Path, **options: bool) -> dict[str, str]:
    return {w.name: str(w) for w in course.write(folder, **options)}


def test_a_folder_is_written_upgraded_and_left_alone(upgraded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cours"
    assert set(said(folder)) == {"01.ipynb", "fichier.yml"}
    assert not (folder / "solution-x.yml").exists()
    assert all("inchangé" in text for text in said(folder).values())

    mine = nbformat.read(folder / "01.ipynb", 4)
    mine.cells[0].source = "à moi"
    nbformat.write(mine, folder / "01.ipynb")
    (folder / "01.ipynb").rename(folder / "copie.ipynb")  # a copy of one's own goes on as it is
    nbformat.write(mine, folder / "01.ipynb")
    (folder / "fichier.yml").write_text("a: 2\n")
    nbformat.write(notebook(a="un neuf", b="deux neuf"), upgraded / "01.ipynb")
    (upgraded / "fichier.yml").write_text("a: 3\n")

    told = said(folder)
    assert told["01.ipynb"] == "01.ipynb\u00a0: mis à jour, sauf 1 cellule que vous avez modifiée"
    assert "gardé" in told["fichier.yml"]
    assert texts(nbformat.read(folder / "01.ipynb", 4)) == {"a": "à moi", "b": "deux neuf"}
    assert (folder / "fichier.yml").read_text() == "a: 2\n"
    assert texts(nbformat.read(folder / "copie.ipynb", 4)) == {"a": "à moi", "b": "deux"}


def test_a_notebook_that_cannot_be_read_is_left_as_it_is(upgraded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cours"
    said(folder)
    (folder / "01.ipynb").write_text("{ half")
    nbformat.write(notebook(a="neuf"), upgraded / "01.ipynb")
    assert "gardé" in said(folder)["01.ipynb"]
    assert (folder / "01.ipynb").read_text() == "{ half"


def test_the_corrected_edition_is_the_source(upgraded: Path, tmp_path: Path) -> None:
    said(tmp_path / "corrigé", answers=True)
    assert (tmp_path / "corrigé/solution-x.yml").exists()
    written = json.loads((tmp_path / "corrigé/01.ipynb").read_text())
    assert written == json.loads((upgraded / "01.ipynb").read_text())
    with pytest.raises(SettingError, match="déjà l’édition « corrigé »"):
        course.write(tmp_path / "corrigé")
    with pytest.raises(SettingError, match="source du cours"):
        course.write(upgraded)


def test_a_folder_that_cannot_be_written_is_said(upgraded: Path, tmp_path: Path) -> None:
    (tmp_path / "cours").write_text("")
    with pytest.raises(SettingError, match="Impossible d’écrire"):
        course.write(tmp_path / "cours")
