"""A live view of the cluster, from which its nodes are promoted, demoted, drained, activated."""

from datetime import datetime
from typing import Any

import ipywidgets as widgets
from traitlets import Bool

from labkit.engine.endpoint import Fleet
from labkit.errors import LabkitError
from labkit.state import ClusterState
from labkit.views.cluster_picture import cluster_picture, error_picture
from labkit.views.live import LiveBox, Seen, set_html, status_html
from labkit.views.node_controls import NodeControls
from labkit.views.picture import Picture, png_text


class ClusterView(LiveBox):
    """Nodes as columns, tasks as boxes, kept up to date while it is on screen.

    A node is chosen above and promoted, demoted, drained or activated by a button; the ``docker
    node …`` command that does the same is shown. Without ``fleet``, it is the current cluster,
    whichever that is at each look. When the cluster no longer answers, that is said, with the
    remedy, over the last state that was seen; the view recovers by itself.
    """

    dark = Bool(help="Whether it is drawn for a dark background.")

    def __init__(
        self, fleet: Fleet | None = None, interval: float = 1.0, *, dark: bool = False
    ) -> None:
        self.dark = dark
        self._last: tuple[Picture, datetime] | None = None
        self._picture: Picture | None = None
        self._state: ClusterState | None = None
        self._html = widgets.HTML(layout={"width": "100%"})
        self._table = widgets.HTML(layout={"display": "none"})
        self._pause = widgets.ToggleButton(
            description="Pause", icon="pause", tooltip="Arrêter ou reprendre le suivi du cluster"
        )
        self._tabular = widgets.ToggleButton(
            description="Tableau", icon="table", tooltip="Montrer aussi le cluster en tableau"
        )
        self._note = widgets.HTML("suivi en direct")
        self._controls = NodeControls(fleet, self.refresh)
        controls = [self._pause, self._tabular, self._note]
        row = widgets.HBox(controls, layout={"align_items": "center"})
        children = [row, self._controls, self._html, self._table]
        super().__init__(children, fleet=fleet, interval=interval)
        self._pause.observe(self._on_pause, names="value")
        self._tabular.observe(self._on_tabular, names="value")
        self.observe(lambda _: self.refresh(), names="dark")
        self.refresh()

    @property
    def controls(self) -> NodeControls:
        """The choice of a node, and what can be done to it."""
        return self._controls

    def show(self, seen: Seen) -> None:
        """Show a state, or an error over the last state that was seen."""
        self._state = seen if isinstance(seen, ClusterState) else None
        if isinstance(seen, LabkitError):
            picture = error_picture(seen, dark=self.dark)
        else:
            picture = cluster_picture(seen, dark=self.dark)
        html = picture.svg()
        if self._state is not None and self._state.active:
            html += "".join(status_html("alarm", t.what, t.remedy) for t in self._state.troubles)
            self._last = picture, self._state.captured_at
        elif self._state is not None and self._state.swarm == "inactive":
            self._last = None  # there is no swarm any more: the old one would mislead
        elif self._last is not None:
            old, when = self._last
            html += (
                f"<p>Dernier état connu, à {when.astimezone():%H:%M:%S} :</p>"
                f'<div class="labkit-old">{old.svg()}</div>'
            )
        self._picture = picture
        set_html(self._html, html)
        self._controls.show(self._state)
        self._fill_table()

    def _fill_table(self) -> None:
        if self._tabular.value and self._state is not None:
            set_html(self._table, self._state._repr_html_())

    def _on_tabular(self, change: dict[str, Any]) -> None:
        with self._showing:
            self._fill_table()
            self._table.layout.display = "" if change["new"] else "none"

    def _on_pause(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self.pause()
            set_html(self._note, f"en pause depuis {datetime.now():%H:%M:%S}")
            self._pause.description, self._pause.icon = "Reprendre", "play"
        else:
            self.start()
            set_html(self._note, "suivi en direct")
            self._pause.description, self._pause.icon = "Pause", "pause"

    def close(self) -> None:
        """Give up what is being waited for, and remove the widget from the page."""
        self._controls.close()
        super().close()

    def __repr__(self) -> str:
        return "ClusterView()"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        if self._picture is not None:
            bundle["image/png"] = png_text(self._picture.figure())
        return bundle
