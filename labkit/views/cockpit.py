"""The cockpit: one page for the projector, driven by keyboard.

The cluster, a scaler, its traffic, what happens and the last commands, all large; a plug to pull,
a node to drain and the way back to new engines at hand. JupyterLab's launcher opens it as a page of
its own, which Voilà makes inside the same server: there is no other port.
"""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets as widgets

from labkit import engine, nodes
from labkit.commands import last, note
from labkit.engine.endpoint import Fleet
from labkit.errors import LabkitError, SettingError
from labkit.nodes import Activate, Drain
from labkit.state import ClusterState, Service
from labkit.views import ClusterView, Repartition, Scaler
from labkit.views.events import Event, events, events_html
from labkit.views.live import Acting, Latest, LiveBox, Seen, button, set_html

_EVENTS = 30  # kept; the page shows those that it has room for
_COMMANDS = 8
_STYLE = f"<style>\n{Path(__file__).with_name('cockpit.css').read_text('utf-8')}</style>"
_SURE_SECONDS = 5.0  # in which a second press confirms


class Cockpit(Acting, LiveBox):
    """A page of widgets for the projector.

    Without ``fleet``, it is the current cluster, whichever that is at each look. Raises
    ``SettingError`` when this Python lacks what the extra ``presenter`` installs.
    """

    KEYS: ClassVar[tuple[tuple[str, str, str], ...]] = (  # key, button, what it does
        ("k", "Couper", "Couper le courant du nœud choisi (kill)"),
        ("r", "Rallumer", "Rendre le courant au nœud choisi"),
        ("d", "Vider", "Déplacer les tasks du nœud choisi (drain)"),
        ("a", "Activer", "Lui donner de nouveau des tasks"),
        ("-", "−1", "Un replica de moins"),
        ("+", "+1", "Un replica de plus"),
        ("s", "Service suivant", "Suivre un autre service"),
        ("e", "Envoyer", "Envoyer des requêtes au service"),
        ("t", "Clair / sombre", "Changer le fond"),
        ("z", "Tout effacer", "Revenir à trois moteurs neufs : à confirmer"),
    )

    def __init__(self, fleet: Fleet | None = None, *, dark: bool = True) -> None:
        self._dark = dark
        self._before: ClusterState | None = None
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._services: tuple[Service, ...] = ()
        self._service = ""
        self._sure_until = 0.0
        self._latest: Latest[tuple[str, str]] = Latest(self._apply, quiet=0.0)
        self._view = ClusterView(fleet, dark=dark)
        self._side = widgets.VBox()
        self._status = widgets.HTML()
        self._news = widgets.HTML()
        self._commands = widgets.HTML()
        self._scaler: Scaler | None = None
        self._traffic: Repartition | None = None
        buttons = [
            button(f"{text} ({key})", tooltip, partial(self.press, key))
            for key, text, tooltip in self.KEYS
        ]
        chosen = widgets.HTML("<kbd>1</kbd>…<kbd>7</kbd> : choisir un nœud")
        parts: dict[str, Any] = {
            "bar": widgets.HBox([*buttons, chosen, self._status]),
            "view": self._view,
            "side": self._side,
            "events": widgets.VBox([widgets.HTML("<h2>Ce qui se passe</h2>"), self._news]),
            "commands": widgets.VBox([widgets.HTML("<h2>Commandes</h2>"), self._commands]),
        }
        for name, part in parts.items():
            part.add_class(f"labkit-{name}")
        super().__init__(
            [widgets.HTML(_STYLE), _keyboard(self.press), *parts.values()],
            fleet=fleet,
            interval=1.0,
        )
        self.add_class("labkit-cockpit")
        self._paint()
        self._renew()
        self.refresh()

    # -- showing ----------------------------------------------------------------------------

    def show(self, seen: Seen) -> None:
        """Tell what has happened, and follow a service that is there."""
        if isinstance(seen, ClusterState):
            self._events.extend(events(self._before, seen))
            self._before = seen
            if seen.active or seen.swarm == "inactive":
                self._services = tuple(s for s in seen.services if s.mode == "replicated")
                if self._service not in [s.name for s in self._services]:
                    self._follow(0)
                else:
                    self._renew()
        set_html(self._news, events_html(self._events))
        rows = "".join(
            f"<li><time>{c.at.astimezone():%H:%M:%S}</time> <code>{escape(c.text)}</code></li>"
            for c in reversed(last(_COMMANDS))
        )
        empty = "<p>Les commandes <code>docker</code> des notebooks paraîtront ici.</p>"
        set_html(self._commands, f"<ol class='labkit-events'>{rows}</ol>" if rows else empty)

    def _follow(self, step: int) -> None:
        """Follow the service that comes ``step`` after the one followed."""
        names = [s.name for s in self._services]
        if names:
            at = names.index(self._service) if self._service in names else 0
            self._service = names[(at + step) % len(names)]
        else:
            self._service = ""
        self._renew()

    def _renew(self) -> None:
        """Have the scaler and the traffic be those of the service followed."""
        service = next((s for s in self._services if s.name == self._service), None)
        port = next((p.published for p in service.ports if p.published), None) if service else None
        same = (self._scaler.service if self._scaler else "") == self._service
        if same and (self._traffic.port if self._traffic else None) == port and self._side.children:
            return
        for old in (self._scaler, self._traffic):
            if old is not None:
                old.close()
        self._scaler = Scaler(self._service, self._fleet) if service else None
        self._traffic = Repartition(port, self._fleet, dark=self._dark) if port else None
        if service is None:
            title = "Aucun service : créez-en un avec <code>docker service create</code>."
        else:
            title = f"<h2>Service {escape(self._service)}</h2>"
        none = widgets.HTML("<p>Ce service ne publie aucun port.</p>" if service else "")
        self._side.children = [
            widgets.HTML(title),
            *([self._scaler] if self._scaler else []),
            self._traffic or none,
        ]

    def _paint(self) -> None:
        self.remove_class("labkit-light" if self._dark else "labkit-dark")
        self.add_class("labkit-dark" if self._dark else "labkit-light")

    # -- acting -----------------------------------------------------------------------------

    def press(self, key: str) -> None:
        """Do what a key of :attr:`KEYS` says, or choose a node by its number."""
        controls = self._view.controls
        if key.isdecimal():
            controls.node = f"node{key}"
        elif key in ("k", "r") and controls.node:
            self._latest.ask((key, controls.node))
        elif key in ("d", "a") and controls.node:
            controls.ask(Drain(controls.node) if key == "d" else Activate(controls.node))
        elif key in ("+", "-") and self._scaler:
            self._scaler.step(1 if key == "+" else -1)
        elif key == "s":
            with self._showing:
                self._follow(1)
        elif key == "e" and self._traffic:
            self._traffic.ask()
        elif key == "t":
            self._dark = not self._dark
            self._paint()
            self._view.dark = self._dark
            if self._traffic:
                self._traffic.dark = self._dark
        elif key == "z":
            self._reset()

    def _reset(self) -> None:
        if time.monotonic() < self._sure_until:
            self._sure_until = 0.0
            self._latest.ask(("z", ""))
            return
        self._sure_until = time.monotonic() + _SURE_SECONDS
        remedy = f"Encore la touche z, dans les {_SURE_SECONDS:.0f} secondes, pour confirmer."
        self._say("alarm", "Tout ce que contient le cluster sera effacé.", remedy)

    def _apply(self, asked: tuple[str, str], _: Callable[[], bool]) -> None:
        """Act on machines, in the thread of :class:`Latest`."""
        key, node = asked
        command, doing, act = {
            "k": (f"labkit node kill {node}", f"{node} : on coupe le courant…", nodes.kill),
            "r": (f"labkit node start {node}", f"{node} : le moteur redémarre…", nodes.start),
            "z": ("labkit reset", "Trois moteurs neufs démarrent…", None),
        }[key]
        note(command)
        self._say("busy", doing)
        try:
            if act is None:
                engine.reset(quiet=True)
            else:
                act(node, self._fleet, quiet=True)
        except LabkitError as error:
            self._say_error(error)
        else:
            self._say("ok", command)

    def close(self) -> None:
        """Give up what is being waited for, and remove the widgets from the page."""
        for part in (self._view, self._scaler, self._traffic):
            if part is not None:
                part.close()
        super().close()

    def __repr__(self) -> str:
        # what stays in a saved notebook; the widget does not
        return "Cockpit du cluster : relancez cette cellule pour le retrouver."


def _keyboard(press: Callable[[str], None]) -> Any:
    """Return a widget that hears the keys of its whole page."""
    try:
        import anywidget
    except ImportError:
        raise SettingError(
            "Le cockpit demande le paquet « anywidget ».", remedy="pip install 'labkit[presenter]'"
        ) from None

    class Keyboard(anywidget.AnyWidget):
        """Keys, except where somebody types and where JupyterLab has keys of its own."""

        _esm = Path(__file__).with_name("cockpit.js")

    keyboard = Keyboard()
    keyboard.on_msg(lambda _, content, __: press(str(content.get("key", ""))))
    return keyboard
