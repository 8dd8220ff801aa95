"""Terminals of JupyterLab: one named after a node is for that node's ``docker``."""

from __future__ import annotations

from typing import Any

from jupyter_server_terminals.terminalmanager import TerminalManager

from labkit.engine.contexts import speaking_to


class NodeTerminals(TerminalManager):
    """JupyterLab's terminals, whose own names are numbers."""

    def make_term_env(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        """Return the environment of a new terminal's shell."""
        environment: dict[str, str] = super().make_term_env(*args, **kwargs)
        name = str(kwargs.get("name") or "1")
        return environment if name.isdigit() else speaking_to(name, environment)
