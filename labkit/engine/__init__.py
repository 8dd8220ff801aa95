"""Start, reach and stop Docker Engines: an embedded machine's, or those that the user names."""

from labkit.engine import external
from labkit.engine.contexts import activate
from labkit.engine.embedded import cluster, headroom, lifetime
from labkit.engine.embedded.settings import Settings
from labkit.engine.embedded.status import Status
from labkit.engine.embedded.status import status as status_of
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.engine.progress import Report

__all__ = ["Endpoint", "Fleet", "Status", "connect", "crowded", "down", "reset", "status", "up"]


def connect() -> Fleet:
    """Return the engines of the current cluster, or raise ``EngineNotRunning``."""
    named = external.named()
    if named:
        return named
    settings = Settings.read()
    if settings.idle_stop:
        lifetime.track_cells(settings.run)
    return cluster.join(settings)


def up(nodes: int | None = None, *, quiet: bool = False) -> Fleet:
    """Start the cluster or rejoin the one that runs, and make ``docker …`` speak to it.

    Engines that ``LABKIT_ENGINE`` names are taken as they are. Without ``nodes``, ``LABKIT_NODES``
    says how many, or else there are 3.
    """
    named = external.named()
    if named:
        activate(external.prepare(named))
        return named
    settings = Settings.read(nodes=nodes)
    with Report(quiet=quiet) as report:
        fleet = cluster.up(settings, report)
    activate(cluster.variables(settings))
    if settings.idle_stop:
        lifetime.track_cells(settings.run)
    return fleet


def reset(*, quiet: bool = False) -> Fleet:
    """Return to fresh engines in seconds: no swarm, no service, no container.

    Raises ``SettingError`` for engines that labkit did not make: those are never reset.
    """
    named = external.named()
    if named:
        raise external.refusal(named, "ne remet jamais à zéro")
    settings = Settings.read()
    with Report(quiet=quiet) as report:
        fleet = cluster.reset(settings, report)
    activate(cluster.variables(settings))
    return fleet


def down() -> None:
    """Stop the embedded cluster; nothing of it is left.

    Raises ``SettingError`` for engines that labkit did not make: those are never stopped.
    """
    named = external.named()
    if named:
        raise external.refusal(named, "n’arrête jamais")
    cluster.down(Settings.read())


def crowded() -> str:
    """Say in French that the embedded cluster may soon lack memory; "" where it has enough."""
    return "" if external.named() else headroom.crowded(Settings.read())


def status() -> Status:
    """Say what runs: engine, nodes, images."""
    named = external.named()
    return external.status(named) if named else status_of(Settings.read())
