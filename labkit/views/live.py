"""Keep widgets live: one look at the cluster for all of them, and work off their threads.

Widget callbacks may run on the kernel's main thread or on another, so they only note what is
wanted; threads of this module do the work and set traits. Every thread is a daemon.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import ipywidgets as widgets

from labkit.engine import connect
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import EngineUnreachable, LabkitError
from labkit.state import ClusterState, RawCluster, ask, from_raw

Seen = ClusterState | LabkitError
Listener = Callable[[Seen], None]
_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_TIMEOUT = 5.0  # s that one request may take before an engine counts as silent


class Look:
    """One look at the cluster after another; an error is returned, for a view has to show it."""

    def __init__(self, fleet: Fleet | None) -> None:
        self._fleet = fleet
        self._before: tuple[tuple[Endpoint, ...], RawCluster] | None = None

    def __call__(self) -> Seen:
        """Capture the cluster."""
        try:
            fleet = connect() if self._fleet is None else self._fleet
            before = None
            if self._before and self._before[0] == fleet.endpoints:
                before = self._before[1]
            raw = ask(fleet, timeout=_TIMEOUT, before=before)
            self._before = fleet.endpoints, raw
            return from_raw(raw)
        except LabkitError as error:
            self._before = None
            return error
        except Exception as error:  # whatever happens, a live view goes on and says so
            self._before = None
            _log.debug("capture failed", exc_info=error)
            return EngineUnreachable(
                f"L’état du cluster ne peut pas être lu ({type(error).__name__} : {error}).",
                remedy="Vérifiez le cluster avec « labkit status », puis « labkit up ».",
            )


class Watch:
    """Looks at a cluster again and again while somebody listens."""

    _shared: ClassVar[dict[tuple[tuple[Endpoint, ...] | None, float], Watch]] = {}
    _shared_lock = threading.Lock()

    def __init__(self, look: Callable[[], Seen], interval: float) -> None:
        self._look = look
        self._interval = interval
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, fleet: Fleet | None, interval: float) -> Watch:
        """Return the watch that all views of a fleet share."""
        key = (None if fleet is None else fleet.endpoints, interval)
        with cls._shared_lock:
            if key not in cls._shared:
                cls._shared[key] = cls(Look(fleet), interval)
            return cls._shared[key]

    @property
    def alive(self) -> bool:
        """Whether the cluster is being watched."""
        return self._thread is not None and self._thread.is_alive()

    def add(self, listener: Listener) -> None:
        """Tell ``listener`` what is seen from now on; nothing changes if it is told already."""
        with self._lock:
            if listener in self._listeners:
                return
            self._listeners.append(listener)
            if self._thread is None:
                self._stop = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="labkit-watch", daemon=True
                )
                self._thread.start()

    def remove(self, listener: Listener, *, join: bool = False) -> None:
        """Stop telling ``listener``; without any left, stop looking.

        With ``join``, wait for the end of the look under way, if it was the last listener.
        """
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
            if self._listeners or self._thread is None:
                return
            thread, self._thread = self._thread, None
            self._stop.set()
        if join and thread is not threading.current_thread():
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            seen = self._look()
            with self._lock:
                listeners = tuple(self._listeners)
            for listener in listeners:
                if stop.is_set():
                    return
                try:
                    listener(seen)
                except Exception:  # one broken view must not blind the others
                    _log.exception("a view could not be refreshed")
            stop.wait(self._interval)


class Latest(Generic[_T]):
    """Does one thing at a time, and only for the last value that was asked.

    Values that come in a burst (a slider sends many) are waited out; what comes while an action
    runs replaces what was still to be done. ``action`` is called in a thread with a value, and with
    a function that says whether the value has been overtaken by a newer one. It shows its own
    errors.
    """

    def __init__(
        self, action: Callable[[_T, Callable[[], bool]], None], *, quiet: float = 0.4
    ) -> None:
        self._action = action
        self._quiet = quiet
        self._changed = threading.Condition()
        self._asked: list[_T] = []  # none or one
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, value: _T) -> None:
        """Ask for a value; returns at once."""
        with self._changed:
            if self._closed:
                return
            self._asked = [value]
            self._due = time.monotonic() + self._quiet
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="labkit-action", daemon=True)
                self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether something is asked or being done."""
        return self._thread is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do; return whether that came within ``timeout`` s."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, timeout)

    def overtaken(self) -> bool:
        """Whether what is being done is no longer wanted."""
        return self._closed or bool(self._asked)

    def close(self) -> None:
        """Forget what is asked and refuse the rest; what is being done sees itself overtaken."""
        with self._changed:
            self._closed = True
            self._asked = []
            self._changed.notify_all()

    def _next(self) -> list[_T]:
        with self._changed:
            while self._asked and not self._closed:
                left = self._due - time.monotonic()
                if left <= 0:
                    asked, self._asked = self._asked, []
                    return asked
                self._changed.wait(left)
            self._thread = None
            self._changed.notify_all()
            return []

    def _run(self) -> None:
        while asked := self._next():
            try:
                self._action(asked[0], self.overtaken)
            except Exception:  # the thread must live on, or busy would never end
                _log.exception("an action of a view failed")


