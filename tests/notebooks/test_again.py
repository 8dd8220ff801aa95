"""The notebooks run as students do: twice, after a restart, after commands of their own."""

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
from labkit.exercises.catalogue import EXERCISES, MEASURES
from labkit.exercises.catchup import headings

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# checks in each, and what a student may have typed before opening it
CHECKS = {
    "01-introduction-a-swarm.ipynb": 8,
    "02-la-stack-example-voting-app.ipynb": 6,
    "03-debugger-la-stack.ipynb": 5,
    "04-clustering-avec-un-service.ipynb": 13,
    "05-clustering-avec-la-stack.ipynb": 10,
    "05b-clustering-noeuds-et-quorum.ipynb": 13,
    "08-superviser-le-cluster.ipynb": 8,
    "09-portainer-et-haproxy.ipynb": 4,
}
WHOAMI = "service create --detach --name whoami --replicas 5 --publish 9999:80 traefik/whoami"
STACK = "stack deploy --detach --compose-file example-voting-app/docker-stack.yml vote"
MESH = WHOAMI.replace("9999", "80")
MONITORING = "stack deploy --detach --compose-file supervision/stack-supervision.yml supervision"
FRONT = "stack deploy --detach --compose-file haproxy/stack-haproxy.yml front"
TYPED = (WHOAMI, STACK, STACK, MESH, STACK, WHOAMI, MONITORING, FRONT)
BY_HAND = dict(zip(CHECKS, TYPED, strict=True))
CHECK = re.compile(r"^(?:verifier\(|%%(?:reponse|solution|etape) )", re.MULTILINE)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    labkit.up(quiet=True)
    labkit.reset(quiet=True)
    yield


@pytest.fixture(params=CHECKS)
def path(request: pytest.FixtureRequest) -> Path:
    return NOTEBOOKS / str(request.param)


def client(path: Path) -> NotebookClient:
    notebook = nbformat.read(path, as_version=4)
    return NotebookClient(notebook, timeout=400, resources={"metadata": {"path": path.parent}})


def checks(cell: Any) -> bool:
    """Tell whether a cell is to say that all is well: rooms to try are empty, some only watched."""
    measured = any(cell.source.startswith(f"%%reponse {name}\n") for name in MEASURES)
    apart = any(
        cell.source.startswith(f"%%solution {e.name}\n") for e in EXERCISES.values() if e.apart
    )
    return bool(CHECK.search(cell.source)) and not (
        measured or apart or "a-vous" in cell.metadata.get("tags", ())
    )


def run(notebook: NotebookClient, cells: slice = slice(None)) -> int:
    """Run cells in the kernel that is up; return how many checks said that all is well.

    One that cannot be made here (Portainer's, where its image cannot be had) says so.
    """
    passed = 0
    for index in range(len(notebook.nb.cells))[cells]:
        cell: Any = notebook.execute_cell(notebook.nb.cells[index], index)
        if cell.cell_type == "code" and checks(cell):
            said = "".join(o.get("data", {}).get("text/plain", "") for o in cell.outputs)
            shown = "".join(o.get("text", "") for o in cell.outputs)
            assert "réussi" in said or " : sauté\n" in said, f"cell {index}: {shown}{said}"
            passed += "réussi" in said
    return passed


def test_run_all_twice_in_one_kernel(path: Path) -> None:
    notebook = client(path)
    with notebook.setup_kernel():
        first = run(notebook)
        assert first >= CHECKS[path.name]
        assert run(notebook) == first


@pytest.mark.parametrize("share", [1 / 2, 3 / 4])
def test_restarted_in_the_middle(path: Path, share: float) -> None:
    notebook = client(path)
    with notebook.setup_kernel():
        run(notebook, slice(int(len(notebook.nb.cells) * share)))
    notebook = client(path)
    with notebook.setup_kernel():
        assert run(notebook) >= CHECKS[path.name]


def test_after_commands_typed_by_hand(path: Path) -> None:
    for command in ("swarm init", BY_HAND[path.name]):
        subprocess.run(["docker", *command.split()], check=True, cwd=NOTEBOOKS, capture_output=True)
    notebook = client(path)
    with notebook.setup_kernel():
        assert run(notebook) >= CHECKS[path.name]


ENTERED = {
    "01-introduction-a-swarm.ipynb": "Publier sans le mesh : mode=host",
    "02-la-stack-example-voting-app.ipynb": "Changer de langage sans rien arrêter",
    "03-debugger-la-stack.ipynb": "Réparer worker",
    "04-clustering-avec-un-service.ipynb": "Trois managers",
    "05-clustering-avec-la-stack.ipynb": "La mise à jour qui échoue",
    "05b-clustering-noeuds-et-quorum.ipynb": "Perdre le quorum",
    "08-superviser-le-cluster.ipynb": "Un nœud disparaît",
    "09-portainer-et-haproxy.ipynb": "Trois portes pour les mêmes replicas",
}


@pytest.mark.parametrize("name", ENTERED)
def test_entered_at_a_section(name: str) -> None:
    """A student comes late: catches up to a section, and goes on from there."""
    section = ENTERED[name]
    notebook = client(NOTEBOOKS / name)
    cells = notebook.nb.cells
    imports = next(c for c in cells if c["id"] == "imports")
    start = next(i for i, c in enumerate(cells) if section in headings(c))
    call = nbformat.v4.new_code_cell(f'rattraper("{name}", "{section}")')
    notebook.nb.cells = [imports, call, *cells[start:]]
    with notebook.setup_kernel():
        run(notebook, slice(2))
        said = "".join(o.get("data", {}).get("text/plain", "") for o in call.outputs)
        assert f"✔ Vous voilà à « {section} » : réussi" in said, said
        assert run(notebook, slice(2, None)) >= 2
