"""Ask the engines of a fleet, and capture the cluster."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit.state.model import ClusterState
from labkit.state.raw import MEMBERS, RawCluster, RawEngine, from_raw

if TYPE_CHECKING:  # the voting app's visualizer has the data alone
    from docker import APIClient

    from labkit.engine.endpoint import Endpoint, Fleet


def ask(fleet: Fleet, *, timeout: float = 10.0, before: RawCluster | None = None) -> RawCluster:
    """Ask every engine of a fleet, then the first manager that answers.

    ``/info`` goes to all engines at once, then ``/nodes``, ``/services``, ``/tasks`` and
    ``/networks`` to one manager; a request may take ``timeout`` seconds. Never raises for an engine
    that is down. ``before`` is an earlier answer, for one who asks every second: ``/info`` makes an
    engine start programs to tell their versions, so an engine that ``/_ping`` shows in the same
    place of the same swarm keeps what it said then.
    """
    from labkit.engine.clients import NO_ANSWER, explain, read

    now = datetime.now(UTC)
    known = {e["name"]: e for e in before["engines"]} if before else {}
    ready = {
        n["ID"]
        for n in (before and before["nodes"]) or ()
        if (n.get("Status") or {}).get("State") == "ready"
    }

    def ask_engine(endpoint: Endpoint) -> RawEngine:
        engine = known.get(endpoint.name)
        if engine and _node_id(engine) and _node_id(engine) not in ready:
            engine = None  # it may have left and joined again
        return _ask_engine(endpoint, timeout, engine)

    executor = ThreadPoolExecutor(max_workers=len(fleet), thread_name_prefix="labkit-ask")
    try:
        engines = list(executor.map(ask_engine, fleet))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    raw: RawCluster = {
        "captured_at": now.isoformat(), "asked": None, "engines": engines,
        "nodes": None, "services": None, "tasks": None, "networks": None,
    }  # fmt: skip
    for endpoint, engine in zip(fleet, engines, strict=True):
        swarm = (engine["info"] or {}).get("Swarm") or {}
        if swarm.get("LocalNodeState") != "active" or not swarm.get("ControlAvailable"):
            continue
        if swarm.get("Error"):  # the manager already says that it has no leader
            raw["refusal"] = swarm["Error"]
            continue
        try:
            answers = read(endpoint, _ask_manager, timeout)
        except NO_ANSWER as error:
            raw["refusal"] = explain(error)
            continue
        raw["nodes"], raw["services"], raw["tasks"], raw["networks"] = answers
        raw["asked"] = endpoint.name
        break
    return raw


def _ask_engine(endpoint: Endpoint, timeout: float, before: RawEngine | None) -> RawEngine:
    from requests import Timeout

    from labkit.engine.clients import NO_ANSWER, explain, read

    def question(api: APIClient) -> RawEngine:
        answer = api.get(f"{api.base_url}/_ping", timeout=timeout)
        standing = answer.headers.get("Swarm", "")
        if before and before["info"] and standing and standing == before.get("standing"):
            return before
        engine: RawEngine = {"name": endpoint.name, "info": None, "standing": standing}
        try:
            engine["info"] = api.info()
        except Timeout as error:  # a manager that has lost its leader waits for the next one
            if standing not in MEMBERS:
                raise
            engine["error"] = explain(error)
        return engine

    try:
        return read(endpoint, question, timeout)
    except NO_ANSWER as error:
        return {"name": endpoint.name, "info": None, "error": explain(error)}


def _node_id(engine: RawEngine) -> str:
    return str(((engine["info"] or {}).get("Swarm") or {}).get("NodeID", ""))


def _ask_manager(api: APIClient) -> tuple[list[dict[str, Any]], ...]:
    return (api.nodes(), api.services(), api.tasks(), api.networks(filters={"scope": "swarm"}))


def capture(fleet: Fleet | None = None, *, timeout: float = 10.0) -> ClusterState:
    """Capture the cluster as one frozen snapshot; a request may take ``timeout`` seconds.

    None takes :func:`labkit.engine.connect`, which raises ``EngineNotRunning`` when no cluster is
    up. Engines that do not answer are part of the state: see :meth:`ClusterState.require`.
    """
    from labkit.engine import connect

    return from_raw(ask(connect() if fleet is None else fleet, timeout=timeout))


def manager(fleet: Fleet) -> Endpoint:
    """Return a manager that answers, or raise as :meth:`ClusterState.require` does."""
    asked = capture(fleet).require().asked
    assert asked is not None  # an active state has been asked for
    return fleet[asked]
