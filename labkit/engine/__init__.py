"""Where Docker Engines come from: an embedded machine, or engines that the user names."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from labkit.engine.contexts import activate, environment, write_contexts
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import EngineNotRunning

__all__ = ["Endpoint", "Fleet", "connect", "up"]


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


def up() -> Fleet:
    """Start or rejoin the cluster and make ``docker …`` speak to it."""
    fleet = connect()
    cli = Path(shutil.which("docker") or "docker")
    fleet = replace(fleet, docker_config=Path(tempfile.mkdtemp(prefix="labkit-")) / "docker")
    assert fleet.docker_config
    write_contexts(fleet, fleet.docker_config, cli)
    activate(environment(fleet, cli, os.environ.get("PATH", os.defpath)))
    return fleet
