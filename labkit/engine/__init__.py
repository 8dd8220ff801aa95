"""Where Docker Engines come from: an embedded machine, or engines that the user names."""

from __future__ import annotations

from labkit.engine import cluster, ending, own
from labkit.engine.cluster import Status
from labkit.engine.contexts import activate
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report
from labkit.engine.settings import Settings

__all__ = ["Endpoint", "Fleet", "Status", "connect", "crowded", "down", "reset", "status", "up"]


def connect() -> Fleet:
    """Return the engines of the current cluster.

    Raises
    ------
    EngineNotRunning
        When no cluster is up.
    """
    named = own.named()
    if named:
        return named
    settings = Settings.read()
    if settings.idle_stop:
        ending.watch(settings.run)
    return cluster.join(settings)


def up(nodes: int | None = None, *, quiet: bool = False) -> Fleet:
    """Start the cluster or rejoin the one that runs, and make ``docker …`` speak to it.

    Engines that ``LABKIT_ENGINE`` names are taken as they are.

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
    named = own.named()
    if named:
        activate(own.prepare(named))
        return named
    settings = Settings.read(nodes=nodes)
    with Report(quiet=quiet) as report:
        fleet = cluster.up(settings, report)
    activate(cluster.variables(settings))
    if settings.idle_stop:
        ending.watch(settings.run)
    return fleet


def reset(*, quiet: bool = False) -> Fleet:
    """Return to fresh engines in seconds: no swarm, no service, no container.

    Raises
    ------
    SettingError
        For engines that labkit did not make: those are never reset.
    """
    named = own.named()
    if named:
        raise own.refusal(named, "ne remet jamais à zéro")
    settings = Settings.read()
    with Report(quiet=quiet) as report:
        fleet = cluster.reset(settings, report)
    activate(cluster.variables(settings))
    return fleet


def down() -> None:
    """Stop the embedded cluster; nothing of it is left.

    Raises
    ------
    SettingError
        For engines that labkit did not make: those are never stopped.
    """
    named = own.named()
    if named:
        raise own.refusal(named, "n’arrête jamais")
    cluster.down(Settings.read())


def crowded() -> str:
    """Say in French that the embedded cluster may soon lack memory; "" where it has enough."""
    return "" if own.named() else cluster.crowded(Settings.read())


def status() -> Status:
    """Say what runs: engine, nodes, images."""
    named = own.named()
    return own.status(named) if named else cluster.status(Settings.read())
