"""What ``labkit lab`` opens: the student's notebook, and beside it a terminal for each node."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from real_lab import ARTEFACTS, running_lab

from labkit import course, workspace
from labkit.polling import until

pytestmark = pytest.mark.browser


def test_the_notebook_has_terminals_beside_it(
    tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cours"
    course.write(root)
    monkeypatch.setenv("JUPYTERLAB_WORKSPACES_DIR", str(tmp_path / "workspaces"))
    path = workspace.prepare("00-demarrer.ipynb", ["node1", "node2", "node3"])
    with running_lab(tmp_path, root) as lab:
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{lab.url}{path}?token={lab.token}")
        expect(page.locator(".jp-Notebook h1")).to_contain_text("Démarrer")
        notebook = page.locator(".jp-NotebookPanel").bounding_box()
        shown = page.locator(".jp-Terminal:visible")
        expect(shown).to_have_count(1)
        terminal = shown.bounding_box()
        assert notebook and terminal
        assert notebook["x"] + notebook["width"] <= terminal["x"]
        assert min(notebook["width"], terminal["width"]) > 350
        for name in ("node3", "node2"):  # one click each; docker speaks to that node
            page.get_by_role("tab", name=name).click()
            expect(page.locator(".jp-Terminal:visible")).to_have_count(1)
            page.locator(".jp-Terminal:visible").click()
            page.keyboard.type(f'echo "$DOCKER_CONTEXT" > {tmp_path}/{name}\n')
            until((tmp_path / name).exists, bool, 20, 0.2)
            assert until((tmp_path / name).read_text, bool, 5, 0.2) == f"{name}\n"
        ARTEFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTEFACTS / "workspace.png")
        page.keyboard.type("exit\n")
        expect(page.locator(".jp-Terminal")).to_have_count(2)
        page.close()