class Overtaken(Exception):
    """A newer value is wanted: what is being waited for does not matter any more."""


class Acting(widgets.VBox):  # type: ignore[misc]
    """A widget whose actions are done one at a time, by :attr:`_latest`; it says how they go."""

    _latest: Latest[Any]
    _status: Any  # the widget of the line that says it

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do; return whether that came within ``timeout`` s."""
        return self._latest.wait(timeout)

    def close(self) -> None:
        """Give up what is being waited for, and remove the widget from the page."""
        self._latest.close()
        super().close()

    def _say(self, kind: str, text: str, remedy: str = "") -> None:
        set_html(self._status, status_html(kind, text, remedy))

    def _say_error(self, error: LabkitError) -> None:
        self._say("alarm", error.message, error.remedy)


class LiveBox(widgets.VBox):  # type: ignore[misc]
    """A widget that follows the cluster while it can be seen.

    It looks at the cluster once when made, so that it shows something even without a browser;
    then only while a browser shows it, or after :meth:`start`. Subclasses define
    :meth:`show`.
    """

    def __init__(self, children: list[Any], *, fleet: Fleet | None, interval: float) -> None:
        self._fleet = fleet
        self._watch = Watch.of(fleet, interval)
        self._showing = threading.RLock()
        self._paused = False
        super().__init__([widgets.HTML(STYLE), *children], _view_count=0)
        self.add_class("labkit")
        self.observe(self._on_views, names="_view_count")

    def show(self, seen: Seen) -> None:
        """Show a state or an error; called from any thread, one at a time."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Look at the cluster and show it, before returning."""
        self._hear(Look(self._fleet)())

    def start(self) -> None:
        """Follow the cluster; nothing changes if it is followed already."""
        self._paused = False
        self._watch.add(self._hear)

    def stop(self) -> None:
        """Stop following the cluster, and wait for the look under way."""
        self._paused = True
        self._watch.remove(self._hear, join=True)

    def pause(self) -> None:
        """Stop following the cluster without waiting: for callbacks."""
        self._paused = True
        self._watch.remove(self._hear)

    def close(self) -> None:
        """Stop, and remove the widget from the page."""
        self.stop()
        super().close()

    def _hear(self, seen: Seen) -> None:
        with self._showing:
            if self.comm is not None:  # not closed
                self.show(seen)

    def _on_views(self, change: dict[str, Any]) -> None:
        if not change["new"]:
            self._watch.remove(self._hear)
        elif not self._paused:
            self._watch.add(self._hear)


def button(text: str, tooltip: str, act: Callable[[], object], width: str = "auto") -> Any:
    """Return a button that acts when it is pressed."""
    made = widgets.Button(description=text, tooltip=tooltip, layout={"width": width})
    made.on_click(lambda _: act())
    return made


def set_html(widget: Any, value: str) -> None:
    """Set the text of a widget only if it differs, so that nothing flickers."""
    if widget.value != value:
        widget.value = value


def bundle(view: Any, text: str, html: str, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a widget for a live kernel, with what stays of it in the saved notebook."""
    made: Any = (view._repr_mimebundle_(**kwargs) if view is not None else None) or {}
    data = made[0] if isinstance(made, tuple) else made
    return {**data, "text/plain": text, "text/html": html}, {}


_MARKS = {"ok": "✔", "busy": "◐", "alarm": "✖"}


def status_html(kind: str, text: str, remedy: str = "") -> str:
    """Return a line that says how an action goes; it is read out, too.

    ``kind`` is ``ok``, ``busy`` or ``alarm``.
    """
    css = " class='labkit-alarm'" if kind == "alarm" else ""
    more = f"<br>→ {escape(remedy)}" if remedy else ""
    mark = f"{_MARKS[kind]} {escape(text)}{more}"
    return f"<div role='status' aria-live='polite'{css}>{mark}</div>"


STYLE = f"<style>\n{Path(__file__).with_name('live.css').read_text('utf-8')}</style>"
