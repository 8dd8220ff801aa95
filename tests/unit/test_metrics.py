"""What Prometheus answers as tables, and curves of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from labkit import metrics
from labkit.engine import Fleet
from labkit.engine.endpoint import Endpoint
from labkit.errors import MetricsError
from labkit.exercises import courbes
from labkit.views import curves_figure

# -- what Prometheus answers ----------------------------------------------------------------

# in the form of Prometheus's HTTP API
ANSWERS: dict[str, Any] = {
    "up": {
        "resultType": "vector",
        "result": [
            {"metric": {"job": "moteurs", "node": "node2"}, "value": [1795531200.1, "0"]},
            {"metric": {"job": "moteurs", "node": "node1"}, "value": [1795531200.1, "1"]},
        ],
    },
    "nothing": {"resultType": "vector", "result": []},
    "1.5": {"resultType": "scalar", "result": [1795531200.1, "1.5"]},
    "up[1m]": {"resultType": "matrix", "result": []},
    "range of up": {
        "resultType": "matrix",
        "result": [
            {"metric": {"node": "node2"}, "values": [[1795531205, "2.5"]]},
            {"metric": {"node": "node1"}, "values": [[1795531200, "1"], [1795531205, "0"]]},
        ],
    },
    "range of nothing": {"resultType": "matrix", "result": []},
    "rules": {
        "groups": [
            {"rules": [{"name": "MoteurMuet", "query": "up == 0", "state": "firing"}]},
            {"rules": []},
        ]
    },
    "targets": {
        "activeTargets": [
            {
                "labels": {"instance": "10.0.1.5:80", "job": "tasks", "service": "whoami"},
                "health": "down",
                "lastError": "server returned HTTP status 404 Not Found",
            },
            {
                "labels": {"instance": "localhost:9090", "job": "prometheus"},
                "health": "up",
                "lastError": "",
            },
        ]
    },
}


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        name = url.path.removeprefix("/api/v1/")
        if name not in ("targets", "rules"):
            promql = asked["query"][0]
            name = f"range of {promql}" if name == "query_range" else promql
        body: Any = {"status": "success", "data": ANSWERS.get(name)}
        if name not in ANSWERS:
            body = {"status": "error", "errorType": "bad_data", "error": "parse error"}
        text = b"<html>" if name == "a page" else json.dumps(body).encode()
        self.send_response(200 if name in ANSWERS else 400)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Two nodes: nothing answers at the first, and a server with the answers is the second."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    nodes = (Endpoint("node1", "", "127.0.0.1"), Endpoint("node2", "", "127.0.0.1"))
    moved = {("node1", metrics.PORT): 1, ("node2", metrics.PORT): server.server_port}
    yield Fleet("embedded", nodes, remapped=moved)
    server.shutdown()
    server.server_close()


def test_an_instant_query_is_a_row_a_series(fleet: Fleet) -> None:
    found = metrics.query("up", fleet=fleet)
    assert list(found.columns) == ["job", "node", "value"]
    assert found.to_numpy().tolist() == [["moteurs", "node1", 1.0], ["moteurs", "node2", 0.0]]
    assert metrics.query("1.5", at=0, fleet=fleet)["value"].tolist() == [1.5]
    assert list(metrics.query("nothing", fleet=fleet).columns) == ["value"]
    assert metrics.query("nothing", fleet=fleet).empty


def test_a_range_query_is_a_column_a_series(fleet: Fleet) -> None:
    found = metrics.history("up", seconds=10, fleet=fleet)
    assert list(found.columns) == ["node1", "node2"]
    assert str(found.index.tz) == "UTC"
    assert found["node1"].tolist() == [1.0, 0.0]
    assert found["node2"].isna().tolist() == [True, False]
    assert metrics.history("nothing", seconds=10, fleet=fleet).empty


def test_targets_are_a_row_each(fleet: Fleet) -> None:
    found = metrics.targets(fleet=fleet)
    assert found["job"].tolist() == ["prometheus", "tasks"]
    assert found["service"].tolist() == ["", "whoami"]
    assert found["health"].tolist() == ["up", "down"]
    assert "404" in found["error"][1]


def test_alerting_rules_are_a_row_each(fleet: Fleet) -> None:
    found = metrics.alerts(fleet=fleet)
    assert found.to_dict("records") == [
        {"alert": "MoteurMuet", "query": "up == 0", "state": "firing"}
    ]


def test_what_is_wrong_is_said_in_french(fleet: Fleet) -> None:
    with pytest.raises(MetricsError, match=r"« up\{ » : parse error"):
        metrics.query("up{", fleet=fleet)
    with pytest.raises(MetricsError, match="suite de valeurs"):
        metrics.query("up[1m]", fleet=fleet)
    with pytest.raises(MetricsError, match="Aucun nœud") as caught:
        metrics.query("a page", fleet=fleet)
    assert "docker stack services" in caught.value.remedy


# -- curves ---------------------------------------------------------------------------------


def test_curves_show_every_series_and_say_how_far_they_go(fleet: Fleet) -> None:
    frame = metrics.history("up", seconds=10, fleet=fleet)
    begin = frame.index[0].timestamp()
    panels = {"up <1>": frame, "rien": pd.DataFrame()}
    figure = curves_figure(panels, during=(begin, begin + 5))
    first, second = figure.axes
    assert [line.get_label() for line in first.lines] == ["node1", "node2"]
    assert len({line.get_color() for line in first.lines}) == 2
    assert len({line.get_marker() for line in first.lines}) == 2
    assert [t.get_text() for t in second.texts] == ["aucune mesure"]
    shown = courbes(panels)
    assert "node1 de 0 à 1, node2 de 2,5 à 2,5" in repr(shown)
    assert "alt='Courbes dans le temps ; up &lt;1&gt;" in shown._repr_html_()
