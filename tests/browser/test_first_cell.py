"""A kernel that restarted knows nothing of the course: the page says, in French, what to run."""

from __future__ import annotations

import shutil

import nbformat
import pytest
from playwright.sync_api import Page, expect
from real_lab import ROOT, Lab

pytestmark = pytest.mark.browser

NAME = "01-introduction-a-swarm.ipynb"
RUN = """([at, source]) => {
  const { content, context } = window.jupyterapp.shell.currentWidget;
  content.activeCellIndex = at;
  content.activeCell.model.sharedModel.setSource(source);
  return window.jupyterapp.commands.execute("notebook:run-cell");
}"""


@pytest.mark.parametrize("page", [(1280, 720)], indirect=True)
def test_what_the_kernel_does_not_know_is_said(page: Page, lab: Lab) -> None:
    shutil.copy(ROOT / "notebooks" / NAME, lab.home / "work" / NAME)
    cells = nbformat.read(ROOT / "notebooks" / NAME, as_version=4).cells
    first = next(i for i, cell in enumerate(cells) if cell.cell_type == "code")
    page.goto(f"{lab.url}/lab/tree/{NAME}?token={lab.token}")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
    said = page.locator(".Toastify__toast", has_text="lancez la première cellule de code")

    def dismiss() -> None:
        said.first.wait_for()
        said.first.get_by_role("button").click()
        expect(said).to_have_count(0)

    for source in ("%%reponse creer-service\n!true", "verifier('creer-service')", "solution('x')"):
        page.evaluate(RUN, [first + 1, source])
        dismiss()
    for source in ("undefined_of_the_student", "%%nothing\n1"):  # no words of the first cell
        page.evaluate(RUN, [first + 1, source])
    page.evaluate(RUN, [first, cells[first].source])
    page.evaluate(RUN, [first + 1, "print(verifier.__name__)"])
    ran = page.locator(".jp-Notebook .jp-OutputArea-output", has_text="verifier")
    expect(ran.last).to_have_text("verifier")
    expect(said).to_have_count(0)
