"""Every notebook beside the terminals: nothing that is read is cut at the right of its cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from real_lab import ROOT, running_lab

from labkit import course, workspace

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

OPEN = "path => void window.jupyterapp.commands.execute('docmanager:open', { path })"
READY = """path => {
  const panel = window.jupyterapp.shell.currentWidget;
  return panel?.context?.path === path && panel.context.isReady
    && panel.content.widgets.length === panel.context.model.cells.length;
}"""
# what is wider than its place: text and code, but for tables of pandas, beside which one scrolls
CUT = """() => [...window.jupyterapp.shell.currentWidget.content.node.querySelectorAll(
  '.jp-MarkdownOutput, .jp-OutputArea-output:not(:has(.dataframe)), .cm-scroller, .jp-Placeholder')]
  .filter((e) => e.getClientRects().length && e.scrollWidth > e.clientWidth + 1)
  .map((e) => `${e.scrollWidth} px in ${e.clientWidth}: ${e.innerText.slice(0, 60)}`)"""


@pytest.mark.parametrize("answers", [True, False], ids=["corrected", "student"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_no_cell_is_cut(
    tmp_path: Path,
    chromium: Browser,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    height: int,
    answers: bool,
) -> None:
    root = tmp_path / "cours"
    course.write(root, answers=answers)
    monkeypatch.setenv("JUPYTERLAB_WORKSPACES_DIR", str(tmp_path / "workspaces"))
    for name, text in {
        "config/jupyter_lab_config.json": '{"LabApp": {"notebook_starts_kernel": false}}',
        "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings":
            '{"windowingMode": "none"}',  # every cell is drawn
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    first, *others = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    with running_lab(tmp_path, root) as lab:
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.goto(f"{lab.url}{workspace.prepare(first, ['node1'])}?token={lab.token}")
        expect(page.locator(".jp-Notebook h1")).to_contain_text("Démarrer")
        told = []
        for name in (first, *others):
            page.evaluate(OPEN, name)
            page.wait_for_function(READY, arg=name)
            page.wait_for_timeout(2000)  # for pictures and Mermaid's drawings
            told += [f"{name}: {what}" for what in page.evaluate(CUT)]
            if name != first:
                page.evaluate("() => void window.jupyterapp.shell.currentWidget.close()")
        page.close()
        assert told == [], "\n".join(told)
