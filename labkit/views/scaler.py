"""A slider bound to a service's number of replicas."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import Any

import ipywidgets as widgets

from labkit.commands import note
from labkit.engine.endpoint import Fleet
from labkit.errors import LabkitError
from labkit.services import Scale, ServiceProgress, not_scalable
from labkit.state import ClusterState
from labkit.views.live import Acting, Latest, LiveBox, Overtaken, Seen, button, set_html
from labkit.views.tasks import tasks_html


class Scaler(Acting, LiveBox):
    """Scale a service with a slider and see its tasks come and go.

    Nothing is sent while the slider moves, nor for values that a newer one replaces. The service
    may be created later.
    """

    def __init__(self, service: str, fleet: Fleet | None = None, maximum: int = 10) -> None:
        self._service = service
        self._replicas: int | None = None  # what the cluster was last seen to want
        self._since = datetime.min.replace(tzinfo=UTC)  # older states are no news
        self._setting = 0  # the thread that sets the slider from here
        self._failed = False  # a message stays until something is asked or changes
        self._latest: Latest[int] = Latest(self._apply)
        layout, style = {"width": "min(620px, 60%)"}, {"description_width": "initial"}
        self._slider = widgets.IntSlider(
            max=maximum, description="Replicas", continuous_update=False, layout=layout, style=style
        )
        self._less = button("−1", "Un replica de moins", lambda: self.step(-1), "64px")
        self._more = button("+1", "Un replica de plus", lambda: self.step(1), "64px")
        self._slider.disabled = self._less.disabled = self._more.disabled = True
        self._again = widgets.Button(
            description="Réessayer", layout={"display": "none", "width": "auto"}
        )
        self._command = widgets.HTML()
        self._status = widgets.HTML()
        self._tasks = widgets.HTML()
        controls = [self._slider, self._less, self._more, self._again]
        row = widgets.HBox(controls, layout={"align_items": "center"})
        children = [row, self._command, self._status, self._tasks]
        super().__init__(children, fleet=fleet, interval=1.0)
        self._slider.observe(self._on_slider, names="value")
        self._again.on_click(lambda _: self._ask(self._slider.value))
        self.refresh()

    @property
    def service(self) -> str:
        """Name of the service."""
        return self._service

    @property
    def value(self) -> int:
        """The number of replicas that the slider stands at; setting it scales the service."""
        return int(self._slider.value)

    @value.setter
    def value(self, replicas: int) -> None:
        self._slider.value = replicas

    def step(self, by: int) -> None:
        """Move the slider as its buttons do; nothing happens where it cannot be moved."""
        if not self._slider.disabled:
            low, high = self._slider.min, self._slider.max
            self._slider.value = min(high, max(low, self._slider.value + by))

    # -- showing what is --------------------------------------------------------------------

    def show(self, seen: Seen) -> None:
        """Follow the service, also when it is scaled from elsewhere."""
        if self._latest.busy:  # the action shows its own progress
            return
        if isinstance(seen, ClusterState) and seen.captured_at < self._since:
            return  # a look that began before the last action ended
        try:
            if isinstance(seen, LabkitError):
                raise seen
            service = seen.require().service(self._service)
            if service.replicas is None:
                raise not_scalable(self._service)
        except LabkitError as error:
            self._replicas = None
            self._slider.disabled = self._less.disabled = self._more.disabled = True
            self._command.value = ""
            set_html(self._tasks, "")
            self._say_error(error)
            self._again.layout.display = "none"
            return
        self._slider.disabled = self._less.disabled = self._more.disabled = False
        if service.replicas != self._replicas:  # first look, or scaled from elsewhere
            self._replicas = service.replicas
            self._failed = False
            self._again.layout.display = "none"
            self._set_slider(service.replicas)
        set_html(self._tasks, tasks_html(seen.tasks_of(service.id, current=False)))
        if not self._failed:
            self._say_counts(seen)
        self._say_command(self._slider.value)

    def _say_counts(self, state: ClusterState) -> None:
        """Say how many tasks are as wanted, and what is in the way of the others."""
        service = state.service(self._service)
        wanted = service.replicas or 0
        current = state.tasks_of(service.id)
        running = sum(t.running for t in current)
        done = sum(t.completed for t in state.ended(service.id))
        waiting = [t for t in current if t.state == "pending" and t.error]
        parts = [f"{running} sur {_tasks(wanted)} en marche"]
        if service.job:
            parts = [f"{done} sur {_tasks(wanted)} terminée{'s' if done > 1 else ''}"]
            parts += [f"{running} en marche"] * bool(running)
        elif done:
            parts.append(f"{done} terminée{'s' if done > 1 else ''}")
        if waiting:
            parts.append(f"{len(waiting)} en attente ({waiting[0].error})")
        enough = done == wanted if service.job else running + done == wanted
        moving = any(t.starting or (service.job and t.running) for t in current)
        trouble = next((t for t in state.troubles if t.service == service.name), None)
        kind = "alarm" if trouble else "ok" if enough and not moving else "busy"
        text, remedy = ", ".join(parts), ""
        if trouble:
            text, remedy = f"{text}. {trouble.what}", trouble.remedy
        elif service.job:
            remedy = "C’est un job : un autre nombre de tasks le relance, et toutes sont refaites."
        self._say(kind, text, remedy)

    def _say_command(self, replicas: int) -> None:
        command = escape(Scale(self._service, replicas).command)
        set_html(self._command, f"Commande équivalente : <code>{command}</code>")

    def _set_slider(self, replicas: int) -> None:
        self._setting = threading.get_ident()
        try:
            self._slider.max = max(self._slider.max, replicas)
            self._slider.value = replicas
        finally:
            self._setting = 0

    # -- acting -----------------------------------------------------------------------------

    def _on_slider(self, change: dict[str, Any]) -> None:
        if self._setting != threading.get_ident():
            self._ask(change["new"])

    def _ask(self, replicas: int) -> None:
        self._failed = False
        self._again.layout.display = "none"
        self._latest.ask(replicas)
        self._say_command(replicas)

    def _apply(self, replicas: int, overtaken: Callable[[], bool]) -> None:
        """Scale, in the thread of :class:`Latest`."""
        note(Scale(self._service, replicas).command)
        plural = "s" if replicas > 1 else ""

        def progress(now: ServiceProgress) -> None:
            if overtaken():
                raise Overtaken
            with self._showing:
                set_html(self._tasks, tasks_html(now.tasks))
                self._say("busy", f"{now.message} ({now.elapsed:.0f} s)")

        with self._showing:
            self._say("busy", f"{replicas} replica{plural} demandé{plural}…")
        try:
            state = Scale(self._service, replicas).apply(self._fleet, on_progress=progress)
        except Overtaken:
            return
        except LabkitError as error:
            if overtaken():
                return
            with self._showing:
                self._failed = True
                self._since = datetime.now(UTC)
                self._replicas = replicas  # what was asked; the cluster may still get there
                self._say_error(error)
                self._again.layout.display = ""
            return
        with self._showing:
            self._since = state.captured_at
            self._replicas = replicas
            set_html(self._tasks, tasks_html(state.tasks_of(self._service, current=False)))
            self._say_counts(state)

    def __repr__(self) -> str:
        # what stays in a saved notebook; the widget does not
        return (
            f"Curseur des replicas de « {self._service} » : "
            "relancez cette cellule pour le retrouver."
        )


def _tasks(count: int) -> str:
    return f"{count} task{'s' if count > 1 else ''}"
