"""Where Docker Engines come from: an embedded machine, or engines that the user names."""

from __future__ import annotations

import os

from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import EngineNotRunning

__all__ = ["Endpoint", "Fleet", "connect"]


def connect() -> Fleet:
    """Return the engines of the current cluster.

    Raises
    ------
    EngineNotRunning
        When no cluster is up.
    """
    urls = [u for u in os.environ.get("LABKIT_ENGINE", "").split(",") if "://" in u]
    if urls:
        named = (Endpoint.parse(url.strip(), f"node{i}") for i, url in enumerate(urls, 1))
        return Fleet(kind="host", endpoints=tuple(named))
    raise EngineNotRunning("Aucun cluster n’est démarré.", remedy="Lancez « labkit up ».")
