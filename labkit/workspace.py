"""The student's workspace in JupyterLab: a notebook, the live cluster, a terminal for each node.

Terminals are named after their nodes, and their ``docker`` speaks to these
(:mod:`labkit.lab.terminals`). The live view is that of the
notebook's own cell, whose output JupyterLab shows in a place of its own, too.
"""

import json
from collections.abc import Sequence
from pathlib import Path

NAME = "cours"
OPTION = "--TerminalsExtensionApp.terminal_manager_class=labkit.lab.terminals.NodeTerminals"
"""What JupyterLab has to be started with."""
_TABS = 3  # terminals at most; any others are a command away
_VIEW = "vue"  # id of the cell with the live view


def prepare(page: str, nodes: Sequence[str] = ()) -> str:
    """Save the course's workspace, unless the student has one already; return its URL's path."""
    from jupyterlab.commands import get_workspaces_dir
    from jupyterlab_server.workspaces_handler import WORKSPACE_EXTENSION, WorkspacesManager, slugify

    folder = Path(get_workspaces_dir())
    try:
        if not (folder / f"{slugify(NAME)}{WORKSPACE_EXTENSION}").exists():
            WorkspacesManager(str(folder)).save(NAME, json.dumps(layout(page, nodes, _view(page))))
    except OSError:  # a disk that is full, a folder of somebody else: then without a terminal
        return f"/lab/tree/{page}"
    return f"/lab/workspaces/{NAME}"


def layout(page: str, nodes: Sequence[str] = (), view: int | None = None) -> dict[str, object]:
    """Return the workspace as JupyterLab stores it; pure.

    ``view`` is the index of the cell whose output has a place of its own, or None.
    """
    notebook = f"notebook:{page}"
    shown: dict[str, dict[str, object]] = {notebook: {"path": page, "factory": "Notebook"}}
    terminals = {f"terminal:{name}": {"name": name} for name in nodes[:_TABS] or ["1"]}
    beside = _tabs(*terminals)
    if view is not None:
        name = f"cloned-outputs:{page}:{view}"
        shown[name] = {"path": page, "index": view}
        beside = _split("vertical", 0.5, _tabs(name), beside)
    dock = _split("horizontal", 0.55, _tabs(notebook), beside)
    return {
        "data": {
            "layout-restorer:data": {"main": {"dock": dock, "current": notebook}},
            **{name: {"data": data} for name, data in {**shown, **terminals}.items()},
        },
        "metadata": {"id": NAME},
    }


def _tabs(*widgets: str) -> dict[str, object]:
    return {"type": "tab-area", "currentIndex": 0, "widgets": widgets}


def _split(way: str, share: float, *children: dict[str, object]) -> dict[str, object]:
    """Return two areas, beside or below one another; the first has this share of the room."""
    sizes = [share, 1 - share]
    return {"type": "split-area", "orientation": way, "sizes": sizes, "children": children}


def _view(page: str) -> int | None:
    """Return the index of the cell with the live view in a notebook of the course."""
    from labkit import course  # which imports nbformat: that takes a second

    cells = getattr(course.corrected(page), "cells", ())
    return next((at for at, cell in enumerate(cells) if cell.id == _VIEW), None)
