"""A vote in a browser, through the notebook server as on Binder and JupyterHub, and its result."""

from __future__ import annotations

import re

import nbformat
import pytest
from playwright.sync_api import Page, expect
from real_lab import ARTEFACTS, Lab
from voters import deployed

from labkit.engine.endpoint import Fleet

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

CELLS = (
    "from labkit.exercises import adresses\nadresses(5000)",
    "adresses(5001)",
    "adresses(8080)",
)


@pytest.mark.parametrize("page", [(1280, 720)], indirect=True, ids=["1280x720"])
def test_a_vote_is_cast_and_its_result_read(page: Page, lab: Lab, fleet: Fleet) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.home / "work" / "pages.ipynb")
    with deployed(fleet):
        page.goto(f"{lab.url}/lab/tree/pages.ipynb?token={lab.token}")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")

        vote, result, visualizer = (opened(page, cell) for cell in range(3))

        expect(result.locator("#message")).to_have_text("Aucun vote pour l’instant")
        vote.get_by_role("button", name="Chiens").click()
        expect(vote.get_by_role("status")).to_have_text("Votre vote : Chiens")
        expect(vote.locator("code")).to_have_text(re.compile("^[0-9a-f]{12}$"))
        expect(result.locator("#votes_b")).to_have_text("1")  # by itself, the page is live
        expect(result.locator("#percent_b")).to_have_text("100,0 %")
        vote.get_by_role("button", name="Chats").click()  # the same voter thinks again
        expect(vote.get_by_role("status")).to_have_text("Votre vote : Chats")
        expect(result.locator("#votes_a")).to_have_text("1")
        expect(result.locator("#votes_b")).to_have_text("0")
        expect(visualizer.locator("svg text", has_text="vote_worker.1")).to_be_visible()

        size = page.viewport_size
        assert size
        ARTEFACTS.mkdir(exist_ok=True)
        for name, other in (("vote", vote), ("result", result), ("visualizer", visualizer)):
            other.screenshot(path=ARTEFACTS / f"{size['width']}x{size['height']}-{name}.png")


def opened(page: Page, cell: int) -> Page:
    """Follow the link of a cell's output that goes through the notebook server."""
    link = page.locator(".jp-Notebook .jp-Cell").nth(cell).locator("a[href*='cluster/node1/']")
    with page.context.expect_page() as event:
        link.click()
    return event.value
