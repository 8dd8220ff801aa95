"""Measures: what a Prometheus in the swarm answers, as DataFrames.

Source: Prometheus's HTTP API, ``/api/v1``. Any node that publishes its port can be asked, so the
nodes are tried in turn: a node that was lost does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx

from labkit.engine import Fleet, connect
from labkit.errors import MetricsError
from labkit.polling import until

if TYPE_CHECKING:
    import pandas as pd

PORT = 9090  # as the course's stack publishes it
_SECONDS = 5.0  # for one answer of one node
_FIRST_SCRAPE = 10.0  # seconds in which a new target is scraped, at an interval of five


def query(
    promql: str, *, at: float | None = None, port: int = PORT, fleet: Fleet | None = None
) -> pd.DataFrame:
    """Ask an instant query: the value of each series at one moment, ``at`` or now.

    Returns a row a series: a column for each label, and ``value`` in the unit of the query. A
    scalar is one row; no series, no rows. Raises ``MetricsError`` when Prometheus does not answer,
    or refuses the query.
    """
    import pandas as pd

    asked = {"query": promql} | ({} if at is None else {"time": str(at)})
    data = _ask("query", asked, port, fleet)
    if data["resultType"] in ("scalar", "string"):
        data = {"result": [{"metric": {}, "value": data["result"]}]}
    elif data["resultType"] != "vector":
        raise MetricsError(
            f"« {promql} » donne une suite de valeurs, et non une valeur.",
            remedy="Retirez la durée entre crochets, ou mettez-la dans rate(…).",
        )
    rows = [_labels(s["metric"]) | {"value": float(s["value"][1])} for s in data["result"]]
    frame = pd.DataFrame(rows)
    if frame.empty:
        return pd.DataFrame({"value": pd.Series(dtype=float)})
    frame = frame[[c for c in frame.columns if c != "value"] + ["value"]]
    return frame.sort_values(list(frame.columns), ignore_index=True)


def history(
    promql: str, *, seconds: float, step: float = 5.0, port: int = PORT, fleet: Fleet | None = None
) -> pd.DataFrame:
    """Ask a range query: the values of each series in the last ``seconds``, one each ``step``.

    Returns a row a moment (index ``time``, UTC), a column a series, named by its labels' values;
    NaN where a series has no value then. Values are in the unit of the query. Raises
    ``MetricsError`` when Prometheus does not answer, or refuses the query.
    """
    import pandas as pd

    now = time.time()
    asked = {"query": promql, "start": str(now - seconds), "end": str(now), "step": str(step)}
    columns = {}
    for series in _ask("query_range", asked, port, fleet)["result"]:
        name = ", ".join(_labels(series["metric"]).values()) or promql
        moments, values = zip(*series["values"], strict=True)
        index = pd.to_datetime(pd.Index(moments), unit="s", utc=True)
        columns[name] = pd.Series([float(v) for v in values], index)
    frame = pd.DataFrame(dict(sorted(columns.items())))
    frame.index.name = "time"
    return frame


def targets(*, port: int = PORT, fleet: Fleet | None = None) -> pd.DataFrame:
    """Return the targets that Prometheus scrapes now, a row each, once each was scraped.

    Columns: ``job``, ``node`` and ``service`` ("" where it has none), ``instance`` (address and
    port), ``health`` (``up``, ``down``, or ``unknown`` where the first scrape takes long) and
    ``error`` (Prometheus's own words; "" when all is well). Raises ``MetricsError`` when
    Prometheus does not answer.
    """
    import pandas as pd

    def look() -> list[dict[str, Any]]:
        return list(_ask("targets", {"state": "active"}, port, fleet)["activeTargets"])

    def scraped(found: list[dict[str, Any]]) -> bool:
        return all(t["health"] != "unknown" for t in found)

    found = until(look, scraped, _FIRST_SCRAPE)
    rows = [
        [t["labels"].get(name, "") for name in ("job", "node", "service", "instance")]
        + [t["health"], t["lastError"]]
        for t in found
    ]
    columns = ["job", "node", "service", "instance", "health", "error"]
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    return frame.sort_values(columns, ignore_index=True)


def alerts(*, port: int = PORT, fleet: Fleet | None = None) -> pd.DataFrame:
    """Return the alerting rules that Prometheus evaluates, a row each.

    Columns: ``alert``, ``query``, and ``state`` (``inactive``, ``pending`` or ``firing``). Raises
    ``MetricsError`` when Prometheus does not answer.
    """
    import pandas as pd

    groups = _ask("rules", {"type": "alert"}, port, fleet)["groups"]
    rows = [[rule["name"], rule["query"], rule["state"]] for g in groups for rule in g["rules"]]
    return pd.DataFrame(rows, columns=["alert", "query", "state"], dtype=object)


def _labels(metric: Mapping[str, str]) -> dict[str, str]:
    """Return a series' labels; one called ``value`` would be taken for the value."""
    return {f"{k}_" if k == "value" else k: v for k, v in metric.items()}


def _ask(path: str, asked: Mapping[str, str], port: int, fleet: Fleet | None) -> Any:
    """Ask each node in turn until Prometheus answers; return the answer's data."""
    fleet = connect() if fleet is None else fleet
    for endpoint in fleet:
        host, number = fleet.published(endpoint.name, port)
        try:
            answer = httpx.get(
                f"http://{host}:{number}/api/v1/{path}",
                params=dict(asked),
                timeout=_SECONDS,
                trust_env=False,  # a node is asked directly, whatever proxy is set
            )
            body = answer.json()
        except (httpx.HTTPError, ValueError):
            continue
        if body.get("status") == "success":
            return body["data"]
        raise MetricsError(
            f"Prometheus refuse « {asked.get('query', path)} » : {body.get('error', '—')}",
            remedy="Essayez la requête, morceau par morceau, dans la page de Prometheus.",
        )
    raise MetricsError(
        f"Aucun nœud ne donne de réponse de Prometheus sur le port {port}.",
        remedy="« docker stack services supervision » dit s’il tourne ; sinon, déployez la stack. "
        "Il lui faut quelques secondes pour démarrer.",
    )
