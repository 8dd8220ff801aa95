"""Buttons for what ``docker node`` can do to a node, with the command that does the same."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from html import escape

import ipywidgets as widgets

from labkit.commands import note
from labkit.engine.endpoint import Fleet
from labkit.errors import LabkitError
from labkit.nodes import Activate, Demote, Drain, NodeProgress, Promote
from labkit.state import ClusterState, Node
from labkit.views.live import Acting, Latest, Overtaken, button, set_html

Action = Activate | Demote | Drain | Promote
_ACTIONS: tuple[tuple[str, str, type[Action]], ...] = (
    ("Promouvoir", "En faire un manager", Promote),
    ("Rétrograder", "En faire un worker", Demote),
    ("Vider (drain)", "Déplacer ses tasks ailleurs et ne plus lui en donner", Drain),
    ("Activer", "Lui donner de nouveau des tasks", Activate),
)


class NodeControls(Acting):
    """A choice of node and a button for each action on it.

    ``refresh`` is called when an action has ended, for the view to show what came of it.
    """

    def __init__(self, fleet: Fleet | None, refresh: Callable[[], None]) -> None:
        self._fleet = fleet
        self._refresh = refresh
        self._done: tuple[datetime, Node] | None = None  # what is said to be so, since when
        self._latest: Latest[Action] = Latest(self._apply, quiet=0.0)
        self._node = widgets.Dropdown(description="Nœud", layout={"width": "auto"})
        self._node.style.description_width = "initial"
        self._buttons = [button(*action[:2], partial(self._ask, action[2])) for action in _ACTIONS]
        self._command = widgets.HTML()
        self._status = widgets.HTML()
        layout = {"align_items": "center", "flex_flow": "row wrap"}
        row = widgets.HBox([self._node, *self._buttons], layout=layout)
        super().__init__([row, self._command, self._status])
        self.show(None)

    def show(self, state: ClusterState | None) -> None:
        """Offer the nodes of a state; those of before stay when it has none to tell.

        Without a swarm nothing is offered.
        """
        if state is not None and state.active:
            stale = state.stale  # known by their ids: docker calls their names ambiguous
            twice = {n.name for n in stale}
            old = {n.id: f" (ancien, {n.id[:12]})" for n in stale}
            said = [f"{n.name}{old.get(n.id, '')} — {_standing(n)}" for n in state.nodes]
            names = [n.id[:12] if n.name in twice else n.name for n in state.nodes]
            offered = tuple(zip(said, names, strict=True))
            if self._node.options != offered:
                chosen = self._node.value
                with self._node.hold_sync():
                    self._node.options = offered
                    self._node.value = chosen if chosen in names else names[0]
            done = self._done
            if done and done[0] < state.captured_at and done[1] not in state.nodes:
                self._done = None  # outdated
                set_html(self._status, "")
        elif state is not None and state.swarm == "inactive":
            self._node.options = ()
        none = not self._node.options
        for widget in (self._node, *self._buttons):
            if widget.disabled != none:
                widget.disabled = none

    @property
    def node(self) -> str | None:
        """Name of the chosen node; setting one that is not offered changes nothing."""
        name: str | None = self._node.value
        return name

    @node.setter
    def node(self, name: str) -> None:
        if name in [value for _, value in self._node.options]:
            self._node.value = name

    def _ask(self, action: type[Action]) -> None:
        self.ask(action(self._node.value))

    def ask(self, action: Action) -> None:
        """Do something to a node; returns at once, and what comes of it is shown."""
        note(action.command)
        set_html(self._command, f"Commande équivalente : <code>{escape(action.command)}</code>")
        self._say("busy", f"{action.name} : demandé…")
        self._latest.ask(action)

    def _say(self, kind: str, text: str, remedy: str = "") -> None:
        self._done = None
        super()._say(kind, text, remedy)

    def _apply(self, action: Action, overtaken: Callable[[], bool]) -> None:
        """Act, in the thread of :class:`Latest`."""

        def progress(now: NodeProgress) -> None:
            if overtaken():
                raise Overtaken
            self._say("busy", f"{action.name} : {now.message} ({now.elapsed:.0f} s)")

        try:
            state = action.apply(self._fleet, on_progress=progress)
        except Overtaken:
            return
        except LabkitError as error:
            if not overtaken():
                self._say_error(error)
            return
        node = state.node(action.name)
        self._say("ok", f"{node.name} : {_standing(node)}")
        self._done = state.captured_at, node
        self._refresh()


def _standing(node: Node) -> str:
    """Say what a node is in the words of ``docker node ls``."""
    role = "leader" if node.leader else f"{node.role} {node.reachability or ''}".strip()
    return f"{role}, {node.availability}, {node.state}"
