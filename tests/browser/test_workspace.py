"""What ``labkit lab`` opens: the student's notebook, and a terminal beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from real_lab import running_lab

from labkit import course, workspace

pytestmark = pytest.mark.browser


def test_the_notebook_has_a_terminal_beside_it(
    tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cours"
    course.write(root)
    monkeypatch.setenv("JUPYTERLAB_WORKSPACES_DIR", str(tmp_path / "workspaces"))
    path = workspace.prepare("00-demarrer.ipynb")
    with running_lab(tmp_path, root) as lab:
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{lab.url}{path}?token={lab.token}")
        expect(page.locator(".jp-Notebook h1")).to_contain_text("Démarrer")
        notebook = page.locator(".jp-NotebookPanel").bounding_box()
        terminal = page.locator(".jp-Terminal").bounding_box()
        assert notebook and terminal
        assert notebook["x"] + notebook["width"] <= terminal["x"]
        assert min(notebook["width"], terminal["width"]) > 350
        page.locator(".jp-Terminal").click()
        page.keyboard.type("exit\n")
        expect(page.locator(".jp-Terminal")).to_have_count(0)
        page.close()
