"""The student's workspace in JupyterLab: the notebook, and beside it a terminal for each node.

The first one's ``docker`` speaks to node1, as the notebook's does: both are JupyterLab's children.
The others are named after their nodes (:mod:`labkit.lab.terminals`).
"""

import json
from collections.abc import Sequence
from pathlib import Path

NAME = "cours"
OPTION = "--TerminalsExtensionApp.terminal_manager_class=labkit.lab.terminals.NodeTerminals"
"""What JupyterLab has to be started with."""
_TABS = 3  # terminals at most; any others are a command away


def prepare(page: str, nodes: Sequence[str] = ()) -> str:
    """Save the course's workspace, unless the student has one already; return its URL's path."""
    from jupyterlab.commands import get_workspaces_dir
    from jupyterlab_server.workspaces_handler import WORKSPACE_EXTENSION, WorkspacesManager, slugify

    folder = Path(get_workspaces_dir())
    try:
        if not (folder / f"{slugify(NAME)}{WORKSPACE_EXTENSION}").exists():
            WorkspacesManager(str(folder)).save(NAME, json.dumps(layout(page, nodes)))
    except OSError:  # a disk that is full, a folder of somebody else: then without a terminal
        return f"/lab/tree/{page}"
    return f"/lab/workspaces/{NAME}"


def layout(page: str, nodes: Sequence[str] = ()) -> dict[str, object]:
    """Return the workspace as JupyterLab stores it; pure."""
    notebook, names = f"notebook:{page}", ["1", *nodes[1:_TABS]]
    tabs = [
        {"type": "tab-area", "currentIndex": 0, "widgets": widgets}
        for widgets in ([notebook], [f"terminal:{name}" for name in names])
    ]
    dock = {
        "type": "split-area", "orientation": "horizontal", "sizes": [0.6, 0.4], "children": tabs,
    }  # fmt: skip
    return {
        "data": {
            "layout-restorer:data": {"main": {"dock": dock, "current": notebook}},
            notebook: {"data": {"path": page, "factory": "Notebook"}},
            **{f"terminal:{name}": {"data": {"name": name}} for name in names},
        },
        "metadata": {"id": NAME},
    }
