"""A sample as text and as HTML, in French."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from labkit.text.french import number, plural

if TYPE_CHECKING:
    from labkit.traffic.sample import Sample


def title(sample: Sample) -> str:
    """Return one line: requests, failures, rate."""
    done, failures = len(sample.frame), sample.failures
    parts = [
        f"{plural(done, 'requête')} au port {sample.port} de {', '.join(sample.nodes)}"
        + (f" pour {sample.host}" if sample.host else ""),
        f"{plural(sample.concurrency, 'connexion')} gardée{'s' * (sample.concurrency > 1)}"
        if sample.keep_alive
        else "une connexion par requête",
        *["cookies gardés"] * sample.cookies,
        plural(int(sample.frame["replica"].nunique()), "replica"),
        "aucun échec" if not failures else plural(failures, "échec"),
        f"{number(round(sample.rate))}\u00a0réponses/s",
    ]
    if not sample.complete:
        parts.insert(1, f"sur {number(sample.requested)} demandées")
    return ", ".join(parts)


def html(sample: Sample) -> str:
    """Return the counts as a table, then the failures and the test; every text is escaped."""
    rows = []
    for replica, row in sample.counts().iterrows():
        where = (row.task or "?", row.replica_node or "?", str(replica))
        cells = "".join(f"<td style='text-align:left'>{escape(str(w))}</td>" for w in where)
        rows.append(
            f"<tr>{cells}<td>{number(int(row.hits))}</td><td>{_percent_cell(row.share)}</td>"
            f"<td>{_percent_cell(row.expected)}</td></tr>"
        )
    head = "".join(
        f"<th scope='col'>{h}</th>"
        for h in ("Task", "Nœud", "Replica", "Réponses", "Part", "Attendu")
    )
    parts = [
        f"<table><caption style='text-align:left'>{escape(title(sample))}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    ]
    failed = [
        f"<li>{escape(node)} : {escape(error)} ({number(requests)})</li>"
        for node, error, requests in sample.errors().itertuples(index=False)
    ]
    if failed:
        parts.append(f"<p>Échecs :</p><ul>{''.join(failed)}</ul>")
    parts.append(f"<p>{escape(sample.uniformity().sentence)}</p>")
    return "".join(parts)


def _percent_cell(share: float) -> str:
    return f"{number(100 * share, 1)}\u00a0%"
