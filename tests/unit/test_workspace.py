"""The workspace that ``labkit lab`` opens: made once, then the student's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit import course, workspace
from labkit.lab.terminals import NodeTerminals


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTERLAB_WORKSPACES_DIR", str(tmp_path / "workspaces"))
    return tmp_path / "workspaces"


def test_it_is_made_once_and_then_the_students_own(folder: Path) -> None:
    nodes = [f"node{number}" for number in range(1, 6)]
    assert workspace.prepare("00-demarrer.ipynb", nodes) == "/lab/workspaces/cours"
    (file,) = folder.iterdir()
    made = json.loads(file.read_text())
    terminals = {"terminal:node1", "terminal:node2", "terminal:node3"}
    (view,) = set(made["data"]) - terminals - {"notebook:00-demarrer.ipynb", "layout-restorer:data"}
    kind, page, index = view.split(":")
    assert (kind, page) == ("cloned-outputs", "00-demarrer.ipynb")
    assert course.corrected(page).cells[int(index)].source.endswith("ClusterView()")
    file.write_text("the student's own")
    workspace.prepare("00-demarrer.ipynb")
    assert file.read_text() == "the student's own"


def test_a_notebook_without_a_live_view_has_terminals_beside_it() -> None:
    made = workspace.layout("mien.ipynb", ["node1", "node2"])
    assert "cloned-outputs" not in json.dumps(made)
    assert "terminal:node2" in json.dumps(made)


def test_without_room_for_it_the_page_opens_alone(folder: Path) -> None:
    folder.write_text("in the way")
    assert workspace.prepare("00-demarrer.ipynb") == "/lab/tree/00-demarrer.ipynb"


def test_a_terminal_named_after_a_node_is_for_its_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    manager = NodeTerminals(shell_command=["sh"])
    environment = manager.make_term_env(name="node2", extra_env={"A": "1"})
    assert (environment["DOCKER_CONTEXT"], environment["A"]) == ("node2", "1")
    assert "DOCKER_HOST" not in environment
    for others in ({"name": "1"}, {"name": None}, {}):  # JupyterLab's own, and those of its menu
        environment = manager.make_term_env(**others)
        assert "DOCKER_CONTEXT" not in environment and "DOCKER_HOST" in environment
