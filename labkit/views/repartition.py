"""Send requests to a published port and see them spread over the replicas."""

import threading
import time
from html import escape
from typing import Any

import ipywidgets as widgets
from traitlets import Bool

from labkit.engine import connect
from labkit.engine.endpoint import Fleet
from labkit.errors import EngineError, LabkitError
from labkit.traffic import Sample, send
from labkit.views.distribution import distribution_figure, distribution_html
from labkit.views.live import STYLE, Acting, Latest, set_html
from labkit.views.picture import png, png_text

_MODES = {
    "new": ("Nouvelle connexion", (False,)),
    "keep-alive": ("Keep-alive", (True,)),
    "both": ("Les deux, côte à côte", (False, True)),
}
_EVERY = 0.4  # s between two drawings
_DPI = 120


class _Stopped(Exception):  # not an error: the way out of a run
    """The user has stopped the run."""


class Repartition(Acting):
    """Requests on one side, hits of each replica on the other, as they come.

    Without ``fleet``, it is the current cluster at each run.
    """

    dark = Bool(help="Whether it is drawn for a dark background.")

    def __init__(self, port: int = 9999, fleet: Fleet | None = None, *, dark: bool = False) -> None:
        self._port = port
        self.dark = dark
        self._fleet = fleet
        self._samples: tuple[Sample, ...] = ()
        self._running = threading.Lock()
        self._stop = threading.Event()
        self._latest: Latest[None] = Latest(lambda _, __: self._run_shown(), quiet=0.0)
        narrow = {"description_width": "initial"}
        self._requests = widgets.BoundedIntText(
            200, min=1, max=100_000, description="Requêtes", style=narrow,
            layout={"width": "190px"},
        )  # fmt: skip
        self._concurrency = widgets.BoundedIntText(
            8, min=1, max=256, description="à la fois", style=narrow,
            layout={"width": "160px"},
        )  # fmt: skip
        self._nodes = widgets.Dropdown(
            options=self._choices(),
            description="envoyées à",
            style=narrow,
            layout={"width": "330px"},
        )
        self._mode = widgets.ToggleButtons(
            options=[(label, key) for key, (label, _) in _MODES.items()]
        )
        self._start = widgets.Button(
            description="Lancer", icon="play", button_style="primary",
            tooltip="Envoyer les requêtes",
        )  # fmt: skip
        self._halt = widgets.Button(
            description="Arrêter", icon="stop", tooltip="Arrêter l’envoi", disabled=True
        )
        self._status = widgets.HTML()
        self._image = widgets.Image(format="png", layout={"width": "100%", "display": "none"})
        self._table = widgets.HTML()
        layout = {"flex_flow": "row wrap", "align_items": "center"}
        rows = ([self._requests, self._concurrency, self._nodes],
                [self._mode, self._start, self._halt])  # fmt: skip
        boxes = (widgets.HBox(row, layout=layout) for row in rows)
        super().__init__([widgets.HTML(STYLE), *boxes, self._status, self._image, self._table])
        self.add_class("labkit")
        self._start.on_click(lambda _: self.ask())
        self._halt.on_click(lambda _: self.stop())
        self.observe(lambda _: self._draw(), names="dark")

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples of the last run, one a mode; kept as far as it came if stopped."""
        return self._samples

    def run(self) -> tuple[Sample, ...]:
        """Send the requests and show who answers; return a sample for each kind of connection.

        Raises ``LabkitError`` as :func:`labkit.traffic.send` does; it is shown in the widget too.
        """
        with self._running:
            self._stop.clear()
            self._start.disabled, self._halt.disabled = True, False
            try:
                self._run()
            except _Stopped:
                self._tell("arrêté : " + self._progress())
            except LabkitError as error:
                self._say_error(error)
                raise
            finally:
                self._start.disabled, self._halt.disabled = False, True
        return self._samples

    @property
    def port(self) -> int:
        """The published port."""
        return self._port

    def ask(self) -> None:
        """Begin a run as the button does; returns at once."""
        self._latest.ask(None)

    def stop(self) -> None:
        """Stop the run under way; what has come stays shown."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and remove the widget from the page."""
        self.stop()
        super().close()

    # -- running ----------------------------------------------------------------------------

    def _choices(self) -> list[tuple[str, str]]:
        try:
            names = [e.name for e in (self._fleet or connect())]
        except EngineError:  # said when it matters, at the run
            names = []
        return [("tous les nœuds", ""), *((name, name) for name in names)]

    def _run_shown(self) -> None:
        try:
            self.run()
        except LabkitError:
            return  # it is shown
        except Exception as error:
            self._say_error(
                LabkitError(f"L’envoi s’est arrêté ({type(error).__name__} : {error}).")
            )

    def _run(self) -> None:
        self._samples = ()
        done: list[Sample] = []
        drawn = 0.0

        def shown(sample: Sample) -> None:
            nonlocal drawn
            self._samples = (*done, sample)
            if self._stop.is_set():
                self._draw()
                raise _Stopped
            if time.monotonic() - drawn > _EVERY:
                self._tell(self._progress() + "…")
                self._draw()
                drawn = time.monotonic()

        self._tell("envoi…")
        for keep_alive in _MODES[self._mode.value][1]:
            sample = send(
                self._port,
                requests=self._requests.value,
                concurrency=self._concurrency.value,
                nodes=self._nodes.value or None,
                keep_alive=keep_alive,
                fleet=self._fleet,
                on_batch=shown,
            )
            done.append(sample)
            self._samples = tuple(done)
        self._draw()
        rates = ", ".join(
            f"{'keep-alive' if s.keep_alive else 'nouvelle connexion'} : {s.rate:.0f} réponses/s"
            for s in done
        )
        self._tell(f"✔ {self._progress()} ({rates})")

    def _progress(self) -> str:
        came = sum(len(s.frame) for s in self._samples)
        asked = self._requests.value * len(_MODES[self._mode.value][1])
        failures = sum(s.failures for s in self._samples)
        lost = f", ✖ {failures} en échec" if failures else ""
        return f"{came} requêtes sur {asked}{lost}"

    def _draw(self) -> None:
        if not any(len(s.frame) for s in self._samples):
            return
        self._image.value = png(distribution_figure(self._samples, dark=self.dark), dpi=_DPI)
        self._image.layout.display = ""
        set_html(self._table, distribution_html(self._samples))

    def _tell(self, text: str) -> None:
        set_html(self._status, f"<div role='status' aria-live='polite'>{escape(text)}</div>")

    def __repr__(self) -> str:
        # what stays in a saved notebook without a measure; the widget does not
        return f"Répartition au port {self._port} : relancez cette cellule pour la mesurer."

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        if self._samples and any(len(s.frame) for s in self._samples):
            bundle["image/png"] = png_text(distribution_figure(self._samples))
        return bundle
