"""The student's workspace in JupyterLab: the notebook, and beside it a terminal.

The terminal's ``docker`` speaks to node1, as the notebook's does: both are JupyterLab's children.
"""

from __future__ import annotations

import json
from pathlib import Path

NAME = "cours"


def prepare(page: str) -> str:
    """Save the course's workspace, unless the student has one already; return its URL's path."""
    from jupyterlab.commands import get_workspaces_dir
    from jupyterlab_server.workspaces_handler import WORKSPACE_EXTENSION, WorkspacesManager, slugify

    folder = Path(get_workspaces_dir())
    try:
        if not (folder / f"{slugify(NAME)}{WORKSPACE_EXTENSION}").exists():
            WorkspacesManager(str(folder)).save(NAME, json.dumps(layout(page)))
    except OSError:  # a disk that is full, a folder of somebody else: then without a terminal
        return f"/lab/tree/{page}"
    return f"/lab/workspaces/{NAME}"


def layout(page: str) -> dict[str, object]:
    """Return the workspace as JupyterLab stores it; pure."""
    notebook, terminal = f"notebook:{page}", "terminal:1"
    tabs = [
        {"type": "tab-area", "currentIndex": 0, "widgets": [widget]}
        for widget in (notebook, terminal)
    ]
    dock = {
        "type": "split-area", "orientation": "horizontal", "sizes": [0.64, 0.36], "children": tabs,
    }  # fmt: skip
    return {
        "data": {
            "layout-restorer:data": {"main": {"dock": dock, "current": notebook}},
            notebook: {"data": {"path": page, "factory": "Notebook"}},
            terminal: {"data": {"name": "1"}},
        },
        "metadata": {"id": NAME},
    }
