"""A sample: the table of requests, with the replica that answered each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from labkit.state import ClusterState, Task
from labkit.text.french import number, plural
from labkit.traffic.client import Run
from labkit.traffic.fairness import Uniformity, judge

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sample:
    """Requests sent to one published port, and who answered."""

    # one row a request that ended, in the order of their ends; its columns:
    # time_s: when the answer was whole or the failure known, in seconds since the start
    # node: name of the node asked
    # replica: host name in the answer, the first 12 characters of the container's id; None when the
    #   request failed or the answer names nobody
    # slot: of the task; ``<NA>`` for a global service or an unknown replica
    # task: ``service.slot``, as docker names it; None for an unknown replica
    # replica_node: name of the node that the task is on; None for an unknown replica
    # latency_ms: from opening the connection (or, on one kept open, from sending) to the end
    # status: of HTTP; ``<NA>`` without an answer
    # error: None, or a short French text; a status of 400 and more is an error too
    frame: pd.DataFrame
    # port, path, nodes, concurrency, keep_alive, host, cookies: what was asked; ``nodes`` are the
    # names of the nodes asked
    port: int
    path: str
    nodes: tuple[str, ...]
    concurrency: int
    keep_alive: bool
    # requests asked for; the frame has fewer rows while it runs, or when time was up
    requested: int
    elapsed_s: float  # seconds of sending; time spent in ``on_batch`` is left out
    replicas: tuple[Task, ...]  # the tasks that were expected to answer
    connections: int  # TCP connections that carried the answers
    host: str = ""
    cookies: bool = False

    @property
    def complete(self) -> bool:
        """Every request that was asked for has ended."""
        return len(self.frame) >= self.requested

    @property
    def failures(self) -> int:
        """Requests that failed."""
        return int(self.frame["error"].notna().sum())

    @property
    def rate(self) -> float:
        """Answers without error a second; 0.0 before the first."""
        return (len(self.frame) - self.failures) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def errors(self) -> pd.DataFrame:
        """Return the failures: columns ``node``, ``error`` and ``requests``, most first."""
        counted = self.frame.groupby(["node", "error"]).size().rename("requests").reset_index()
        return counted.sort_values("requests", ascending=False, ignore_index=True)

    def counts(self) -> pd.DataFrame:
        """Return the hits of each replica; running ones without hits are there, failures are not.

        Index ``replica`` (host name), by service and slot, then unknown replicas; columns ``task``,
        ``slot``, ``replica_node``, ``hits``, ``share`` (of the answers that name a replica, 0 to 1)
        and ``expected`` (equal share of the replicas that were running, 0 for one that was not).
        """
        import pandas as pd

        good = self.frame[self.frame["error"].isna() & self.frame["replica"].notna()]
        hits = good["replica"].value_counts()
        first = good.drop_duplicates("replica").set_index("replica")
        rows: dict[str, tuple[object, ...]] = {}
        for task in self.replicas:
            name = task.container_id[:12]
            rows[name] = (task.label, task.slot, task.node, hits.get(name, 0), 1)
        for name in sorted(set(hits.index) - set(rows), key=lambda n: (not first.task[n], n)):
            at = first.loc[name]
            slot = None if pd.isna(at.slot) else int(at.slot)
            rows[name] = (at.task, slot, at.replica_node, hits[name], 0)
        columns = ["task", "slot", "replica_node", "hits", "expected"]
        index = pd.Index(list(rows), name="replica", dtype=object)
        table = pd.DataFrame(list(rows.values()), columns=columns, index=index, dtype=object)
        table = table.astype({"slot": "Int64", "hits": int, "expected": float})
        total = table["hits"].sum()
        table.insert(4, "share", table["hits"] / total if total else 0.0)
        if len(self.replicas):
            table["expected"] /= len(self.replicas)
        else:  # nothing is known of the service: all who answered count
            table["expected"] = 1 / len(table) if len(table) else 0.0
        return table

    def uniformity(self) -> Uniformity:
        """Test whether the replicas got equal shares, and say it in French."""
        hits = [int(h) for h in self.counts()["hits"]]
        connections = self.connections if self.keep_alive else None
        return judge(hits, failures=self.failures, connections=connections, proxied=bool(self.host))

    def title(self) -> str:
        """Return one line: what was asked, who answered, failures, rate."""
        done, failures = len(self.frame), self.failures
        parts = [
            f"{plural(done, 'requête')} au port {self.port} de {', '.join(self.nodes)}"
            + (f" pour {self.host}" if self.host else ""),
            f"{plural(self.concurrency, 'connexion')} gardée{'s' * (self.concurrency > 1)}"
            if self.keep_alive
            else "une connexion par requête",
            *["cookies gardés"] * self.cookies,
            plural(int(self.frame["replica"].nunique()), "replica"),
            "aucun échec" if not failures else plural(failures, "échec"),
            f"{number(round(self.rate))}\u00a0réponses/s",
        ]
        if not self.complete:
            parts.insert(1, f"sur {number(self.requested)} demandées")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<Sample : {self.title()}>"

    def _repr_html_(self) -> str:
        rows = []
        for replica, row in self.counts().iterrows():
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
            f"<table><caption style='text-align:left'>{escape(self.title())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        ]
        failed = [
            f"<li>{escape(node)} : {escape(error)} ({number(requests)})</li>"
            for node, error, requests in self.errors().itertuples(index=False)
        ]
        if failed:
            parts.append(f"<p>Échecs :</p><ul>{''.join(failed)}</ul>")
        parts.append(f"<p>{escape(self.uniformity().sentence)}</p>")
        return "".join(parts)


def _percent_cell(share: float) -> str:
    return f"{number(100 * share, 1)}\u00a0%"


def sample_so_far(empty: Sample, run: Run, state: ClusterState) -> Sample:
    """Return the sample so far, its answers joined to the tasks of ``state``."""
    import pandas as pd

    tasks: dict[str, Task] = {}
    for task in state.tasks:
        if task.container_id:
            tasks.setdefault(task.container_id[:12], task)
    rows = run.rows
    who = [tasks.get(r.replica) if r.replica else None for r in rows]
    frame = pd.DataFrame(
        {
            "time_s": pd.Series([r.time for r in rows], dtype=float),
            "node": pd.Series([r.node for r in rows], dtype=object),
            "replica": pd.Series([r.replica for r in rows], dtype=object),
            "slot": pd.Series([t.slot if t else None for t in who], dtype="Int64"),
            "task": pd.Series([t.label if t else None for t in who], dtype=object),
            "replica_node": pd.Series([t.node if t else None for t in who], dtype=object),
            "latency_ms": pd.Series([r.latency * 1000 for r in rows], dtype=float),
            "status": pd.Series([r.status for r in rows], dtype="Int64"),
            "error": pd.Series([r.error for r in rows], dtype=object),
        }
    )
    return replace(empty, frame=frame, elapsed_s=run.elapsed, connections=run.connections)
