"""The workspace that ``labkit lab`` opens: made once, then the student's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit import workspace


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTERLAB_WORKSPACES_DIR", str(tmp_path / "workspaces"))
    return tmp_path / "workspaces"


def test_it_is_made_once_and_then_the_students_own(folder: Path) -> None:
    assert workspace.prepare("00-demarrer.ipynb") == "/lab/workspaces/cours"
    (file,) = folder.iterdir()
    made = json.loads(file.read_text())
    assert {"notebook:00-demarrer.ipynb", "terminal:1"} < set(made["data"])
    file.write_text("the student's own")
    workspace.prepare("00-demarrer.ipynb")
    assert file.read_text() == "the student's own"


def test_without_room_for_it_the_page_opens_alone(folder: Path) -> None:
    folder.write_text("in the way")
    assert workspace.prepare("00-demarrer.ipynb") == "/lab/tree/00-demarrer.ipynb"
