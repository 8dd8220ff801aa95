"""Recall: three questions before each notebook, answered from memory and corrected at once."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from labkit.errors import SettingError
from labkit.exercises.recall import QUESTIONS, rappel

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("0[2-9]*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_begins_with_three_questions(path: Path) -> None:
    number = path.name.partition("-")[0]
    asked = f'rappel("{number}")'
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert asked in [c.source for c in code[:3]]
    assert len(QUESTIONS[number]) == 3


def test_the_right_answer_is_offered_and_not_always_in_the_same_place() -> None:
    questions = [q for three in QUESTIONS.values() for q in three]
    assert {q.choices.index(q.right) for q in questions} == {0, 1, 2}
    assert all(len(set(q.choices)) == len(q.choices) == 3 for q in questions)


def test_an_answer_is_corrected_and_not_before() -> None:
    recall = rappel("02")
    question = recall.questions[0]
    assert question.why not in repr(recall) + str(recall._repr_mimebundle_()[0]["text/html"])
    _, radio, said = recall._view.children[0].children
    radio.value = question.choices[0]
    assert said.value.startswith("✘") and "routing mesh" in said.value
    radio.value = question.right
    assert said.value.startswith("✔")


def test_a_notebook_without_questions_is_said() -> None:
    with pytest.raises(SettingError, match="pas de questions"):
        rappel("12")
