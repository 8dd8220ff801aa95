"""What ``labkit lab`` opens: the notebook, the cluster beside it, and a terminal for each node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from real_lab import ARTEFACTS, running_lab

from labkit import course, workspace
from labkit.engine.endpoint import Fleet
from labkit.polling import until

pytestmark = pytest.mark.browser

RUN = """async (id) => {
  const { shell, commands } = window.jupyterapp, page = shell.currentWidget;
  await page.sessionContext.ready;
  page.content.activeCellIndex = page.content.widgets.findIndex((cell) => cell.model.id === id);
  commands.execute("notebook:run-cell");
}"""


@pytest.fixture
def opened(tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """The student's page, as it is at first."""
    root = tmp_path / "cours"
    course.write(root)
    monkeypatch.setenv("JUPYTERLAB_WORKSPACES_DIR", str(tmp_path / "workspaces"))
    path = workspace.prepare("00-demarrer.ipynb", ["node1", "node2", "node3"])
    with running_lab(tmp_path, root) as lab:
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{lab.url}{path}?token={lab.token}")
        expect(page.locator(".jp-Notebook h1")).to_contain_text("Démarrer")
        yield page
        page.close()


def test_the_notebook_has_terminals_beside_it(opened: Page, tmp_path: Path) -> None:
    notebook = opened.locator(".jp-NotebookPanel").bounding_box()
    shown = opened.locator(".jp-Terminal:visible")
    expect(shown).to_have_count(1)
    terminal = shown.bounding_box()
    assert notebook and terminal
    assert notebook["x"] + notebook["width"] <= terminal["x"]
    assert min(notebook["width"], terminal["width"]) > 350
    for name in ("node3", "node2"):  # one click each; docker speaks to that node
        opened.get_by_role("tab", name=name).click()
        expect(opened.locator(".jp-Terminal:visible")).to_have_count(1)
        opened.locator(".jp-Terminal:visible").click()
        opened.keyboard.type(f'echo "$DOCKER_CONTEXT" > {tmp_path}/{name}\n')
        until((tmp_path / name).exists, bool, 20, 0.2)
        assert until((tmp_path / name).read_text, bool, 5, 0.2) == f"{name}\n"
    opened.keyboard.type("exit\n")
    expect(opened.locator(".jp-Terminal")).to_have_count(2)


def test_the_cluster_is_seen_beside_the_notebook(opened: Page, fleet: Fleet) -> None:
    expect(opened.get_by_role("tab", name="Le cluster en direct")).to_be_visible()
    view, terminal = opened.locator(".labkit-live"), opened.locator(".jp-Terminal:visible")
    expect(view).to_be_visible()  # empty, and says so
    above, below = view.bounding_box(), terminal.bounding_box()
    assert above and below
    assert above["y"] + above["height"] <= below["y"]
    assert min(above["height"], below["height"]) > 250
    opened.evaluate(RUN, "vue")
    for name in (endpoint.name for endpoint in fleet):
        expect(view.locator("svg text", has_text=name).first).to_be_visible()
    ARTEFACTS.mkdir(exist_ok=True)
    opened.screenshot(path=ARTEFACTS / "workspace.png")

    opened.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")

    # it is the cluster's: another notebook beside it changes nothing, nor does another visit
    opened.evaluate(
        "path => void window.jupyterapp.commands.execute('docmanager:open', { path })",
        "01-introduction-a-swarm.ipynb",
    )
    expect(opened.locator(".jp-Notebook:visible h1")).to_contain_text("Introduction")
    expect(view.locator("svg text", has_text="node3").first).to_be_visible()
    opened.wait_for_timeout(3000)  # until the workspace is saved, too
    opened.reload()
    expect(view.locator("svg text", has_text="node3").first).to_be_visible()

    # on another day, what was saved is no live view, and it says so
    opened.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    opened.reload()
    said = "e => getComputedStyle(e.querySelector('.jp-OutputArea'), '::before').content"
    assert until(lambda: "Relancez la cellule" in view.evaluate(said), bool, 60, 0.5)
    opened.get_by_role("tab", name="00-demarrer").click()
    opened.evaluate(RUN, "vue")
    expect(view.locator("svg text", has_text="node3").first).to_be_visible()
    assert "Relancez" not in view.evaluate(said)
