"""The first notebook run as students do: twice, after a restart, after commands of their own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import labkit

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01-introduction-a-swarm.ipynb"
CHECK = re.compile(r"^verifier\(", re.MULTILINE)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    labkit.up(quiet=True)
    labkit.reset(quiet=True)
    yield


def client() -> NotebookClient:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return NotebookClient(notebook, timeout=300, resources={"metadata": {"path": NOTEBOOK.parent}})


def run(notebook: NotebookClient, cells: slice = slice(None)) -> int:
    """Run cells in the kernel that is up; return how many checks said that all is well."""
    passed = 0
    for index in range(len(notebook.nb.cells))[cells]:
        cell: Any = notebook.execute_cell(notebook.nb.cells[index], index)
        if cell.cell_type == "code" and CHECK.search(cell.source):
            said = "".join(o.get("data", {}).get("text/plain", "") for o in cell.outputs)
            assert "réussi" in said, f"cell {index}: {said}"
            passed += 1
    return passed


def test_run_all_twice_in_one_kernel() -> None:
    notebook = client()
    with notebook.setup_kernel():
        first = run(notebook)
        assert first >= 8
        assert run(notebook) == first


def test_restarted_in_the_middle() -> None:
    notebook = client()
    middle = len(notebook.nb.cells) * 2 // 3
    with notebook.setup_kernel():
        run(notebook, slice(middle))
    notebook = client()
    with notebook.setup_kernel():
        assert run(notebook) >= 8


def test_after_commands_typed_by_hand() -> None:
    def docker(*words: str) -> None:
        subprocess.run(["docker", *words], check=True, capture_output=True)

    docker("swarm", "init")
    docker("service", "create", "--detach", "--name", "whoami", "--replicas", "5",
           "--publish", "9999:80", "traefik/whoami")  # fmt: skip
    notebook = client()
    with notebook.setup_kernel():
        assert run(notebook) >= 8
