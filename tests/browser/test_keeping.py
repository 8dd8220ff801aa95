"""The archive of a student's work, downloaded in a real JupyterLab by a click on its link."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import nbformat
import pytest
from playwright.sync_api import Page
from real_lab import Lab

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("page", [(1280, 720)], indirect=True)
def test_the_work_is_downloaded(page: Page, lab: Lab, tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("from labkit.exercises import sauvegarder\nsauvegarder()")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    folder = lab.home / "work/cours"
    folder.mkdir()
    nbformat.write(notebook, folder / "garder.ipynb")
    (folder / "ma-stack.yml").write_text("services: {}\n")
    page.goto(f"{lab.url}/lab/tree/cours/garder.ipynb?token={lab.token}")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    link = page.get_by_role("link", name="Télécharger mon-travail.zip")
    with page.expect_download() as download:
        link.click()
    target = tmp_path / download.value.suggested_filename
    download.value.save_as(target)
    assert target.name == "mon-travail.zip"
    with ZipFile(target) as archive:
        assert archive.namelist() == ["garder.ipynb", "ma-stack.yml"]
        assert archive.read("ma-stack.yml") == b"services: {}\n"
