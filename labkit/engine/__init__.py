"""Where Docker Engines come from: an embedded machine, or engines that the user names."""

from __future__ import annotations

import os

from labkit.engine import cluster
from labkit.engine.cluster import Status
from labkit.engine.contexts import activate
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report
from labkit.engine.settings import Settings
from labkit.errors import SettingError

__all__ = ["Endpoint", "Fleet", "Status", "connect", "down", "reset", "status", "up"]


def connect() -> Fleet:
    """Return the engines of the current cluster.

    Raises
    ------
    EngineNotRunning
        When no cluster is up.
    """
    return _named() or cluster.join(Settings.read())


def up(nodes: int | None = None, *, quiet: bool = False) -> Fleet:
    """Start the cluster or rejoin the one that runs, and make ``docker …`` speak to it.

    Parameters
    ----------
    nodes
        Number of nodes, 1 to 7; 3 if neither this nor ``LABKIT_NODES`` says otherwise.
    quiet
        Show no progress.

    Returns
    -------
    Fleet
        The engines.
    """
    named = _named()
    if named:
        return named
    settings = Settings.read(nodes=nodes)
    with Report(quiet=quiet) as report:
        fleet = cluster.up(settings, report)
    activate(cluster.variables(settings))
    return fleet


def reset(*, quiet: bool = False) -> Fleet:
    """Return to fresh engines in seconds: no swarm, no service, no container.

    Raises
    ------
    SettingError
        For engines that labkit did not make: those are never reset.
    """
    if _named():
        raise SettingError(
            "labkit ne remet jamais à zéro des moteurs qu’il n’a pas créés.",
            remedy="Tapez vous-même « docker swarm leave --force » si c’est ce que vous voulez.",
        )
    settings = Settings.read()
    with Report(quiet=quiet) as report:
        fleet = cluster.reset(settings, report)
    activate(cluster.variables(settings))
    return fleet


def down() -> None:
    """Stop the embedded cluster; nothing of it is left."""
    cluster.down(Settings.read())


def status() -> Status:
    """Say what runs: engine, nodes, images."""
    named = _named()
    if named:
        nodes = tuple(cluster.node_status(e) for e in named)
        return Status("host", nodes=nodes)
    return cluster.status(Settings.read())


def _named() -> Fleet | None:
    """Return the engines that ``LABKIT_ENGINE`` lists, if it lists any."""
    urls = [u for u in os.environ.get("LABKIT_ENGINE", "").split(",") if "://" in u]
    if not urls:
        return None
    named = (Endpoint.parse(url.strip(), f"node{i}") for i, url in enumerate(urls, 1))
    return Fleet(kind="host", endpoints=tuple(named))
